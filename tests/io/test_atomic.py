import errno
import os
import resource
import stat
import subprocess
import sys

import numpy as np
import pytest

from cd_exp.errors import InputError
from cd_exp.io.atomic import is_full, report_disk_errors, temporary_file, temporary_folder, write_file


@pytest.fixture(params=[0o022, 0o002, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_text_and_bytes_are_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "file"
    write_file(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    write_file(path, b"\x00", durable=True)
    assert path.read_bytes() == b"\x00"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_a_lone_surrogate_is_written_as_an_escape(tmp_path):
    write_file(tmp_path / "file", "a\ud800b")
    assert (tmp_path / "file").read_text() == "a\\ud800b"


def test_permissions_are_those_of_the_umask(tmp_path, umask):
    write_file(tmp_path / "file", "text")
    with temporary_folder(tmp_path, "folder") as half:
        (half / "inside").write_text("text")
        half.replace(tmp_path / "folder")
    assert mode(tmp_path / "file") == 0o666 & ~umask
    assert mode(tmp_path / "folder") == 0o777 & ~umask


def test_nothing_is_left_after_an_exception_and_the_old_file_stays(tmp_path):
    write_file(tmp_path / "file", "old")

    def broken():
        with temporary_file(tmp_path) as half:
            half.write_text("half")
            raise KeyboardInterrupt

    def broken_folder():
        with temporary_folder(tmp_path, "folder") as half:
            (half / "inside").write_text("text")
            raise KeyboardInterrupt

    for job in (broken, broken_folder):
        with pytest.raises(KeyboardInterrupt):
            job()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_with_a_remedy(tmp_path, code):
    said = rf"the disk that holds {tmp_path}/none is full.* MB free\); free some space"
    with pytest.raises(InputError, match=said), report_disk_errors(tmp_path / "none"):
        raise OSError(code, os.strerror(code))


def test_the_words_of_numpy_alone_tell_of_a_full_disk():
    assert is_full(OSError("1000 requested and 12 written"))
    assert not is_full(OSError("something else"))
    assert not is_full(OSError(errno.ENOENT, "1000 requested and 12 written"))


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path} cannot be written to"), report_disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), report_disk_errors(tmp_path):
        (tmp_path / "none").read_text()


def test_a_real_limit_of_the_file_size(tmp_path):
    """What numpy and Python really do when a write comes to an end, in a process of its own."""
    script = (
        "import numpy as np, pathlib, sys\n"
        "from cd_exp.io.atomic import temporary_file, write_file\n"
        "from cd_exp.errors import InputError\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "def by_numpy():\n"
        "    with temporary_file(folder) as half, half.open('wb') as file:\n"
        "        np.save(file, np.zeros(10**6))\n"
        "for task in (lambda: write_file(folder / 'big', bytes(10**6)), by_numpy):\n"
        "    try:\n"
        "        task()\n"
        "    except InputError as error:\n"
        "        print(error)\n"
    )

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], preexec_fn=limited, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("is full, or a limit on it is reached") == 2
    assert not list(tmp_path.iterdir())


def test_what_numpy_raises_where_a_disk_is_full():
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full")
    with pytest.raises(OSError, match=r"requested and|No space") as caught, open("/dev/full", "wb") as file:  # noqa: PTH123
        np.save(file, np.zeros(10**6))
    assert is_full(caught.value)
