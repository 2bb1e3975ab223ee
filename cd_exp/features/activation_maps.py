"""Activation maps, which are too large to be kept: each pass over the probe set makes them again."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.cache import Store
from cd_exp.errors import InputError
from cd_exp.features.layers import columns, pictures
from cd_exp.features.loading import BATCH, Settings, bar, in_batches, load, placed
from cd_exp.hooks import in_order, mapped
from cd_exp.models import TargetModel
from cd_exp.records import Probe
from cd_exp.units import Units, as_units


def maps(
    model: TargetModel,
    probe: Probe,
    *,
    layers: Sequence[str] | Units,
    kept: Sequence[int],
    store: Store,
    settings: Settings,
) -> Callable[[], Iterator[tuple[Sequence[int], Mapping[str, Float[Tensor, "images neurons height width"]]]]]:
    """Passes over the probe set for Network Dissection: each call starts one, a batch of activation maps at a time."""
    found = columns(model, probe, as_units(layers), store)
    if not found:
        raise InputError("these units come from files and have no activation maps; Network Dissection needs a network")
    device, dtype = settings.resolved()
    network = model.build()
    found = in_order(network.module, found, pictures(probe, network.transform)[:2], name=model.name)
    module = placed(network.module, device)

    def one_pass() -> Iterator[tuple[Sequence[int], Mapping[str, Tensor]]]:
        batches = in_batches(list(kept), settings.batch_size or BATCH)
        with mapped(module, found, name=model.name) as forward, bar(settings, "activation maps", len(kept)) as step:
            for indices, (inputs,), _ in load(probe, [network.transform], batches, settings, device):
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    yield indices, forward(inputs)
                step(len(indices))

    return one_pass
