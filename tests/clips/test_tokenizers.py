import gzip
import os
import subprocess
import sys
import time

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from cd_exp.clips import OpenClip, shapes_clip, tokenizers
from cd_exp.errors import InputError
from cd_exp.io import hub
from cd_exp.records import Concepts

CPU = torch.device("cpu")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat", "dog", "a", "red"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A tokenizer of eight words, and the configuration of a text tower beside it, as on the hub."""
    path = tmp_path_factory.mktemp("tokenizer")
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertConfig(vocab_size=8, max_position_embeddings=16, **sizes).save_pretrained(path)
    return path


def text(**settings):
    return {"context_length": 6, "vocab_size": 8, "hf_tokenizer_name": "nobody/nothing", **settings}


def test_a_local_folder_stands_for_a_tokenizer_of_the_hub(folder):
    made = tokenizers.build_tokenizer(text(), architecture="x", folder=folder, bpe=None)
    assert made(["red dog"])[0].tolist() == [7, 5, 0, 0, 0, 0]


def test_without_one_a_line_within_ten_seconds_names_the_setting(tmp_path, monkeypatch):
    weights = tmp_path / "w.bin"
    weights.write_bytes(b"x")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    clip = OpenClip("ViT-B-16-SigLIP", "webli", str(weights))
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        clip.embed(Concepts(("dog",)), device=CPU)
    assert time.monotonic() - start < 10
    assert str(caught.value) == (
        "timm/ViT-B-16-SigLIP/tokenizer.json is not on this machine and http://127.0.0.1:9 cannot be reached; "
        "set clip.tokenizer=FOLDER to a local copy"
    )


