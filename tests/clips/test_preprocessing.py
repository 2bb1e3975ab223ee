import numpy as np
import open_clip
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from cd_exp.clips import OpenClip, preprocessing
from cd_exp.clips.building import build_clip
from cd_exp.config import construct
from cd_exp.errors import InputError

CHOICES = [
    path.stem
    for path in sorted((construct.config_folder() / "clip").glob("*.yaml"))
    if "pretrained: null" not in path.read_text() and "\npretrained: " in path.read_text()
]
TAGS = open_clip.list_pretrained()
SHIPPED = {
    "siglip_b_16": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", "squash"),
    "mobileclip_s1": ((0, 0, 0), (1, 1, 1), "bilinear", "shortest"),
    "vit_l_14_laion": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", "shortest"),
}
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), "bicubic", "shortest")


@pytest.fixture
def built(monkeypatch):
    """What open_clip is asked to build, and the transform that it would return, without the weights."""
    asked = {}

    def create(
        name,
        pretrained,
        image_mean=None,
        image_std=None,
        image_interpolation=None,
        image_resize_mode=None,
        text_cfg=None,
    ):
        asked.update(mean=image_mean, std=image_std, interpolation=image_interpolation, resize_mode=image_resize_mode)
        arguments = {key: value for key, value in asked.items() if value is not None}
        return torch.nn.Identity(), image_transform_v2(PreprocessCfg(size=32, **arguments), is_train=False)

    monkeypatch.setattr(open_clip, "create_model_from_pretrained", create)
    return asked


@pytest.fixture
def some_file(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"weights")
    return str(tmp_path / "weights.bin")


def published(architecture: str, tag: str) -> torch.nn.Module:
    """The transform that open_clip itself gives a tag when it downloads the weights."""
    registered = open_clip.get_pretrained_cfg(architecture, tag)
    return image_transform_v2(
        PreprocessCfg(size=32, **{key: registered[key] for key in preprocessing.SETTINGS}), is_train=False
    )


def photograph() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_shipped_choice_prepares_pictures_as_its_tag_says(choice, built, some_file):
    construct.register_schema()
    with initialize_config_dir(str(construct.config_folder()), version_base="1.3"):
        node = compose("config", overrides=[f"clip={choice}"]).clip
    node.weights = some_file
    clip = instantiate(node, _convert_="all")
    _, transform = build_clip(
        clip.source, tag=clip.pretrained, settings=clip.preprocess, text_folder=str(construct.config_folder())
    )
    assert tuple(built.values()) == SHIPPED.get(choice, OPENAI)
    assert torch.equal(transform(photograph()), published(clip.architecture, clip.pretrained)(photograph()))


@pytest.mark.parametrize(("architecture", "tag"), TAGS[::5])
def test_a_local_file_with_its_tag_is_prepared_as_the_tag_says(architecture, tag, built, some_file, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "x"}')  # of a text tower that is otherwise downloaded
    clip = OpenClip(architecture, pretrained=tag, weights=some_file)
    try:
        _, transform = build_clip(clip.source, tag=tag, settings=None, text_folder=str(tmp_path))
    except InputError as error:
        assert "QuickGELU" in str(error)  # noqa: PT017  the tag is refused for this architecture, with the one that fits
        return
    assert torch.equal(transform(photograph()), published(architecture, tag)(photograph()))


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("ViT-B-16-SigLIP", SHIPPED["siglip_b_16"]),  # as all its tags
        ("MobileCLIP-S1", SHIPPED["mobileclip_s1"]),
        ("ViT-L-14", OPENAI),  # as 11 of its 12 tags
        ("ViT-H-14-quickgelu", (None,) * 4),  # its two tags differ: open_clip's default
        ("ViT-B-16-plus", (None,) * 4),  # has no tag
    ],
)
def test_a_file_without_a_tag_has_the_preprocessing_of_its_architecture(architecture, expected, built, some_file):
    clip = OpenClip(architecture, weights=some_file)
    build_clip(clip.source, tag=None, settings=None, text_folder=None)
    assert tuple(built.values()) == expected


def test_settings_are_over_those_of_the_tag(built, some_file):
    clip = OpenClip("ViT-B-16-SigLIP", pretrained="webli", weights=some_file)
    build_clip(
        clip.source,
        tag="webli",
        settings={"mean": [0.1, 0.2, 0.3], "resize_mode": "longest", "std": None},
        text_folder=None,
    )
    assert tuple(built.values()) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5), "bicubic", "longest")


def test_preprocessing_is_part_of_the_key_and_of_the_embedding(clip, weights):
    files = {"weights": clip.weights, "config": clip.config}
    squashed = OpenClip("tiny_clip", **files, preprocess={"resize_mode": "squash"})
    dark = OpenClip("tiny_clip", **files, preprocess={"mean": [0.9, 0.9, 0.9]})
    assert len({str(recipe.key) for recipe in (clip, squashed, dark)}) == 3
    assert len({str(OpenClip("ViT-L-14", tag, clip.weights).key) for tag in ("openai", "laion2b_s32b_b82k", None)}) == 3
    ours, other, moved = (recipe.image_tower().transform(photograph()) for recipe in (clip, squashed, dark))
    assert not torch.allclose(ours, other)
    assert not torch.allclose(ours, moved)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"men": [0, 0, 0]}, r"setting 'clip.preprocess.men' is not known; did you mean 'clip.preprocess.mean'"),
        ({"mean": [0, 0]}, r"clip.preprocess.mean=\[0, 0\] must be three numbers, of red, green and blue"),
        ({"mean": 0.5}, r"clip.preprocess.mean=0.5 must be three numbers"),
        ({"mean": [0, 0, "x"]}, r"must be three numbers"),
        ({"mean": [0, 0, float("nan")]}, r"must be three numbers"),
        ({"std": [1, 1, 0]}, r"clip.preprocess.std=\[1, 1, 0\] must be three numbers above 0"),
        (
            {"interpolation": "bicubik"},
            r"interpolation 'bicubik' is not one of clip.preprocess; did you mean 'bicubic'",
        ),
        ({"resize_mode": "crop"}, r"resize_mode 'crop' is not one of clip.preprocess; choose from longest, shortest"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_built(settings, message, clip):
    with pytest.raises(InputError, match=message):
        _ = OpenClip("tiny_clip", weights=clip.weights, config=clip.config, preprocess=settings).key
