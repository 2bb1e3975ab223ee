"""A cache that several people use, one that may only be read, and a disk that is full."""

import codecs
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from cd_exp.cache import Entry, Store
from cd_exp.cache.store import hold_lock
from cd_exp.errors import InputError

ROOT = Path(__file__).parents[2]
ENTRY = Entry("images", {"probe": "def"})
VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)
NOBODY = 65534
codecs.lookup("cp437")  # of zip files, loaded while it may be: the interpreter may lie in a folder closed to others
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")

READ = """
import sys
import numpy as np
from cd_exp.cache import Entry, Store
store = Store(sys.argv[1])
assert store.find(Entry("images", {"probe": "def"})).shape == (4, 3)
assert store.find_arrays(Entry("lists", {"probe": "def"}))["a"].shape == (4, 3)
assert store.remember("layers", {"a": 1}, lambda: sys.exit("made again")) == 1
assert store.remember("layers", {"a": 2}, lambda: 2) == 2
print("read")
"""
WRITE = """
import sys
import numpy as np
from cd_exp.cache import Entry, Store
from cd_exp.errors import InputError
store, entry = Store(sys.argv[1]), Entry("images", {"probe": "other"})
try:
    with store.lock([entry]):
        making = store.open_partial(entry, rows=4, shard=2)
        for number in range(2):
            making.save(number, np.ones((2, 3), dtype=np.float32))
        store.publish(making)
    print("written")
except InputError as error:
    print("error:", error)
"""


