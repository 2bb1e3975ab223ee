"""Whatever was done to the files of a cache: they are read as they were written, or made again and that is said."""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cd_exp import __version__
from cd_exp.cache import Damaged, Entry, Store, read_sealed_json, seal_json
from cd_exp.cache.__main__ import main
from cd_exp.cache.entries import find_damage
from cd_exp.cache.store import write_cache_tag
from cd_exp.errors import InputError

ENTRY = Entry("images", {"probe": "def"})
VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


def _json(numbers):
    return st.recursive(
        st.none() | st.booleans() | st.integers() | numbers | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )


JSON, FINITE = _json(st.floats()), _json(st.floats(allow_nan=False))
OFTEN = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["at once", "in shards", "several arrays"])
def stored(request, tmp_path):
    """A store with one entry, and what finds and makes it."""
    store = Store(tmp_path / "cache")

    def make(store):
        if request.param == "at once":
            store.save(ENTRY, VALUES)
        elif request.param == "several arrays":
            store.save_arrays(ENTRY, {"a": VALUES})
        else:
            making = store.open_partial(ENTRY, rows=4, shard=3)
            making.save(0, VALUES[:3])
            making.save(1, VALUES[3:])
            store.publish(making)

    def find(store):
        if request.param == "several arrays":
            arrays = store.find_arrays(ENTRY)
            return arrays if arrays is None else arrays["a"]
        return store.find(ENTRY)

    make(store)
    return store, find, make


def test_any_bytes_in_place_of_the_manifest(stored):
    store, find, make = stored
    path = store.folder(ENTRY) / "manifest.json"
    whole = path.read_bytes()

    @OFTEN
    @given(
        st.binary()
        | JSON.map(lambda value: json.dumps(value).encode())
        | st.sampled_from([whole.decode().encode("utf-16"), whole[:-9], b"[" * 100_000, b"1" * 10_000, b"null"])
        | st.builds(
            lambda key, value: json.dumps({**json.loads(whole), key: value}).encode(),
            st.sampled_from(sorted(json.loads(whole))),
            JSON,
        )
    )
    def attacked(data):
        path.write_bytes(data)
        fresh = Store(store.root)
        arrays = find(fresh)
        assert arrays is None or np.array_equal(arrays, VALUES)
        assert (arrays is None) == ("was damaged" in " ".join(fresh.reports)) == bool(find_damage(store.folder(ENTRY)))

    attacked()
    path.write_bytes(b"[]")
    fresh = Store(store.root)
    assert find(fresh) is None
    make(fresh)
    assert np.array_equal(find(fresh), VALUES)


@pytest.mark.parametrize("damage", ["flip", "truncate", "append", "gone"])
def test_damaged_numbers_are_said_and_made_again(stored, damage):
    store, find, make = stored
    path = next(store.folder(ENTRY).glob("values.*"))
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
    changed = {"truncate": content[:-4], "append": content + b"more", "flip": content, "gone": b""}[damage]
    path.write_bytes(changed)
    if damage == "gone":
        path.unlink()
    fresh = Store(store.root)
    assert find(fresh) is None
    assert f"cache entry images/{ENTRY.key[:12]} was damaged" in fresh.reports[0]
    assert "it is made again" in fresh.reports[0]
    make(fresh)
    assert np.array_equal(find(fresh), VALUES)


def test_a_manifest_without_its_checksum_is_not_taken(stored):
    store, find, _ = stored
    path = store.folder(ENTRY) / "manifest.json"
    values = json.loads(path.read_text())
    del values["checksum"]
    path.write_text(json.dumps(values))
    assert find(Store(store.root)) is None


def test_an_entry_under_anothers_name_is_not_taken(stored):
    store, _, _ = stored
    other = Entry("images", {"probe": "other"})
    shutil.copytree(store.folder(ENTRY), store.folder(other))
    assert store.find(other) is None
    assert "describes something else" in store.reports[0]


def test_files_of_others_in_an_entry_stay(stored):
    store, find, make = stored
    note = store.folder(ENTRY) / "notes.txt"
    note.write_text("mine")
    (store.folder(ENTRY) / "manifest.json").write_text("")
    fresh = Store(store.root)
    assert find(fresh) is None
    fresh.drop_damaged(ENTRY)
    assert note.read_text() == "mine"
    make(fresh)
    assert np.array_equal(find(fresh), VALUES)
    assert note.read_text() == "mine"


