"""Lines of a text file as they stand, with a place named where the text is none."""

from pathlib import Path

from cd_exp.errors import InputError


def read_lines(path: str | Path, *, setting: str) -> list[str]:
    """The lines of a UTF-8 file without their ends, blank ones included, so that a line keeps its number.

    Args:
        path: the file; a byte order mark and either kind of line end are accepted.
        setting: what named it, for the error.

    Raises:
        InputError: there is no such file, or it is not UTF-8.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{setting}={path}: there is no such file (seen from {Path.cwd()})")
    data = file.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        data, before = error.object, error.object[: error.start]  # without a byte order mark
        place = f"line {before.count(10) + 1}, byte {error.start - (before.rfind(10) + 1) + 1}"
        raise InputError(f"{file} is not UTF-8: {place} is 0x{data[error.start]:02x}; save it as UTF-8") from error
    lines = text.replace("\r\n", "\n").split("\n")  # not splitlines(), which also splits at U+2028 and form feeds
    return lines[:-1] if lines[-1] == "" else lines
