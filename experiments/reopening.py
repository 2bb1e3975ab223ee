"""A finished run opened again: parts rebuilt from `manifest.json`, features from the cache, labels from `labels.csv`.

Relative paths, and variables of the environment such as `CD_EXP_CACHE`, are to mean what they meant to the run.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from omegaconf import OmegaConf
from torch import Tensor

from cd_exp import similarity as similarities
from cd_exp.dissection import RunData
from cd_exp.errors import InputError, unknown_name_error
from cd_exp.experiment import Experiment
from cd_exp.features import extract, text_embeddings
from cd_exp.probes.shapes import Shapes
from cd_exp.records import ConceptActivations, Concepts
from cd_exp.results.labels_csv import read_labels_csv
from cd_exp.results.load_run import read_manifest_file
from cd_exp.shapes import CLASSES, make_scene


@dataclass(frozen=True, eq=False)
class Run:
    """What a run was made of, and what it found."""

    parts: Experiment
    data: RunData
    device: torch.device

    @property
    def final(self) -> str:
        """The layer whose units are the classes."""
        if self.parts.model.final is None or self.parts.model.classes is None:
            raise InputError(f"model {self.parts.model.name} has no final layer with known classes")
        return self.parts.model.final

    @property
    def classes(self) -> tuple[str, ...]:
        self.activations(self.final)
        return self.parts.model.classes or ()

    def activations(self, layer: str) -> Float[Tensor, "images neurons"]:
        """Those of one layer; InputError where the run did not have it."""
        layers = self.data.features.activations
        if layer not in layers:
            raise unknown_name_error("layer", layer, layers, where="in this run; add it to model.layers")
        return layers[layer].to(self.device)

    def match(self, names: tuple[str, ...] | None = None) -> ConceptActivations:
        """The match of every image to the run's concepts, or to other ones."""
        texts = self.data.texts if names is None else self.embed(names)
        return similarities.concept_activations(self.data.features.images.to(self.device), texts.to(self.device))

    def embed(self, names: tuple[str, ...]) -> Float[Tensor, "concepts dim"]:
        """CLIP's text embeddings, normalised."""
        parts = self.parts
        words = Concepts(names, parts.concepts.templates)
        texts = text_embeddings(parts.clip, words, store=parts.store, device=parts.settings.device)
        return torch.nn.functional.normalize(texts, dim=1)

    def weight(self) -> Float[Tensor, "classes neurons"]:
        """The weights of the final layer."""
        return self.parts.model.build().module.get_submodule(self.final).weight.detach().to(self.device)

    def true_classes(self) -> tuple[str, ...] | None:
        """The class of each image where there is one: in the built-in synthetic data set's scenes of one object."""
        probe = self.parts.probe
        if not isinstance(probe, Shapes) or probe.objects != 1:
            return None
        scenes = (make_scene(index, seed=probe.seed) for index in self.data.features.kept)
        return tuple(CLASSES[scene.label] for scene in scenes)


def reopen(folder: Path) -> Run:
    """The run in a folder: the labels that it wrote, and its features from the cache it used; nothing is computed anew.

    Raises:
        InputError: the folder holds no finished run, or the cache no longer has its features.
    """
    config = OmegaConf.create(dict(read_manifest_file(folder)["config"]))
    config.baseline, config.judge, config.hierarchy = None, None, None
    config.logger = {"_target_": "cd_exp.results.wandb.NoLogger"}
    parts = Experiment.build(config, {})
    settings = replace(parts.settings, only_stored=True)
    features = extract(parts.model, parts.probe, parts.clip, layers=parts.units, store=parts.store, settings=settings)
    texts = text_embeddings(parts.clip, parts.concepts, store=parts.store, device=settings.device)
    labels = read_labels_csv(folder / "labels.csv")
    data = RunData.of(parts, features=features, texts=texts, labels=labels, seconds={})
    return Run(parts, data, settings.resolve_device()[0])
