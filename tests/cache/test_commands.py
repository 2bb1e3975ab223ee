import io
import json
import os
import time

import numpy as np
import pytest

from cd_exp.cache import Entry, Store
from cd_exp.cache.__main__ import main
from cd_exp.cache.store import MARK

ENTRY = Entry("images", {"probe": "def"})
VALUES = np.arange(30_000, dtype=np.float32).reshape(-1, 3)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


@pytest.fixture
def command(store, capsys):
    def run(*words, folder=store.root):
        status = main([*words, "--dir", str(folder)])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def contents(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def entry(number):
    return Entry("images", {"probe": number})


def aged(store, one, days):
    when = time.time() - 86400 * days
    os.utime(store.folder(one), (when, when))


def test_list_shows_what_an_entry_was_made_from_and_by_which_version(store, command):
    store.save(ENTRY, VALUES, says="CLIP of [/foo] \x1b[31m")
    status, said = command("list")
    assert status == 0
    assert "images" in said
    assert "10000 x 3" in " ".join(said.split())
    assert "[/foo]" in said
    assert "\x1b" not in said


def test_damaged_entries_are_listed_and_verify_names_them(store, command):
    store.save(ENTRY, VALUES)
    store.save(entry(1), VALUES)
    store.remember("layers", {"a": 1}, lambda: 1)
    assert command("verify") == (0, "2 entries and 1 small files, 0 damaged\n")
    (store.folder(ENTRY) / "values.npy").write_bytes(b"")
    (store.folder(entry(1)) / "manifest.json").write_text("null")
    path = next(store.root.glob("layers/*.json"))
    path.write_text("[]")
    status, said = command("verify")
    assert status == 1
    assert "does not have its checksum" in said
    assert f"{store.folder(entry(1))}: manifest.json holds no JSON object" in said
    assert f"{path}: {path.name} holds no JSON object" in said
    assert "2 entries and 1 small files, 3 damaged" in said
    status, said = command("list")
    assert status == 0
    assert "damaged" in said


def test_prune_says_what_to_say(store, command):
    store.save(ENTRY, VALUES)
    status, said = command("prune")
    assert status == 2
    assert said.startswith("error: say what to remove: --days 30")
    assert store.find(ENTRY) is not None


def test_prune_by_age_and_only_with_a_yes(store, command, monkeypatch):
    for number, days in enumerate((0, 3, 9)):
        store.save(entry(number), VALUES)
        aged(store, entry(number), days)
    status, said = command("prune", "--days", "5")
    assert status == 2
    assert "1 entries (0.1 MB) of 3 entries (0.4 MB)" in said
    assert "error: Nothing removed yet: add --yes" in said

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert command("prune", "--days", "5")[0] == 1
    assert store.folder(entry(2)).exists()
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert command("prune", "--days", "5")[0] == 0
    assert not store.folder(entry(2)).exists()
    assert "removed 1 entries" in command("prune", "--days", "1", "--yes")[1]
    assert store.find(entry(0)) is not None
    assert store.find(entry(1)) is None


def test_prune_keeps_the_newest_up_to_a_size(store, command):
    for number in range(4):
        store.save(entry(number), VALUES)
        aged(store, entry(number), 10 - number)
    assert command("prune", "--keep", "260KB", "--yes")[0] == 0
    assert [store.find(entry(number)) is not None for number in range(4)] == [False, False, True, True]
    assert command("prune", "--keep", "1GB", "--yes")[1].startswith("0 entries")
    assert command("prune", "--keep", "0", "--yes")[0] == 0
    assert not list(store.root.glob("images/*"))


@pytest.mark.parametrize(
    "words", [["--keep", "much"], ["--keep", "-1GB"], ["--keep", "infGB"], ["--days", "-1"], ["--days", "nan"]]
)
def test_sizes_and_ages_that_are_none(command, store, words):
    store.save(ENTRY, VALUES)
    with pytest.raises(SystemExit) as caught:
        command("prune", *words, "--yes")
    assert caught.value.code == 2
    assert store.find(ENTRY) is not None


def test_the_unfinished_goes_too_and_what_is_in_use_stays(store, command):
    store.open_partial(ENTRY, rows=4, shard=2).save(0, VALUES[:2])
    store.open_partial(entry(1), rows=4, shard=2).save(0, VALUES[:2])
    (store.root / "images" / f".tmp-{entry(2).key}-0a1b2c3d").mkdir(parents=True)
    with store.lock([ENTRY]):
        assert "removed 2 entries" in (said := command("prune", "--days", "0", "--yes")[1])
        assert "1 in use" in said
    assert store.open_partial(ENTRY, rows=4, shard=2).finished_shards() == {0}
    assert store.open_partial(entry(1), rows=4, shard=2).finished_shards() == set()


def test_a_folder_that_is_no_cache_is_left_alone(tmp_path, command):
    for folder in ("outputs/runs/1", "a/b", "activations/" + "0" * 40, "partial/" + "0" * 40, "images"):
        (tmp_path / "other" / folder).mkdir(parents=True)
        (tmp_path / "other" / folder / "manifest.json").write_text(json.dumps({"kind": "images", "content": {}}))
        (tmp_path / "other" / folder / "values.npy").write_bytes(b"theirs")
    before = contents(tmp_path / "other")
    for words in (["prune", "--days", "0", "--yes"], ["list"], ["verify"]):
        status, said = command(*words, folder=tmp_path / "other")
        assert status == 2
        assert said.startswith(f"error: {tmp_path / 'other'} is no cache of cd_exp: it has no {MARK}")
    assert contents(tmp_path / "other") == before
    status, said = command("list", folder=tmp_path / "none")
    assert status == 2
    assert "there is no such folder" in said


def test_what_is_not_ours_in_a_cache_stays(store, command):
    store.save(ENTRY, VALUES)
    (store.folder(ENTRY) / "notes.txt").write_text("mine")
    strange = [
        store.root / "notes" / "manifest.json",
        store.root / "theirs" / ("0" * 40) / "manifest.json",
        store.root / "theirs" / ("1" * 40) / "picture.png",
        store.root / "runs" / "1" / "metrics.json",
        store.root / "partial" / ("2" * 40) / "thesis.tex",
        store.root / "images" / ".tmp-theirs",
    ]
    for path in strange:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    outside = store.root.parent / "outside"
    outside.mkdir()
    (outside / "values.npy").write_bytes(b"theirs")
    (store.root / "images" / ("3" * 40)).symlink_to(outside)
    assert command("prune", "--days", "0", "--yes")[0] == 0
    assert all(path.exists() for path in strange)
    assert (outside / "values.npy").exists()
    assert contents(store.folder(ENTRY)) == {"notes.txt"}


def test_entries_without_a_checksum_are_damaged_and_can_be_pruned(store, command):
    """As those of version 0.1 are: nothing reads them, and `prune_cache` removes them."""
    store.save(ENTRY, VALUES)
    path = store.folder(ENTRY) / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({key: values[key] for key in ("kind", "content", "shape", "dtype", "sha256")}))
    assert store.find(ENTRY) is None
    assert command("prune", "--days", "0", "--yes")[0] == 0
    assert not store.folder(ENTRY).exists()


def test_a_mark_that_was_damaged_is_written_anew(store, command):
    store.save(ENTRY, VALUES)
    (store.root / MARK).write_text("{}")
    assert command("list")[0] == 2
    store.save(entry(1), VALUES)
    assert command("list")[0] == 0
