import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from cd_exp.errors import InputError
from cd_exp.models.transforms import adapt_transform

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
PIXELS = torch.from_numpy(np.array(PICTURE)).permute(2, 0, 1) / 255


def applied(transform, network=None):
    function, notes = adapt_transform(transform, network or nn.Identity(), name="mine")
    return function(PICTURE), notes


@pytest.mark.parametrize(
    "transform",
    [
        lambda picture: np.array(picture).transpose(2, 0, 1) / 255,
        lambda picture: PIXELS.double(),
        lambda picture: PIXELS[None],
        lambda picture: {"pixel_values": PIXELS[None]},
        lambda picture: {"pixel_values": [PIXELS.numpy()]},
        lambda picture: [PIXELS],
        transforms.ToTensor(),
    ],
)
def test_what_a_transform_gives_becomes_a_float32_tensor(transform):
    adapted, notes = applied(transform)
    assert adapted.dtype == torch.float32
    assert torch.allclose(adapted, PIXELS, atol=1e-6)
    assert notes == ()


def test_the_usual_chain_is_left_as_it_is():
    chain = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])
    assert adapt_transform(chain, nn.Identity(), name="mine")[0] is chain


def test_a_flat_input_stays_flat():
    assert applied(lambda picture: PIXELS.flatten())[0].shape == (7200,)


def test_none_takes_what_a_timm_network_says_of_itself_or_that_of_imagenet():
    import timm

    adapted, notes = applied(None, timm.create_model("vit_tiny_patch16_224", img_size=96, depth=1))
    assert adapted.shape == (3, 96, 96)
    assert notes == ("mine came without a transform; that of its timm architecture was used",)
    adapted, notes = applied(None)
    assert adapted.shape == (3, 224, 224)
    assert notes == (
        "mine came without a transform; ImageNet's was used: 224 x 224 from the middle, its mean and deviation",
    )


def test_a_processor_of_transformers_is_called_with_the_picture():
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    adapted, _ = applied(processor)
    assert adapted.shape == (3, 32, 32)
    assert torch.allclose(adapted, processor(images=PICTURE, return_tensors="pt")["pixel_values"][0])


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda picture: picture, "gives a Image; expected a tensor"),
        (lambda picture: PIXELS.permute(1, 2, 0), "gives 40 x 60 x 3, channels last"),
        (lambda picture: {"ids": PIXELS}, "gives ids, no pixel_values"),
        ("resize", "the transform of mine is a str; expected a function"),
    ],
)
def test_what_is_no_input_is_refused(transform, message):
    with pytest.raises(InputError, match=message):
        applied(transform)
