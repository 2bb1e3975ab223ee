"""A run folder is data: code that it names runs only with --trust, and secrets are in nothing that is written."""

import json
from pathlib import Path

import pytest
from helpers.finished_runs import run_small
from omegaconf import OmegaConf

from cd_exp.cache.entries import Entry
from cd_exp.cli import entry
from cd_exp.config.resolved import as_plain_config
from cd_exp.errors import InputError, hide_secrets, is_secret_name
from cd_exp.plugins import find_code, hash_named_code, refuse_untrusted
from cd_exp.sweep.multirun import check_code

MULTIRUN = """hydra:
  runtime: {cwd: /tmp, config_sources: [{provider: main, path: x}]}
  sweeper: {params: null}
  overrides:
    hydra: []
    task: [model=custom, model.factory=evil.py:build, seed=0]
"""


def test_code_is_named_with_its_setting_and_its_file_is_compared(tmp_path):
    file = tmp_path / "net.py"
    file.write_text("def build(): ...")
    named = find_code({"model": {"factory": f"{file}:build"}, "judge": None, "seed": 0})
    assert named == {"model.factory": f"{file}:build"}
    stored = hash_named_code(named)
    with pytest.raises(InputError, match=r"names code that would run: .*net.py:build \(model.factory\).*--trust"):
        refuse_untrusted(named, folder=tmp_path, trust=False, stored=stored)
    assert refuse_untrusted(named, folder=tmp_path, trust=True, stored=stored) == []
    file.write_text("def build(): something_else()")
    (note,) = refuse_untrusted(named, folder=tmp_path, trust=True, stored=stored)
    assert "model.factory" in note
    assert refuse_untrusted({}, folder=tmp_path, trust=False, stored={}) == []


def test_a_sweep_that_names_code_is_not_resumed_without_trust(tmp_path):
    (tmp_path / "multirun.yaml").write_text(MULTIRUN)
    with pytest.raises(InputError, match=r"evil.py:build \(model.factory\)"):
        check_code(tmp_path, trust=False)
    assert check_code(tmp_path, trust=True) == []
    job = tmp_path / "0"
    job.mkdir()
    record = {"code": {"model.factory": {"code": "evil.py:build", "sha256": "0" * 64}}}
    (job / "manifest.json").write_text(json.dumps(record))
    assert len(check_code(tmp_path, trust=True)) == 1


@pytest.mark.parametrize("name", ["token", "hf_token", "password", "api_key", "key", "access_key", "client_secret"])
def test_values_of_secret_settings_are_in_no_manifest(name):
    config = OmegaConf.create({"model": {"factory": "a.py:b", "options": {name: "s3cr3t"}}, "seed": 0})
    assert is_secret_name(name)
    assert as_plain_config(config)["model"]["options"] == {name: "***"}
    assert "s3cr3t" not in json.dumps(as_plain_config(config))
    assert hide_secrets(f"error in model.options.{name}=s3cr3t, and so on") == (
        f"error in model.options.{name}=***, and so on"
    )


@pytest.mark.parametrize(
    "text",
    [
        "model.checkpoint_key=teacher",
        "clip.tokenizer=folder",
        "add model.options.KEY=VALUE",
        "give token=TOKEN",
        "monkey=3",
    ],
)
def test_other_settings_and_advice_stay_as_they_are(text):
    assert hide_secrets(text) == text


def test_who_logs_in_at_an_address_is_hidden():
    assert hide_secrets("proxy http://me:pw@host:80/x failed") == "proxy http://***@host:80/x failed"


def test_an_error_of_a_users_code_does_not_repeat_a_typed_secret(tmp_path, monkeypatch, capsys):
    (tmp_path / "odd.py").write_text(
        "def probe(token, other):\n    raise ValueError(f'no login with {token}, {other}')\n"
    )
    options = ["probe.options.token='s3cr3t'", "probe.options.other=shown"]
    words = ["probe=custom", f"probe.factory={tmp_path}/odd.py:probe", *options, f"hydra.run.dir={tmp_path}/run"]
    monkeypatch.chdir(Path(__file__).parents[1])
    monkeypatch.setattr("sys.argv", ["run.py", *words, "logger=none"])
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == 2
    assert "no login with ***, shown" in capsys.readouterr().err


def test_secrets_of_options_change_no_key_and_are_not_stored():
    entries = [Entry("activations", {"model": {"options": {"token": value, "depth": 3}}}) for value in ("a", "b")]
    assert entries[0].key == entries[1].key
    assert entries[0].content["model"]["options"] == {"token": "***", "depth": 3}
    assert Entry("x", {"key": "a"}).key != Entry("x", {"key": "b"}).key  # only options are a user's own


@pytest.mark.slow
def test_secrets_of_options_are_in_no_file_that_a_run_writes(tmp_path):
    """But for Hydra's own record of what was typed, `.hydra/`."""
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\n\ndef network(token, address):\n    return nn.Sequential(nn.Conv2d(3, 8, 8, 8))\n"
    )
    options = ["model.options.token=s3cr3t", "model.options.address=https://ada:s3cr3t@host/x"]
    parts = ["probe=shapes", "clip=shapes", "concepts=shapes", "model=custom", "model.layers=['0']"]
    run_small(tmp_path / "run", f"model.factory={tmp_path / 'mine.py'}:network", *parts, *options)
    for path in (*(tmp_path / "run").rglob("*"), *(tmp_path / "cache").rglob("*")):
        if path.is_file() and ".hydra" not in path.parts:
            assert b"s3cr3t" not in path.read_bytes(), path
