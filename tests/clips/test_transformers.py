"""A CLIP of transformers from a folder: the numbers of the library itself, and what may be wrong with the folder."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cd_exp.clips import Transformers
from cd_exp.errors import InputError
from cd_exp.records import Concepts

transformers = pytest.importorskip("transformers")

WORDS = ["[UNK]", "[PAD]", "a", "dog", "photo", "of", "red", "[EOS]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    path = tmp_path_factory.mktemp("clip")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    text = {**small, "vocab_size": len(WORDS), "max_position_embeddings": 8, "eos_token_id": 7, "pad_token_id": 1}
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**small, "image_size": 16, "patch_size": 8}, projection_dim=12
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(path)
    size = {"shortest_edge": 16}
    transformers.CLIPImageProcessor(size=size, crop_size={"height": 16, "width": 16}).save_pretrained(path)
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A [EOS]", special_tokens=[("[EOS]", 7)])
    options = {"unk_token": "[UNK]", "pad_token": "[PAD]", "eos_token": "[EOS]", "model_max_length": 8}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **options).save_pretrained(path)
    return path


def rows(output):
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def test_embeddings_are_those_of_the_library(folder):
    clip = Transformers(str(folder))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    tower = clip.image_tower()
    with torch.inference_mode():
        ours = tower.module(tower.transform(picture)[None])
        pixels = transformers.AutoImageProcessor.from_pretrained(folder)(images=picture, return_tensors="pt")
        theirs = rows(model.get_image_features(**pixels))
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        tokens = tokenizer(["a photo of a dog", "a photo of a red"], return_tensors="pt", padding=True)
        texts = rows(model.get_text_features(**tokens))
    torch.testing.assert_close(ours, theirs)
    embeddings = clip.embed(Concepts(("dog", "red"), ("a photo of a {}",)), device=torch.device("cpu"))
    torch.testing.assert_close(embeddings, texts)
    assert embeddings.shape == (2, 12)


def test_its_key_is_the_content_of_the_folder(folder, tmp_path):
    import shutil

    other = tmp_path / "copy"
    shutil.copytree(folder, other)
    assert Transformers(str(folder)).key == Transformers(str(other)).key
    settings = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps({**settings, "image_mean": [0, 0, 0]}))
    assert Transformers(str(folder)).key != Transformers(str(other)).key


def test_what_is_wrong_with_a_folder_is_one_line(folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    with pytest.raises(InputError, match=r"clip\.folder=nowhere: there is no such folder"):
        Transformers("nowhere").check()
    with pytest.raises(
        InputError, match=r"has no config\.json, preprocessor_config\.json; expected what save_pretrained"
    ):
        Transformers(str(tmp_path)).check()
    other = tmp_path / "copy"
    shutil.copytree(folder, other)
    weights = load_file(other / "model.safetensors")
    weights.pop("visual_projection.weight")
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"lacks weights of its model: visual_projection.weight"):
        Transformers(str(other)).image_tower()
    (other / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read by AutoModel"):
        Transformers(str(other)).image_tower()
