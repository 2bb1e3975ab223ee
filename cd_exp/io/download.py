"""Published files, fetched once: checked, unpacked whole or not at all, and read again without a network.

`no_downloads` makes a plan say what a run would fetch, and fetch nothing. What this module does not know: which files a
data set consists of (`cd_exp.probes`) and the Hugging Face hub (`cd_exp.io.hub`).
"""

import gzip
import hashlib
import lzma
import queue
import shutil
import sys
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cd_exp.errors import InputError
from cd_exp.io.atomic import temporary_file, temporary_folder, write_file

RESERVE = 256 << 20  # bytes of the disk that are left free
BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
    *(EOFError, RuntimeError, NotImplementedError, UnicodeDecodeError),  # zips with a password or of an unknown method
)


def unpack_archive(file: Path, target: Path, *, advance: Callable[[int], None], remedy: str) -> None:
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
            for _ in _unpack_into(file, half, _check_disk_space(target.parent), remedy):
                advance(1)
        except BROKEN as error:
            fault = str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__
            again = f"delete it, and {file.name}.sha256 if there is one, to download it again"
            raise InputError(f"{file} is no archive, or a broken one ({fault}); {again}") from error
        half.replace(target)


def _check_disk_space(folder: Path) -> int:
    """Bytes that may be written to the disk of a folder."""
    return max(0, shutil.disk_usage(folder).free - RESERVE)


def _unpack_into(file: Path, folder: Path, room: int, remedy: str) -> Iterator[str]:
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
            f"{file} unpacks to {_format_gigabytes(size)} or more, and the disk of {folder.parent} has room for "
            f"{_format_gigabytes(room)}; free some, or {remedy}"
        )


def _format_gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


_WITHHELD: ContextVar[bool] = ContextVar("withheld", default=False)


class MissingDownload(InputError):
    """Something that is not on this machine and would be downloaded."""

    def __init__(self, name: str, address: str) -> None:
        super().__init__(f"{name} is not on this machine and would be downloaded from {address}")
        self.name, self.address = name, address


@contextmanager
def no_downloads() -> Iterator[None]:
    """In this block whatever would be downloaded is raised as `MissingDownload` instead."""
    token = _WITHHELD.set(True)
    try:
        yield
    finally:
        _WITHHELD.reset(token)


def refuse_download(name: str, address: str) -> None:
    """Raise `MissingDownload` where downloads are withheld."""
    if _WITHHELD.get():
        raise MissingDownload(name, address)


