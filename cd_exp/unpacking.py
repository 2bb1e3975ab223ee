"""Archives from elsewhere: unpacked whole or not at all, never outside their folder, and only what fits the disk."""

import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from cd_exp.errors import InputError
from cd_exp.whole_files import temporary_folder

RESERVE = 256 << 20  # bytes of the disk that are left free
BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
    *(EOFError, RuntimeError, NotImplementedError, UnicodeDecodeError),  # zips with a password or of an unknown method
)


def unpack(file: Path, target: Path, *, advance: Callable[[int], None], remedy: str) -> None:
    """Unpacks a tar or zip archive; the target appears only when it is complete.

    Args:
        file: the archive.
        target: the folder to make.
        advance: called with 1 after each member.
        remedy: what to do about a disk that is too small, as in `set probe.root=DIR`.

    Raises:
        InputError: the archive is damaged, would not fit the disk, or holds a link or a path that leads outside.
    """
    with temporary_folder(target.parent, target.name, remedy=remedy) as half:
        try:
            for _ in _unpacked(file, half, _room(target.parent), remedy):
                advance(1)
        except BROKEN as error:
            fault = str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__
            again = f"delete it, and {file.name}.sha256 if there is one, to download it again"
            raise InputError(f"{file} is no archive, or a broken one ({fault}); {again}") from error
        half.replace(target)


def _room(folder: Path) -> int:
    """Bytes that may be written to the disk of a folder."""
    return max(0, shutil.disk_usage(folder).free - RESERVE)


def _unpacked(file: Path, folder: Path, room: int, remedy: str) -> Iterator[str]:
    """Extracts member by member; neither kind of archive can write outside the folder, or more than it says."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _refuse_large(file, sum(member.file_size for member in members), folder, room, remedy)
            for member in members:
                yield archive.extract(member, folder)
        return
    total = 0
    with tarfile.open(file) as tar:
        for item in tar:
            if item.issym():
                raise InputError(f"{file} holds the link {item.name} to {item.linkname}; it is not unpacked")
            total += item.size  # a compressed archive shows only here what it holds
            _refuse_large(file, total, folder, room, remedy)
            tar.extract(item, folder, filter="data")
            yield item.name


def _refuse_large(file: Path, size: int, folder: Path, room: int, remedy: str) -> None:
    if size > room:
        raise InputError(
            f"{file} unpacks to {_gigabytes(size)} or more, and the disk of {folder.parent} has room for "
            f"{_gigabytes(room)}; free some, or {remedy}"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
