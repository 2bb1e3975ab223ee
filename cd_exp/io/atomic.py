"""The one writer of whole files and folders: a reader sees the old one or the complete new one, never half.

What is written has the permissions that the user's umask gives any new file (`tempfile` would make it private to its
owner, which no second user of a cache or a run folder could read). A full disk ends as one error that names the disk.
"""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cd_exp.errors import InputError, ReadOnlyFolder

TEMPORARY = ".tmp-"
"""What names of unfinished files and folders begin with; a killed process may leave one behind."""

REMEDY = "free some space, or choose another disk: cache.dir for features, hydra.run.dir for results"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
OCCUPIED = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


def write_file(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file, in UTF-8 where it is text, replacing an earlier one in one step.

    Args:
        path: the file; its folder is made where missing.
        content: all of it. A lone surrogate, which UTF-8 cannot carry, is written as an escape like `\\ud800`.
        durable: whether to return only when it is on the disk: for what must outlive a power failure.

    Raises:
        InputError: the disk is full, or the folder may not be written to.
    """
    data = content if isinstance(content, bytes) else content.encode(errors="backslashreplace")
    with temporary_file(path.parent) as half:
        half.write_bytes(data)
        if durable:
            sync_to_disk(half)
        half.replace(path)


@contextmanager
def temporary_file(folder: Path, *, remedy: str = REMEDY) -> Iterator[Path]:
    """An empty file in `folder`, made where missing, to be filled and renamed; what was not renamed goes.

    Args:
        folder: where it lies.
        remedy: what to do about a full disk.

    Raises:
        InputError: as `write_file`.
    """
    with report_disk_errors(folder, remedy=remedy):
        folder.mkdir(parents=True, exist_ok=True)
        half = folder / f"{TEMPORARY}{uuid.uuid4().hex}"
        half.touch(exist_ok=False)
        try:
            yield half
        finally:
            half.unlink(missing_ok=True)


@contextmanager
def temporary_folder(parent: Path, name: str, *, remedy: str = REMEDY) -> Iterator[Path]:
    """An empty folder in `parent`, made where missing, to be filled and renamed; what was not renamed goes.

    Args:
        parent: where it lies.
        name: what it will be; part of the temporary name, so that the leftover of a killed process is recognised.
        remedy: what to do about a full disk.

    Raises:
        InputError: as `write_file`.
    """
    with report_disk_errors(parent, remedy=remedy):
        parent.mkdir(parents=True, exist_ok=True)
        half = parent / f"{TEMPORARY}{name}-{uuid.uuid4().hex[:8]}"
        half.mkdir()
        try:
            yield half
        finally:
            shutil.rmtree(half, ignore_errors=True)


@contextmanager
def report_disk_errors(folder: Path, *, remedy: str = REMEDY) -> Iterator[None]:
    """Turn a full disk, or one that may not be written to, into an error that names it and what to do.

    So does a folder where a file is to be written, and a file where a folder is.

    What was stored before stays as it is.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            free = shutil.disk_usage(_nearest_existing(folder)).free
            raise InputError(
                f"the disk that holds {folder} is full, or a limit on it is reached "
                f"({free / 1e6:.0f} MB free); {remedy}"
            ) from error
        if error.errno in FORBIDDEN:
            raise ReadOnlyFolder(f"{folder} cannot be written to ({error.strerror}); choose another folder") from error
        if error.errno in OCCUPIED:
            failed = Path(error.filename2 or error.filename or folder)
            there = next((path for path in (failed, *failed.parents) if os.path.lexists(path)), folder)
            kind, wanted = ("folder", "file") if there.is_dir() else ("file", "folder")
            raise InputError(f"{there} is a {kind}, and a {wanted} is to be written there; move it away") from error
        raise


def is_full(error: OSError) -> bool:
    """Whether a disk, a quota or a limit of the file size is reached. numpy tells by its words alone."""
    short_write = error.errno is None and re.search(r"\d+ requested and \d+ written", str(error))
    return error.errno in FULL or bool(short_write)


def sync_to_disk(path: Path) -> None:
    """Return when the content of a file is on the disk, not only in memory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(ancestor for ancestor in (folder, *folder.absolute().parents) if ancestor.exists())
