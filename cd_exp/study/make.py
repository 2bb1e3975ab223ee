"""`make`: a study drawn from a finished run, as a folder that needs no server.

What raters see (`page.html`, `tasks.csv`, `images/`, `study.json`) names no method, unit, layer or file; `key.json`
does.
"""

import base64
import csv
import hashlib
import html
import io
import json
import re
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cd_exp.config.resolved import restore_config
from cd_exp.errors import InputError, unknown_name_error
from cd_exp.evaluation.judges.annotations import concept_presence
from cd_exp.experiment import Experiment
from cd_exp.features import extract, text_embeddings
from cd_exp.io.atomic import temporary_folder, write_file
from cd_exp.io.text import decode_text, escape_for_terminal, format_csv, make_file_name, refuse_repeated
from cd_exp.plugins import find_code, refuse_untrusted
from cd_exp.records import CLIP_DISSECT, Concepts, Labels, has_images
from cd_exp.results.image_strips import encode_jpeg
from cd_exp.results.labels_csv import read_labels_csv
from cd_exp.results.load_run import read_manifest_file
from cd_exp.study import designs
from cd_exp.study.designs import CATCH, CATCH_SETS, PRACTICE, Design, Source, Trial, Unit

SCHEMA = 1
LARGEST = 15_000_000
"""Bytes of one page: what phones open without trouble and form hosts take."""
SIDE = {1: 448, 9: 224}
"""The longest side of an image in pixels, by how many are shown together; between, the smaller."""
TINY = 96  # pixels: images up to here stay as they are, and lossless
MTURK = "https://*.mturk.com"
CONSENT = (
    "You are asked to look at images and answer short questions about them, for research on how computers describe "
    "images. There are no known risks. Taking part is voluntary: you may stop at any time by closing this page. Your "
    "answers, the time each took, and your participant number from the platform that sent you are recorded, and "
    "nothing else about you. The number is replaced by a code that cannot be turned back before answers are "
    "analysed or published."
)


@dataclass(frozen=True)
class Plan:
    """What a study consists of; the options of `make` and `plan`.

    Attributes:
        design: the question.
        units: how many are drawn.
        methods: whose labels; all of the run where empty.
        per_unit: trials per unit (*presence*: images per unit and description); None for the design's own.
        images: of one trial; None for the design's own.
        raters: how many people answer each task.
        batch: tasks that one person answers.
        catch: trials of known answer among them.
        seed: of every draw.
        among: `(layer, unit)` pairs in place of drawn ones.
    """

    design: Design
    units: int = 100
    methods: tuple[str, ...] = ()
    per_unit: int | None = None
    images: int | None = None
    raters: int = 3
    batch: int = 15
    catch: int = CATCH
    seed: int = 0
    among: tuple[tuple[str, int], ...] | None = None

    def check(self) -> None:
        """Refuse numbers that make no study.

        Raises:
            InputError: names the option.
        """
        if self.design not in designs.DESIGNS:
            raise unknown_name_error("--design", self.design, designs.DESIGNS)
        least = {"units": 1, "raters": 1, "batch": 1, "catch": CATCH, "per_unit": 1, "images": 1}
        for name, fewest in least.items():
            value = getattr(self, name)
            if value is not None and value < fewest:
                raise InputError(f"--{name.replace('_', '-')} {value} is too small; give at least {fewest}")
        if self.design == "intruder" and self.shown < 3:
            raise InputError(f"--images {self.shown} leaves no group to stand out from; give at least 3")

    @property
    def shown(self) -> int:
        """Images of one trial; *presence* always shows one."""
        return 1 if self.design == "presence" else self.images or designs.IMAGES[self.design]

    @property
    def trials(self) -> int:
        """Trials per unit."""
        return self.per_unit or designs.PER_UNIT[self.design]


@dataclass(frozen=True)
class Words:
    """What the page says and where it sends answers; the defaults ask nobody and send nothing."""

    title: str = "A study of images and words"
    consent: str = CONSENT
    contact: str = ""
    code: str = ""
    submit_to: str = ""


@dataclass(frozen=True, eq=False)
class Study:
    """All that is drawn: tasks, trials of known answer, and the batches of ids that hold both."""

    plan: Plan
    units: Sequence[Unit]
    tasks: Sequence[Trial]
    catch: Sequence[Trial]
    practice: Sequence[Trial]
    batches: Sequence[Sequence[str]]
    gold: str

    @property
    def trials(self) -> list[Trial]:
        """Tasks and catch trials: what batches hold."""
        return [*self.tasks, *self.catch]


