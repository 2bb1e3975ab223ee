"""Files that are no open_clip model, or another one: each is one line that names the file."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cd_exp import shapes
from cd_exp.clips import OpenClip
from cd_exp.errors import InputError
from cd_exp.records import Concepts

CPU = torch.device("cpu")


def one_line(message: str, clip: OpenClip) -> None:
    with pytest.raises(InputError, match=message) as caught:
        clip.image_tower()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin", "w.pt"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer, not the file itself"),
        (b"<!DOCTYPE html><html></html>", "is a web page, not the file itself"),
        (b"\x00\x01garbage" * 100, "do not fit tiny_clip"),
    ],
)
def test_files_that_are_no_weights(clip, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    one_line(rf"{name} {message}", OpenClip("tiny_clip", weights=str(tmp_path / name), config=clip.config))


@pytest.mark.parametrize("made", [[1, 2], {}, {"a": 1}, {"state_dict": []}, {"w": torch.ones(2)}])
def test_checkpoints_of_something_else(clip, tmp_path, made):
    torch.save(made, tmp_path / "w.pt")
    one_line(r"w.pt do not fit tiny_clip: ", OpenClip("tiny_clip", weights=str(tmp_path / "w.pt"), config=clip.config))


def test_weights_cut_off_of_another_size_and_with_parts_missing(clip, tmp_path):
    whole = load_file(clip.weights)
    data = (tmp_path / "cut.safetensors", tmp_path / "wide.safetensors", tmp_path / "part.safetensors")
    data[0].write_bytes(Path(clip.weights).read_bytes()[:-100])
    save_file(
        {name: torch.cat([value, value], -1) if value.ndim == 2 else value for name, value in whole.items()}, data[1]
    )
    save_file({name: value for name, value in whole.items() if "resblocks" not in name}, data[2])
    for path, message in zip(
        data, ["", "(text pos_embed width changed|.*size mismatch for)", ".*Missing key"], strict=True
    ):
        one_line(
            rf"{path.name} do not fit tiny_clip: {message}",
            OpenClip("tiny_clip", weights=str(path), config=clip.config),
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no JSON"),
        ("{", "is no JSON"),
        ("[]", "has no embed_dim, vision_cfg, text_cfg"),
        ('{"embed_dim": 4, "vision_cfg": {}}', "has no text_cfg"),
    ],
)
def test_configs_that_are_none(clip, tmp_path, content, message):
    (tmp_path / "tiny_clip.json").write_text(content)
    broken = OpenClip("tiny_clip", weights=clip.weights, config=str(tmp_path / "tiny_clip.json"))
    one_line(rf"tiny_clip.json {message}", broken)
    with pytest.raises(InputError, match=message):
        broken.embed(Concepts(("a",)), device=CPU)


def test_configs_that_are_not_there_or_of_another_name(clip, tmp_path):
    one_line(
        r"clip.config=none.json: there is no such file", OpenClip("tiny_clip", weights=clip.weights, config="none.json")
    )
    shutil.copy(clip.config, tmp_path / "other.json")
    one_line(r"other.json describes 'other', clip.architecture is 'tiny_clip'",
             OpenClip("tiny_clip", weights=clip.weights, config=str(tmp_path / "other.json")))  # fmt: skip


@pytest.fixture
def layout(clip, tmp_path):
    """The same model in open_clip's own layout."""
    settings = {"model_cfg": json.loads(Path(clip.config).read_text()), "preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
    shutil.copy(clip.weights, tmp_path / "open_clip_model.safetensors")
    return tmp_path


def test_a_folder_with_open_clips_own_layout(clip, layout):
    local = OpenClip(f"local-dir:{layout}")
    assert torch.equal(local.embed(Concepts(("a dog",)), device=CPU), clip.embed(Concepts(("a dog",)), device=CPU))
    assert local.image_tower().transform.transforms[-1].mean == [0.5, 0.5, 0.5]
    before = local.key
    (layout / "open_clip_config.json").write_text((layout / "open_clip_config.json").read_text().replace("0.5", "0.4"))
    assert OpenClip(f"local-dir:{layout}").key != before
    over = OpenClip(f"local-dir:{layout}", preprocess={"mean": [0, 0, 0]})
    assert over.image_tower().transform.transforms[-1].mean == (0, 0, 0)


def test_folders_that_hold_no_model(layout, tmp_path):
    one_line(r"local-dir:nowhere: there is no such folder", OpenClip("local-dir:nowhere"))
    one_line(
        r"clip.pretrained cannot be used with clip.architecture=local-dir:x", OpenClip("local-dir:x", pretrained="y")
    )
    (layout / "open_clip_model.safetensors").unlink()
    one_line(r"has no weights; one of open_clip_model.safetensors", OpenClip(f"local-dir:{layout}"))
    (layout / "open_clip_config.json").unlink()
    one_line(r"has no open_clip_config.json; it must lie beside the weights", OpenClip(f"local-dir:{layout}"))


@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod."])
@pytest.mark.parametrize("name", ["model", "state_dict", "ema.model"])
def test_weights_within_a_checkpoint_are_found_as_for_a_network(tmp_path, name, prefix):
    state = load_file(shapes.clip_weights())
    held = {f"{prefix}{key}": value for key, value in state.items()}
    for part in reversed(name.split(".")):
        held = {part: held}
    torch.save({**held, "epoch": 3, "optimizer": {"state": {}}}, tmp_path / "clip.pt")
    options = {"architecture": shapes.CLIP, "config": str(shapes.clip_config()), "bpe": str(shapes.tokenizer_merges())}
    weights = OpenClip(weights=str(tmp_path / "clip.pt"), **options).image_tower().module.state_dict()
    expected = OpenClip(weights=str(shapes.clip_weights()), **options).image_tower().module.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in expected.items())


def test_several_models_in_a_file_are_named(tmp_path):
    state = load_file(shapes.clip_weights())
    torch.save({"model": state, "ema": state}, tmp_path / "clip.pt")
    options = {"architecture": shapes.CLIP, "config": str(shapes.clip_config()), "bpe": str(shapes.tokenizer_merges())}
    with pytest.raises(InputError, match="holds several models: model, ema; save one of them in a file of its own"):
        OpenClip(weights=str(tmp_path / "clip.pt"), **options).image_tower()
