"""One run: build from the configuration, dissect, evaluate, report, track. `DictConfig` stops here."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor

from cd_exp import distributed, report
from cd_exp.baselines import NetDissect, Published, netdissect, write_tally
from cd_exp.baselines.netdissect import labels as tally_labels
from cd_exp.cache import Store, key_of
from cd_exp.clips import Clip
from cd_exp.config import build
from cd_exp.dissection import Dissection, dissection
from cd_exp.errors import InputError
from cd_exp.evaluate import TextEncoder, accepted_columns, compared, judge, sentence_encoder
from cd_exp.features import Settings, maps, text_embeddings
from cd_exp.manifest import describe
from cd_exp.metrics import summarise
from cd_exp.models import TargetModel
from cd_exp.report.files import file_name
from cd_exp.tracking import Logger
from cd_exp.types import AnnotatedProbe, Concepts, Judgement, Labels, Outcome, Probe, Similarity

OURS = "clip_dissect"


@dataclass(frozen=True, eq=False)
class Parts:
    """What a run is put together from."""

    model: TargetModel
    probe: Probe
    concepts: Concepts
    clip: Clip
    similarity: Similarity
    baselines: Mapping[str, NetDissect | Published]
    logger: Logger
    store: Store
    settings: Settings

    @staticmethod
    def of(config: DictConfig) -> "Parts":
        """Build everything; nothing heavy is loaded yet."""
        several: Any = config.baseline if config.baseline is not None else {}
        chosen = {_choice("baseline"): several} if "_target_" in several else several
        return Parts(
            model=build(config.model, group="model"),
            probe=build(config.probe, group="probe", leave_out=("on_error",)),
            concepts=build(config.concepts, group="concepts"),
            clip=build(config.clip, group="clip"),
            similarity=build(config.similarity, group="similarity"),
            baselines={name: build(node, group=f"baseline.{name}") for name, node in chosen.items()},
            logger=build(config.logger, group="logger"),
            store=Store(config.cache.dir),
            settings=Settings(
                device=config.device,
                precision=config.features.precision,
                batch_size=config.features.batch_size,
                workers=config.features.workers,
                on_error=config.probe.on_error,
                progress=config.features.progress,
            ),
        )


def run(config: DictConfig, *, folder: Path) -> None:
    """Do what the configuration says, and leave the results in the run folder.

    Raises:
        InputError: for whatever the user can mend.
    """
    began = time.perf_counter()
    parts = Parts.of(config)
    found = dissection(
        parts.model,
        parts.probe,
        parts.concepts,
        parts.clip,
        parts.similarity,
        layers=None,
        store=parts.store,
        settings=parts.settings,
        top=config.top,
    )
    if not distributed.is_main():
        distributed.leave()
        return
    outcome = evaluate(parts, found, seed=config.seed, images=config.report.images, folder=folder, began=began)
    manifest = describe(
        config,
        layers=list(outcome.labels),
        baselines=list(outcome.baselines),
        fingerprints={
            "model": parts.model.key,
            "clip": parts.clip.key,
            "images": parts.probe.fingerprint,
            "concepts": key_of({"names": parts.concepts.names, "templates": parts.concepts.templates}),
        },
        images={"used": len(found.features.kept), "skipped": list(found.features.skipped)},
        cache={"read": parts.store.read, "made": parts.store.made},
        device=str(parts.settings.resolved()[0]),
    )
    report.write(folder, outcome, manifest=manifest)
    if config.report.figures:
        report.figures(folder, outcome, units=config.report.units, images=config.report.images)
    if config.report.html:
        report.page(folder, outcome, manifest=manifest, units=config.report.units, images=config.report.images)
    logged = parts.logger.log(outcome, folder=folder, config=manifest["config"], **_job())
    report.show(Console(), outcome, folder)
    if logged:
        Console().print(f"W&B: {logged}", soft_wrap=True)
    distributed.leave()


def evaluate(parts: Parts, found: Dissection, *, seed: int, images: int, folder: Path, began: float) -> Outcome:
    """Judge our labels and those of the baselines by the same metrics, and compare them on the same units."""
    encode = _text_encoder(parts, found)
    sentences = sentence_encoder()
    judgeable = parts.concepts.names

    def judged(labels: Labels, truth: Sequence[Any] | None = None) -> Judgement | None:
        return judge(labels, truth, judgeable=judgeable, clip_text=encode, sentences=sentences)

    units = {layer: len(labels.units) for layer, labels in found.labels.items()}
    methods: dict[str, Mapping[str, Labels]] = {OURS: found.labels}
    for name, baseline in parts.baselines.items():
        methods[name] = baseline_labels(parts, baseline, found, units, folder=folder)
    judgements = {
        method: {layer: judged(labels, found.labels[layer].truth or None) for layer, labels in by_layer.items()}
        for method, by_layer in methods.items()
    }
    metrics = {
        method: {layer: summarise(judgement, total_units=units[layer], seed=seed) for layer, judgement in rows.items()}
        for method, rows in judgements.items()
    }
    comparisons = list(compared(methods, judgements, seed=seed))
    return Outcome(
        labels=found.labels,
        metrics=metrics.pop(OURS),
        seconds={**found.seconds, "total": time.perf_counter() - began},
        top_images={layer: top_images(found, layer, images) for layer in found.labels},
        probe=parts.probe,
        baselines={name: labels for name, labels in methods.items() if name != OURS},
        baseline_metrics=metrics,
        comparisons=comparisons,
        notes=notes(parts, found),
    )


def baseline_labels(
    parts: Parts, baseline: NetDissect | Published, found: Dissection, units: Mapping[str, int], *, folder: Path
) -> Mapping[str, Labels]:
    """The labels that another method gives to the same units: read from files, or made on the same images."""
    if isinstance(baseline, Published):
        return baseline.labels(units)
    probe = parts.probe
    if not isinstance(probe, AnnotatedProbe):
        raise InputError(
            f"baseline=netdissect needs pixel masks, and probe {probe.name!r} has none; use probe=shapes or broden"
        )
    passes = maps(
        parts.model,
        probe,
        layers=parts.model.layers,
        kept=found.features.kept,
        store=parts.store,
        settings=parts.settings,
    )
    tallies = netdissect(passes, probe, quantile=baseline.quantile, min_iou=baseline.min_iou)
    labels = {}
    for layer, tally in tallies.items():
        write_tally(tally, folder / f"tally_{file_name(layer)}.csv")
        truth = found.labels[layer].truth
        columns = accepted_columns(truth, tally.concepts) if truth else ()
        labels[layer] = tally_labels(tally, layer, accepted=columns, truth=truth)
    return labels


def top_images(found: Dissection, layer: str, count: int) -> np.ndarray:
    """The places in the probe of the images that excite each unit most."""
    activations = found.features.activations[layer]
    best = activations.topk(min(count, len(activations)), dim=0).indices.T.numpy()
    return np.asarray(found.features.kept)[best]


def notes(parts: Parts, found: Dissection) -> list[str]:
    """What a reader of the numbers should know."""
    said = [*getattr(parts.probe, "notes", ()), *parts.concepts.notes, *parts.store.reports]
    if found.features.skipped:
        said.append(f"{len(found.features.skipped)} unreadable images were left out, first {found.features.skipped[0]}")
    for layer, activations in found.features.activations.items():
        dead = int((activations == activations[:1]).all(0).sum())
        if dead:
            said.append(f"{dead} of {activations.shape[1]} units of {layer} give the same value for every image")
    return said


def _text_encoder(parts: Parts, found: Dissection) -> TextEncoder | None:
    """CLIP's text tower for any names: those of the concept set are there already, others are embedded and kept."""
    known = dict(zip(parts.concepts.names, found.texts, strict=True))

    def encode(names: Sequence[str]) -> Tensor:
        import torch

        missing = tuple(name for name in names if name not in known)
        if missing:
            more = Concepts(missing, parts.concepts.templates, name="truth")
            texts = text_embeddings(parts.clip, more, store=parts.store, device=parts.settings.device)
            known.update(zip(missing, texts, strict=True))
        return torch.stack([known[name] for name in names])

    return encode


def _choice(group: str) -> str:
    """The name of what was chosen for a config group."""
    return str(HydraConfig.get().runtime.choices[group])


def _job() -> dict[str, str | None]:
    """How the tracker files this run: a sweep is one group."""
    settings = HydraConfig.get()
    in_sweep = settings.mode == RunMode.MULTIRUN
    chosen = (_choice(group) for group in ("model", "probe", "clip", "similarity"))
    return {
        "group": Path(settings.sweep.dir).name if in_sweep else None,
        "job_type": "sweep" if in_sweep else "run",
        "name": "-".join(chosen),
    }