def draw(source: Source, plan: Plan) -> Study:
    """Draw units, tasks and trials of known answer, and deal them into batches.

    Raises:
        InputError: options that make no study, or a run that has too little for it.
    """
    plan.check()
    rng = np.random.default_rng(plan.seed)
    units = designs.draw_units(source, plan.units, rng=rng, among=plan.among)
    if source.images < 10 * plan.shown:
        raise InputError(
            f"the run has {source.images} images; {plan.shown} per question need at least 10 times as many"
        )
    tasks = designs.draw_tasks(plan.design, source, units, per_unit=plan.trials, images=plan.shown, rng=rng)
    texts = sorted({text for unit in units for text in source.descriptions(unit)})
    every = {text for by in source.methods.values() for labels in by.values() for text in labels.descriptions if text}
    cases, gold = designs.clear_cases(source, texts, plan.shown, rng, more=sorted(every - set(texts)))
    draw_cases = partial(designs.draw_known, plan.design, cases, images=plan.shown, rng=rng)
    catch = draw_cases(CATCH_SETS * plan.catch, kind="catch")
    practice = draw_cases(PRACTICE, kind="practice")
    batches = designs.deal(tasks, catch, batch=plan.batch, rng=rng)
    return Study(plan, units, tasks, catch, practice, batches, gold)


# The run -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: what to draw from, its images, and digests of both."""

    source: Source
    image: Callable[[int], Image.Image]
    digest: str
    images_digest: str
    ids: Sequence[str]


def run_labels(folder: Path, methods: Sequence[str]) -> dict[str, dict[str, Labels]]:
    """The labels of a finished run by method and layer.

    Raises:
        InputError: no finished run, or a method that it does not have.
    """
    manifest = read_manifest_file(folder)
    names = (CLIP_DISSECT, *map(str, manifest.get("baselines", ())))
    for name in methods:
        if name not in names:
            raise unknown_name_error("--methods", name, names, where=f"in {folder}")
    paths = {CLIP_DISSECT: "labels.csv", **{name: f"labels_{make_file_name(name)}.csv" for name in names[1:]}}
    by_method = {name: read_labels_csv(folder / paths[name]) for name in methods or names}
    first = next(iter(by_method.values()))
    return {name: {layer: by[layer] for layer in first if layer in by} for name, by in by_method.items()}


