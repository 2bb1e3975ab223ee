import errno
import json
import multiprocessing
import sys
from pathlib import Path

import numpy as np
import pytest

from cd_exp import cache
from cd_exp.cache import Entry, Store, check, key_of
from cd_exp.cache.__main__ import main
from cd_exp.errors import InputError

ENTRY = Entry("images", {"clip": {"weights": "abc"}, "probe": "def"})
VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


def test_the_key_depends_on_every_value_and_on_no_order():
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert len({key_of({"a": 1}), key_of({"a": 2}), key_of({"b": 1}), key_of({"a": "1"}), key_of({"a": [1]})}) == 5


def test_the_key_changes_with_the_schema(monkeypatch):
    before = ENTRY.key
    monkeypatch.setattr(cache, "SCHEMA", cache.SCHEMA + 1)
    assert ENTRY.key != before


def test_what_was_saved_is_found_and_nothing_else(store):
    assert store.find(ENTRY) is None
    store.save(ENTRY, VALUES, says="a test", unreadable=[])
    assert np.array_equal(store.find(ENTRY), VALUES)
    assert store.find(Entry("images", {**ENTRY.content, "probe": "other"})) is None
    assert store.made == store.read == [f"images/{ENTRY.key}"]
    manifest = store.manifest(ENTRY)
    assert manifest["content"] == ENTRY.content
    assert manifest["says"] == "a test"


def test_what_is_found_can_be_changed_in_memory_but_not_on_disk(store):
    store.save(ENTRY, VALUES)
    store.find(ENTRY)[0, 0] = 99
    assert np.array_equal(store.find(ENTRY), VALUES)


@pytest.mark.parametrize("damage", ["flip", "truncate", "no manifest", "no values", "half manifest", "other content"])
def test_a_damaged_entry_is_reported_and_made_again(store, damage):
    store.save(ENTRY, VALUES)
    folder = store.folder(ENTRY)
    values, manifest = folder / "values.npy", folder / "manifest.json"
    if damage == "flip":
        content = bytearray(values.read_bytes())
        content[-1] ^= 1
        values.write_bytes(content)
    elif damage == "truncate":
        values.write_bytes(values.read_bytes()[:-4])
    elif damage == "no values":
        values.unlink()
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "half manifest":
        manifest.write_text(manifest.read_text()[:20])
    else:
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"content": {"probe": "other"}}))
    assert store.find(ENTRY) is None
    assert "was damaged" in store.reports[0]
    store.save(ENTRY, VALUES)
    assert np.array_equal(store.find(ENTRY), VALUES)


def test_shards_merge_in_their_order_whatever_order_they_came_in(store):
    for number in (2, 0, 1):
        store.save_shard(ENTRY, number, VALUES[number : number + 1])
    assert sorted(store.shards(ENTRY)) == [0, 1, 2]
    assert np.array_equal(store.merge(ENTRY, rows=3), VALUES[:3])
    assert not list(store.root.rglob(".tmp-*"))
    assert not list((store.root / "partial").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_more_shards_are_merged_than_files_may_be_open(store):
    import resource  # not on every system

    for number in range(60):
        store.save_shard(ENTRY, number, VALUES[:1] + number)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 30, hard))
    try:
        merged = store.merge(ENTRY, rows=60)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert np.array_equal(merged, np.concatenate([VALUES[:1] + number for number in range(60)]))


def test_shards_with_a_gap_are_not_merged(store):
    for number in (0, 2):
        store.save_shard(ENTRY, number, VALUES[number : number + 1])
    with pytest.raises(ValueError, match="2 shards make 2 rows, not 3"):
        store.merge(ENTRY, rows=3)
    assert store.find(ENTRY) is None


def test_shards_that_a_kill_left_beside_the_whole_entry_are_swept(store):
    store.save_shard(ENTRY, 0, VALUES)
    store.save(ENTRY, VALUES)
    store.sweep_partial(ENTRY)
    assert not list((store.root / "partial").iterdir())


def test_a_damaged_shard_is_dropped(store):
    store.save_shard(ENTRY, 0, VALUES)
    path = store.shards(ENTRY)[0]
    path.write_bytes(path.read_bytes()[:-1])
    assert store.shards(ENTRY) == {}
    assert "shard 000000" in store.reports[0]


def test_what_a_kill_left_half_written_is_swept(store):
    store.save_shard(ENTRY, 0, VALUES)
    leftover = store.shards(ENTRY)[0].parent / ".tmp-abc"
    leftover.write_bytes(b"half")
    store.sweep_partial(ENTRY)
    assert not leftover.exists()
    assert list(store.shards(ENTRY)) == [0]


def test_a_full_disk_is_a_clear_error_and_the_cache_stays_valid(store, monkeypatch):
    store.save(ENTRY, VALUES)
    other = Entry("images", {"probe": "other"})

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InputError, match=r"is full.* set cache.dir to a larger one"):
        store.save_shard(other, 0, VALUES)
    with pytest.raises(InputError, match="is full"):
        store.save(other, VALUES)
    assert not list(store.root.rglob(".tmp-*"))
    assert check(store.folder(ENTRY)) == ""
    assert store.find(other) is None


def test_a_remembered_value_is_made_once_for_its_content(store):
    made = []

    def make():
        made.append(1)
        return {"layers": [1, 2]}

    assert store.remember("layers", {"a": 1}, make) == {"layers": [1, 2]}
    assert store.remember("layers", {"a": 1}, make) == {"layers": [1, 2]}
    store.remember("layers", {"a": 2}, make)
    assert len(made) == 2


def compute_once(root, counted):
    """Find or make the entry, as parallel jobs of a sweep do."""
    store = Store(root)
    with store.locked([ENTRY]):
        if store.find(ENTRY) is None:
            with counted.open("a") as file:
                file.write("made\n")
            store.save(ENTRY, VALUES)


def test_parallel_jobs_compute_an_entry_once(tmp_path):
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=compute_once, args=(tmp_path / "cache", tmp_path / "made")) for _ in range(6)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert (tmp_path / "made").read_text() == "made\n"


def test_the_commands_list_verify_and_prune(store, capsys, monkeypatch):
    store.save(ENTRY, VALUES, says="CLIP of a test")
    store.save_shard(Entry("images", {"probe": "unfinished"}), 0, VALUES)

    def command(*words):
        monkeypatch.setattr("sys.argv", ["cache", *words, "--dir", str(store.root)])
        status = main()
        return status, capsys.readouterr().out

    assert "CLIP of a test" in command("list")[1]
    assert command("verify") == (0, "1 entries, 0 damaged\n")
    (store.folder(ENTRY) / "values.npy").write_bytes(b"")
    status, said = command("verify")
    assert status == 1
    assert "does not have its checksum" in said
    assert "removed 0 entries" in command("prune", "--days", "1")[1]
    assert "removed 2 entries" in command("prune")[1]
    assert command("verify") == (0, "0 entries, 0 damaged\n")


def test_a_cache_that_is_not_there_is_said_so(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["cache", "list", "--dir", str(tmp_path / "none")])
    assert main() == 2
    assert "no cache at" in capsys.readouterr().err
