import pytest
import torch
from small_networks import Made, Patches
from torch import nn

from cd_exp.hooks import are_tokens_in_order, inspect_layers


def grids(network, height=32, width=32):
    torch.manual_seed(0)
    pictures = torch.randn(3, 3, height, width)
    layers = inspect_layers(network.eval(), ["1", "0"], pictures, name="small").layers
    return {layer.name: layer.grid for layer in are_tokens_in_order(network, layers, pictures[:2], name="small")}


def permuted(order):
    return lambda x: torch.cat([x[:, :1], x[:, 1:][:, order]], 1)


@pytest.mark.parametrize(("height", "width", "grid"), [(64, 64, (8, 8)), (64, 32, (8, 4)), (16, 16, (2, 2))])
def test_tokens_row_by_row_keep_their_grid(height, width, grid):
    network = nn.Sequential(Patches(), nn.LayerNorm(12))
    assert grids(network, height, width) == {"0": grid, "1": grid}


def test_tokens_that_look_at_each_other_keep_their_grid():
    torch.manual_seed(0)
    attention = nn.TransformerEncoderLayer(12, 2, 24, dropout=0.0, batch_first=True)
    assert grids(nn.Sequential(Patches(), attention))["1"] == (4, 4)


@pytest.mark.parametrize(
    "order",
    [
        torch.arange(64).reshape(8, 8).T.flatten(),
        torch.arange(64).reshape(2, 4, 2, 4).permute(0, 2, 1, 3).flatten(),
        torch.arange(63, -1, -1),
    ],
    ids=["columns", "windows", "reversed"],
)
def test_tokens_in_another_order_have_no_grid(order):
    network = nn.Sequential(Patches(), nn.Sequential(Made(permuted(order)), nn.LayerNorm(12)))
    assert grids(network, 64, 64) == {"0": (8, 8), "1": None}
