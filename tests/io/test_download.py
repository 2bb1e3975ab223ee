import hashlib
import io
import os
import pty
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.serving import serving

from cd_exp.errors import InputError
from cd_exp.io import download
from cd_exp.io.download import PATIENCE, Archive, fetch_file, is_reachable, locate_archive

CONTENT = b"some bytes " * 100_000


@pytest.fixture
def site(tmp_path):
    published = tmp_path / "published"
    published.mkdir()
    (published / "data.bin").write_bytes(CONTENT)
    with serving(published) as site:
        yield site


def test_downloads_once_and_checks(site, tmp_path):
    for checksum in (f"md5:{hashlib.md5(CONTENT).hexdigest()}", f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"):
        path = fetch_file(site.url + "data.bin", checksum, tmp_path / "kept")
        assert path == tmp_path / "kept/data.bin"
        assert path.read_bytes() == CONTENT
    assert site.asked == ["/data.bin"]


def test_records_a_checksum_where_none_is_published_and_checks_it_from_then_on(site, tmp_path):
    folder = tmp_path / "kept"
    path = fetch_file(site.url + "data.bin", None, folder)
    record = folder / "data.bin.sha256"
    assert record.read_text() == f"{hashlib.sha256(CONTENT).hexdigest()}  data.bin\n"
    path.unlink()
    (tmp_path / "published/data.bin").write_bytes(b"something else")
    with pytest.raises(
        InputError, match=r"data.bin is not the file it should be, its checksum is not sha256:.*probe.root"
    ):
        fetch_file(site.url + "data.bin", None, folder)
    assert not path.exists()


def test_a_wrong_checksum_leaves_nothing_behind(site, tmp_path):
    folder = tmp_path / "kept"
    with pytest.raises(InputError, match=r"its checksum is not md5:0123"):
        fetch_file(site.url + "data.bin", "md5:0123", folder)
    assert not folder.exists()


def test_a_file_put_there_by_hand_needs_no_network(tmp_path):
    (tmp_path / "data.bin").write_bytes(CONTENT)
    assert fetch_file("http://127.0.0.1:9/data.bin", None, tmp_path).read_bytes() == CONTENT


def test_an_interrupted_transfer_is_no_file(site, tmp_path):
    with serving(tmp_path / "published", cut_off=True) as broken, pytest.raises(InputError, match=r"cut off"):
        fetch_file(broken.url + "data.bin", None, tmp_path / "kept")
    assert not (tmp_path / "kept/data.bin").exists()
    assert not (tmp_path / "kept/data.bin.sha256").exists()


def test_nothing_there(site, tmp_path):
    with pytest.raises(
        InputError, match=r"other.bin is not in .*kept and .*/other.bin cannot be had \(HTTP 404\); set model"
    ):
        fetch_file(site.url + "other.bin", None, tmp_path / "kept", setting="model.weights=FILE")


def test_refused_connection_is_a_quick_one_line_error(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: every connection is refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/cifar-100-binary.tar.gz"
        start = time.monotonic()
        with pytest.raises(InputError) as caught:
            fetch_file(url, "md5:0", tmp_path, unpack=True)
        assert time.monotonic() - start < 3
        assert not is_reachable(url)
    message = str(caught.value)
    assert message == (
        f"cifar-100-binary.tar.gz is not in {tmp_path} and {url} cannot be had (no connection); "
        f"set probe.root=DIR to a local copy, or put cifar-100-binary.tar.gz into {tmp_path}"
    )


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up_within_ten_seconds(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(InputError, match=r"cannot be had \(no answer\)"):
            fetch_file(f"http://127.0.0.1:{silent.getsockname()[1]}/data.bin", None, tmp_path)
        assert PATIENCE - 1 < time.monotonic() - start < 10


def test_an_unknown_host(tmp_path):
    with pytest.raises(InputError, match=r"\(no network, or no such host\)"):
        fetch_file("http://no-such-host.invalid/data.bin", None, tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(InputError, match=r"data/more cannot be made for data.bin"):
        fetch_file("http://127.0.0.1:9/data.bin", None, tmp_path / "data/more")


def pack(folder: Path, kind: str) -> str:
    if kind == "zip":
        with zipfile.ZipFile(folder / "tree.zip", "w") as archive:
            archive.writestr("tree/deep/ünï.txt", "content")
        return "tree.zip"
    (folder / "tree/deep").mkdir(parents=True)
    (folder / "tree/deep/ünï.txt").write_text("content")
    with tarfile.open(folder / f"tree.{kind}", "w:gz" if kind == "tar.gz" else "w") as archive:
        archive.add(folder / "tree", "tree")
    return f"tree.{kind}"


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_unpacks_and_deletes_the_archive(site, tmp_path, kind):
    name = pack(tmp_path / "published", kind)
    target = fetch_file(site.url + name, None, tmp_path / "kept", unpack=True)
    assert target == tmp_path / "kept/tree"
    assert (target / "tree/deep/ünï.txt").read_text() == "content"
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [f".{name}.lock", "tree", f"{name}.sha256"]
    assert fetch_file(site.url + name, None, tmp_path / "kept", unpack=True) == target
    assert site.asked == [f"/{name}"]


@pytest.mark.parametrize("name", ["data.zip", "data.tar.gz"])
def test_a_broken_archive_leaves_no_half_unpacked_folder(tmp_path, name):
    (tmp_path / name).write_bytes(CONTENT)
    with pytest.raises(InputError, match=rf"{name} is no archive, or a broken one .*delete it"):
        fetch_file("http://127.0.0.1:9/" + name, None, tmp_path, unpack=True)
    assert not (tmp_path / "data").exists()
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_cut_off_tar_is_noticed(tmp_path):
    name = pack(tmp_path, "tar.gz")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / name).write_bytes((tmp_path / name).read_bytes()[:-60])
    with pytest.raises(InputError, match=r"a broken one"):
        fetch_file("http://127.0.0.1:9/" + name, None, tmp_path / "kept", unpack=True)


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return path


def member(name: str, size: int = 1, **facts: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = size
    for fact, value in facts.items():
        setattr(made, fact, value)
    return made


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    link = {"type": tarfile.SYMTYPE, "linkname": "/etc"}
    hard = {"type": tarfile.LNKTYPE, "linkname": "../secret"}
    pipe = {"type": tarfile.FIFOTYPE}
    for number, (first, message) in enumerate(
        [
            (member("../outside.py"), "is no archive, or a broken one"),
            (member("a/../../outside.py"), "is no archive, or a broken one"),
            (member("etc", 0, **link), "holds the link etc to /etc; it is not unpacked"),
            (member("secret", 0, **hard), "is no archive, or a broken one"),
            (member("pipe", 0, **pipe), "is no archive, or a broken one"),
        ]
    ):
        tar_of(tmp_path / f"bad{number}.tar", (first, b"x"), (member("etc/outside.py"), b"x"))
        with pytest.raises(InputError, match=message) as caught:
            fetch_file(f"http://127.0.0.1:9/bad{number}.tar", None, tmp_path, unpack=True)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / f"bad{number}").exists()
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../outside.py", "x")
        archive.writestr("/absolute.py", "x")
    fetch_file("http://127.0.0.1:9/bad.zip", None, tmp_path, unpack=True)
    assert sorted(path.name for path in (tmp_path / "bad").rglob("*.py")) == ["absolute.py", "outside.py"]
    assert not (tmp_path / "outside.py").exists()


@pytest.fixture
def small_disk(monkeypatch):
    """A disk with room for 1 MB beside what is always left free."""
    usage = type("Usage", (), {"free": download.RESERVE + 1_000_000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: usage)


def bombs(folder: Path) -> Iterator[str]:
    """Small files that say, or show only on the way, that they hold more than 1 MB."""
    with zipfile.ZipFile(folder / "one.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(3_000_000))
    with zipfile.ZipFile(folder / "many.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(30):
            archive.writestr(f"{number}", bytes(100_000))
    tar_of(folder / "packed.tar.gz", *((member(f"{n}", 100_000), bytes(100_000)) for n in range(30)), mode="w:gz")
    holes = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "4000000000"}
    sparse = member("sparse", 0, pax_headers={**holes, "GNU.sparse.name": "holes"})
    sparse.size = 512
    tar_of(folder / "sparse.tar", (sparse, b"0\n".ljust(512, b"\0")))
    yield from ("one.zip", "many.zip", "packed.tar.gz", "sparse.tar")


@pytest.mark.usefixtures("small_disk")
def test_what_would_not_fit_the_disk_is_refused_before_or_as_it_grows(tmp_path):
    for name in bombs(tmp_path):
        assert (tmp_path / name).stat().st_size < 30_000
        with pytest.raises(InputError, match=rf"{name} unpacks to \d+.\d GB or more, and the disk of .* has room for"):
            fetch_file(f"http://127.0.0.1:9/{name}", None, tmp_path, unpack=True)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_zip_that_says_less_than_it_holds_is_broken(tmp_path):
    with zipfile.ZipFile(tmp_path / "lies.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(3_000_000))
    data = (tmp_path / "lies.zip").read_bytes()
    (tmp_path / "lies.zip").write_bytes(data.replace((3_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(InputError, match=r"lies.zip is no archive, or a broken one \(Bad CRC-32"):
        fetch_file("http://127.0.0.1:9/lies.zip", None, tmp_path, unpack=True)
    assert not (tmp_path / "lies").exists()


def test_a_download_larger_than_the_disk_is_not_begun(site, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("cd_exp.io.download.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match=r"data.bin has 0.0 GB, and the disk of .* has 0.0 GB free; free some, or set"):
        fetch_file(site.url + "data.bin", None, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_wrong_file_put_there_by_hand_is_refused_and_kept(tmp_path):
    (tmp_path / "data.bin").write_bytes(b"mine")
    with pytest.raises(
        InputError, match=r"data.bin is not the file it should be, its checksum is not md5:0; delete it"
    ):
        fetch_file("http://127.0.0.1:9/data.bin", "md5:0", tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == b"mine"


def test_what_was_downloaded_has_ordinary_permissions(site, tmp_path):
    path = fetch_file(site.url + "data.bin", None, tmp_path / "kept")
    (tmp_path / "plain").touch()
    assert (
        path.stat().st_mode == (tmp_path / "plain").stat().st_mode == (tmp_path / "kept/data.bin.sha256").stat().st_mode
    )


def test_a_proxy_that_is_not_there(site, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"\(the proxy of HTTPS_PROXY or HTTP_PROXY does not answer\); set probe.root"):
        fetch_file("http://somewhere.invalid/data.bin", None, tmp_path / "kept")


def test_the_jobs_of_a_sweep_share_one_download(site, tmp_path):
    name = pack(tmp_path / "published", "tar")
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: fetch_file(site.url + name, None, tmp_path / "kept", unpack=True), range(4)))
    assert paths == {tmp_path / "kept/tree"}
    assert site.asked == ["/tree.tar"]


def test_locate_finds_the_root_itself_or_one_below(tmp_path):
    archive = Archive("http://127.0.0.1:9/set.zip", None, "index.csv")
    (tmp_path / "set/inner").mkdir(parents=True)
    (tmp_path / "set/inner/index.csv").touch()
    for root in (tmp_path / "set", tmp_path / "set/inner"):
        assert locate_archive(archive, root=str(root), data_dir="x", setting="probe.root") == tmp_path / "set/inner"
    assert locate_archive(archive, root=None, data_dir=str(tmp_path), setting="probe.root") == tmp_path / "set/inner"


def test_locate_says_what_is_missing(tmp_path):
    archive = Archive("http://127.0.0.1:9/set.zip", None, "index.csv")
    with pytest.raises(InputError, match=r"concepts.root=.*nowhere: there is no such folder"):
        locate_archive(archive, root=str(tmp_path / "nowhere"), data_dir="x", setting="concepts.root")
    with pytest.raises(InputError, match=r"holds no index.csv, as set.zip has; probe.root must be the folder"):
        locate_archive(archive, root=str(tmp_path), data_dir="x", setting="probe.root")
    with pytest.raises(InputError, match=r"set.zip is not in .*; set probe.root=DIR to a local copy"):
        locate_archive(archive, root=None, data_dir=str(tmp_path / "data"), setting="probe.root")


def test_a_terminal_shows_a_bar_and_a_file_shows_nothing(site, tmp_path):
    script = "import sys, pathlib, cd_exp.io.download as d; d.fetch_file(sys.argv[1], None, pathlib.Path(sys.argv[2]))"
    command = [sys.executable, "-c", script, site.url + "data.bin"]
    quiet = subprocess.run([*command, tmp_path / "a"], capture_output=True, check=True)
    assert (quiet.stdout, quiet.stderr) == (b"", b"")
    ours, theirs = pty.openpty()
    subprocess.run([*command, tmp_path / "b"], stderr=theirs, check=True, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    assert b"downloading data.bin" in os.read(ours, 100_000)
    os.close(ours)
