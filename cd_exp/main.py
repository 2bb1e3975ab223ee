"""One run: build, dissect, collect, report, track."""

import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from cd_exp import distributed, explorer, report
from cd_exp.baselines import RunRecord
from cd_exp.cache import key_of
from cd_exp.dissection import Dissection, dissection
from cd_exp.invocation import Invocation
from cd_exp.judging import OwnLabels
from cd_exp.manifest import commit, describe, plain
from cd_exp.names import terminal_text
from cd_exp.outcome import Judging, collect
from cd_exp.parts import Parts
from cd_exp.tracking import About, Record
from cd_exp.types import Outcome


def run(parts: Parts, config: DictConfig, invocation: Invocation, *, folder: Path) -> None:
    """Do what the configuration says, and leave the results in the run folder.

    Args:
        parts: as `Parts.of` built and checked them.
        config: the composed configuration.
        invocation: how the run was asked for.
        folder: where the results go.

    Raises:
        InputError: for whatever the user can mend.
    """
    began = time.perf_counter()
    with parts.logger.begin(folder, about(config, invocation)) if distributed.is_main() else nullcontext() as logged:
        _run(parts, config, invocation, folder=folder, began=began, logged=logged)
    distributed.leave()


def _run(
    parts: Parts,
    config: DictConfig,
    invocation: Invocation,
    *,
    folder: Path,
    began: float,
    logged: Record | None,
) -> None:
    found = dissected(parts, config)
    if logged is not None:
        outcome = collect(
            record(parts, found, seed=config.seed),
            found,
            parts.baselines,
            images=config.report.images,
            abstain=config.abstain.stability,
            judging=Judging(parts.judge, OwnLabels(parts.similarity, config.top)) if parts.judge else None,
        )
        outcome = replace(outcome, seconds={**outcome.seconds, "total": time.perf_counter() - began})
        publish(parts, found, outcome, config, invocation, folder=folder)
        place = logged.finish(outcome, folder=folder)
        report.show(Console(), outcome, folder)
        if place:
            Console().print(terminal_text(f"W&B: {place}"), soft_wrap=True)


def dissected(parts: Parts, config: DictConfig) -> Dissection:
    """The labels of the parts, with the features they came from."""
    return dissection(
        parts.model,
        parts.probe,
        parts.concepts,
        parts.clip,
        parts.similarity,
        layers=parts.units,
        store=parts.store,
        settings=parts.settings,
        top=config.top,
        shown=config.report.images,
        resamples=config.stability.resamples,
        seed=config.seed,
    )


def about(config: DictConfig, invocation: Invocation) -> About:
    """How the tracker files the run: settings, choices and commit, under a name that tells it from others."""
    return About(
        config={**plain(config), "choices": dict(invocation.choices), "commit": commit()},
        name=invocation.name,
        group=invocation.sweep,
        job_type="sweep" if invocation.sweep else "run",
    )


def record(parts: Parts, found: Dissection, *, seed: int) -> RunRecord:
    """What the run has, for other methods to label its units."""
    return RunRecord(
        model=parts.model,
        probe=parts.probe,
        concepts=parts.concepts,
        clip=parts.clip,
        features=found.features,
        labels=found.labels,
        store=parts.store,
        settings=parts.settings,
        seed=seed,
        units=parts.units,
    )


def publish(
    parts: Parts, found: Dissection, outcome: Outcome, config: DictConfig, invocation: Invocation, *, folder: Path
) -> None:
    """Write the files of the run folder."""
    manifest = describe(
        config,
        invocation,
        layers=list(outcome.labels),
        baselines=list(outcome.baselines),
        files=list(outcome.files),
        fingerprints={
            "model": parts.model.key if parts.units.patterns(parts.model) else None,
            "units": parts.units.key,
            "clip": parts.clip.key,
            "images": parts.probe.fingerprint,
            "concepts": key_of({"names": parts.concepts.names, "templates": parts.concepts.templates}),
        },
        images={"used": len(found.features.kept), "skipped": list(found.features.skipped)},
        cache={"read": parts.store.read, "made": parts.store.made},
        device=str(parts.settings.resolved()[0]),
    )
    report.write(folder, outcome, manifest=manifest)
    title = " · ".join(dict.fromkeys(invocation.choices[group] for group in ("model", "probe", "clip", "similarity")))
    shown = {"units": config.report.units, "images": config.report.images}
    if config.report.figures:
        report.figures(folder, outcome, **shown, title=title, vector=config.report.vector)
    if config.report.explorer == "none":
        explorer.clear(folder)
    else:
        ours = record(parts, found, seed=config.seed)
        content = explorer.collect(ours, found, outcome, manifest=manifest, title=title, maps=config.report.maps)
        explorer.write(folder, explorer.page_of({folder.name: content}, title=title), layout=config.report.explorer)
    if config.report.html:
        report.page(folder, outcome, manifest=manifest, **shown)
