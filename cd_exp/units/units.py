"""The kinds of units that come out of a network, as recipes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.cache import hash_file
from cd_exp.concepts import find_truth, read_names
from cd_exp.errors import InputError
from cd_exp.hooks import Layer
from cd_exp.records import Accepted, TargetModel
from cd_exp.units.autoencoder import read_autoencoder
from cd_exp.units.encoder import Activation, Encoder, Pool, check_names, encode_positions, make_projection
from cd_exp.units.files import check_path, open_array, read_tensors

Truth = Mapping[str, str | Sequence[str]]


@runtime_checkable
class Units(Protocol):
    """What a run names.

    `patterns` are the layers of the network that it looks at, none where no network is needed. `columns` says
    what the units of such a layer are. `file_activations` are activations that need no network.
    """

    @property
    def key(self) -> Mapping[str, Any]:
        """All that makes these units other than the layers' own, as plain JSON values."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """For the manifest: what was read of the units' files, and from where."""

    def patterns(self, model: TargetModel) -> Sequence[str]:
        """The layers of the network, as `cd_exp.hooks.resolve_patterns` reads them."""

    def columns(self, layer: Layer, *, model: str) -> Layer:
        """The layer with what its units are."""

    def file_activations(
        self, ids: Sequence[str]
    ) -> tuple[Mapping[str, Float[Tensor, "images neurons"]], tuple[str, ...]]:
        """Activations that need no network, for the images with these ids, and notes on them."""

    def truth_of(self, model: TargetModel, layer: str, *, units: int) -> tuple[Accepted, ...]:
        """The accepted names of each unit of a layer; empty where nothing is known of it."""


@dataclass(frozen=True)
class Layers:
    """`units=layers`: the layers of the model.

    Args:
        names: module paths or patterns; the model's own choice where None.
    """

    names: Sequence[str] | None = None

    @property
    def key(self) -> Mapping[str, Any]:
        """As `Units`."""
        return {}

    @property
    def origin(self) -> Mapping[str, Any]:
        """As `Units`."""
        return {}

    def patterns(self, model: TargetModel) -> Sequence[str]:
        """As `Units`."""
        return model.layers if self.names is None else self.names

    def columns(self, layer: Layer, *, model: str) -> Layer:
        """As `Units`."""
        del model
        return layer

    def file_activations(self, ids: Sequence[str]) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
        """As `Units`."""
        del ids
        return {}, ()

    def truth_of(self, model: TargetModel, layer: str, *, units: int) -> tuple[Accepted, ...]:
        """As `Units`."""
        return find_truth(model, layer, units=units)


def as_units(layers: "Sequence[str] | Units") -> Units:
    """Units as they are; names of layers as the layers of the model."""
    # `isinstance(layers, Units)` would ask for the key, and a key can mean hashing files
    return Layers(layers) if isinstance(layers, Sequence) else layers


@dataclass(frozen=True)
class LatentPooling:
    """An encoder on a layer's positions, pooled to one number a latent and image."""

    encoder: Encoder
    pool: Pool
    key: Mapping[str, Any]

    @property
    def units(self) -> int:
        """How many latents there are."""
        return self.encoder.units

    @property
    def class_token(self) -> bool:
        """Whether it reads the class token instead of the positions of the image."""
        return self.pool == "cls"

    def latents(self, positions: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch latents"]:
        """The latents of each position."""
        return self.encoder.on(positions.device)(positions)

    def __call__(self, positions: Float[Tensor, "images positions width"]) -> Float[Tensor, "images latents"]:
        """One number a latent and image."""
        return encode_positions(self.encoder.on(positions.device), positions, self.pool)


@dataclass(frozen=True)
class EncodedLayer:
    """Units that an encoder makes from one layer's output, position by position, before it is pooled.

    Args:
        layer: the module path.
        suffix: of the layer's name in tables.
        encoding: the encoder with its pooling.
        truth: names of units where they are known, by the layer's name in tables.
        origin: for the manifest: each setting of the encoder, with the place that it comes from.
        notes: for a reader of the results.
    """

    layer: str
    suffix: str
    encoding: LatentPooling
    truth: Truth
    origin: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> Mapping[str, Any]:
        """As `Units`."""
        return self.encoding.key

    def patterns(self, model: TargetModel) -> Sequence[str]:
        """As `Units`."""
        del model
        return [self.layer]

    def columns(self, layer: Layer, *, model: str) -> Layer:
        """The layer with the encoder on its output.

        Raises:
            InputError: their widths differ, there is no class token that is asked for, or the names do not fit.
        """
        width = self.encoding.encoder.width
        if width != layer.units:
            raise InputError(
                f"units={self.suffix} expects input width {width}, but layer {layer.name!r} of {model} gives "
                f"{layer.units}; set units.layer to the layer that it was made on"
            )
        if self.encoding.class_token and layer.pooling.pool != "cls":
            raise InputError(f"units.pool=cls: layer {layer.name!r} of {model} has no class token; use max or mean")
        name = f"{layer.name}.{self.suffix}"
        check_truth(self.truth, {name: self.encoding.units})
        return replace(layer, name=name, units=self.encoding.units, width=width, encoding=self.encoding)

    def file_activations(self, ids: Sequence[str]) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
        """As `Units`."""
        del ids
        return {}, self.notes

    def truth_of(self, model: TargetModel, layer: str, *, units: int) -> tuple[Accepted, ...]:
        """As `Units`."""
        del model
        return truth_of_layer(self.truth, layer, units=units)


def sae(
    *,
    layer: str,
    weights: str,
    activation: Activation | None = None,
    k: int | None = None,
    threshold: float | None = None,
    pool: Pool = "max",
    centred: bool | None = None,
    truth: Truth | None = None,
) -> EncodedLayer:
    """`units=sae`: latents of a sparse autoencoder on a layer's output, reported as `LAYER.sae`.

    What decides the latents is as the file, its header, or the JSON beside it says; what is set here goes before that.

    Args:
        layer: the module path that the autoencoder was trained on.
        weights: a file of tensors, in one of the layouts of `cd_exp.units.layouts`.
        activation: which latents fire.
        k: of `topk`.
        threshold: of `batchtopk` and `jumprelu`.
        pool: over the positions of an image.
        centred: whether the file's decoder bias is taken from the layer's output first.
        truth: names of latents where they are known: `LAYER.sae` with a file of one line a latent, or a list.

    Raises:
        InputError: the file has no encoder that can be read, something in it is not read, or what decides the latents
            is said nowhere.
    """
    check_names(pool=pool, activation=activation or "none")
    path = check_path(weights, setting="units.weights")
    read = read_autoencoder(path, activation=activation, k=k, threshold=threshold, centred=centred)
    key = {"sae": hash_file(path), "reads": dict(read.settings), "pool": pool}
    origin = {
        name: {"value": read.settings.get(name, "of each latent"), "from": source}
        for name, source in read.sources.items()
    }
    return EncodedLayer(layer, "sae", LatentPooling(read.encoder, pool, key), truth or {}, origin, read.notes)


def directions(*, layer: str, path: str, pool: Pool = "mean", truth: Truth | None = None) -> EncodedLayer:
    """`units=directions`: projections of a layer's output onto directions, reported as `LAYER.directions`.

    Args:
        layer: the module path whose output is projected.
        path: a matrix [directions, width]: `.npy`, or a file with one tensor.
        pool: over the positions of an image.
        truth: names of directions where they are known: `LAYER.directions` with a file of one line each, or a list.

    Raises:
        InputError: the file holds no matrix, or one with a direction of zeros.
    """
    check_names(pool=pool)
    file = check_path(path, setting="units.path")
    if file.suffix == ".npy":
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused by its row
            matrix = torch.from_numpy(open_array(file, setting="units.path").astype("float32"))
    else:
        states = read_tensors(file, setting="units.path").states
        tensors = {name: tensor for state in states.values() for name, tensor in state.items()}
        if len(tensors) != 1:
            raise InputError(f"units.path={path} holds {', '.join(tensors) or 'no numbers'}; expected one matrix")
        matrix = next(iter(tensors.values())).detach().float()
    if matrix.ndim != 2:
        raise InputError(f"units.path={path} has {matrix.ndim} axes; expected [directions, width]")
    encoding = LatentPooling(make_projection(matrix, path=path), pool, {"directions": hash_file(file), "pool": pool})
    return EncodedLayer(layer, "directions", encoding, truth or {})


def check_truth(truth: Truth, layers: Mapping[str, int]) -> None:
    """Refuse names of a layer that there is not, or of another number of units, before anything is computed.

    Args:
        truth: names by layer.
        layers: how many units each layer has.

    Raises:
        InputError: there is no such layer, or there is not one line per unit.
    """
    for layer in truth:
        if layer not in layers:
            raise InputError(f"units.truth names layer {layer!r}, which is none of these units: {', '.join(layers)}")
        truth_of_layer(truth, layer, units=layers[layer])


def truth_of_layer(truth: Truth, layer: str, *, units: int) -> tuple[Accepted, ...]:
    """The names of a layer's units from `units.truth`, one line each; empty where there are none.

    Raises:
        InputError: there is not one line per unit.
    """
    if layer not in truth:
        return ()
    names = read_names(truth[layer], setting=f"units.truth.{layer}")
    if len(names) != units:
        raise InputError(
            f"units.truth.{layer} has {len(names)} names for {units} units; give one line a unit, a blank one where "
            "nothing is known"
        )
    return tuple((name,) if name else None for name in names)
