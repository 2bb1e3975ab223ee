"""A network with every weight random: another one each time, the same for a seed, and the trained one untouched."""

import torch
from torch import nn

from cd_exp.models import shapes_model, untrained_model
from cd_exp.models.untrained import draw_weights


def test_every_weight_is_drawn_and_the_trained_network_stays():
    model = shapes_model(layers=["layer4", "fc"])
    trained, drawn = model.build().module, untrained_model(model, seed=0).build().module
    again = untrained_model(model, seed=0).build().module
    other = untrained_model(model, seed=1).build().module
    assert not drawn.training
    for (name, before), after, same, unlike in zip(
        trained.named_parameters(), drawn.parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(after, same)
        if before.dim() > 1:  # the scales and shifts of normalisation begin at 1 and 0
            assert not torch.equal(before, after), name
            assert not torch.equal(after, unlike), name
    for name, buffer in drawn.named_buffers():
        if name.endswith("running_mean"):
            assert not buffer.any()


def test_its_units_mean_nothing_and_its_key_is_its_own():
    model = shapes_model(layers=["fc"])
    recipe = untrained_model(model, seed=3)
    assert recipe.classes is None
    assert recipe.truth == {}
    assert recipe.key == {"untrained": 3, **model.key}
    assert recipe.name == "untrained shapes"
    assert recipe.layers == ("fc",)


def test_parameters_that_no_part_draws_are_drawn_too():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.full((1, 1, 500), 7.0))
            self.linear = nn.Linear(4, 4)

    module = Tokens()
    draw_weights(module, seed=0)
    assert abs(module.token.std().item() - 0.02) < 0.004
    assert module.linear.weight.abs().max() <= 0.5  # as a linear layer draws them
