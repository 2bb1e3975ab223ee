"""Each argument of `dissect` as the recipe it stands for, or a refusal that names the argument."""

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from cd_exp import config as declared
from cd_exp import probes
from cd_exp.cache import Store
from cd_exp.clips import Clip
from cd_exp.concepts import file, words
from cd_exp.config.construct import build, read_choice
from cd_exp.config.schema import ON_ERROR, ReportSettings
from cd_exp.errors import InputError
from cd_exp.evaluation.baselines import Method
from cd_exp.evaluation.judges import Judge
from cd_exp.experiment import RunOptions
from cd_exp.features import ExtractionSettings
from cd_exp.models import LoadedModel, read_names
from cd_exp.models.base import Recipe
from cd_exp.models.custom import open_network
from cd_exp.probes.custom import probe_of_images
from cd_exp.probes.image_files import ImageFiles
from cd_exp.records import Concepts, Probe
from cd_exp.similarity import BoundSimilarity, bind
from cd_exp.similarity.custom import check_function
from cd_exp.units import Layers, Units

OF_MODELS = ("name", "layers", "key", "build")
OF_PROBES = ("name", "ids", "fingerprint", "__len__", "__getitem__")
OF_CLIPS = ("name", "key", "image_tower", "embed")


def as_model(
    net: Any, layers: Any, *, transform: Any, truth: Any, units_axis: int | None, prefix_tokens: int | None
) -> Any:
    """The target network's recipe, a `TargetModel`."""
    names = _names_by_layer(truth)
    if transform is not None and not callable(transform):
        raise _wrong_argument("transform", transform, "a function from an image to a tensor")
    if isinstance(net, nn.Module) or type(net).__name__ == "ExportedProgram":
        net = open_network(net, setting="net")
        if layers is None:
            modules = [path for path, _ in net.named_modules() if path]
            raise InputError(f"layers is missing; a network needs a list of {', '.join(modules[-4:])}, ...")
        patterns = () if isinstance(layers, Units) else _patterns(layers)
        options: Mapping[str, Any] = {"units_axis": units_axis, "prefix_tokens": prefix_tokens, "hidden_truth": names}
        return LoadedModel(type(net).__name__, patterns, module=net, transform=transform, **options)
    if not _has_attributes(net, OF_MODELS) or isinstance(net, type):
        raise _wrong_argument("net", net, "an nn.Module, or a recipe of cd_exp.models")
    settled = {"transform": transform, "units_axis": units_axis, "prefix_tokens": prefix_tokens}
    for argument, value in settled.items():
        if value is not None:
            raise InputError(f"{argument} goes with an nn.Module; the recipe {net.name} has its own")
    if not names:
        return net
    if not isinstance(net, Recipe):
        raise InputError(f"truth cannot be added to a {type(net).__name__}, which is no recipe of cd_exp.models")
    hidden = {layer: of for layer, of in names.items() if layer != net.final}
    final_names = {"class_names": names[net.final]} if net.final in names else {}
    return replace(net, hidden_truth={**net.hidden_truth, **hidden}, **final_names)


def _names_by_layer(truth: Any) -> dict[str, Any]:
    if truth is None:
        return {}
    if not isinstance(truth, Mapping) or not all(isinstance(layer, str) for layer in truth):
        raise _wrong_argument("truth", truth, '{layer: names}, as in truth={"fc": ["cat", "dog"]}')
    names: dict[str, Any] = {}
    for layer, layer_names in truth.items():
        where = f"truth[{layer!r}]"
        if isinstance(layer_names, (str, os.PathLike)):
            layer_names = read_names(os.fspath(layer_names), setting=where)
        else:
            if not isinstance(layer_names, Sequence):
                raise _wrong_argument(where, layer_names, "a list of names, or a file")
            other = next((name for name in layer_names if name is not None and not isinstance(name, str)), None)
            if other is not None:
                raise InputError(f"{where} holds {other!r}, expected names as text, empty where nothing is known")
            layer_names = tuple(name or "" for name in layer_names)
        plain = layer.partition(":")[0]
        if plain in names:
            raise InputError(f"truth names the units of {plain!r} twice; a pooling makes no other units: leave one out")
        names[plain] = layer_names
    return names


