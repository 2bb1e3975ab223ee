import multiprocessing
import shutil

import numpy as np
import pytest

from cd_exp import __version__
from cd_exp.cache import Entry, Store, entries, make_key
from cd_exp.cache.entries import find_damage
from cd_exp.errors import InputError

ENTRY = Entry("images", {"clip": {"weights": "abc"}, "probe": "def"})
VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


def made(store, entry=ENTRY, values=VALUES, shard=2, **facts):
    """The entry, made in shards."""
    making = store.open_partial(entry, rows=len(values), shard=shard)
    for number in range(making.shards):
        making.save(number, values[number * shard : (number + 1) * shard])
    return store.publish(making, **facts)


def test_the_key_depends_on_every_value_and_on_no_order():
    assert make_key({"a": 1, "b": [1, 2]}) == make_key({"b": [1, 2], "a": 1})
    assert (
        len({make_key({"a": 1}), make_key({"a": 2}), make_key({"b": 1}), make_key({"a": "1"}), make_key({"a": [1]})})
        == 5
    )


def test_the_key_changes_with_the_schema():
    content = {"kind": ENTRY.kind, **ENTRY.content}
    assert ENTRY.key == make_key(content, schema=entries.SCHEMA) != make_key(content, schema=entries.SCHEMA + 1)


@pytest.mark.parametrize("make", [Store.save, made], ids=["at once", "in shards"])
def test_what_was_stored_is_found_and_nothing_else(store, make):
    assert store.find(ENTRY) is None
    assert np.array_equal(make(store, ENTRY, VALUES, says="a test"), VALUES)
    assert np.array_equal(store.find(ENTRY), VALUES)
    assert store.find(Entry("images", {**ENTRY.content, "probe": "other"})) is None
    assert store.made == store.read == [f"images/{ENTRY.key}"]
    manifest = store.manifest(ENTRY)
    assert (manifest.content, manifest.shape) == (ENTRY.content, (4, 3))
    assert (manifest.facts["says"], manifest.facts["made_by"]) == ("a test", __version__)
    assert find_damage(store.folder(ENTRY)) == ""


def test_several_arrays_are_stored_as_one_entry(store):
    assert store.find_arrays(ENTRY) is None
    store.save_arrays(ENTRY, {"a": VALUES, "b": np.array(3)}, says="two")
    arrays = store.find_arrays(ENTRY)
    assert np.array_equal(arrays["a"], VALUES)
    assert arrays["b"] == 3


def test_what_is_found_can_be_changed_in_memory_but_not_on_disk(store):
    store.save(ENTRY, VALUES)
    store.find(ENTRY)[0, 0] = 99
    assert np.array_equal(store.find(ENTRY), VALUES)


def test_reading_alone_writes_nothing(store):
    assert store.find(ENTRY) is None
    assert not store.root.exists()


def compute_once(root, counted):
    """Find or make the entry, as parallel jobs of a sweep do."""
    store = Store(root)
    with store.lock([ENTRY]):
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


def test_a_remembered_value_is_made_once_for_its_content(store):
    calls = []

    def make():
        calls.append(1)
        return {"layers": (1, 2)}

    assert store.remember("layers", {"a": 1}, make) == {"layers": [1, 2]}
    assert store.remember("layers", {"a": 1}, make) == {"layers": [1, 2]}
    store.remember("layers", {"a": 2}, make)
    assert len(calls) == 2


def test_a_remembered_value_of_another_form_is_made_again(store):
    store.remember("layers", {"a": 1}, lambda: {"old": 1})
    assert store.remember("layers", {"a": 1}, lambda: {"new": 2}, parse=lambda value: value["new"]) == 2
    assert "made by another version" in store.reports[0]
    assert store.remember("layers", {"a": 1}, lambda: pytest.fail("made again"), parse=lambda value: value["new"]) == 2


def test_a_bug_in_finding_a_value_out_keeps_its_traceback(store):
    with pytest.raises(ZeroDivisionError):
        store.remember("layers", {"a": 1}, lambda: 1 / 0)
    with pytest.raises(KeyError):
        store.remember("layers", {"a": 1}, dict, parse=lambda value: value["new"])


def test_an_entry_that_is_pruned_while_it_is_read_is_one_line_that_says_so(tmp_path, monkeypatch):
    store, entry = Store(tmp_path), Entry("texts", {"names": ["a"]})
    with store.lock([entry]):
        store.save(entry, np.zeros((2, 3), dtype=np.float32))
    monkeypatch.setattr(Store, "_is_whole", lambda self, entry, *, verify: True)
    shutil.rmtree(store.folder(entry))
    for read in (store.find, store.find_arrays, store.manifest):
        with pytest.raises(InputError, match="was removed while this run read it"):
            read(entry)
