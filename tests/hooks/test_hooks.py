from dataclasses import dataclass

import pytest
import torch
from small_networks import Small
from torch import nn

from cd_exp.errors import InputError
from cd_exp.hooks import inspect_layers, pool_layers, read_layer_maps
from cd_exp.hooks.hooks import list_tensors


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Small().eval()


def layers(network, patterns):
    return inspect_layers(network, patterns, torch.randn(3, 3, 8, 8), name="small").layers


def test_a_hook_that_never_fires_is_an_error_that_names_the_layer(network):
    with pytest.raises(InputError, match="layer 'unused' of small was never called"):
        layers(network, ["unused"])


def test_values_are_those_before_an_in_place_relu(network):
    inspected = layers(network, ["conv", "conv:max", "fc"])
    images = torch.randn(3, 3, 8, 8)
    with pool_layers(network, inspected, name="small") as forward:
        outputs = forward(images)
    with torch.no_grad():
        expected = network.conv(images)
        assert torch.allclose(outputs["conv"], expected.mean((2, 3)), atol=1e-6)
        assert torch.allclose(outputs["conv:max"], expected.amax((2, 3)), atol=1e-6)
        assert torch.allclose(outputs["fc"], network(images), atol=1e-6)
    with read_layer_maps(network, inspected[:1], name="small") as forward:
        assert torch.allclose(forward(images)["conv"], expected, atol=1e-6)


def test_hooks_come_off_after_an_exception(network):
    with (
        pytest.raises(InputError, match="small fails on 1 images"),
        pool_layers(network, layers(network, ["fc"]), name="small") as forward,
    ):
        forward(torch.randn(1, 2, 8, 8))
    assert not any(module._forward_hooks for module in network.modules())


def test_a_vector_that_a_later_operation_overwrites_is_copied():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(inplace=True)).eval()
    images = torch.randn(3, 3, 2, 2)
    inspected = inspect_layers(network, ["1"], images, name="small").layers
    with pool_layers(network, inspected, name="small") as forward:
        outputs = forward(images)["1"]
    with torch.no_grad():
        assert torch.equal(outputs, network[1](images.flatten(1)))
    assert (outputs < 0).any()


class Viewed(nn.Module):
    """Its `view` does not fit channels-last maps."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 64, 5)

    def forward(self, x):
        return self.fc(self.conv(x).view(len(x), -1))


class Restrided(Viewed):
    """It reads memory as if its maps were never channels-last, and raises nothing."""

    def forward(self, x):
        x = self.conv(x)
        return self.fc(x.as_strided((len(x), 4 * 64), (4 * 64, 1)))


@pytest.mark.parametrize("made", [Viewed, Restrided])
def test_a_network_that_channels_last_breaks_is_run_in_the_usual_layout(made):
    torch.manual_seed(0)
    network, images = made().eval(), torch.randn(3, 3, 8, 8)
    expected = network(images).detach()
    inspected = inspect_layers(network, ["fc"], images, name="small").layers
    network.to(memory_format=torch.channels_last)
    with pool_layers(network, inspected, name="small") as forward:
        outputs = forward(images.contiguous(memory_format=torch.channels_last))["fc"]
    assert torch.allclose(outputs, expected, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_batch_of_one_that_the_network_squeezes_keeps_its_row(count):
    class Squeezed(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), Squeeze())
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(self.pool(x))

    class Squeeze(nn.Module):
        def forward(self, x):
            return x.squeeze()

    network, images = Squeezed().eval(), torch.randn(5, 3, 8, 8)
    inspected = inspect_layers(network, ["pool", "fc"], images[:3], name="small").layers
    with pool_layers(network, inspected, name="small") as forward:
        outputs = forward(images[:count])
    assert torch.allclose(outputs["pool"], images[:count].mean((2, 3)), atol=1e-6)
    assert outputs["fc"].shape == (count, 2)


def test_an_output_that_changes_its_size_with_the_picture_is_refused():
    class Cropped(nn.Module):
        def forward(self, x):
            return x[:, : 2 + int(x[0, 0, 0, 0] > 0)] * 1.0

    network = nn.Sequential(Cropped()).eval()
    images = torch.ones(3, 3, 8, 8)
    inspected = inspect_layers(network, ["0"], images, name="small", units_axis=1).layers
    with (
        pool_layers(network, inspected, name="small") as forward,
        pytest.raises(InputError, match="it gave 3 units for each"),
    ):
        forward(-images)


@dataclass(slots=True)
class Slots:
    """What has fields and no `__dict__`."""

    maps: object
    more: object = None


@pytest.mark.parametrize(
    ("output", "paths"),
    [
        (Slots(torch.ones(1)), ["maps"]),
        (Slots([torch.ones(1)], {"a": torch.ones(1)}), ["maps/0", "more/a"]),
        (torch.eye(3).to_sparse(), []),
        ((torch.ones(1), torch.eye(3).to_sparse()), ["0"]),
    ],
)
def test_the_tensors_of_an_output_by_their_places(output, paths):
    assert list(list_tensors(output)) == paths