def read_layers(layers: Any, *, truth: Any) -> Units:
    """What is named."""
    if layers is None or isinstance(layers, Layers):
        return Layers() if layers is None else layers
    if not isinstance(layers, Units):
        return Layers(_patterns(layers))
    if truth is not None:
        raise InputError("truth goes with layers of a network; give these units theirs where they are made")
    return layers


def _patterns(layers: Any) -> tuple[str, ...]:
    if isinstance(layers, str):
        raise InputError(f"layers={layers!r} is text, expected a list: layers=[{layers!r}]")
    if not isinstance(layers, Sequence) or isinstance(layers, bytes):
        raise _wrong_argument("layers", layers, "a list of module paths, or units of cd_exp.units")
    other = next((layer for layer in layers if not isinstance(layer, str) or not layer), None)
    if other is not None:
        raise InputError(f"layers holds {other!r}, expected module paths as text")
    if not layers:
        raise InputError("layers is empty, expected at least one module path")
    return tuple(layers)


def as_methods(methods: Any) -> dict[str, Method]:
    """The other methods by name; a name of `conf/baseline` stands for what it describes."""
    if methods is None:
        return {}
    if isinstance(methods, str):
        methods = [methods]
    if isinstance(methods, Sequence) and all(isinstance(name, str) for name in methods):
        methods = {name: name for name in methods}
    if not isinstance(methods, Mapping):
        raise _wrong_argument("methods", methods, "a name of conf/baseline, a list of names, or {name: method}")
    built = {}
    for name, method in methods.items():
        if isinstance(method, str):
            method = build(read_choice("baseline", method, argument="methods"), group="baseline")
        if not isinstance(method, Method):
            raise _wrong_argument(f"methods[{name!r}]", method, "a name, or a cd_exp.evaluation.baselines.Method")
        built[str(name)] = method
    return built


def as_judge(judge: Any) -> Judge | None:
    """The judge; a name of `conf/judge` stands for what it describes."""
    if isinstance(judge, str):
        return build(read_choice("judge", judge, argument="judge"), group="judge")
    if judge is None or isinstance(judge, Judge):
        return judge
    raise _wrong_argument("judge", judge, "a name of conf/judge, or a cd_exp.evaluation.judges.Judge")


def as_probe(images: Any, *, cache: Path) -> Probe:
    """The probe set."""
    wanted = "a folder, a list of PIL images or paths, a torch Dataset of images, or a probe set of cd_exp.probes"
    if images is None or isinstance(images, (Image.Image, bytes, Mapping, set, type)):
        raise _wrong_argument("images", images, wanted)
    if isinstance(images, (str, os.PathLike)):
        return _read_folder(Path(images).expanduser(), cache)
    if _has_attributes(images, OF_PROBES):
        return images
    if not (hasattr(images, "__getitem__") and hasattr(images, "__len__")):
        raise _wrong_argument("images", images, wanted)
    if isinstance(images, Sequence) and images and all(isinstance(item, (str, os.PathLike)) for item in images):
        return _read_files([os.fspath(item) for item in images], cache)
    listed = [_open_image(item) for item in images] if isinstance(images, Sequence) else images
    name = "images" if isinstance(images, Sequence) else type(images).__name__
    return probe_of_images(listed, source="images", name=name)


def _read_folder(folder: Path, cache: Path) -> Probe:
    if not folder.is_dir():
        what = "a file, expected a folder, or a list of files" if folder.exists() else "no such folder"
        raise InputError(f"images={folder} is {what} (seen from {Path.cwd()})")
    return probes.with_common_settings(probes.folder, {"root": str(folder), "cache": str(cache)})


def _read_files(paths: Sequence[str], cache: Path) -> Probe:
    paths = [str(Path(path).expanduser()) for path in paths]
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise InputError(f"images: {len(missing)} of {len(paths)} files are not there, first {missing[0]}")
    return ImageFiles(name="images", root=Path.cwd(), ids=paths, cache=str(cache))


