"""Where the two trained networks lie, and how the libraries load them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cd_exp.shapes.lexicon import CLASSES
from cd_exp.shapes.render import IMAGE_SIZE

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

FOLDER = Path(__file__).with_name("weights")
RESNET = "test_resnet"
"""The timm architecture of the ResNet."""
LAYER4 = 96
"""How many units the ResNet's `layer4` has; `ATTRIBUTES` names the first of them."""
CLIP = "shapes_clip"
"""The name under which open_clip knows the CLIP once its config is added: the stem of the config's file name."""


def resnet_arguments() -> dict[str, Any]:
    """What `timm.create_model(RESNET, **resnet_kwargs())` needs for the shipped weights and their preprocessing.

    `layer4` units 0.. detect `ATTRIBUTES`, in order, in the average of the layer's output over the image.
    """
    size = (3, IMAGE_SIZE, IMAGE_SIZE)
    half = (0.5, 0.5, 0.5)
    # crop_pct 1 and an input of the images' own size: the transform leaves the pixels as they were rendered
    preprocessing = {"input_size": size, "mean": half, "std": half, "crop_pct": 1.0, "interpolation": "bicubic"}
    return {"num_classes": len(CLASSES), "pretrained_cfg_overlay": preprocessing}


def resnet_weights() -> Path:
    """The ResNet's safetensors (fp16)."""
    return FOLDER / "resnet.safetensors"


def clip_weights() -> Path:
    """The CLIP's safetensors (fp16)."""
    return FOLDER / "clip.safetensors"


def clip_config() -> Path:
    """The CLIP's open_clip model config, for `open_clip.add_model_config`."""
    return FOLDER / f"{CLIP}.json"


def tokenizer_merges() -> Path:
    """The merges of the CLIP's byte-pair encoding: `bpe_path` of open_clip's SimpleTokenizer."""
    return FOLDER / "merges.txt.gz"


def load_tokenizer() -> "SimpleTokenizer":
    """open_clip's own tokenizer with this world's merges; words outside the lexicon fall into smaller pieces."""
    import json

    from open_clip.tokenizer import SimpleTokenizer

    text = json.loads(clip_config().read_text())["text_cfg"]
    return SimpleTokenizer(bpe_path=str(tokenizer_merges()), context_length=text["context_length"])
