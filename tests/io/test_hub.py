"""The Hugging Face hub, served on this machine: what each way of failing says."""

import json
import os
import subprocess
import sys

import pytest
from helpers.serving import commit_of, serving_hub

SCRIPT = """
import json, sys
from cd_exp.errors import InputError
from cd_exp.io.hub import fetch_hub_file, fetch_hub_folder
for repository, names in json.loads(sys.argv[1]):
    try:
        found = fetch_hub_file(repository, *names, setting="clip.weights=FILE")
        print(json.dumps(found.read_bytes().decode()))
    except InputError as error:
        print(json.dumps("error: " + str(error)))
"""
REPOSITORIES = {
    "timm/net": {"model.safetensors": b"weights"},
    "timm/other": {"second.bin": b"second"},
    "gated/net": {"model.safetensors": b"secret"},
    "private/net": {"model.safetensors": b"secret"},
    "cut/net": {"model.safetensors": b"x" * 100_000},
}


@pytest.fixture
def hub():
    with serving_hub(REPOSITORIES) as hub:
        yield hub


@pytest.fixture
def ask(hub, tmp_path):
    """Asks for files in a fresh interpreter: huggingface_hub reads its settings when it is imported."""

    def asked(*wanted, **environment):
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HTTP", "http"))}
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), **environment}
        command = [sys.executable, "-c", SCRIPT, json.dumps(wanted)]
        done = subprocess.run(command, env={**clean, **settings}, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert all("\n" not in answer for answer in answers)
        return answers

    return asked


NET = ("timm/net", ["model.safetensors"])
GATED, PRIVATE = ("gated/net", ["model.safetensors"]), ("private/net", ["model.safetensors"])


def test_a_file_is_downloaded_once_from_the_mirror(ask, hub, tmp_path):
    assert ask(NET, NET, ("timm/other", ["first.safetensors", "second.bin"])) == ["weights", "weights", "second"]
    gets = [line for line in hub.asked if line.startswith("GET") and "/resolve/" in line]
    assert gets == ["GET /timm/net/resolve/main/model.safetensors", "GET /timm/other/resolve/main/second.bin"]
    hub.asked.clear()
    assert ask(NET, HF_HUB_OFFLINE="1") == ["weights"]
    assert not [line for line in hub.asked if "/resolve/" in line]
    assert (tmp_path / f"home/hub/models--timm--net/snapshots/{commit_of('timm/net')}/model.safetensors").is_file()


@pytest.mark.slow
def test_what_each_failure_says(ask, hub):
    missing = "{0}/model.safetensors is not on this machine and "
    remedy = "set clip.weights=FILE to a local copy"
    said = ask(
        ("timm/net", ["absent.bin"]), ("nobody/nothing", ["model.safetensors"]), GATED, PRIVATE,
        ("cut/net", ["model.safetensors"]), ("no name!", ["model.safetensors"]),
    )  # fmt: skip
    assert said[0] == (
        f"error: timm/net/absent.bin is not on this machine and {hub.url}/timm/net has no such file; "
        f"check the name, or {remedy}"
    )
    assert said[1] == (
        f"error: {missing.format('nobody/nothing')}{hub.url}/nobody/nothing does not exist, or is private, and "
        f"HF_TOKEN is not set; check the name, or {remedy}"
    )
    assert said[2] == (
        f"error: {missing.format('gated/net')}{hub.url}/gated/net is gated: HF_TOKEN is not set; ask for access there, "
        f"or {remedy}"
    )
    assert "is private, and HF_TOKEN is not set" in said[3]
    assert "and its download failed (" in said[4]
    assert said[5] == "error: 'no name!' is no name of a hub repository; it should read OWNER/NAME"


def test_tokens(ask):
    assert ask(GATED, PRIVATE, HF_TOKEN="good") == ["secret", "secret"]
    (said,) = ask(NET, HF_TOKEN="bad", HF_HOME="/nonexistent/home")
    assert "(HTTP 401: the token in HF_TOKEN is not accepted)" in said
    (said,) = ask(("nobody/nothing", ["x"]), HF_TOKEN="good")
    assert "does not exist, or is not open to the account of HF_TOKEN" in said


def test_without_a_network(ask, hub):
    (said,) = ask(NET, HF_ENDPOINT="http://127.0.0.1:9")
    assert said.endswith("http://127.0.0.1:9 (of HF_ENDPOINT) cannot be reached; set clip.weights=FILE to a local copy")
    (said,) = ask(NET, HF_ENDPOINT=f"{hub.url}/down")
    assert said.endswith(
        f"{hub.url}/down is out of order (HTTP 503); try later, or set clip.weights=FILE to a local copy"
    )
    (said,) = ask(NET, HF_HUB_OFFLINE="1")
    assert said.endswith("and HF_HUB_OFFLINE is set; set clip.weights=FILE to a local copy")
    (said,) = ask(NET, HF_ENDPOINT="http://hub.invalid", HTTP_PROXY="http://127.0.0.1:9")
    assert "the proxy of HTTPS_PROXY or HTTP_PROXY does not answer" in said


def test_a_transfer_that_is_cut_off_without_end_is_one_line(monkeypatch):
    import huggingface_hub

    from cd_exp.errors import InputError
    from cd_exp.io.hub import _download_from_hub

    def endless(repository, file, depth=0):  # Python 3.13.0 does not count calls with `*`
        return endless(repository, file, depth + 1)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", endless)
    with pytest.raises(InputError, match=r"net is missing and its download was cut off hundreds of times; try later"):
        _download_from_hub("timm/net", "model.safetensors", "net is missing", "set model.weights=FILE")
