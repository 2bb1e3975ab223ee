"""What the parts of a run give: labels, then all methods judged and compared, then the files of a run folder."""

from pathlib import Path
from typing import Any

from cd_exp import explorer, report
from cd_exp.cache import key_of
from cd_exp.config.compose import Invocation
from cd_exp.dissection import dissection
from cd_exp.judging import OwnLabels
from cd_exp.manifest import describe
from cd_exp.outcome import Judging, collect
from cd_exp.parts import Parts
from cd_exp.records import Outcome
from cd_exp.run_data import RunData


def dissected(parts: Parts) -> RunData:
    """What the run has once its units are labelled: its inputs, features and labels."""
    return dissection(
        parts,
        parts.similarity,
        top=parts.options.top,
        shown=parts.options.images,
        resamples=parts.options.resamples,
        everything=parts.reads_activations,
    )


def collected(parts: Parts, run: RunData) -> Outcome:
    """The labels of all methods judged by the same metrics and compared on the same units."""
    return collect(
        run,
        parts.baselines,
        images=parts.options.images,
        judging=Judging(parts.judge, OwnLabels(parts.similarity, parts.options.top)) if parts.judge else None,
    )


def publish(parts: Parts, run: RunData, outcome: Outcome, invocation: Invocation, *, folder: Path) -> None:
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
        images={"used": len(run.features.kept), "skipped": list(run.features.skipped)},
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
        content = explorer.collect(run, outcome, manifest=manifest, title=title, maps=options.maps)
        explorer.write(folder, explorer.page_of({folder.name: content}, title=title), layout=options.explorer)
    if options.html:
        report.page(folder, outcome, manifest=manifest, **shown)
