"""`judge=images`: pictures of each label, against the probe's held-out images.

The pictures come from a folder (`DIR/LABEL/*.png`, made by any generator), or for the embedded world from its renderer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.faithfulness.annotations import presence
from cd_exp.faithfulness.generated import cosy_auc, cosy_mad, selectivity
from cd_exp.faithfulness.held_out import SHARE, Explained, HeldOut, Scores
from cd_exp.faithfulness.judge import Judge
from cd_exp.faithfulness.renders import Renders, drawable, renders
from cd_exp.features.other_passes import responses
from cd_exp.io.text import file_name
from cd_exp.metrics.label_expressions import Values, predicted
from cd_exp.probes import folder as all_images
from cd_exp.probes.wrappers import Subset
from cd_exp.records import Probe, Renderer


@dataclass(frozen=True)
class Pictures(Judge):
    """Settings of `judge=images`.

    Args:
        folder: with a folder of pictures for each label; without, the probe's own renderer draws them.
        held_out: share of the images that are the controls; labels are chosen on the others.
        scenes: how many pictures the renderer draws for a label.
        pairs: for how many of these it changes each of the attributes, for the selectivity.

    Raises:
        InputError: for a setting out of its range.
    """

    folder: str | None = None
    held_out: float = SHARE
    scenes: int = 50
    pairs: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.pairs <= self.scenes:
            raise InputError(
                f"judge.pairs={self.pairs} and judge.scenes={self.scenes}: as many pairs as scenes at most, and one"
            )

    def check(self, probe: Probe) -> None:
        """Refuse a probe without a renderer where no folder is given, and a folder that is not there."""
        if self.folder is None:
            self._drawn_by(probe)
        elif not Path(self.folder).expanduser().is_dir():
            raise InputError(f"judge.folder={self.folder}: there is no such folder (seen from {Path.cwd()})")

    def __call__(self, held: HeldOut, asked: Sequence[Explained]) -> list[Scores]:
        """The scores of every label, in the order asked; a label without pictures has none."""
        labels = tuple(dict.fromkeys(label for one in asked for label in one.labels))
        scores: list[Scores] = [{} for _ in asked]
        layers = tuple(dict.fromkeys(one.layer for one in asked))
        shown = self.shown(held, labels)
        for layer in layers:
            own = [(place, one) for place, one in enumerate(asked) if one.layer == layer]
            for (place, _), found in zip(own, _scored(held, shown, layer, [one for _, one in own]), strict=True):
                scores[place] = found
        return scores

    def known(self, held: HeldOut, labels: Sequence[str]) -> Mapping[str, bool]:
        """Of each label whether there are pictures of it."""
        if self.folder is not None:
            return {label: bool(_folder_of(Path(self.folder).expanduser(), label)) for label in labels}
        self._drawn_by(held.probe)
        return {label: drawable(label) for label in labels}

    def shown(self, held: HeldOut, labels: Sequence[str]) -> "Shown":
        """What the layers give for the pictures of each label that there are pictures of."""
        drawn: Renders | None = None
        probe: Probe
        rows: Mapping[str, Sequence[int]]
        if self.folder is None:
            objects = self._drawn_by(held.probe).objects
            drawn = renders(labels, scenes=self.scenes, pairs=self.pairs, objects=objects)
            probe, rows = drawn, drawn.rows
        else:
            probe, rows = in_folders(Path(self.folder).expanduser(), labels)
        if not rows:
            return Shown({}, {}, None)
        settings = replace(held.settings, on_error="error")
        given = responses(held.model, probe, like=held.probe, units=held.units, store=held.store, settings=settings)
        return Shown(given, rows, drawn)

    def _drawn_by(self, probe: Probe) -> Renderer:
        if probe.renderer is not None:
            return probe.renderer
        raise InputError(
            f"judge=images needs pictures of each label, and probe {probe.name!r} has no renderer; give a folder with "
            "judge.folder=DIR, in it a folder of pictures for each label, named as the label is"
        )


@dataclass(frozen=True, eq=False)
class Shown:
    """The activations of each layer on all pictures, and which pictures (rows) belong to each label."""

    activations: Mapping[str, Float[Tensor, "pictures neurons"]]
    rows: Mapping[str, Sequence[int]]
    renders: Renders | None


def scores_of(
    held: HeldOut, shown: Shown, layer: str, label: str, units: Sequence[int] | np.ndarray
) -> Mapping[str, Float[np.ndarray, " units"]]:
    """The scores of one label for some units of a layer.

    The controls are the held-out images without the label where the probe's annotations tell, and all of them where
    not: with a tenth of the controls showing what is named, the best unit there is would reach an AUC of .95 only.
    """
    columns = torch.as_tensor(np.asarray(units))
    control = held.features.activations[layer][held.scored_on][~_carriers(held, label)][:, columns]
    pictures = shown.activations[layer][:, columns]
    own = pictures[list(shown.rows[label])]
    found = {"cosy_auc": cosy_auc(own, control), "cosy_mad": cosy_mad(own, control)}
    if shown.renders is not None:
        named, other = shown.renders.pairs_of(label)
        if named and other:
            sides = [pictures[[before for before, _ in pairs]] - pictures[[after for _, after in pairs]]
                     for pairs in (named, other)]  # fmt: skip
            found["selectivity"] = selectivity(sides[0], sides[1])
    return {name: values.cpu().numpy() for name, values in found.items()}


def _scored(held: HeldOut, shown: Shown, layer: str, asked: Sequence[Explained]) -> list[Scores]:
    metrics = ("cosy_auc", "cosy_mad", *(("selectivity",) if shown.renders is not None else ()))
    scores = [{name: np.full(len(one.labels), np.nan) for name in metrics} for one in asked]
    users: dict[str, list[tuple[int, int]]] = {}
    for number, one in enumerate(asked):
        for place, label in enumerate(one.labels):
            if label in shown.rows:
                users.setdefault(label, []).append((number, place))
    for label, places in users.items():
        units = [int(asked[number].units[place]) for number, place in places]
        for name, values in scores_of(held, shown, layer, label, units).items():
            for (number, place), value in zip(places, values, strict=True):
                scores[number][name][place] = value
    return list(scores)


def _carriers(held: HeldOut, label: str) -> Bool[Tensor, " scored"]:
    """The held-out images that show the label, as far as the probe's annotations tell."""
    none = torch.zeros(len(held.scored_on), dtype=torch.bool)
    try:
        values: Values = presence(held.probe, held.indices)
    except InputError:
        return none
    found = predicted(label, values)
    if found is None:
        return none
    return found > (found.amin() + found.amax()) / 2


def in_folders(root: Path, labels: Sequence[str]) -> tuple[Probe, dict[str, list[int]]]:
    """The pictures of all labels that have a folder, as one probe, and which of them belong to each label.

    Raises:
        InputError: no label has a folder.
    """
    folders = {label: place for label in labels if (place := _folder_of(root, label))}
    if not folders:
        raise InputError(
            f"judge.folder={root} has no folder for any of {len(labels)} labels, as {labels[0]!r}; "
            "put the pictures of each label into DIR/LABEL"
        )
    every = all_images(root=str(root))
    rows: dict[str, list[int]] = {label: [] for label in folders}
    wanted = set(folders.values())
    chosen = np.array([row for row, name in enumerate(every.ids) if name.split("/")[0] in wanted], dtype=np.int64)
    for label, place in folders.items():
        rows[label] = [new for new, row in enumerate(chosen.tolist()) if every.ids[row].split("/")[0] == place]
    return Subset(every, chosen), {label: own for label, own in rows.items() if own}


def _folder_of(root: Path, label: str) -> str | None:
    """The folder of a label: called as it is, or as a file of that name may be called."""
    for name in (label, file_name(label)) if label else ():
        if name not in (".", "..") and "/" not in name and (root / name).is_dir():
            return name
    return None
