"""What another method is: a function from what a run has to labels of the same units."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from cd_exp.cache import Store
from cd_exp.clips import Clip
from cd_exp.features import Features, Settings
from cd_exp.models import TargetModel
from cd_exp.types import Concepts, Labels, Probe
from cd_exp.units import Layers, Units


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What a run has when another method labels its units.

    Attributes:
        model: the target network's recipe.
        probe: the images.
        concepts: the concept set of the run.
        clip: the CLIP backbone's recipe.
        features: the activations of every layer, the image embeddings, and which images were used.
        labels: ours, by layer; they hold the truth where it is known.
        store: the cache.
        settings: device, precision, batches.
        seed: of every random draw.
        units: what the columns are.
    """

    model: TargetModel
    probe: Probe
    concepts: Concepts
    clip: Clip
    features: Features
    labels: Mapping[str, Labels]
    store: Store
    settings: Settings
    seed: int = 0
    units: Units = Layers()  # noqa: RUF009  frozen


@dataclass(frozen=True, eq=False)
class Labelled:
    """The labels of a method by layer, with the files it wants beside them (name in the run folder -> content)."""

    labels: Mapping[str, Labels]
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@runtime_checkable
class Method(Protocol):
    """A method labels by itself: `method(run)` gives `{layer: Labels}`, or `Labelled` where it has files or notes."""

    def __call__(self, run: RunRecord) -> "Mapping[str, Labels] | Labelled":
        """The labels of the run's layers, from what the run has."""


def labelled(method: Method, run: RunRecord) -> Labelled:
    """What a method gives, in one form."""
    found = method(run)
    return found if isinstance(found, Labelled) else Labelled(found)
