import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd_exp.cache import Entry, Store
from cd_exp.cache.entries import find_damage, read_manifest

ENTRY = Entry("activations", {"model": "m"})
VALUES = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
SHARD = 4


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


def save(making, *numbers, unreadable=()):
    for number in numbers:
        rows = range(number * SHARD, min((number + 1) * SHARD, making.rows))
        making.save(number, VALUES[rows], [row for row in unreadable if row in rows])


def making_of(store):
    return store.open_partial(ENTRY, rows=len(VALUES), shard=SHARD)


def test_shards_stand_in_their_order_whatever_order_they_came_in(store):
    making = making_of(store)
    save(making, 2, 0, 1)
    assert making.finished_shards() == {0, 1, 2}
    assert making.mend() == []
    assert np.array_equal(store.publish(making, says="x"), VALUES)
    assert [path.name for path in store.folder(ENTRY).iterdir()] != []
    assert {path.name for path in store.folder(ENTRY).iterdir()} == {"values.npy", "manifest.json"}
    assert not list((store.root / "partial").iterdir())


def test_another_process_continues_from_the_finished_shards(store):
    save(making_of(store), 1)
    later = making_of(Store(store.root))
    assert later.finished_shards() == {1}
    save(later, 0, 2)
    assert np.array_equal(store.publish(later), VALUES)


def test_a_missing_shard_is_no_entry(store):
    making = making_of(store)
    save(making, 0, 2)
    with pytest.raises(ValueError, match=r"shards \[1\] of 3 are missing"):
        store.publish(making)
    assert store.find(ENTRY) is None


@pytest.mark.parametrize("damage", ["row", "record", "sealed", "no values", "cut off"])
def test_a_damaged_shard_is_said_and_made_again(store, damage):
    making = making_of(store)
    save(making, 0, 1, 2)
    record = making.folder / "000001.json"
    if damage == "row":
        content = bytearray(making.path.read_bytes())
        content[4096 + SHARD * 12] ^= 1
        making.path.write_bytes(content)
    elif damage == "record":
        record.write_text("[]")
    elif damage == "sealed":
        record.write_text(record.read_text().replace('"unreadable": []', '"unreadable": [5]'))
    elif damage == "no values":
        making.path.unlink()
    else:
        making.path.write_bytes(making.path.read_bytes()[:-4])
    said = making.mend()
    assert 1 not in making.finished_shards()
    assert any("shard 1 of activations/" in line and "it is made again" in line for line in said)
    save(making, *(set(range(3)) - making.finished_shards()))
    assert making.mend() == []
    assert np.array_equal(store.publish(making), VALUES)


def test_what_a_kill_left_half_written_is_swept(store):
    making = making_of(store)
    save(making, 0)
    (making.folder / ".tmp-0123").write_bytes(b"half")
    making.mend()
    assert {path.name for path in making.folder.iterdir()} == {"values.npy", "000000.json"}


def test_an_array_in_the_making_takes_no_room_before_it_is_written(store):
    making = store.open_partial(ENTRY, rows=10**9, shard=10**6)
    making.save(0, np.zeros((10**6, 3), dtype=np.float32))
    assert making.path.stat().st_size > 12 * 10**9
    assert 512 * making.path.stat().st_blocks < 20 * 10**6


@settings(deadline=None)
@given(st.sets(st.integers(0, len(VALUES) - 1), max_size=len(VALUES) - 1), st.integers(1, 12))
def test_unreadable_rows_are_left_out_once_and_for_all(tmp_path_factory, unreadable, shard):
    store = Store(tmp_path_factory.mktemp("cache"))
    making = store.open_partial(ENTRY, rows=len(VALUES), shard=shard)
    for number in range(making.shards):
        rows = range(number * shard, min((number + 1) * shard, len(VALUES)))
        making.save(number, VALUES[rows], [row for row in rows if row in unreadable])
    values = store.publish(making)
    assert np.array_equal(values, np.delete(VALUES, sorted(unreadable), axis=0))
    assert read_manifest(store.folder(ENTRY)).unreadable == tuple(sorted(unreadable))
    assert find_damage(store.folder(ENTRY)) == ""


def test_no_byte_of_a_shard_is_hashed_twice_in_a_run(store, monkeypatch):
    from cd_exp.cache import partial as module

    hashed = []
    real = module.hash_shards
    monkeypatch.setattr(module, "hash_shards", lambda *a, **k: hashed.append(k.get("only")) or real(*a, **k))
    making = making_of(store)
    making.mend()
    save(making, 0, 1, 2)
    store.publish(making)
    assert hashed == []
    assert store.find(ENTRY, verify=False) is not None


def test_rows_begin_on_a_page(store):
    making = making_of(store)
    save(making, 0, 1, 2)
    store.publish(making)
    data = (store.folder(ENTRY) / "values.npy").read_bytes()
    assert data[4096:] == VALUES.tobytes()
    assert np.array_equal(np.load(store.folder(ENTRY) / "values.npy"), VALUES)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_file_stays_open(store):
    before = len(list(Path("/proc/self/fd").iterdir()))
    making = making_of(store)
    save(making, 0, 1, 2)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
