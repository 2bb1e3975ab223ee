"""What the parts of a run give: labels, then all methods judged and compared, then the files of a run folder."""

from pathlib import Path
from typing import Any

from cd_exp import explorer, report
from cd_exp.baselines import RunRecord
from cd_exp.cache import key_of
from cd_exp.dissection import Dissection, dissection
from cd_exp.invocation import Invocation
from cd_exp.judging import OwnLabels
from cd_exp.manifest import describe
from cd_exp.outcome import Judging, collect
from cd_exp.parts import Parts
from cd_exp.types import Outcome


def dissected(parts: Parts) -> Dissection:
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
        top=parts.options.top,
        shown=parts.options.images,
        resamples=parts.options.resamples,
        seed=parts.options.seed,
        everything=parts.reads_activations,
    )


def collected(parts: Parts, found: Dissection) -> Outcome:
    """The labels of all methods judged by the same metrics and compared on the same units."""
    return collect(
        record(parts, found, seed=parts.options.seed),
        found,
        parts.baselines,
        images=parts.options.images,
        judging=Judging(parts.judge, OwnLabels(parts.similarity, parts.options.top)) if parts.judge else None,
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


def publish(parts: Parts, found: Dissection, outcome: Outcome, invocation: Invocation, *, folder: Path) -> None:
    """Write the files of the run folder."""
    options = parts.options
    manifest = describe(
        options.settings,
        invocation,
        environment=options.environment,
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
    shown: dict[str, Any] = {"units": options.units, "images": options.images}
    if options.figures:
        report.figures(folder, outcome, **shown, title=title, vector=options.vector)
    if options.explorer == "none":
        explorer.clear(folder)
    else:
        ours = record(parts, found, seed=parts.options.seed)
        content = explorer.collect(ours, found, outcome, manifest=manifest, title=title, maps=options.maps)
        explorer.write(folder, explorer.page_of({folder.name: content}, title=title), layout=options.explorer)
    if options.html:
        report.page(folder, outcome, manifest=manifest, **shown)
