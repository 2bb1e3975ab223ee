"""The one record of what a run has: what goes in, and what came of it.

Methods and judges read it whole, and whoever makes it fills it once. It knows no configuration, no folder of results
and no judge: a judge's division of the images is an addition to it (`cd_exp.evaluation.judges.HeldOut`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from jaxtyping import Float
from torch import Tensor

from cd_exp.cache import Store
from cd_exp.clips import Clip
from cd_exp.features import ExtractionSettings, Features
from cd_exp.models import TargetModel
from cd_exp.records import Concepts, Labels, Probe
from cd_exp.units import Layers, Units

R = TypeVar("R")


@dataclass(frozen=True, eq=False, kw_only=True)
class RunInputs:
    """What goes into a run; nothing heavy is loaded yet.

    Attributes:
        model: the target network's recipe.
        units: what is labelled; the model's own layers where not given.
        probe: the images.
        concepts: the words to choose from.
        clip: the CLIP backbone's recipe.
        store: the cache.
        settings: device, precision, batches.
        seed: random seed of every draw.
    """

    model: TargetModel
    units: Units = Layers()  # noqa: RUF009  frozen
    probe: Probe
    concepts: Concepts
    clip: Clip
    store: Store
    settings: ExtractionSettings
    seed: int = 0

    @classmethod
    def of(cls: type[R], record: "RunInputs", **more: Any) -> R:
        """All that another record has and this kind of record knows, with what is added or replaced by name."""
        taken = {entry.name for entry in fields(cls)}  # type: ignore[arg-type]  # every kind of record is a dataclass
        names = taken & {entry.name for entry in fields(record)}
        return cls(**{name: getattr(record, name) for name in names - more.keys()}, **more)


@dataclass(frozen=True, eq=False, kw_only=True)
class RunData(RunInputs):
    """What a run has: its inputs, features and labels.

    Attributes:
        features: the activations of every layer, the image embeddings, and which images were used.
        texts: the embeddings of the concepts.
        labels: ours, by layer; they hold the truth where it is known.
        seconds: of each step.
        notes: what to know beside the labels.
    """

    features: Features
    texts: Float[Tensor, "concepts dim"]
    labels: Mapping[str, Labels]
    seconds: Mapping[str, float]
    notes: Sequence[str] = ()