@OFTEN
@given(
    st.binary()
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.sampled_from(["value", "content", "made_by", "checksum"]).flatmap(
        lambda key: JSON.map(lambda value: json.dumps({"value": [1], "checksum": "", key: value}).encode())
    )
)
def test_any_bytes_in_place_of_a_remembered_value(tmp_path_factory, data):
    store = Store(tmp_path_factory.mktemp("cache"))
    store.remember("layers", {"a": 1}, lambda: [{"pooling": "avg"}])
    next(store.root.glob("layers/*.json")).write_bytes(data)
    assert store.remember("layers", {"a": 1}, lambda: [{"pooling": "avg"}]) == [{"pooling": "avg"}]
    assert "it is made again" in store.reports[0]
    assert store.remember("layers", {"a": 1}, lambda: pytest.fail("made again")) == [{"pooling": "avg"}]


def test_an_edited_remembered_value_does_not_change_a_run(tmp_path):
    store = Store(tmp_path)
    store.remember("layers", {"a": 1}, lambda: {"pooling": "avg"})
    path = next(store.root.glob("layers/*.json"))
    path.write_text(path.read_text().replace('"avg"', '"max"'))
    assert store.remember("layers", {"a": 1}, lambda: {"pooling": "avg"}) == {"pooling": "avg"}


@given(st.dictionaries(st.text().filter(lambda key: key not in ("checksum", "made_by")), FINITE))
@OFTEN
def test_what_was_sealed_comes_back(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("sealed") / "file.json"
    path.write_text(seal_json(values))
    ours = {"made_by": __version__}
    assert {**read_sealed_json(path), "checksum": ""} == {**values, **ours, "checksum": ""}


def test_no_file_and_no_json_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_sealed_json(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(Damaged, match=r"list.json holds no JSON object"):
        read_sealed_json(tmp_path / "list.json")


def _folder(path):
    path.unlink()
    path.mkdir()


def _pipe(path):
    path.unlink()
    os.mkfifo(path)


def _link(path):
    path.unlink()
    path.symlink_to(path.name)  # to itself


def _broken(path):
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize("name", ["manifest.json", "values"])
@pytest.mark.parametrize(
    "change",
    [_folder, _pipe, _link, _broken, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"x" * 99)],
)
def test_what_is_no_file_or_cut_short_is_made_again(stored, name, change):
    store, find, make = stored
    path = next(store.folder(ENTRY).glob(f"{name}*"))
    change(path)
    write_cache_tag(store.root)
    assert find_damage(store.folder(ENTRY))
    assert main(["verify", "--dir", str(store.root)]) == 1
    again = Store(store.root)
    assert find(again) is None
    make(again)
    np.testing.assert_array_equal(find(again), VALUES)
    assert main(["verify", "--dir", str(store.root)]) == 0


@pytest.mark.parametrize("name", ["manifest.json", "values"])
def test_a_users_folder_in_the_place_of_a_file_stays_and_is_said(stored, name):
    store, find, make = stored
    path = next(store.folder(ENTRY).glob(f"{name}*"))
    _folder(path)
    (path / "mine.txt").write_text("of the user")
    assert find(Store(store.root)) is None
    with pytest.raises(InputError, match="is a folder, and a file is to be written there; move it away"):
        make(Store(store.root))
    assert (path / "mine.txt").read_text() == "of the user"


@pytest.mark.parametrize("relative_path", ["images", "locks", "partial"])
def test_a_file_in_the_place_of_a_folder_of_the_cache_is_said(tmp_path, relative_path):
    (tmp_path / relative_path).write_text("of the user")
    store = Store(tmp_path)
    making = store.open_partial(ENTRY, rows=4, shard=4)

    def make():
        with store.lock([ENTRY]):
            making.save(0, VALUES)
            store.publish(making)

    with pytest.raises(InputError, match="is a file, and a folder is to be written there"):
        make()
    assert (tmp_path / relative_path).read_text() == "of the user"


def test_a_folder_in_the_place_of_a_lock_is_said(tmp_path):
    (tmp_path / "locks" / f"{ENTRY.key}.lock").mkdir(parents=True)
    with pytest.raises(InputError, match="is a folder, and a file is to be written"), Store(tmp_path).lock([ENTRY]):
        pass


@pytest.mark.parametrize(
    "more",
    [
        {"start": 10**30},
        {"shape": []},
        {"shape": [10**12, 3]},
        {"sha256": []},
        {"sha256": [5]},
        {"shard": 1},
        {"shard": 10**30, "sha256": ["a", "b"]},
    ],
)
def test_a_manifest_sealed_by_others_with_numbers_that_do_not_fit_is_damaged(stored, more):
    store, find, make = stored
    path = store.folder(ENTRY) / "manifest.json"
    values = json.loads(path.read_text()) | more
    path.write_text(seal_json({key: value for key, value in values.items() if key not in ("checksum", "made_by")}))
    arrays = find(Store(store.root))
    if arrays is not None:  # of no meaning for this kind of entry
        np.testing.assert_array_equal(arrays, VALUES)
    make(Store(store.root))
    np.testing.assert_array_equal(find(Store(store.root)), VALUES)