@pytest.fixture
def shared():
    """A folder that other users may enter; those of pytest are private."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def fill(root):
    store = Store(root)
    with store.lock([ENTRY]):
        store.save(ENTRY, VALUES)
        store.save_arrays(Entry("lists", {"probe": "def"}), {"a": VALUES})
    store.remember("layers", {"a": 1}, lambda: 1)
    return store


def as_nobody(script, *words, group=NOBODY):
    """Run the script as another user, in a fork of this process: the interpreter's folders may be closed to others."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(NOBODY)
            sys.argv = ["-c", *map(str, words)]
            sys.stdout = os.fdopen(1, "w")
            exec(script, {})
            sys.stdout.flush()
        except BaseException as error:
            os.write(2, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read().strip()
    os.waitpid(child, 0)
    return text


@root_only
@pytest.mark.parametrize("umask", [0o022, 0o002])
def test_a_second_user_reads_what_the_first_has_made(shared, umask):
    before = os.umask(umask)
    try:
        fill(shared / "cache")
    finally:
        os.umask(before)
    assert as_nobody(READ, shared / "cache") == "read"


@root_only
def test_a_second_user_adds_where_the_group_may_write_and_is_told_where_not(shared):
    before = os.umask(0o002)
    try:
        fill(shared / "cache")
        for folder in (shared / "cache", *(path for path in (shared / "cache").rglob("*"))):
            os.chown(folder, 0, NOBODY)
    finally:
        os.umask(before)
    assert as_nobody(WRITE, shared / "cache") == "written"
    fill(shared / "closed")
    said = as_nobody(WRITE, shared / "closed")
    assert said.startswith("error:")
    assert "may only be read, and it lacks what this run needs (images); set cache.dir to a folder of your own" in said
    (shared / "theirs").mkdir()
    shutil.copytree(shared / "closed", shared / "copy")
    for path in (shared / "theirs", shared / "copy", *(shared / "copy").rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    for folder in ("theirs", "copy"):  # the remedy
        assert as_nobody(WRITE, shared / folder) == "written"


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_permissions_are_those_of_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        store = fill(tmp_path / "cache")
        making = store.open_partial(Entry("images", {"probe": "other"}), rows=4, shard=4)
        making.save(0, VALUES)
        store.publish(making)
    finally:
        os.umask(before)
    for path in store.root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~umask, path


@root_only
def test_a_cache_that_may_only_be_read_will_do_where_it_has_everything(shared):
    fill(shared / "cache")
    before = {path: path.stat().st_mtime_ns for path in (shared / "cache").rglob("*")}
    for path in (shared / "cache", *before):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert as_nobody(READ, shared / "cache") == "read"
    assert {path: path.stat().st_mtime_ns for path in (shared / "cache").rglob("*")} == before


OBTAIN = """
import sys
import numpy as np
from cd_exp.cache import Entry, Store
store, entry = Store(sys.argv[1]), Entry("thumbnails", {"probe": "def"})
made = []
for _ in range(2):
    print(store.obtain(entry, lambda: made.append(1) or (np.ones(3), {"lengths": [3]})).sum())
    print(store.manifest(entry).facts["lengths"])
print(len(made), store.reports)
"""


@root_only
def test_what_a_read_only_cache_lacks_and_is_small_is_made_for_the_run_alone(shared):
    fill(shared / "cache")
    printed = as_nobody(OBTAIN, shared / "cache").splitlines()
    assert printed[:4] == ["3.0", "[3]", "3.0", "[3]"]
    assert printed[4].startswith("1 [")
    assert "may only be read: thumbnails were made for this run and not stored" in printed[4]


@root_only
@pytest.mark.slow
def test_a_run_reads_all_from_a_cache_that_may_only_be_read(tmp_path):
    """As a user without root's way around permissions; the folder is left as it was, no lock among it."""
    run = [sys.executable, "run.py", "probe.size=120", "logger=none", "features.progress=false"]
    run += ["report.figures=false", "report.html=false", f"cache.dir={tmp_path / 'cache'}"]
    plain = {"cwd": ROOT, "check": True, "capture_output": True, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    subprocess.run([*run, f"hydra.run.dir={tmp_path / 'first'}"], **plain)
    subprocess.run(["chmod", "-R", "a-w", str(tmp_path / "cache")], check=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    capabilities = "-dac_override,-dac_read_search"
    subprocess.run(
        [
            *("setpriv", f"--inh-caps={capabilities}", f"--bounding-set={capabilities}"),
            *(*run, "similarity=wpmi", f"hydra.run.dir={tmp_path / 'second'}"),
        ],
        **plain,
    )
    assert (tmp_path / "second" / "labels.csv").is_file()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")} == before


HOLD = """
import sys, time
from cd_exp.cache import Entry, Store
with Store(sys.argv[1]).lock([Entry("images", {"probe": "def"})]):
    print("held", flush=True)
    time.sleep(0.6)
"""


def test_one_that_waits_says_for_whom(tmp_path, capsys):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True, env=environment
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with hold_lock(tmp_path, ENTRY.key, wanted=ENTRY.says, patience=0.05):
            pass
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{ENTRY.says}: waiting for process {holder.pid} on {socket.gethostname()} (since 20" in said
    assert not list(tmp_path.glob("locks/*.holder"))
    (tmp_path / "locks" / f"{ENTRY.key}.holder").write_text("of a process that was killed")
    with Store(tmp_path).lock([ENTRY]):
        assert str(os.getpid()) in (tmp_path / "locks" / f"{ENTRY.key}.holder").read_text()


def limited(size, work):
    """Do the work in a fork whose files may have so many bytes; gives what it says."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            work()
            os.write(writing, b"done")
        except InputError as error:
            os.write(writing, f"error: {error}".encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


BIG = np.zeros((1000, 1000), dtype=np.float32)


@pytest.mark.parametrize("way", ["at once", "in shards", "several arrays", "a piece"])
def test_a_full_disk_is_one_line_and_what_was_stored_stays_valid(tmp_path, way):
    store, other = fill(tmp_path / "cache"), Entry("images", {"probe": "big"})
    making = store.open_partial(other, rows=2000, shard=1000)

    def in_shards():
        making.save(0, BIG)
        making.save(1, BIG)

    work = {
        "at once": lambda: store.save(other, BIG),
        "several arrays": lambda: store.save_arrays(other, {"a": BIG}),
        "a piece": lambda: store.pieces(other).save({"a": BIG}),
        "in shards": in_shards,
    }[way]
    said = limited(100_000, work)
    assert said.startswith("error: the disk that holds")
    assert "set cache.dir to a larger one, or make room with `python -m cd_exp.cache prune --keep 10GB`" in said
    assert not [path for path in store.root.rglob("*") if path.name.startswith(".tmp-") and path.is_file()]
    assert np.array_equal(store.find(ENTRY), VALUES)
    assert store.find(other) is None
    assert limited(10**9, work) == "done"
