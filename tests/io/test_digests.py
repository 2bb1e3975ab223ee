"""`digests.json`: what it lists, what it leaves out, and what a folder differs in from it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd_exp.errors import InputError
from cd_exp.io.digests import (
    CACHE_TAG,
    DIGESTS,
    FileChanges,
    compare_digests,
    read_digests,
    update_digests,
    write_digests,
    write_sweep_digests,
)


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / "explorer" / "data").mkdir(parents=True)
    (run / ".hydra" / "config.yaml").write_text("seed: 0\n")
    (run / "explorer" / "data" / "a.js").write_bytes(b"x" * 70_000)
    (run / "labels.csv").write_text("layer,unit\n")
    (run / "run.log").write_text("")
    write_digests(run)
    return run


def test_every_file_but_the_list_itself_is_in_it(folder):
    assert [*read_digests(folder)] == [".hydra/config.yaml", "explorer/data/a.js", "labels.csv", "run.log"]
    assert json.loads((folder / DIGESTS).read_text())["algorithm"] == "sha256"
    assert not compare_digests(folder)


def test_files_are_named_by_what_became_of_them(folder):
    (folder / "labels.csv").unlink()
    (folder / "run.log").write_text("one line more")
    (folder / "explorer" / "data" / "b.js").write_text("")
    assert compare_digests(folder) == FileChanges(("labels.csv",), ("explorer/data/b.js",), ("run.log",))


@given(data=st.data())
def test_no_byte_changes_unseen(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("edited")
    (folder / "below").mkdir()
    (folder / "below" / "labels.csv").write_bytes(b"layer,unit\nfc,0\n")
    (folder / "run.log").write_bytes(b"a note\n")
    write_digests(folder)
    path = data.draw(st.sampled_from([folder / "below" / "labels.csv", folder / "run.log", folder / DIGESTS]))
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert compare_digests(folder)


def test_only_what_was_written_is_hashed_anew(folder):
    (folder / "labels.csv").write_text("edited")
    (folder / "explorer" / "data" / "a.js").unlink()
    (folder / "explorer" / "index.html").write_text("made again")
    (folder / "report.html").write_text("made again")
    update_digests(folder, [folder / "explorer", folder / "report.html", folder / "figures"])
    assert compare_digests(folder) == FileChanges(changed=("labels.csv",))


def test_a_folder_without_a_list_gets_none_by_an_update(tmp_path):
    (tmp_path / "report.html").write_text("")
    update_digests(tmp_path, [tmp_path / "report.html"])
    assert not (tmp_path / DIGESTS).exists()
    with pytest.raises(InputError, match=r"has no digests\.json, which a run writes last"):
        compare_digests(tmp_path)


def test_a_job_stands_in_the_list_of_its_sweep_by_its_own_list(folder):
    sweep = folder.parent
    (sweep / "sweep.csv").write_text("")
    write_sweep_digests(sweep)
    assert [*read_digests(sweep)] == ["run/digests.json", "sweep.csv"]
    (folder / "run.log").write_text("edited")
    assert compare_digests(sweep) == FileChanges(changed=("run/run.log",))
    (folder / "explorer" / "index.html").write_text("made again")
    update_digests(folder, [folder / "explorer"])  # of the job alone
    assert compare_digests(sweep) == FileChanges(changed=("run/run.log",))
    (sweep / "run" / DIGESTS).write_text("{}\n")
    assert compare_digests(sweep) == FileChanges(changed=("run/digests.json",))


def test_what_is_logged_after_a_job_ends_belongs_to_it(folder):
    (folder / "run.log").write_text("a callback of Hydra says how the job ended")
    (folder / "labels.csv").write_text("edited")
    write_sweep_digests(folder.parent)
    assert compare_digests(folder.parent) == FileChanges(changed=("run/labels.csv",))


def test_a_cache_in_the_folder_and_what_links_lead_to_are_left_out(folder, tmp_path):
    (folder / "cache" / "activations").mkdir(parents=True)
    (folder / "cache" / CACHE_TAG).write_text("{}")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("of another")
    (folder / "latest").symlink_to(tmp_path / "elsewhere")
    write_digests(folder)
    assert [name for name in read_digests(folder) if name.startswith(("cache", "latest"))] == ["latest"]
    (tmp_path / "elsewhere" / "file").write_text("changed")
    assert not compare_digests(folder)
    (folder / "latest").unlink()
    (folder / "latest").symlink_to(tmp_path)
    assert compare_digests(folder) == FileChanges(changed=("latest",))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"files": {"a": 1}}', "[" * 5000])
def test_a_list_that_no_run_writes_is_refused(folder, text):
    (folder / DIGESTS).write_text(text)
    with pytest.raises(InputError, match="was changed: it is not as a run writes it"):
        read_digests(folder)
    assert compare_digests(folder) == FileChanges(changed=(DIGESTS,))
