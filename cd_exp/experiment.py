"""One run: build it from the configuration, dissect, evaluate, write the run folder. `DictConfig` stops here."""

import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from cd_exp import distributed, explorer, results
from cd_exp.cache import Store, hide_option_secrets, make_key
from cd_exp.calibration import CONSTANTS, Fitted, has_back_off
from cd_exp.config import GROUPS
from cd_exp.config.compose import RunRequest, compose_choice
from cd_exp.config.construct import build, check_groups, plugin_packages_of
from cd_exp.config.resolved import as_plain_config, without_private_parts
from cd_exp.dissection import RunData, RunInputs, dissect_layers, load_features
from cd_exp.errors import InputError, Interrupted
from cd_exp.evaluation.baselines import Method
from cd_exp.evaluation.evaluate import MethodResults, evaluate_methods
from cd_exp.evaluation.judges import Judge
from cd_exp.evaluation.judges.run_judge import OwnLabels
from cd_exp.features import ExtractionSettings, check_texts, hash_features
from cd_exp.hierarchy import Hierarchy
from cd_exp.io.digests import update_digests
from cd_exp.io.text import as_terminal_text
from cd_exp.labels import hash_scores, largest_top_k
from cd_exp.plugins import find_code, hash_named_code
from cd_exp.records import RunResult
from cd_exp.results.wandb import Logger, LoggerRun, NoLogger, RunInfo
from cd_exp.similarity import BoundSimilarity, PriorChoice, bind
from cd_exp.units import Layers


@dataclass(frozen=True)
class RunOptions:
    """What a run does with its parts, as plain values.

    Attributes:
        settings: the whole configuration, for readers of the results.
        top: concepts kept for each unit.
        resamples: bootstrap resamples of the images, over which the stability of a label is counted.
        html: whether `report.html` is written.
        figures: whether `figures/` is drawn.
        when: pages are written, of `job`, `end` and `never`; None is `end` in a sweep, else `job`.
        explorer: `auto`, `single`, `folder` or `none`.
        units: how many units are shown with images.
        images: how many images of each.
        maps: whether the explorer shows where in its top images a unit is active; None, where that costs no other pass.
        vector: whether figures are written as PDF and SVG too.
    """

    settings: Mapping[str, Any]
    top: int
    resamples: int
    html: bool
    figures: bool
    when: Literal["job", "end", "never"] | None
    explorer: Literal["auto", "single", "folder", "none"]
    units: int
    images: int
    maps: bool | None
    vector: bool

    @staticmethod
    def of(config: DictConfig) -> "RunOptions":
        """Those of a composed configuration."""
        run_settings = {"top": config.top, "resamples": config.stability.resamples}
        return RunOptions(as_plain_config(config), **run_settings, **OmegaConf.to_container(config.report))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False, kw_only=True)