PATIENCE = 5.0  # seconds until a server must have begun to answer, name look-up and every address included
STALL = 30.0  # seconds without a byte before a transfer ends
CHUNK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A published archive, and a file of its contents (or a folder) that tells where in a tree its root is."""

    url: str
    checksum: str | None  # "md5:..." or "sha256:..."; None where none is published
    marker: str


BRODEN = Archive("http://netdissect.csail.mit.edu/data/broden1_227.zip", None, "index.csv")
"""Photographs with masks (Bau et al., CVPR 2017): a probe set, and its labels a concept set."""


def locate_archive(archive: Archive, *, root: str | None, data_dir: str, setting: str) -> Path:
    """The folder that holds an archive's contents: the user's own copy, or one downloaded into `data_dir`.

    Args:
        archive: what is looked for.
        root: the user's copy; the folder itself or the one above it. None downloads.
        data_dir: where downloads are kept.
        setting: what sets `root`, as in `probe.root`.

    Raises:
        InputError: `root` does not hold the archive's contents, or they cannot be downloaded.
    """
    download = f"{setting}=DIR"
    base = (
        Path(root) if root else fetch_file(archive.url, archive.checksum, Path(data_dir), unpack=True, setting=download)
    )
    if not base.is_dir():
        raise InputError(f"{setting}={root}: there is no such folder (seen from {Path.cwd()})")
    for folder in (base, *sorted(path for path in base.iterdir() if path.is_dir())):
        if (folder / archive.marker).exists():
            return folder
    wanted = f"{archive.marker}, as {_file_name(archive.url)} has"
    raise InputError(f"{base} holds no {wanted}; {setting} must be the folder with the unpacked archive")


def fetch_file(
    url: str, known_hash: str | None, folder: Path, *, unpack: bool = False, setting: str = "probe.root=DIR"
) -> Path:
    """Downloads a file into `folder`, unless it is there; what comes is checked and appears whole or not at all.

    Where no checksum is published, the SHA-256 of the first download is kept in `FILE.sha256` and holds from then on.

    Args:
        url: http or https.
        known_hash: `md5:...` or `sha256:...`; None where none is published.
        folder: where the file is kept; one that was put there by hand serves as well.
        unpack: unpack the archive into a folder beside it, and delete the archive.
        setting: what points to a local copy instead, for the error.

    Returns:
        The file, or the folder it was unpacked into.

    Raises:
        InputError: it is not there and cannot be downloaded, is not what it should be, or does not fit the disk.
    """
    from filelock import FileLock

    file = folder / _file_name(url)
    target = folder / _archive_stem(file.name) if unpack else file
    if unpack and target.is_dir():
        return target
    if not file.exists():
        refuse_download(file.name, url)
    new = [ancestor for ancestor in (folder, *folder.parents) if not ancestor.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made for {file.name} ({error.strerror}); set {setting}") from error
    lock = FileLock(folder / f".{file.name}.lock")  # the jobs of a sweep want the same file at once
    try:
        with lock:
            if unpack and target.is_dir():
                return target
            _retrieve(url, known_hash, file, setting)
            if unpack:
                with show_progress(f"unpacking {file.name}", None) as advance:
                    unpack_archive(file, target, advance=advance, remedy=f"set {setting} to a copy on another disk")
                file.unlink()
    except InputError:  # a refusal leaves no folder that was not there
        if new:
            Path(lock.lock_file).unlink(missing_ok=True)
            with suppress(OSError):  # something came after all
                for ancestor in new:
                    ancestor.rmdir()
        raise
    return target


def _file_name(url: str) -> str:
    return Path(urlsplit(url).path).name


def _archive_stem(filename: str) -> str:
    return filename.removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz").removesuffix(".zip")


def _retrieve(url: str, known_hash: str | None, file: Path, setting: str) -> None:
    record = file.with_name(file.name + ".sha256")
    wanted = known_hash
    if wanted is None and record.exists():
        wanted = "sha256:" + record.read_text(encoding="utf-8").split()[0]
    algorithm = wanted.partition(":")[0] if wanted else "sha256"
    copy = f"set {setting} to a local copy, or put {file.name} into {file.parent}"
    if file.exists():
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, algorithm).hexdigest()
        if wanted and wanted != f"{algorithm}:{digest}":
            raise InputError(f"{file} is not the file it should be, its checksum is not {wanted}; delete it, or {copy}")
    else:
        digest = _download_checked(url, file, algorithm, wanted, copy)
    if wanted is None:
        write_file(record, f"{digest}  {file.name}\n")


def _download_checked(url: str, file: Path, algorithm: str, wanted: str | None, copy: str) -> str:
    """Fetches a file and gives its checksum; it appears under its name only when it is complete and right."""
    import requests

    with temporary_file(file.parent, remedy=copy) as half:
        try:
            digest = _transfer(url, half, algorithm)
        except (requests.RequestException, TimeoutError) as error:
            reason = f"{file.name} is not in {file.parent} and {url} cannot be had ({_explain_failure(error)})"
            raise InputError(f"{reason}; {copy}") from error
        if wanted and wanted != f"{algorithm}:{digest}":
            raise InputError(f"{url} is not the file it should be, its checksum is not {wanted}; {copy}")
        half.replace(file)
    return digest


def _explain_failure(error: Exception) -> str:
    """A network error in a few words; its own text is a paragraph."""
    import requests

    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"HTTP {status}"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy of HTTPS_PROXY or HTTP_PROXY does not answer"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate cannot be verified"
    if isinstance(error, (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)):
        return "the transfer was cut off"
    if "resol" in str(error).lower():  # urllib3's NameResolutionError says so
        return "no network, or no such host"
    return "no answer" if isinstance(error, (TimeoutError, requests.Timeout)) else "no connection"


def _transfer(url: str, file: Path, algorithm: str) -> str:
    """Streams into `file`, shows a bar, and gives the checksum of what came."""
    response = _ask_server(url)
    response.raise_for_status()
    size = int(response.headers.get("content-length", 0)) or None
    free = shutil.disk_usage(file.parent).free
    if size and size > free:
        room = f"{size / 1e9:.1f} GB, and the disk of {file.parent} has {free / 1e9:.1f} GB free"
        raise InputError(f"{url} has {room}; free some, or set data_dir to another disk")
    checksum = hashlib.new(algorithm)
    with file.open("wb") as out, show_progress(f"downloading {_file_name(url)}", size) as advance:
        for chunk in response.iter_content(CHUNK):
            out.write(chunk)
            checksum.update(chunk)
            advance(len(chunk))
    return checksum.hexdigest()


def is_reachable(url: str) -> bool:
    """Whether a server answers at all, within PATIENCE."""
    import requests

    try:
        _ask_server(url).close()
    except (requests.RequestException, TimeoutError):
        return False
    return True


def _ask_server(url: str) -> Any:
    """The beginning of a response, within PATIENCE: a look-up or a connection alone may block for much longer.

    The thread is left behind when it does not come back; it holds nothing but a socket.
    """
    import requests

    answers: queue.Queue[Any] = queue.Queue()

    def ask() -> None:
        as_stored = {"Accept-Encoding": "identity"}
        try:
            answers.put(requests.get(url, stream=True, timeout=(PATIENCE, STALL), headers=as_stored))
        except requests.RequestException as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=PATIENCE)
    except queue.Empty:
        raise TimeoutError(f"no answer within {PATIENCE} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


@contextmanager
def show_progress(task: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, removed when done; nothing where standard error is not a terminal.

    Args:
        task: what is done.
        total: how much there is to do; None where it is not known.

    Yields:
        What to call with the amount done since the last call.
    """
    if not sys.stderr.isatty():
        yield lambda amount: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        job = bar.add_task(task, total=total)
        yield lambda amount: bar.advance(job, amount)
