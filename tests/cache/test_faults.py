"""Whatever stops a run while it writes into the cache, a kill, a full disk or a lost right: the next one mends it."""

import errno
import io
import os
import sys
from contextlib import redirect_stdout

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cd_exp.cache import Entry, Store
from cd_exp.cache.__main__ import verify_cache
from cd_exp.cache.store import LEFT
from cd_exp.errors import InputError, of_the_machine

VALUES = np.arange(60, dtype=np.float32).reshape(20, 3)
SHARDS, PIECES = Entry("activations", {"probe": "a"}), Entry("lists", {"probe": "a"})
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
FAULTS = ("kill", "ENOSPC", "EIO", "EACCES")
MOST = 90
"""A run of `work` changes the folder some eighty times."""


def work(root):
    """What a run does: an array shard by shard, a reduction piece by piece, a small array, a small value."""
    store = Store(root)
    if store.holds(SHARDS) is None:
        with store.lock([SHARDS]):
            store.drop_damaged(SHARDS)
            making = store.open_partial(SHARDS, rows=20, shard=8)
            making.mend()
            for number in sorted(set(range(3)) - making.finished_shards()):
                making.save(number, VALUES[8 * number : 8 * number + 8], [3] if number == 0 else [])
            store.publish(making, says="shards")
    if store.holds(PIECES) is None:
        with store.lock([PIECES]):
            store.drop_damaged(PIECES)
            pieces = store.pieces(PIECES)
            pieces.mend()
            last = pieces.save({"values": VALUES[:8]})
            pieces.save({"values": VALUES}, instead_of=last)
            largest = max((arrays["values"] for _, arrays in pieces.load()), key=len)
            store.save_arrays(PIECES, {"values": largest})
            store.drop_partial(PIECES)
    texts = store.obtain(Entry("texts", {"words": "a"}), lambda: (VALUES[:2], {"says": "texts"}))
    remembered = store.remember("layers", {"model": "a"}, lambda: [1, 2])
    lists = store.find_arrays(PIECES)
    return store.find(SHARDS).tolist(), lists["values"].tolist(), texts.tolist(), remembered


def stopped(root, number, fault):
    """Do the work in a fork of this process whose `number`th change of the folder fails; how that ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        changes = [0]

        def fail(event, arguments):
            if event == "open":
                changing = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            else:
                changing = event in CHANGES
            if changing and str(root) in str(arguments[0]):
                changes[0] += 1
                if changes[0] == number:
                    if fault == "kill":
                        os._exit(9)
                    code = getattr(errno, fault)
                    raise OSError(code, os.strerror(code), str(arguments[0]))

        sys.addaudithook(fail)
        try:
            work(root)
            os.write(writing, b"done")
        except InputError:
            os.write(writing, b"one line")
        except BaseException as error:
            os.write(writing, b"one line" if of_the_machine(error) else f"traceback {error!r}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@example(number=4, fault="kill")
@example(number=30, fault="EIO")
@example(number=85, fault="kill")
@given(number=st.integers(1, MOST), fault=st.sampled_from(FAULTS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_stops_a_run_is_mended_by_the_next(tmp_path_factory, number, fault):
    root = tmp_path_factory.mktemp("cache")
    said = stopped(root, number, fault)
    assert said in ("done", "one line", "")
    for path in root.rglob(".tmp-*"):  # what is half-written for so long was left by one that is gone
        os.utime(path, (path.stat().st_mtime - LEFT - 1,) * 2)
    expected = np.delete(VALUES, 3, axis=0).tolist(), VALUES.tolist(), VALUES[:2].tolist(), [1, 2]
    assert work(root) == expected
    for pieces in root.glob("partial/*"):
        os.utime(pieces, (pieces.stat().st_mtime - LEFT - 1,) * 2)
    Store(root).note("layers", {"model": "b"}, 0)  # a run that writes anything sweeps
    assert not list(root.rglob(".tmp-*"))
    assert not list(root.glob("partial/*/*"))
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert verify_cache(root) == 0, printed.getvalue()


def test_a_file_that_another_process_is_writing_stays(tmp_path):
    (tmp_path / "layers").mkdir()
    fresh = tmp_path / "layers" / ".tmp-0123456789abcdef0123456789abcdef"
    fresh.write_text("half")
    Store(tmp_path).note("layers", {"model": "a"}, 1)
    assert fresh.exists()


def test_the_faults_reach_all_that_a_run_writes(tmp_path):
    assert stopped(tmp_path / "early", 5, "kill") == ""
    assert stopped(tmp_path / "whole", 10 * MOST, "kill") == "done"