class Experiment(RunInputs):
    """Everything a run needs: what goes in, and what is done with it. Nothing heavy is loaded yet."""

    similarity: BoundSimilarity
    baselines: Mapping[str, Method]
    judge: Judge | None
    logger: Logger
    hierarchy: Hierarchy | None
    calibration: Fitted | None
    options: RunOptions

    @staticmethod
    def build(config: DictConfig, choices: Mapping[str, str], *, typed: Sequence[str] = ()) -> "Experiment":
        """Build everything that the configuration describes, and have each part say whether it fits the others.

        Args:
            config: the composed configuration.
            choices: the choice of each group; it names a baseline.
            typed: what was typed for this run, as `similarity.top_k=100`.

        Raises:
            InputError: before anything is computed.
        """
        check_groups(config)
        groups = {group: OmegaConf.select(config, group) for group in GROUPS}
        several: Any = groups["baseline"] or {}
        chosen = {several.get("name", choices["baseline"]): several} if "_target_" in several else several
        parts = Experiment(  # in this order: what may download a data set comes last
            similarity=bind(build(groups["similarity"], group="similarity")),
            baselines={name: build(node, group="baseline") for name, node in chosen.items()},
            judge=_build_judge(config, groups["judge"]),
            logger=build(groups["logger"], group="logger") if groups["logger"] else NoLogger(),
            hierarchy=build(groups["hierarchy"], group="hierarchy") if groups["hierarchy"] else None,
            calibration=Fitted.read(config.calibration.path) if config.calibration.path else None,
            model=_with_key(build(groups["model"], group="model")),
            units=build(groups["units"], group="units") if groups["units"] else Layers(),
            clip=_with_key(build(groups["clip"], group="clip")),
            concepts=build(groups["concepts"], group="concepts"),
            probe=build(groups["probe"], group="probe", leave_out=("on_error",)),
            store=Store(Path(config.cache.dir).expanduser()),
            settings=read_extraction_settings(config),
            seed=config.seed,
            options=RunOptions.of(config),
        )
        parts.check()
        parts.logger.check()
        _check_top_k(parts.similarity, len(parts.probe), typed)
        return parts

    @property
    def reads_activations(self) -> bool:
        """Whether a judge or another method reads all activations, whatever the similarity function reads."""
        methods = self.baselines.values()
        return self.judge is not None or any(method.reads_activations for method in methods)

    def check(self) -> None:
        """Refuse parts that do not go together, as far as they can tell without computing anything.

        Each has a `check` of its own; a method and a judge get the probe.
        """
        self.settings.resolve_device()
        for method in self.baselines.values():
            method.check(self.probe)
        if self.judge is not None:
            self.judge.check(self.probe)
            if self.judge.untrained and not self.units.patterns(self.model):
                raise InputError(
                    "judge.untrained=true draws the weights of a network anew, and these units come from files"
                )
        if self.calibration is not None:
            self.calibration.check(self.similarity)
        if self.hierarchy is not None and not has_back_off(self.similarity):
            names = dict.fromkeys(name.partition(",")[0] for name in CONSTANTS)
            raise InputError(
                f"hierarchy needs constants, and there are none for similarity={self.similarity.name} with "
                f"these settings; take {', '.join(names)} with default settings, or hierarchy=null"
            )
        check_texts(self.clip, self.concepts, store=self.store)


def _check_top_k(similarity: BoundSimilarity, images: int, typed: Sequence[str]) -> None:
    """Refuse a number of strongest images that was asked for and that leaves no other image."""
    top_k = similarity.settings.get("top_k")
    asked = top_k != similarity.defaults.get("top_k") or any("similarity.top_k=" in text for text in typed)
    if top_k is not None and asked and top_k >= images >= 2:
        raise InputError(
            f"similarity.top_k={top_k} takes all {images} images for the strongest of every unit; give "
            f"similarity.top_k={largest_top_k(images)}, a tenth of them, or more images"
        )


def read_extraction_settings(config: DictConfig) -> ExtractionSettings:
    """How features are computed."""
    return ExtractionSettings(
        device=config.device,
        precision=config.features.precision,
        batch_size=config.features.batch_size,
        workers=config.features.workers,
        on_error=config.probe.on_error,
        progress=config.features.progress,
        keep=config.features.keep,
        dense_limit=config.features.dense_limit,
        decode=config.features.decode,
        maps=config.report.maps is not False and config.report.explorer != "none",
    )


def _with_key(recipe: Any) -> Any:
    """The recipe, its key computed: missing files, or files that are no weights, are reported here."""
    _ = recipe.key
    return recipe


def _build_judge(config: DictConfig, node: DictConfig | None) -> Judge | None:
    """The judge; one that asks a CLIP backbone names a choice of the group `clip`."""
    if node is None:
        return None
    if OmegaConf.is_missing(node, "clip") or not isinstance(node.get("clip"), str):
        return build(node, group="judge")
    held = config.copy()  # the choice's interpolations are seen from the whole configuration
    OmegaConf.set_struct(held, False)
    held.judge.clip = compose_choice("clip", node.clip, setting="judge.clip")
    for key in held.judge.clip:  # what has to be set is as in the run's own backbone, where that is of the same kind
        same = held.judge.clip.get("_target_") == config.clip.get("_target_")
        if same and OmegaConf.is_missing(held.judge.clip, key):
            held.judge.clip[key] = config.clip[key]
    return build(held.judge, group="judge")


PACKAGES = ("cd-exp", "torch", "torchvision", "timm", "open_clip_torch", "numpy", "scipy", "pillow")


