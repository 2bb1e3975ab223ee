"""A network as it was before training: what labels score where there is nothing to name."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from cd_exp.models.base import Recipe
from cd_exp.records import Network, TargetModel


@dataclass(frozen=True)
class Untrained(Recipe):
    """The recipe of another one's network with every weight random, and running statistics as at the start.

    Its units mean nothing: it has no classes. `model` is the other recipe, whose network is copied and not changed.

    Source: Adebayo et al., NeurIPS 2018 (arXiv:1810.03292), the model parameter randomisation test.
    """

    model: TargetModel | None = None
    seed: int = 0

    @property
    def trained(self) -> TargetModel:
        """The other recipe."""
        assert self.model is not None
        return self.model

    @property
    def key(self) -> Mapping[str, Any]:
        """The other's with the seed."""
        return {"untrained": self.seed, **self.trained.key}

    @property
    def own_code(self) -> bool:
        """As the other's."""
        return self.trained.own_code

    def build(self) -> Network:
        """The network in evaluation mode, on the CPU in float32."""
        network = self.trained.build()
        module = copy.deepcopy(network.module)
        draw_weights(module, seed=self.seed)
        return replace(network, module=module.eval())


def untrained_model(model: TargetModel, *, seed: int) -> TargetModel:
    """The recipe of a network as it was before training.

    Args:
        model: the recipe of the trained one.
        seed: random seed of the weights.
    """
    recipe: Any = Untrained(  # a frozen recipe is read and never set
        name=f"untrained {model.name}",
        layers=model.layers,
        final=model.final,
        prefix_tokens=model.prefix_tokens,
        units_axis=model.units_axis,
        model=model,
        seed=seed,
    )
    target: TargetModel = recipe
    return target


def draw_weights(module: nn.Module, *, seed: int) -> None:
    """Draw every weight of a network anew: as each part does when it is made, and from N(0, .02) what no part draws.

    A part draws by its `reset_parameters`; class tokens and position embeddings are parameters that none has.
    """
    drawn: set[int] = set()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for part in module.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
                drawn |= {id(parameter) for parameter in part.parameters(recurse=False)}
        for parameter in module.parameters():
            if id(parameter) not in drawn:
                nn.init.normal_(parameter, std=0.02)