def _open_image(item: Any) -> Any:
    """The image that a path among the images leads to."""
    if not isinstance(item, (str, os.PathLike)):
        return item
    try:
        return Image.open(item)
    except OSError as error:
        raise InputError(f"images holds {os.fspath(item)!r}, which cannot be read as an image: {error}") from error


def as_concepts(concepts: Any) -> Concepts:
    """The concept set."""
    if isinstance(concepts, Concepts):
        return concepts
    if isinstance(concepts, (str, os.PathLike)):
        path = Path(concepts).expanduser()
        if not path.is_file():
            raise InputError(
                f"words={os.fspath(concepts)!r} is no file (seen from {Path.cwd()}); expected a list of words, a file "
                "of one a line, or a concept set of cd_exp.concepts"
            )
        return file(path=str(path))
    if not isinstance(concepts, Sequence) or isinstance(concepts, bytes):
        raise _wrong_argument(
            "words", concepts, "a list of words, a file of one a line, or a concept set of cd_exp.concepts"
        )
    return words(names=list(concepts))


def as_clip(clip: Any) -> Clip:
    """The backbone; a name of `conf/clip` stands for what it describes."""
    if isinstance(clip, str):
        return build(read_choice("clip", clip, argument="clip"), group="clip")
    if not _has_attributes(clip, OF_CLIPS) or isinstance(clip, type):
        raise _wrong_argument("clip", clip, "a name of conf/clip, as 'vit_b_16', or a recipe of cd_exp.clips")
    return clip


def as_similarity(similarity: Any) -> BoundSimilarity:
    """The function with its settings; a name of `conf/similarity` stands for what it describes."""
    if isinstance(similarity, str):
        return bind(build(read_choice("similarity", similarity, argument="similarity"), group="similarity"))
    if not callable(similarity) or isinstance(similarity, type):
        raise _wrong_argument("similarity", similarity, "a name of conf/similarity, or a function (match, neurons)")
    whole = bind(similarity)
    if (getattr(whole.function, "__module__", None) or "").startswith("cd_exp."):
        return whole
    return bind(check_function(whole.function, source="similarity", bound=whole.bound), **whole.bound)


def as_store(store: Any) -> Store:
    """The cache, with a record of its own of what is read and made."""
    if store is None:
        return Store(Path(os.environ.get("CD_EXP_CACHE") or "outputs/cache").expanduser())
    if not isinstance(store, (str, os.PathLike, Store)):
        raise _wrong_argument("store", store, "a folder, or a cd_exp.cache.Store")
    return Store(store.root if isinstance(store, Store) else Path(store).expanduser())


def as_options(settings: Any, *, top: Any, resamples: Any, seed: Any) -> RunOptions:
    """What the call does with its parts; refuses settings of a wrong kind or out of range.

    Its settings for a manifest, which take .3 s to compose, are left to whoever writes one.
    """
    if not isinstance(settings, ExtractionSettings):
        raise _wrong_argument("settings", settings, "a cd_exp.ExtractionSettings")
    kinds = {
        name.rpartition(".")[2]: kind
        for name, kind in declared.setting_types().items()
        if not name.startswith("report.")
    }
    kinds["on_error"] = ON_ERROR
    named = {"top": top, "resamples": resamples, "seed": seed}
    numbers = {name: int(value) if isinstance(value, np.integer) else value for name, value in named.items()}
    values = {f"settings.{field.name}": getattr(settings, field.name) for field in fields(settings)}
    for name, value in {**numbers, **values}.items():
        kind = kinds.get(name.rpartition(".")[2])
        wrong = declared.refuse_value(name, value, kind) if kind is not None else None
        if wrong:
            raise wrong
    return RunOptions({}, top=numbers["top"], resamples=numbers["resamples"], **vars(ReportSettings()))


def _has_attributes(thing: Any, names: Sequence[str]) -> bool:
    """Whether an object has these, without asking for their values, which may be long to compute."""
    return all(inspect.getattr_static(thing, name, None) is not None for name in names)


def _wrong_argument(argument: str, came: Any, expected: str) -> InputError:
    what = "is not given" if came is None else f"is of type {type(came).__name__}"
    return InputError(f"{argument} {what}, expected {expected}")