def describe_run(parts: Experiment, run: RunData, outcome: RunResult, invocation: RunRequest) -> dict[str, Any]:
    """Everything a reader needs to repeat the run, as plain values: the manifest of the run folder."""
    config = parts.options.settings
    return {
        "schema": 1,  # version of the manifest in `cd_exp.schema`
        "config": dict(config),
        "code": hash_named_code(find_code(config)),
        "choices": {group: name for group, name in invocation.choices.items() if "/" not in group},
        "overrides": [without_private_parts(text) for text in invocation.overrides],
        "layers": list(outcome.labels),
        "baselines": list(outcome.baselines),
        "files": list(outcome.files),  # what the other methods added to the run folder
        "fingerprints": read_fingerprints(parts),
        "units": dict(parts.units.origin),
        "images": {"used": len(run.features.kept), "skipped": list(run.features.skipped)},
        "cache": {"read": parts.store.read, "made": parts.store.made},
        # SHA-256 of features and scores, which `cd_exp.reproduce` compares
        "digests": {"features": hash_features(run.features, run.texts), "scores": hash_scores(outcome.labels)},
        **({"priors": {layer: _describe_prior(choice) for layer, choice in run.priors.items()}} if run.priors else {}),
        **describe_environment(config, device=str(parts.settings.resolve_device()[0])),
        "command": [without_private_parts(text) for text in sys.argv],
        "seed": config["seed"],
    }


def describe_environment(config: Mapping[str, Any], *, device: str) -> dict[str, Any]:
    """What besides the settings may change a number: libraries, Python, machine, threads, device and commit."""
    return {
        "versions": {name: version(name) for name in (*PACKAGES, *plugin_packages_of(config))},
        "python": platform.python_version(),
        "machine": platform.platform(),
        "threads": torch.get_num_threads(),
        "device": device,
        "commit": read_commit(),
    }


def _describe_prior(choice: PriorChoice) -> dict[str, Any]:
    tables = {"information": choice.information, "agreement": choice.agreement}
    written = {name: {f"{weight:g}": value for weight, value in table.items()} for name, table in tables.items()}
    return {"prior_weight": choice.weight, **written, "divisions": list(choice.divisions)}


