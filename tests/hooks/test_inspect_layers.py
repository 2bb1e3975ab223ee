import pytest
import torch
from small_networks import Made, Patches, Positions, Repeated, SequenceFirst, Small, Square, Windows
from torch import nn

from cd_exp.errors import InputError
from cd_exp.features.dataloader import to_device
from cd_exp.hooks import inspect_layers, pool_layers


def pictures(height=32, width=None, count=3):
    return torch.randn(count, 3, height, width or height, generator=torch.Generator().manual_seed(0))


def inspect(network, *patterns, inputs=None, **settings):
    torch.manual_seed(0)
    inputs = pictures() if inputs is None else inputs
    return inspect_layers(network.eval(), patterns, inputs, name="small", **settings).layers


def refused(network, pattern, message, **settings):
    with pytest.raises(InputError, match=message):
        inspect(network, pattern, **settings)


def test_a_first_axis_that_is_not_the_pictures_is_refused():
    refused(SequenceFirst(), "layer", "gives 17 x 3 x 12 for 3 images: .*they are on axis 1")
    refused(Windows(), "inner", "gives 12 x 6 x 16 x 16 for 3 images: its first axis is not the images")
    assert [layer.units for layer in inspect(Windows(), "outer")] == [7]
    assert inspect(SequenceFirst(), "patches")[0].units == 12


@pytest.mark.parametrize("tokens", [2, 3])
def test_as_many_tokens_as_pictures_do_not_pass_for_pictures(tokens):
    network = Made(lambda x: x.flatten(2)[:, :, :tokens].permute(2, 0, 1).contiguous())
    refused(network, "layer", "its first axis is not the images")


def test_channels_before_positions_are_the_units():
    layers = {layer.name: layer for layer in inspect(Positions(), "conv", "norm", "patches")}
    assert {name: (layer.pooling.kind, layer.units) for name, layer in layers.items()} == {
        "conv": ("positions", 6),
        "norm": ("positions", 6),
        "patches": ("tokens", 12),
    }
    assert layers["conv"].grid == (4, 4)


def test_maps_of_an_input_that_is_not_square_are_read_by_its_proportions():
    network = Made(lambda x: nn.functional.avg_pool2d(x, 4).mean(1, keepdim=True).expand(-1, 64, -1, -1).clone())
    (layer,) = inspect(network, "layer", inputs=pictures(256, 128))
    assert (layer.pooling.kind, layer.units, layer.grid) == ("maps_first", 64, (64, 32))


def test_a_second_input_size_tells_the_axis_where_the_shape_does_not():
    layers = {layer.name: layer.pooling.kind for layer in inspect(Square(), "first", "last", inputs=pictures(8))}
    assert layers == {"first": "maps_first", "last": "maps_last"}


def test_an_axis_that_nothing_tells_is_refused_until_it_is_set():
    def fixed(x):
        return torch.nn.functional.adaptive_avg_pool2d(x, 3)[:, :3] * 1.0

    message = "gives 3 x 3 x 3 x 3 and it is not known which axis holds the units; set model.units_axis=1"
    refused(Made(fixed), "layer", message)
    assert inspect(Made(fixed), "layer", units_axis=3)[0].pooling.kind == "maps_last"
    assert inspect(Made(fixed), "layer", units_axis=1)[0].pooling.kind == "maps_first"


def test_a_call_has_to_be_chosen_where_there_are_several():
    network = Repeated().eval()
    refused(network, "block", "is called 3 times in one forward pass; choose a call: block@1, block@2, block@3")
    refused(network, "block@4", "calls 'block' 3 times, not 4")
    layers = inspect(network, "block@1", "block@3")
    with pool_layers(network, layers, name="small") as forward:
        outputs = forward(pictures())
    with torch.no_grad():
        once = network.block(network.conv(pictures()))
        assert torch.allclose(outputs["block@1"], once.mean((2, 3)), atol=1e-5)
        assert torch.allclose(outputs["block@3"], network.block(network.block(once)).mean((2, 3)), atol=1e-5)


