"""`python -m cd_exp.verify`: real runs, edited; keys and signatures of a real ssh-keygen."""

import json
import random
import shutil
import subprocess

import pytest
from helpers.finished_runs import run_small

from cd_exp.cli import entry
from cd_exp.errors import InputError
from cd_exp.io.digests import DIGESTS, SIGNATURE, read_digests
from cd_exp.report import main as report
from cd_exp.verify import NAMESPACE, main, sign_digests

pytestmark = pytest.mark.slow

KEYGEN = shutil.which("ssh-keygen")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    return run_small(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run", symlinks=True)


def test_a_run_is_unchanged_until_a_file_is(run, capsys):
    assert {".hydra/config.yaml", "run.log", "labels.csv", "metrics.json", "manifest.json"} <= {*read_digests(run)}
    assert main([str(run)]) == 0
    out = capsys.readouterr().out
    assert f"{run}: {len(read_digests(run))} listed files, unchanged" in out
    assert "note: without a signature a rewritten digests.json is not detected" in out
    (run / "labels.csv").write_text((run / "labels.csv").read_text().replace("0", "1", 1))
    (run / "run.log").unlink()
    (run / "notes.txt").write_text("mine")
    assert main([str(run)]) == 1
    assert capsys.readouterr().out.startswith("missing: run.log\nadded: notes.txt\nchanged: labels.csv\n")


def test_100_edits_of_a_byte_are_all_found(run, capsys):
    draw, files = random.Random(0), [path for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size]
    unseen = []
    for _ in range(100):
        path = draw.choice(files)
        before = path.read_bytes()
        position = draw.randrange(len(before))
        path.write_bytes(
            before[:position] + bytes([before[position] ^ draw.randrange(1, 256)]) + before[position + 1 :]
        )
        said = main([str(run), "--json"]), json.loads(capsys.readouterr().out)
        listed = said[1]["missing"], said[1]["added"], said[1]["changed"]
        if said[0] != 1 or (path.name != DIGESTS and listed != ([], [], [path.relative_to(run).as_posix()])):
            unseen.append(path)
        path.write_bytes(before)
    assert unseen == []
    assert main([str(run)]) == 0


def test_pages_made_again_are_no_change_and_bless_nothing(run, capsys):
    assert report([str(run)]) == 0
    assert (run / "figures").is_dir()
    assert main([str(run)]) == 0
    (run / "metrics.json").write_text((run / "metrics.json").read_text() + " ")
    assert report([str(run)]) == 0
    capsys.readouterr()
    assert main([str(run), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["missing"], said["added"], said["changed"]) == ([], [], ["metrics.json"])


def test_a_second_run_in_the_folder_is_unchanged_and_unsigned(run):
    (run / SIGNATURE).write_text("of the run before")
    run_small(run, "seed=1")
    assert main([str(run)]) == 0
    assert not (run / SIGNATURE).exists()


def test_a_sweep_and_its_jobs(tmp_path, capsys):
    callback = "+hydra.callbacks.log._target_=hydra.experimental.callbacks.LogJobReturnCallback"
    sweep = run_small(tmp_path / "sweep", "-m", "similarity=cos,soft_wpmi", "~similarity.top_k", callback)
    assert "Succeeded" in (sweep / "0" / "run.log").read_text()
    for folder in (sweep, sweep / "0", sweep / "1"):
        assert main([str(folder)]) == 0
    assert report([str(sweep)]) == 0
    assert report([str(sweep / "0")]) == 0
    assert main([str(sweep)]) == 0
    (sweep / "1" / "labels.csv").write_text("")
    (sweep / "multirun.yaml").unlink()
    capsys.readouterr()
    assert main([str(sweep)]) == 1
    assert capsys.readouterr().out.startswith("missing: multirun.yaml\nchanged: 1/labels.csv\n")


@pytest.mark.parametrize("words", [["--json"], []])
def test_nothing_to_verify_is_one_line(tmp_path, capsys, words):
    assert main([str(tmp_path), *words]) == 2
    said = capsys.readouterr()
    message = json.loads(said.out)["error"] if words else said.err.removeprefix("error: ").rstrip("\n")
    assert message == f"{tmp_path} has no digests.json, which a run writes last; run it again to have one"
    assert main([str(tmp_path / "none"), *words]) == 2


@pytest.fixture
def keys(tmp_path):
    if KEYGEN is None:
        pytest.skip("ssh-keygen is not installed")
    paths = [tmp_path / "mine", tmp_path / "theirs"]
    for path in paths:
        subprocess.run([KEYGEN, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return paths


def test_a_signature_holds_for_its_key_alone(run, keys, capsys):
    mine, theirs = keys
    assert main([str(run), "--sign", str(mine)]) == 0
    assert main([str(run), "--signed-by", f"{mine}.pub"]) == 0
    assert "signed by mine.pub" in capsys.readouterr().out
    assert main([str(run), "--signed-by", f"{theirs}.pub"]) == 1
    assert "digests.json.sig is of none of the keys in" in capsys.readouterr().out
    allowed = run.parent / "allowed"
    allowed.write_text(f"ada@example.org {(mine.with_suffix('.pub')).read_text()}")
    assert main([str(run), "--signed-by", str(allowed), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["signed_by"] == "ada@example.org"


def test_a_list_that_was_written_again_does_not_fit_its_signature(run, keys, capsys):
    sign_digests(run, keys[0])
    assert report([str(run)]) == 0
    assert main([str(run)]) == 0
    assert main([str(run), "--signed-by", f"{keys[0]}.pub"]) == 1
    assert "does not fit digests.json, which was written again since" in capsys.readouterr().out
    (run / SIGNATURE).unlink()
    assert main([str(run), "--signed-by", f"{keys[0]}.pub"]) == 1
    assert "has no digests.json.sig: it is not signed" in capsys.readouterr().out


def test_a_signature_for_something_else_does_not_count(run, keys):
    other = subprocess.run(
        [str(KEYGEN), "-Y", "sign", "-q", "-f", str(keys[0]), "-n", "file"],
        input=(run / DIGESTS).read_bytes(), capture_output=True, check=True,
    )  # fmt: skip
    (run / SIGNATURE).write_bytes(other.stdout)
    assert NAMESPACE != "file"
    assert main([str(run), "--signed-by", f"{keys[0]}.pub"]) == 1


def test_what_has_changed_is_not_signed_and_a_key_that_is_none_is_said(run, keys):
    with pytest.raises(InputError, match="there is no such file; give a private key"):
        sign_digests(run, run / "none")
    with pytest.raises(InputError, match="ssh-keygen cannot sign with it"):
        sign_digests(run, run / "labels.csv")
    (run / "run.log").write_text("edited")
    assert main([str(run), "--sign", str(keys[0])]) == 2
    assert not (run / SIGNATURE).exists()


def test_what_the_tracker_writes_is_in_the_list(tmp_path):
    run = run_small(tmp_path / "run", "logger=wandb")
    assert any(name.startswith("wandb/") for name in read_digests(run))
    assert main([str(run)]) == 0


def test_a_run_of_the_library_has_a_list(tmp_path):
    from cd_exp import dissect
    from cd_exp.features import ExtractionSettings
    from cd_exp.models import shapes_model
    from cd_exp.probes import shapes
    from cd_exp.similarity import cos

    settings = ExtractionSettings(progress=False, workers=0)
    words = ["red circle", "blue square", "green ring"]
    net = shapes_model(layers=["fc"], final="fc")
    result = dissect(net, images=shapes(size=24), words=words, clip="shapes", similarity=cos, settings=settings)
    assert main([str(result.save(tmp_path / "run"))]) == 0


def test_a_refused_run_leaves_the_list_as_it_was(run, monkeypatch):
    before = (run / DIGESTS).read_bytes()
    monkeypatch.setattr("sys.argv", ["run.py", f"hydra.run.dir={run}", "logger=none", "similarity=nothing"])
    with pytest.raises(SystemExit):
        entry.main()
    assert (run / DIGESTS).read_bytes() == before
    assert main([str(run)]) == 0
