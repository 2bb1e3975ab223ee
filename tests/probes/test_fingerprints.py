import os

from cd_exp.cache import read_sealed, seal
from cd_exp.probes.fingerprints import file_digests, fingerprint


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
    assert fingerprint(digests) != fingerprint(digests[::-1])


def test_an_unchanged_tree_costs_only_stats(tmp_path):
    root, cache = tree(tmp_path / "a", x="1", y="2"), str(tmp_path / "cache")
    first = file_digests(root, ["x", "y"], cache)
    memory = next((tmp_path / "cache/digests").iterdir())
    known = read_sealed(memory)["files"]
    known["x"][-1] = "remembered"  # shows where the answer comes from
    memory.write_text(seal({"files": known}))
    assert file_digests(root, ["x", "y"], cache) == ["remembered", first[1]]
    assert file_digests(root, ["y"], cache) == [first[1]]


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
    memory = next((tmp_path / "cache/digests").iterdir())
    for damage in ('{"x": [1, 2', "[]", "null", memory.read_text().replace(before[0], "0" * 64)):
        memory.write_text(damage)
        assert file_digests(root, ["x"], cache) == before
        assert read_sealed(memory)["files"]["x"][-1] == before[0]


def test_a_file_that_went_away_is_unreadable_and_not_remembered(tmp_path):
    root, cache = tree(tmp_path / "a", x="1"), str(tmp_path / "cache")
    assert file_digests(root, ["x", "gone"], cache)[1] == "unreadable"
    tree(root, gone="back")
    assert file_digests(root, ["x", "gone"], cache) == file_digests(root, ["x", "gone"], None)
