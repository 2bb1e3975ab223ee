"""Networks as other libraries make them."""

import warnings

import pytest
import torch
from torch import nn

from cd_exp.errors import InputError
from cd_exp.hooks import inspect_layers, pool_layers

VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


def inspect(network, layer, size=32, **settings):
    (one,) = inspect_layers(network.eval(), [layer], torch.randn(3, 3, size, size), name="it", **settings).layers
    return one.pooling.kind, one.pooling.pool, one.pooling.prefix, one.units


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def test_a_pair_of_towers_is_run_on_its_image_side(transformers):
    text = {**TEXT, "bos_token_id": 1, "eos_token_id": 2, "vocab_size": 100}
    network = transformers.CLIPModel(transformers.CLIPConfig(vision_config=VISION, text_config=text, projection_dim=16))
    assert inspect(network, "vision_model.encoder.layers.1") == ("tokens", "cls", 1, 32)
    assert inspect(network, "visual_projection") == ("vector", "none", 0, 16)
    assert inspect(network, "vision_model/pooler_output") == ("vector", "none", 0, 32)
    with pytest.raises(InputError, match=r"choose one: vision_model/last_hidden_state \(3 x 17 x 32\)"):
        inspect(network, "vision_model")
    with pytest.raises(InputError, match="layer 'text_model' of it was never called"):
        inspect(network, "text_model")


@pytest.mark.parametrize(
    ("made", "layer", "expected"),
    [
        (lambda t: t.ViTModel(t.ViTConfig(**VISION)), "layers.1", ("tokens", "cls", 1, 32)),
        (lambda t: t.ViTModel(t.ViTConfig(**VISION)), "embeddings.patch_embeddings", ("tokens", "patch_mean", 0, 32)),
        (
            lambda t: t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**VISION)),
            "encoder.layer.1",
            ("tokens", "cls", 5, 32),
        ),
        (
            lambda t: t.SiglipVisionModel(t.SiglipVisionConfig(**VISION)),
            "encoder.layers.1",
            ("tokens", "patch_mean", 0, 32),
        ),
        (
            lambda t: t.ConvNextModel(t.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)),
            "encoder.stages.1",
            ("maps_first", "avg", 0, 16),
        ),
    ],
)
def test_networks_of_transformers(transformers, made, layer, expected):
    assert inspect(made(transformers), layer) == expected


def test_windows_of_transformers_swin_are_refused(transformers):
    config = transformers.SwinConfig(
        image_size=32, patch_size=2, embed_dim=12, depths=[1, 1], num_heads=[2, 2], window_size=4
    )
    network = transformers.SwinModel(config)
    assert inspect(network, "encoder.layers.0.blocks.0") == ("tokens", "patch_mean", 0, 12)
    with pytest.raises(InputError, match="gives 48 x 16 x 12 for 3 images: its first axis is not the images"):
        inspect(network, "encoder.layers.0.blocks.0.attention")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer", "expected"),
    [
        ("vit_b_16", "encoder.layers.encoder_layer_0", ("tokens", "cls", 1, 768)),
        pytest.param(
            *("vit_b_16", "encoder.layers.encoder_layer_0.self_attention", ("tokens", "cls", 1, 768)),
            marks=pytest.mark.slow,
        ),
        ("swin_t", "features.1", ("maps_last", "avg", 0, 96)),
        ("convnext_tiny", "features.1.0.block.3", ("maps_last", "avg", 0, 384)),
        ("shufflenet_v2_x0_5", "stage2", ("maps_first", "avg", 0, 48)),
    ],
)
def test_networks_of_torchvision(name, layer, expected):
    import torchvision

    network = torchvision.models.get_model(name, weights=None)
    assert inspect(network, layer, size=224) == expected


def test_boxes_of_a_detector_are_refused():
    import torchvision

    network = torchvision.models.get_model("ssdlite320_mobilenet_v3_large", weights=None, weights_backbone=None)
    with pytest.raises(InputError, match=r"gives 2 tensors; choose one: head/bbox_regression \(3 x 3234 x 4\)"):
        inspect(network, "head", size=64)
    detector = torchvision.models.get_model(
        "fasterrcnn_mobilenet_v3_large_320_fpn", weights=None, weights_backbone=None
    )
    with pytest.raises(InputError, match="its first axis is not the images"):
        inspect(detector, "roi_heads.box_head.fc7", size=64)


def test_an_encoder_layer_of_torch_is_read_images_first_only():
    batch_first = nn.Sequential(nn.Flatten(2), Transposed(), nn.TransformerEncoderLayer(3, 1, 8, batch_first=True))
    assert inspect(batch_first, "2", size=8)[:2] == ("tokens", "patch_mean")
    assert inspect(batch_first, "2", size=8)[3] == 3


class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


def test_a_compiled_network_is_one_line():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still what many networks are shipped as
        network = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))
    with pytest.raises(InputError, match="layer '0' of it is compiled with TorchScript"):
        inspect(network, "0")


def test_quantised_outputs_are_read_as_numbers():
    from torch.ao.nn import quantized

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what many networks are shipped as
        network = nn.Sequential(
            quantized.Quantize(0.05, 64, torch.quint8), quantized.Conv2d(3, 4, 1), quantized.DeQuantize()
        ).eval()
        images = torch.rand(3, 3, 8, 8)
        layers = inspect_layers(network, ["1", "2"], images, name="it").layers
        with pool_layers(network, layers, name="it") as forward:
            outputs = forward(images.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(outputs["1"], outputs["2"])
    assert outputs["1"].shape == (3, 4)