def test_an_element_has_to_be_chosen_where_there_are_several():
    network = Repeated().eval()
    refused(
        network, "split", r"gives 2 tensors; choose one: split/0 \(3 x 1 x 32 x 32\), split/1/0 \(3 x 4 x 32 x 32\)"
    )
    refused(network, "split/2", "there is no element '2'; its elements are split/0")
    refused(network, "conv/0", "there is no element '0'; it gives one tensor, conv")
    assert [(layer.name, layer.units, layer.source) for layer in inspect(network, "split/1/0:max", "named/pooled")] == [
        ("split/1/0:max", 4, "split/1/0"),
        ("named/pooled", 4, "named/pooled"),
    ]
    assert inspect(Small(), "pair")[0].element == "0"  # the one tensor among what it gives


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: torch.fft.fft2(x), "no real numbers"),
        (lambda x: x.argmax(1), "no real numbers"),
        (lambda x: x.mean((1, 2, 3)), "gives 3 for 3 images; expected a vector, tokens, maps or volumes"),
        (lambda x: x[:, :, None, None], "expected a vector, tokens, maps or volumes"),
        (lambda x: "text", "gives no dense tensor"),
        (lambda x: [{"boxes": torch.zeros(7, 4)} for _ in x], "gives 3 tensors; choose one: layer/0/boxes"),
        (lambda x: {"boxes": torch.zeros(7, 4)}, "its first axis is not the images"),
    ],
)
def test_what_is_no_row_of_numbers_for_each_picture_is_refused(function, message):
    refused(Made(function), "layer", message)


def test_a_network_that_cannot_take_the_pictures_is_one_line():
    refused(
        Made(nn.Linear(7, 2)), "layer", "small cannot process 3 images as an input of 3 x 3 x 32 x 32: RuntimeError: "
    )


def test_flat_inputs_are_read():
    network = nn.Sequential(nn.Linear(12, 7), nn.ReLU())
    assert [layer.units for layer in inspect(network, "0", "1", inputs=torch.randn(3, 12))] == [7, 7]


class Late(nn.Module):
    """The class token joins after the first block."""

    def __init__(self, norm=nn.LayerNorm):
        super().__init__()
        self.patches = Patches(prefix=())
        self.first = norm(12)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 12))
        self.second = norm(12)

    def forward(self, x):
        x = self.first(self.patches(x))
        return self.second(torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1))[:, 0]


def pooling(layer):
    return layer.pooling.pool, layer.pooling.prefix, layer.grid


def test_the_prefix_tokens_belong_to_the_layer():
    layers = inspect(Late(), "patches", "first", "second")
    assert [pooling(layer) for layer in layers] == [
        ("patch_mean", 0, (4, 4)),
        ("patch_mean", 0, (4, 4)),
        ("cls", 1, (4, 4)),
    ]
    assert [pooling(layer) for layer in inspect(Late(), "second", inputs=pictures(32, 16))] == [("cls", 1, (4, 2))]
    refused(Late(), "first:cls", "layer 'first:cls' has no class token; use pool patch_mean")


@pytest.mark.parametrize(
    ("prefix", "tokens", "expected"),
    [
        (("cls_token",), None, ("cls", 1)),
        (("class_embedding",), None, ("cls", 1)),
        (("cls_token", "dist_token"), None, ("cls", 2)),
        (("cls_token", "register_tokens"), None, ("cls", 2)),
        (("reg_token",), None, ("patch_mean", 1)),
        (("reg_token",), 1, ("patch_mean", 1)),
        (("extra",), 1, ("cls", 1)),
        ((), None, ("patch_mean", 0)),
        ((), 1, ("patch_mean", 0)),
    ],
)
def test_prefix_tokens_are_known_by_their_names_or_told(prefix, tokens, expected):
    (layer,) = inspect(nn.Sequential(Patches(prefix=prefix), nn.LayerNorm(12)), "1", prefix=tokens)
    assert (layer.pooling.pool, layer.pooling.prefix) == expected


def test_tokens_of_which_nothing_tells_how_many_come_first_are_refused():
    network = nn.Sequential(Patches(prefix=("extra",)), nn.LayerNorm(12))
    refused(network, "1", "gives 17 tokens, which are no grid over the image, .* set model.prefix_tokens")


def test_a_network_that_has_learnt_no_token_has_none():
    """The rows that a token-mixing layer works on are channels, which are no grid."""
    mixing = nn.Sequential(Patches(dim=30, prefix=()), Made(lambda x: x.transpose(1, 2).contiguous()), nn.Linear(16, 9))
    (layer,) = inspect(mixing, "2")
    assert (layer.pooling.pool, layer.pooling.prefix, layer.units, layer.grid) == ("patch_mean", 0, 9, None)
    hidden = nn.Sequential(Patches(dim=17, prefix=()), Made(lambda x: x.transpose(1, 2).contiguous()), nn.Linear(16, 9))
    refused(
        hidden, "2", "gives 17 tokens, which are no grid over the image"
    )  # as a class token and 4 x 4 patches would