def labels_digest(methods: Mapping[str, Mapping[str, Labels]]) -> str:
    """A hash of what every method calls every unit; columns that are added later do not change it."""
    rows = [
        (name, layer, int(unit), text)
        for name, by_layer in methods.items()
        for layer, labels in by_layer.items()
        for unit, text in zip(labels.units, labels.descriptions, strict=True)
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def open_run(folder: Path, methods: Sequence[str], *, strongest: int | None, trust: bool = False) -> Run:
    """A finished run opened from its manifest: features from the cache, computed again where they are gone.

    Args:
        folder: of the run.
        methods: whose labels; all where empty.
        strongest: how many of each unit's strongest images are needed; None where all activations are.
        trust: whether code that the run folder names may run.

    Raises:
        InputError: no finished run, code without trust, or its images, weights or embeddings are not where its
            settings say.
    """
    labels, manifest = run_labels(folder, methods), read_manifest_file(folder)
    if not manifest.get("config"):
        raise InputError(f"{folder} has no manifest.json that tells its settings; run it again")
    # Neither methods, judge nor tracker are needed again, and their files may be gone.
    config = {**manifest["config"], "baseline": None, "judge": None, "logger": None}
    for note in refuse_untrusted(find_code(config), folder=folder, trust=trust, stored=manifest.get("code") or {}):
        print(f"note: {escape_for_terminal(note)}", file=sys.stderr)
    parts = Experiment.build(restore_config(config), manifest.get("choices", {}))
    if not has_images(parts.probe):
        raise InputError(f"{folder} is a run without images (probe {parts.probe.name!r}); people need some to look at")
    features = extract(
        parts.model,
        parts.probe,
        parts.clip,
        layers=parts.units,
        store=parts.store,
        settings=parts.settings,
        strongest=strongest,
    )
    kept = np.asarray(features.kept)
    source = Source(
        methods=labels,
        strongest=lambda layer, count: features.strongest(layer, count).indices.T.numpy(),
        activations=lambda layer: features.activations[layer].float().numpy(),
        match=_matcher(parts, features.images),
        annotated=_annotations(parts, kept),
        images=len(kept),
    )
    return Run(
        source,
        image=lambda row: parts.probe[int(kept[row])],
        digest=labels_digest(labels),
        images_digest=hashlib.sha256(str(parts.probe.fingerprint).encode()).hexdigest(),
        ids=[str(parts.probe.ids[int(index)]) for index in kept],
    )


def _matcher(parts: Experiment, embeddings: torch.Tensor) -> Callable[[str], np.ndarray]:
    """The cosine of every image with a description, each computed once."""
    images = torch.nn.functional.normalize(embeddings.float(), dim=1)

    @cache
    def match(text: str) -> np.ndarray:
        return (images @ _text(parts, text)).numpy()

    return match


def _text(parts: Experiment, text: str) -> torch.Tensor:
    """The normalised embedding of a description, from the concept set where it is one of its words."""
    concepts = parts.concepts
    if text not in concepts.names:
        concepts = Concepts((text,), concepts.templates, name="study")
    rows = text_embeddings(parts.clip, concepts, store=parts.store, device=parts.settings.device)
    return torch.nn.functional.normalize(rows[concepts.names.index(text)].float(), dim=0)


def _annotations(parts: Experiment, kept: np.ndarray) -> Callable[[str, Sequence[int]], np.ndarray | None] | None:
    try:
        concept_presence(parts.probe, [])
    except InputError:
        return None
    readers: dict[int, Any] = {}

    def annotate(text: str, rows: Sequence[int]) -> np.ndarray | None:
        key = hash(tuple(rows))
        if key not in readers:
            readers[key] = concept_presence(parts.probe, kept[list(rows)])
        column = readers[key](text)
        return None if column is None else column.numpy() > 0

    return annotate


def read_units(path: Path) -> tuple[tuple[str, int], ...]:
    """The pairs of layer and unit that a CSV file lists, as a cut of labels.csv does.

    Raises:
        InputError: no such file, columns `layer` and `unit` missing, or a unit that is no number.
    """
    try:
        reader = csv.DictReader(io.StringIO(decode_text(path.read_bytes(), path), newline=""))
        rows = list(reader)
    except (OSError, csv.Error) as error:
        raise InputError(f"--units-from {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    refuse_repeated(list(reader.fieldnames or ()), path)
    if not rows or not {"layer", "unit"} <= rows[0].keys():
        raise InputError(f"--units-from {path} has no rows under the columns layer,unit; give some, as labels.csv has")
    wrong = [row["unit"] for row in rows if not str(row["unit"]).strip().isdecimal()]
    if wrong:
        raise InputError(f"--units-from {path}: {wrong[0]!r} is no unit; give whole numbers from 0")
    return tuple(dict.fromkeys((row["layer"].strip(), int(row["unit"])) for row in rows))  # each unit once


# The folder ----------------------------------------------------------------------------------------------------------


def make(
    folder: Path, out: Path, plan: Plan, words: Words, *, trust: bool = False, largest: int = LARGEST
) -> tuple[Study, list[str]]:
    """Draw a study from a run and write its folder, whole or not at all.

    Args:
        folder: of the finished run.
        out: the study's; new or empty.
        plan: what is drawn.
        words: what the page says.
        trust: whether code that the run folder names may run.
        largest: bytes of a page at most.

    Returns:
        The study, and the names of its pages.

    Raises:
        InputError: for whatever the user can mend.
    """
    plan.check()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out} is there already and not empty; give the name of a new folder")
    run = open_run(folder, plan.methods, strongest=strongest_needed(plan), trust=trust)
    study = draw(run.source, plan)
    salt = secrets.token_hex(16)
    identity = hashlib.sha256(f"{run.digest} {run.images_digest} {plan} {salt}".encode()).hexdigest()[:16]
    images = encode_images(study, run.image)
    code = words.code or hashlib.sha256(f"{identity} code".encode()).hexdigest()[:8].upper()
    pages = pages_of(study, images, words, code=code, identity=identity, largest=largest)
    with temporary_folder(out.parent, out.name) as half:
        for name, text in pages.items():
            write_file(half / name, text)
        for name, content in {image_name(content): content for content in images.values()}.items():
            write_file(half / "images" / name, content)
        write_file(half / "tasks.csv", tasks_csv(study, images))
        write_file(half / "study.json", _json(public(study, run, identity, pages)))
        write_file(half / "key.json", _json(private(study, run, folder, salt)))
        write_file(half / "known.html", render_known_trials(study, images))
        if out.exists():
            out.rmdir()
        half.replace(out)
    return study, list(pages)


def strongest_needed(plan: Plan) -> int | None:
    """How many strongest images of each unit the design reads; None for one that reads all activations."""
    return plan.trials * plan.shown if plan.design in ("rating", "choice") else None


def public(study: Study, run: Run, identity: str, pages: Mapping[str, Any]) -> dict[str, Any]:
    """`study.json`: all about the study that tells nobody which answer is wanted."""
    plan = study.plan
    return {
        "schema": SCHEMA,
        "study": identity,
        "design": plan.design,
        "seed": plan.seed,
        "run_digest": run.digest,
        "images_digest": run.images_digest,
        "images_in_run": run.source.images,
        "units": len(study.units),
        "per_unit": plan.trials,
        "images": plan.shown,
        "raters": plan.raters,
        "batch": plan.batch,
        "catch_trials_per_batch": plan.catch,
        "gold": study.gold,
        "weights": {
            trial.id: weight_of(trial, images=run.source.images) for trial in study.tasks if plan.design == "presence"
        },
        "batches": [list(batch) for batch in study.batches],
        "pages": list(pages),
    }


def weight_of(trial: Trial, *, images: int) -> float:
    """For how many times its even share a drawn image stands: see `weighted_correlation`."""
    return 1 / (images * trial.key["probability"])


def private(study: Study, run: Run, folder: Path, salt: str) -> dict[str, Any]:
    """`key.json`: which method gave what, the right answers, and the salt of identities."""
    return {
        "schema": SCHEMA,
        "run": str(folder),
        "salt": salt,
        "methods": list(run.source.methods),
        "units": [{"layer": u.layer, "unit": u.unit, "probability": u.probability} for u in study.units],
        "trials": {
            trial.id: {
                "kind": trial.kind,
                "texts": list(trial.texts),
                "images": [run.ids[row] for row in trial.images],
                **trial.key,
            }
            for trial in (*study.trials, *study.practice)
        },
    }


def tasks_csv(study: Study, images: Mapping[int, bytes]) -> str:
    """Every question of every batch in the order asked, for whoever shows them elsewhere."""
    trials = {trial.id: trial for trial in study.trials}
    rows: list[list[object]] = [["batch", "position", "task", "question", "images", "descriptions"]]
    for number, batch in enumerate(study.batches, 1):
        for position, trial_id in enumerate(batch, 1):
            trial = trials[trial_id]
            names = " ".join(f"images/{image_name(images[row])}" for row in trial.images)
            question = designs.QUESTIONS[study.plan.design]
            rows.append([number, position, trial_id, question, names, json.dumps(trial.texts, ensure_ascii=False)])
    return format_csv(rows)


def render_known_trials(study: Study, images: Mapping[int, bytes]) -> str:
    """The trials of known answer with what counts as right, for whoever runs the study to look at."""
    rows = []
    for trial in (*study.catch, *study.practice):
        shown = "".join(f'<img src="images/{image_name(images[row])}" alt="">' for row in trial.images)
        accept = [trial.texts[a] if isinstance(a, int) and len(trial.texts) > 1 else
                  f"image {a + 1}" if study.plan.design == "intruder" else a for a in trial.key["accept"]]  # fmt: skip
        words = html.escape(f"{' / '.join(trial.texts) or 'which does not belong?'}: {' or '.join(map(str, accept))}")
        rows.append(f"<section><h2>{words}</h2>{shown}</section>")
    style = "body{font:15px system-ui;max-width:70rem;margin:1rem auto}img{width:96px;height:96px;object-fit:contain}"
    title = f"Trials of known answer, from {study.gold}: not for raters"
    head = f'<!doctype html><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
    return f"{head}<h1>{title}</h1>{''.join(rows)}\n"


def encode_images(study: Study, image: Callable[[int], Image.Image]) -> dict[int, bytes]:
    """Each image of the study encoded anew, so that nothing of its file but the pixels is left."""
    side = next(size for most, size in SIDE.items() if study.plan.shown <= most or most == max(SIDE))
    rows = sorted({row for trial in (*study.trials, *study.practice) for row in trial.images})
    return {row: _encode_image(image(row), side) for row in rows}


def _encode_image(image: Image.Image, side: int) -> bytes:
    file, plain = io.BytesIO(), image.convert("RGB")
    if max(plain.size) > TINY:
        plain.thumbnail((side, side), Image.Resampling.LANCZOS)
        return encode_jpeg(Image.frombytes("RGB", plain.size, plain.tobytes()))
    Image.frombytes("RGB", plain.size, plain.tobytes()).save(file, "PNG", optimize=True)
    return file.getvalue()


def image_name(content: bytes) -> str:
    """A file name by content alone."""
    kind = "png" if content.startswith(b"\x89PNG") else "jpg"
    return f"{hashlib.sha256(content).hexdigest()[:16]}.{kind}"


def pages_of(
    study: Study, images: Mapping[int, bytes], words: Words, *, code: str, identity: str, largest: int = LARGEST
) -> dict[str, str]:
    """`page.html`, or `page-1.html` and so on where one would exceed `largest`; each batch is whole in one of them."""
    trials = {trial.id: trial for trial in study.trials}
    sizes = {row: 4 * len(content) // 3 + 40 for row, content in images.items()}
    always = {row for trial in study.practice for row in trial.images}
    groups: list[list[int]] = [[]]
    rows, size = set(always), 0
    for number, batch in enumerate(study.batches):
        needed = {row for trial_id in batch for row in trials[trial_id].images}
        more = sum(sizes[row] for row in needed - rows) + 400 * len(batch)
        if groups[-1] and size + more > largest - 200_000:
            groups.append([])
            rows, size = set(always), 0
            more = sum(sizes[row] for row in needed) + 400 * len(batch)
        groups[-1].append(number)
        rows |= needed
        size += more
    names = ["page.html"] if len(groups) == 1 else [f"page-{number}.html" for number in range(1, len(groups) + 1)]
    return {
        name: _page(study, group, images, words, code=code, identity=identity)
        for name, group in zip(names, groups, strict=True)
    }


def _page(
    study: Study, batches: Sequence[int], images: Mapping[int, bytes], words: Words, *, code: str, identity: str
) -> str:
    """One page with its data, style and script inside; its policy lets it reach nothing but where answers go."""
    trials = {trial.id: trial for trial in study.trials}
    shown = [trials[i] for i in dict.fromkeys(i for number in batches for i in study.batches[number])]
    rows = list(dict.fromkeys(row for trial in (*study.practice, *shown) for row in trial.images))
    position = {row: number for number, row in enumerate(rows)}

    def describe_trial(trial: Trial) -> dict[str, Any]:
        return {"images": [position[row] for row in trial.images], "texts": list(trial.texts)}

    data = {
        "study": identity,
        "design": study.plan.design,
        "code": code,
        "contact": words.contact,
        "consent": [part.strip() for part in re.split(r"\n\s*\n", words.consent) if part.strip()],
        "submit": words.submit_to,
        "question": designs.QUESTIONS[study.plan.design],
        "practice": [{**describe_trial(trial), "accept": trial.key["accept"]} for trial in study.practice],
        "tasks": {trial.id: describe_trial(trial) for trial in shown},
        "batches": {str(number + 1): list(study.batches[number]) for number in batches},
        "images": [_data_uri(images[row]) for row in rows],
    }
    assets = files("cd_exp.study") / "assets"
    style, script = ((assets / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    target = re.match(r"https?://[^/\s;,']+", words.submit_to)
    if words.submit_to and not target:
        raise InputError(f"--submit-to {words.submit_to!r} is no web address; give one that begins with https://")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; "
        f"form-action {MTURK}{' ' + target[0] if target else ''}"
    )
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")
    filled = {"POLICY": policy, "TITLE": html.escape(words.title), "STYLE": style, "DATA": text, "SCRIPT": script}
    template = (assets / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: filled[match[1]], template)


def _data_uri(content: bytes) -> str:
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
