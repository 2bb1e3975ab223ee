"""`dissect` for programs and notebooks: it takes what people hold, and its errors name arguments, not settings."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from cd_exp.api import arguments
from cd_exp.api.result import Result
from cd_exp.errors import InputError
from cd_exp.experiment import Experiment, dissect_experiment
from cd_exp.features import ExtractionSettings
from cd_exp.models import restore_after
from cd_exp.results.wandb import NoLogger

SAID = (
    (r", or set model\.(?:hidden_truth\.\S+|class_names)=null", ""),
    (r"give one line a unit, a blank one where", "give one name a unit, an empty text where"),
    (r"\(model\.final or model\.hidden_truth\)", "(truth)"),
    (r"\bmodel\.hidden_truth\.([\w.]+)", r'truth["\1"]'),
    (r"\bmodel\.class_names\b", "truth"),
    (r"\bmodel\.(layers|units_axis|prefix_tokens)\b", r"\1"),
    (r"\bmodel\.factory\b", "net"),
    (r"\b(?:set )?probe\.on_error=skip\b", 'set settings=Settings(on_error="skip")'),
    (r"\bprobe\.(?:root|path|factory)\b", "images"),
    (r"\bconcepts\.(?:path|names|factory)\b", "words"),
    (r"\bsimilarity\.function\b", "similarity"),
    (
        r"\bclip\.(\w+) must be set: add clip\.\w+=VALUE",
        r"this clip needs \1: give a recipe of cd_exp.clips with \1=...",
    ),
    (r"\bfeatures\.(keep|precision)=(\w+)", r'settings=Settings(\1="\2")'),
    (r" \(probe\.limit=\d+\)", ""),
    (r"\bset device=cpu\b", 'set settings=Settings(device="cpu")'),
    (r"\bstability\.(resamples)\b", r"\1"),
    (r"\bsimilarity=(\w+)", r'similarity="\1"'),
)
"""Pairs of a form and what stands for it; the first ones first."""


def name_arguments(message: str) -> str:
    """The message with each setting replaced by the argument that stands for it.

    >>> name_arguments("mend or remove them, or set probe.on_error=skip")
    'mend or remove them, or set settings=Settings(on_error="skip")'
    """
    for form, instead in SAID:
        message = re.sub(form, instead, message)
    return message


@contextmanager
def errors_name_arguments() -> Iterator[None]:
    """Within the block, an `InputError` names arguments instead of settings."""
    try:
        yield
    except InputError as error:
        message = name_arguments(str(error))
        if message == str(error):
            raise
        raise type(error)(message) from error


def dissect(
    net: Any,
    images: Any = None,
    words: Any = None,
    clip: Any = None,
    similarity: Any = "soft_wpmi",
    *,
    layers: Any = None,
    truth: Any = None,
    methods: Any = None,
    judge: Any = None,
    transform: Any = None,
    store: Any = None,
    settings: Any = ExtractionSettings(),  # noqa: B008  frozen
    top: Any = 5,
    resamples: Any = 40,
    seed: Any = 0,
    units_axis: Any = None,
    prefix_tokens: Any = None,
) -> Result:
    """Name the units of a network with words.

    Args:
        net: the network, an `nn.Module`, which is left as it was; or a recipe of `cd_exp.models`.
        images: what it is shown: a folder, a list of PIL images or paths, a torch `Dataset` of images (or of pairs
            of an image and a class), or a probe set of `cd_exp.probes`. Two at least.
        words: to choose from: a list, a text file of one a line, or a concept set of `cd_exp.concepts`.
        clip: the backbone that knows both: a name of `conf/clip`, as `vit_b_16`, or a recipe of `cd_exp.clips`.
        similarity: how activations and matches are compared: a name of `conf/similarity`, or a function
            `(match, neurons, **settings) -> neurons x concepts`, as those of `cd_exp.similarity`.
        layers: module paths or patterns (`layer*`, `fc`, `layer4:max`), or units of `cd_exp.units`. A recipe has a
            choice of its own.
        truth: the names of units where they are known, by layer: `{"fc": names}`. The names are a list in the order of
            the units, with an empty text where nothing is known, or a file of one a line.
        methods: others to label the same units: a name of `conf/baseline` (`netdissect`), a list of names, or a mapping
            of a name to a method (`cd_exp.evaluation.baselines.Method`).
        judge: what scores the labels on images they were not chosen on: a name of `conf/judge` (`whitened`), or a
            `cd_exp.evaluation.judges.Judge`.
        transform: from an image to the network's input; None takes that of a network of timm, or of ImageNet with a
            note.
        store: where features are kept between calls: a folder, or a `cd_exp.cache.Store`. None takes the environment's
            `CD_EXP_CACHE`, or `outputs/cache`.
        settings: `cd_exp.ExtractionSettings`: device, precision, batches, what to do with unreadable images.
        top: how many concepts to keep for each unit.
        resamples: bootstrap resamples of the images, over which the stability of a label is counted; 0 leaves it out.
        seed: of these draws.
        units_axis: the axis of the layers' outputs that holds the units, where they do not tell themselves.
        prefix_tokens: how many tokens of a transformer are no patches, where it does not tell itself.

    Returns:
        The labels by layer, as a mapping, with what belongs to them: tables, images, figures, files.

    Raises:
        InputError: whatever the caller can mend, with the argument named.
    """
    began = time.perf_counter()
    with errors_name_arguments(), torch.random.fork_rng(devices=()):  # a loader draws, the caller's numbers go on
        options = arguments.as_options(settings, top=top, resamples=resamples, seed=seed)
        store = arguments.as_store(store)
        of_network = {"transform": transform, "truth": truth, "units_axis": units_axis, "prefix_tokens": prefix_tokens}
        parts = {
            "clip": arguments.as_clip(clip),
            "similarity": arguments.as_similarity(similarity),
            "judge": arguments.as_judge(judge),
            "baselines": arguments.as_methods(methods),
            "model": arguments.as_model(net, layers, **of_network),
            "units": arguments.read_layers(layers, truth=truth),
            "concepts": arguments.as_concepts(words),
            "probe": arguments.as_probe(images, cache=store.root),
        }
        experiment = Experiment(**parts, **WITHOUT, store=store, settings=settings, seed=int(seed), options=options)
        experiment.check()
        with restore_after(net) if isinstance(net, nn.Module) else nullcontext():
            run_data = dissect_experiment(experiment)
    return Result.of(experiment, run_data, {"clip": clip, "similarity": similarity, "judge": judge}, began=began)


WITHOUT: dict[str, Any] = {
    "hierarchy": None,
    "calibration": None,
    "logger": NoLogger(),
}
"""What a command line has besides, and a call has not."""