def test_two_possible_grids_are_told_apart_by_the_maps_of_the_network():
    five = tuple(f"extra{i}" for i in range(5))
    network = nn.Sequential(Patches(patch=16, prefix=five), nn.LayerNorm(12))  # 9 tokens: 3 x 3, or 5 and 2 x 2
    (layer,) = inspect(network, "1", prefix=5)
    assert (layer.pooling.prefix, layer.grid) == (5, (2, 2))
    network = nn.Sequential(Patches(patch=10, prefix=()), nn.LayerNorm(12))
    (layer,) = inspect(network, "1", prefix=5)
    assert (layer.pooling.prefix, layer.grid) == (0, (3, 3))


def test_a_network_whose_output_depends_on_the_batch_is_noted():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    looked = inspect_layers(network, ["0", "1"], pictures(), name="small")
    assert looked.notes == (
        "what small gives for an image depends on the other images of its batch, first at 1 (a BatchNorm without "
        "running statistics?): its labels hang on features.batch_size",
    )
    assert inspect_layers(network, ["0"], pictures(), name="small").notes == ()


def test_a_network_that_draws_is_noted():
    looked = inspect_layers(Made(lambda x: x + torch.rand_like(x)), ["layer"], pictures(), name="small", units_axis=1)
    assert looked.notes == ("small gives other values for the same images each time, first at layer",)


@pytest.mark.parametrize(
    ("architecture", "layer", "kind", "units", "pool"),
    [
        ("test_vit", "blocks.*.mlp.act", "tokens", 192, "cls"),
        ("test_convnext", "stages.0.blocks.0.mlp.act", "maps_last", 96, "avg"),
        ("test_convnext", "stages.1", "maps_first", 32, "avg"),
        ("swin_tiny_patch4_window7_224", "layers.0", "maps_last", 96, "avg"),
        pytest.param(*("vit_base_patch16_siglip_224", "blocks.0", "tokens", 768, "patch_mean"), marks=pytest.mark.slow),
        pytest.param(
            "vit_medium_patch16_reg4_gap_256", "blocks.1", "tokens", 512, "patch_mean", marks=pytest.mark.slow
        ),
        pytest.param(
            *("vit_medium_patch16_reg4_gap_256", "patch_embed", "tokens", 512, "patch_mean"), marks=pytest.mark.slow
        ),
        ("deit_tiny_distilled_patch16_224", "blocks.1", "tokens", 192, "cls"),
    ],
)
def test_timm_networks_pool_by_the_kind_of_layer(architecture, layer, kind, units, pool):
    import timm

    network = timm.create_model(architecture, pretrained=False).eval()
    inputs = torch.randn(3, *network.pretrained_cfg["input_size"])
    layers = inspect_layers(network, [layer], inputs, name=architecture).layers
    assert (layers[0].pooling.kind, layers[0].units, layers[0].pooling.pool) == (kind, units, pool)


class Video(nn.Module):
    """A convolution over time and space, and tokens of both on the last axis."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 6, (1, 4, 4), stride=(1, 4, 4))
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.conv(x).movedim(1, -1))


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_layers_of_five_axes_are_pooled_over_space_and_time(pool):
    clips = torch.randn(3, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    network = Video().eval()
    layers = inspect_layers(network, [f"conv:{pool}", f"head:{pool}"], clips, name="video").layers
    assert [(layer.pooling.kind, layer.units) for layer in layers] == [("volumes_first", 6), ("volumes_last", 5)]
    with pool_layers(network, layers, name="video") as forward, torch.inference_mode():
        outputs = forward(clips)
        maps = network.conv(clips)
        volumes = network(clips)
    over = (lambda x, axes: x.amax(axes)) if pool == "max" else (lambda x, axes: x.mean(axes))
    torch.testing.assert_close(outputs[f"conv:{pool}"], over(maps, (2, 3, 4)))
    torch.testing.assert_close(outputs[f"head:{pool}"], over(volumes, (1, 2, 3)))
    assert layers[0].pooling.positions(maps).shape == (3, 4 * 4 * 4, 6)  # as an autoencoder reads them


def test_a_network_of_convolutions_over_three_axes_is_put_on_its_device():
    network = nn.Sequential(nn.Conv3d(3, 4, 1), nn.Flatten(1, 2), nn.Conv2d(16, 6, 3)).eval()
    clips = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(clips)
        torch.testing.assert_close(to_device(network, torch.device("cpu"))(clips), expected)
    assert network[2].weight.is_contiguous(memory_format=torch.channels_last)