@pytest.mark.slow
def test_a_missing_tokenizer_is_refused_before_a_run_opens_a_picture(tmp_path):
    """In a fresh interpreter, on the command line: a line, no folder, and open_clip is not even imported."""
    (tmp_path / "w.bin").write_bytes(b"x")
    script = (
        "import sys\nfrom cd_exp.cli import entry as cli\n"
        "try:\n    cli.main()\nfinally:\n    assert 'open_clip' not in sys.modules, 'it takes seconds to import'\n"
    )
    words = ["clip=siglip_b_16", f"clip.weights={tmp_path}/w.bin", f"hydra.run.dir={tmp_path}/run", "logger=none"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    settings = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path / "home"),
        "CD_EXP_CACHE": str(tmp_path / "c"),
    }
    done = subprocess.run(
        [sys.executable, "-c", script, *words], env={**clean, **settings}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr == (
        "error: timm/ViT-B-16-SigLIP/tokenizer.json is not on this machine and http://127.0.0.1:9 (of HF_ENDPOINT) "
        "cannot be reached; set clip.tokenizer=FOLDER to a local copy\n"
    )
    assert not (tmp_path / "run").exists()


def test_folders_that_hold_no_tokenizer(folder, tmp_path):
    with pytest.raises(InputError, match=r"clip.tokenizer=nowhere: there is no such folder"):
        tokenizers.check_tokenizer_folder("nowhere")
    with pytest.raises(InputError, match=r"holds no tokenizer; one of tokenizer.json, vocab.txt"):
        tokenizers.check_tokenizer_folder(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"the tokenizer in .* cannot be read"):
        tokenizers.build_tokenizer(text(), architecture="x", folder=tmp_path, bpe=None)
    with pytest.raises(InputError, match=r"clip.tokenizer=.* has 8 tokens, x knows 7; it is the tokenizer of another"):
        tokenizers.build_tokenizer(text(vocab_size=7), architecture="x", folder=folder, bpe=None)


def test_the_tokenizer_is_part_of_the_key(clip, folder, tmp_path):
    (tmp_path / "tokenizer.json").write_text((folder / "tokenizer.json").read_text().replace("red", "blue"))
    keys = [OpenClip("tiny_clip", weights=clip.weights, config=clip.config, tokenizer=str(path)).key
            for path in (folder, tmp_path)]  # fmt: skip
    assert keys[0] != keys[1] != clip.key


def test_merges_that_are_none(clip, tmp_path):
    def built(name, content):
        (tmp_path / name).write_bytes(content)
        files = {"weights": clip.weights, "config": clip.config}
        return OpenClip("tiny_clip", **files, bpe=str(tmp_path / name)).embed(Concepts(("a",)), device=CPU)

    for name, content in (
        ("a.gz", b""),
        ("b.gz", b"plain"),
        ("c.gz", gzip.compress(b"\xff\xfe")),
        ("d.gz", gzip.compress(b"a b\n" * 99)[:-9]),
    ):
        with pytest.raises(InputError, match=rf"{name} (is no gzipped list of merges|has 514 tokens)"):
            built(name, content)
    with pytest.raises(
        InputError, match=r"clip.bpe=.* has \d+ tokens, tiny_clip knows 49408; it is the tokenizer of an"
    ):
        built("e.gz", gzip.compress(b"header\na b\n"))
    with pytest.raises(InputError, match=r"clip.bpe=none.gz: there is no such file"):
        OpenClip("tiny_clip", weights=clip.weights, config=clip.config, bpe="none.gz").embed(
            Concepts(("a",)), device=CPU
        )


def test_prompts_longer_than_the_context_are_named(clip):
    long = "one two three four five six seven {}"  # eight words and the two ends are ten tokens, the context is eight
    concepts = Concepts(("dog", "cat"), ("a {}", long))
    first, second = clip.embed(Concepts(("dog", "cat"), (long,)), device=CPU)
    assert torch.equal(first, second)  # what the note is about
    assert clip.notes(concepts) == (
        "open_clip: prompts longer than its context of 8 tokens, cut there: 2 "
        "('one two three four five six seven dog', 'one two three four five six seven cat')",
    )
    assert clip.notes(Concepts(("one two three four five six",))) == ()  # exactly eight tokens
    assert len(clip.notes(Concepts(("one two three four five six seven",)))) == 1
    assert shapes_clip().notes(Concepts(("a red circle",))) == ()


def test_the_same_for_a_tokenizer_of_the_hub(folder):
    made = tokenizers.build_tokenizer(text(), architecture="x", folder=folder, bpe=None)
    assert tokenizers.find_long_prompts(made, ["a a a a a a", "a a a a a a a", "dog"]) == ["a a a a a a a"]


def test_a_text_tower_of_the_hub_from_the_same_folder(folder, tmp_path):
    """As BiomedCLIP: open_clip's own layout, with a BERT whose configuration and tokenizer are elsewhere on the hub."""
    import json

    import open_clip
    from safetensors.torch import save_file

    model = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
        "text_cfg": {"hf_model_name": "nobody/bert", "hf_tokenizer_name": "nobody/bert", "hf_proj_type": "mlp",
                     "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 6},
    }  # fmt: skip
    local = {**model["text_cfg"], "hf_model_name": str(folder), "hf_model_pretrained": False}
    (tmp_path / "made.json").write_text(json.dumps({**model, "text_cfg": local}))
    open_clip.add_model_config(tmp_path / "made.json")
    torch.manual_seed(0)
    state = open_clip.create_model("made", pretrained_text=False).state_dict()
    layout = tmp_path / "layout"
    layout.mkdir()
    save_file({name: value.contiguous() for name, value in state.items()}, layout / "open_clip_model.safetensors")
    (layout / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    made = OpenClip(f"local-dir:{layout}", tokenizer=str(folder))
    embedded = made.embed(Concepts(("cat", "dog")), device=CPU)
    assert embedded.shape == (2, 16)
    assert not torch.allclose(embedded[0], embedded[1])
    for file in folder.iterdir():  # a repository that holds its tokenizer itself needs no setting
        (layout / file.name).write_bytes(file.read_bytes())
    assert torch.equal(OpenClip(f"local-dir:{layout}").embed(Concepts(("cat", "dog")), device=CPU), embedded)
    assert BertModel is not None
    assert hub.SECONDS < 10