@cache  # one process asks two times a run
def read_commit() -> str | None:
    """The commit of the checkout that runs, with a mark where files differ from it; None where there is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def dissect_experiment(parts: Experiment) -> RunData:
    """What the run has once its units are labelled: its inputs, features and labels."""
    return dissect_layers(
        parts,
        parts.similarity,
        top=parts.options.top,
        shown=parts.options.images,
        resamples=parts.options.resamples,
        everything=parts.reads_activations,
        hierarchy=parts.hierarchy,
        calibration=parts.calibration,
    )


def load_run_features(parts: Experiment) -> RunData:
    """The features of the run without its labels, as `dissect_experiment` reads them."""
    options, everything = parts.options, parts.reads_activations
    wanted = {"shown": options.images, "resamples": options.resamples, "everything": everything}
    return load_features(parts, parts.similarity, **wanted)  # type: ignore[arg-type]


def evaluate_run(parts: Experiment, run: RunData) -> RunResult:
    """The labels of all methods judged by the same metrics and compared on the same units."""
    return evaluate_methods(
        run,
        parts.baselines,
        images=parts.options.images,
        judging=MethodResults(parts.judge, OwnLabels(parts.similarity, parts.options.top)) if parts.judge else None,
    )


def read_fingerprints(parts: Experiment) -> dict[str, Any]:
    """What tells the weights, images and concepts of a run from others, wherever they lie."""
    prints = {
        "model": parts.model.key if parts.units.patterns(parts.model) else None,
        "units": parts.units.key,
        "clip": parts.clip.key,
        "images": parts.probe.fingerprint,
        "concepts": make_key({"names": parts.concepts.names, "templates": parts.concepts.templates}),
    }
    return {part: hide_option_secrets(value) for part, value in prints.items()}


def write_run(parts: Experiment, run: RunData, outcome: RunResult, invocation: RunRequest, *, folder: Path) -> None:
    """Write the files of the run folder."""
    options = parts.options
    manifest = describe_run(parts, run, outcome, invocation)
    results.write_run_files(folder, outcome, manifest=manifest)
    write = partial(write_run_pages, run, outcome, options, manifest=manifest, title=title_of(invocation.choices))
    if options.when == "never":
        explorer.remove_old_pages(folder)
    elif _deferred is not None and options.when != "job":
        explorer.remove_old_pages(folder)  # those of an earlier run there would stand beside other labels
        _deferred.append(lambda: write(folder=folder))
    else:
        write(folder=folder)


def write_run_pages(
    run: RunData, outcome: RunResult, options: RunOptions, *, manifest: Mapping[str, Any], title: str, folder: Path
) -> None:
    """Draw the figures of a run, and write its explorer and its report."""
    shown: dict[str, Any] = {"units": options.units, "images": options.images}
    if options.figures:
        results.draw_figures(folder, outcome, **shown, title=title, vector=options.vector)
    if options.explorer == "none":
        explorer.remove_old_pages(folder)
    else:
        content = explorer.collect_pages(run, outcome, manifest=manifest, title=title, maps=options.maps)
        explorer.write_pages(folder, explorer.find_page({folder.name: content}, title=title), layout=options.explorer)
    if options.html:
        results.write_report(folder, outcome, manifest=manifest)
    update_digests(folder, [folder / name for name in ("figures", "explorer", "report.html")])


def title_of(choices: Mapping[str, str]) -> str:
    """What the pages of a run are called: what it was made of."""
    return " · ".join(dict.fromkeys(choices[group] for group in ("model", "probe", "clip", "similarity")))


_deferred: list[Callable[[], None]] | None = None
"""What writes the pages of the runs of this process so far, where they are put off; None where they are not."""
MOST_DEFERRED = 100
"""Runs whose pages are put off: their labels are held until then."""


@contextmanager
def defer_pages() -> Iterator[None]:
    """Write the pages of the runs within the block at its end, as `report.when=end` says; runs of other processes are
    not concerned. Where Ctrl-C ends the block they are not written: `python -m cd_exp.report` makes them.
    """
    global _deferred
    before, _deferred = _deferred, []
    try:
        yield
    except Interrupted:
        _deferred.clear()
        raise
    finally:
        waiting, _deferred = _deferred, before
        for write in waiting:
            write()


def run_experiment(parts: Experiment, invocation: RunRequest, *, folder: Path) -> None:
    """Do what the parts are for, and leave the results in the run folder.

    Args:
        parts: as `Experiment.build` built and checked them.
        invocation: how the run was asked for.
        folder: where the results go.

    Raises:
        InputError: for whatever the user can mend.
    """
    began = time.perf_counter()
    with (
        parts.logger.begin(folder, describe_for_tracker(parts, invocation))
        if distributed.is_main()
        else nullcontext() as logged
    ):
        _run_stages(parts, invocation, folder=folder, began=began, logged=logged)
    distributed.leave_group()


def _run_stages(
    parts: Experiment,
    invocation: RunRequest,
    *,
    folder: Path,
    began: float,
    logged: LoggerRun | None,
) -> None:
    data = dissect_experiment(parts)
    if logged is not None:
        if _deferred is not None and len(_deferred) >= MOST_DEFERRED:
            _deferred.pop(0)()
        outcome = evaluate_run(parts, data)
        outcome = replace(outcome, seconds={**outcome.seconds, "total": time.perf_counter() - began})
        write_run(parts, data, outcome, invocation, folder=folder)
        where = logged.finish(outcome, folder=folder)
        if invocation.sweep:
            results.show_job(Console(), outcome, f"{folder.name}: {invocation.name}")
        else:
            results.show_results(Console(), outcome, folder)
        if where:
            Console().print(as_terminal_text(f"W&B: {where}"), soft_wrap=True)


def describe_for_tracker(parts: Experiment, invocation: RunRequest) -> RunInfo:
    """How the tracker files the run: settings, choices and commit, under a name that tells it from others."""
    return RunInfo(
        config={**parts.options.settings, "choices": dict(invocation.choices), "commit": read_commit()},
        name=invocation.name,
        group=invocation.sweep,
        job_type="sweep" if invocation.sweep else "run",
    )
