import pytest
import torch

from cd_exp.clips import OpenClip
from cd_exp.errors import InputError
from cd_exp.records import Concepts

CPU = torch.device("cpu")


def test_both_towers_embed_into_one_space(clip):
    from PIL import Image

    tower = clip.image_tower()
    assert not tower.module.training
    with torch.inference_mode():
        images = tower.module(tower.transform(Image.new("RGB", (40, 50)))[None])
    assert images.shape == (1, 16)
    assert clip.embed(Concepts(("a dog", "a cat")), device=CPU).shape == (2, 16)


def test_several_templates_are_averaged_after_normalising(clip):
    one = clip.embed(Concepts(("dog",), ("a photo of a {}",)), device=CPU)
    other = clip.embed(Concepts(("dog",), ("the {}",)), device=CPU)
    both = clip.embed(Concepts(("dog",), ("a photo of a {}", "the {}")), device=CPU)
    expected = (torch.nn.functional.normalize(one) + torch.nn.functional.normalize(other)) / 2
    assert torch.allclose(both, expected, atol=1e-6)


def test_concepts_with_braces_are_only_text(clip):
    assert clip.embed(Concepts(("{dog}", "{0}")), device=CPU).shape == (2, 16)


def test_weights_trained_with_another_activation_are_refused(weights):
    path = str(weights / "tiny.safetensors")
    with pytest.raises(InputError, match=r"trained with QuickGELU.*use ViT-B-16-quickgelu"):
        OpenClip("ViT-B-16", pretrained="openai", weights=path).image_tower()


def test_unknown_names_are_named(weights):
    path = str(weights / "tiny.safetensors")
    with pytest.raises(InputError, match=r"CLIP architecture 'ViT-B16' is not known; did you mean"):
        OpenClip("ViT-B16", weights=path).image_tower()
    with pytest.raises(InputError, match=r"weights 'opnai' is not a tag of ViT-B-32; did you mean 'openai'"):
        OpenClip("ViT-B-32", pretrained="opnai", weights=path).image_tower()
    with pytest.raises(InputError, match=r"set clip\.pretrained=TAG or clip\.weights=FILE"):
        _ = OpenClip("ViT-B-32").key
    with pytest.raises(InputError, match=r"clip\.weights=none\.pt: there is no such file"):
        _ = OpenClip("ViT-B-32", weights="none.pt").key


def test_the_hub_places_in_our_configs_are_those_open_clip_knows():
    import open_clip
    from omegaconf import OmegaConf

    from cd_exp.config.construct import config_folder

    seen = 0
    for path in sorted((config_folder() / "clip").glob("[a-z]*.yaml")):
        settings = OmegaConf.load(path)
        if "hub" in settings and "architecture" in settings:
            registered = open_clip.get_pretrained_cfg(settings.architecture, settings.pretrained)
            assert registered["hf_hub"].rstrip("/") == settings.hub, path
            trained = bool(registered.get("quick_gelu"))
            assert trained == bool(open_clip.get_model_config(settings.architecture).get("quick_gelu")), path
            seen += 1
    assert seen >= 12
