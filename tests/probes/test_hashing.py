import os
import sqlite3
from contextlib import closing
from functools import partial

import pytest

from cd_exp.probes import hashing
from cd_exp.probes.hashing import fingerprint_images


def file_digests(*arguments):
    return list(hashing.hash_files(*arguments))


def memory_of(tmp_path):
    return next((tmp_path / "cache/digests").glob("*.sqlite"))


def change(memory, statement, *values):
    with closing(sqlite3.connect(memory)) as table, table:
        table.execute(statement, values)


def tree(root, **files):
    root.mkdir(exist_ok=True)
    for name, content in files.items():
        (root / name).write_text(content)
    return root


def test_content_and_order_count_but_names_and_places_do_not(tmp_path):
    here, there = tree(tmp_path / "a", x="1", y="2"), tree(tmp_path / "b", p="1", q="2")
    digests = file_digests(here, ["x", "y"], None)
    assert digests == file_digests(there, ["p", "q"], None)
    assert digests[::-1] == file_digests(here, ["y", "x"], None)
    assert fingerprint_images(digests) != fingerprint_images(digests[::-1])


def test_an_unchanged_tree_costs_only_stats(tmp_path, monkeypatch):
    root, cache = tree(tmp_path / "a", x="1", y="2"), str(tmp_path / "cache")
    first = file_digests(root, ["x", "y"], cache)
    monkeypatch.setattr(hashing, "hash_file", None)  # nothing is read any more
    assert file_digests(root, ["x", "y"], cache) == first
    assert file_digests(root, ["y"], cache) == [first[1]]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE files SET digest = (SELECT digest FROM files WHERE name = CAST('y' AS BLOB))",  # another file's
        "UPDATE files SET digest = NULL",
        "UPDATE files SET proof = 7",
        "DELETE FROM files WHERE name = CAST('x' AS BLOB)",
        "DROP TABLE files",
        "ALTER TABLE files RENAME COLUMN digest TO other",
    ],
)
def test_an_edited_memory_changes_no_digest(tmp_path, statement):
    root, cache = tree(tmp_path / "a", x="1", y="2"), str(tmp_path / "cache")
    first = file_digests(root, ["x", "y"], cache)
    change(memory_of(tmp_path), statement)
    assert file_digests(root, ["x", "y"], cache) == first
    assert file_digests(root, ["x", "y"], cache) == first


def test_what_was_read_before_a_kill_is_not_read_again(tmp_path):
    root, cache = tree(tmp_path / "a", **{str(i): str(i) for i in range(10)}), str(tmp_path / "cache")
    names = [str(i) for i in range(10)]
    hashes = partial(hashing.cached_hashes, root, names, cache, state=lambda name: (1,), size=4)
    begun = hashes(read=lambda name: f"before {name}")
    assert next(begun) == "before 0"
    begun.close()  # the run ends here
    assert [*hashes(read=lambda name: f"after {name}")] == [f"{'before' if i < 4 else 'after'} {i}" for i in range(10)]


def test_a_memory_that_cannot_be_written_costs_only_time(tmp_path):
    root = tree(tmp_path / "a", x="1")
    (tmp_path / "cache").write_text("a file")
    assert file_digests(root, ["x"], str(tmp_path / "cache")) == file_digests(root, ["x"], None)


def test_every_kind_of_change_is_noticed(tmp_path):
    root, cache = tree(tmp_path / "a", x="1", y="2"), str(tmp_path / "cache")
    before = file_digests(root, ["x", "y"], cache)
    times = (root / "x").stat()
    (root / "new").write_text("3")
    (root / "new").replace(root / "x")  # the same size, and the old times put back
    os.utime(root / "x", ns=(times.st_atime_ns, times.st_mtime_ns))
    after = file_digests(root, ["x", "y"], cache)
    assert after[0] != before[0]
    assert after[1] == before[1]
    assert after == file_digests(root, ["x", "y"], None)


def test_two_trees_do_not_mix(tmp_path):
    cache = str(tmp_path / "cache")
    here, there = tree(tmp_path / "a", x="1"), tree(tmp_path / "b", x="2")
    assert file_digests(here, ["x"], cache) != file_digests(there, ["x"], cache)
    assert len(list((tmp_path / "cache/digests").iterdir())) == 2


def test_a_damaged_memory_is_made_again(tmp_path):
    root, cache = tree(tmp_path / "a", x="1"), str(tmp_path / "cache")
    before = file_digests(root, ["x"], cache)
    for damage in (b"", b'{"x": [1, 2', b"SQLite format 3\x00" + b"x" * 200, memory_of(tmp_path).read_bytes()[:3000]):
        memory_of(tmp_path).write_bytes(damage)
        assert file_digests(root, ["x"], cache) == before
        assert file_digests(root, ["x"], cache) == before
    with closing(sqlite3.connect(memory_of(tmp_path))) as table:
        assert table.execute("SELECT digest FROM files").fetchall() == [(before[0],)]


def test_a_file_that_went_away_is_unreadable_and_not_remembered(tmp_path):
    root, cache = tree(tmp_path / "a", x="1"), str(tmp_path / "cache")
    assert file_digests(root, ["x", "gone"], cache)[1] == "unreadable"
    tree(root, gone="back")
    assert file_digests(root, ["x", "gone"], cache) == file_digests(root, ["x", "gone"], None)
