"""`python -m cd_exp.study make|plan|read|analyse`: a human study of a run's labels, without a server."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cd_exp.errors import InputError, OneLineParser
from cd_exp.io.command import print_json, report_error
from cd_exp.study.designs import DESIGNS


def main(words: Sequence[str] | None = None) -> int:
    """Do what the first word says.

    Returns:
        The exit status: 0, or 2 for what the user can mend.
    """
    options = _parser().parse_args(words)
    try:
        options.run(options)
    except InputError as error:
        return report_error(error, as_json=options.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m cd_exp.study", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="make|plan|read|analyse")
    make = verbs.add_parser("make", help="draw a study from a finished run, as a page that needs no server")
    _add_drawing_options(make)
    make.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder of the study; new")
    make.add_argument("--title", default="A study of images and words", help="heading of the page")
    make.add_argument(
        "--consent", type=Path, metavar="FILE", help="your own consent text, paragraphs apart by blank lines"
    )
    make.add_argument("--contact", default="", help="whom to ask, shown with the consent")
    make.add_argument("--code", default="", help="the completion code, such as Prolific gives; drawn where left out")
    make.add_argument(
        "--submit-to", default="", metavar="ADDRESS", help="a form's address that takes the answers by POST"
    )
    make.add_argument("--json", action="store_true", help="print what was drawn as JSON")
    make.set_defaults(run=_make)
    plan = verbs.add_parser("plan", help="answers, minutes, cost, and by simulation half-widths and power")
    _add_drawing_options(plan)
    plan.add_argument("--price", type=float, default=1.0, help="paid for one batch (default 1)")
    plan.add_argument("--seconds", type=float, help="one question takes; assumed by design where left out")
    plan.add_argument("--quality", help="assumed share of fitting descriptions of each method, as .65,.5")
    plan.add_argument("--json", action="store_true", help="the same as JSON")
    plan.set_defaults(run=_plan)
    _add_reading_commands(verbs)
    return parser


def _add_reading_commands(verbs: Any) -> None:
    """The verbs that need no images: `read` and `analyse`."""
    read = verbs.add_parser("read", help="check answers, make them anonymous, and say who is dropped and why")
    read.add_argument("study", type=Path, metavar="DIR", help="of the study; with --columns a new folder")
    read.add_argument(
        "answers", type=Path, nargs="+", metavar="ANSWERS", help="files that the page saved, results tables, or folders"
    )
    read.add_argument("--columns", nargs="+", metavar="NAME=COLUMN",
                      help="read a table of answers collected elsewhere: task, layer, unit, method, rater, answer, "
                      "seconds; answer may be a pattern, as in 'answer={method} E{rater} Rating'")  # fmt: skip
    read.add_argument("--json", action="store_true", help="print who is kept and dropped as JSON")
    read.set_defaults(run=_read)
    analyse = verbs.add_parser(
        "analyse", help="scores of methods and units, agreement, and what orders units as people do"
    )
    analyse.add_argument("study", type=Path, metavar="DIR", help="of the study, after `read`")
    analyse.add_argument("--run", dest="folder", type=Path, metavar="RUN", help="the run, where it moved since `make`")
    analyse.add_argument("--join", action="store_true", help="put human_NAME into the run's label files and explorer")
    analyse.add_argument("--json", action="store_true", help="print the results as JSON")
    analyse.set_defaults(run=_analyse)


def _add_drawing_options(parser: argparse.ArgumentParser) -> None:
    """The options of what is drawn, which `make` and `plan` share."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("--design", choices=DESIGNS, required=True, help="the question")
    parser.add_argument(
        "--units", type=int, default=100, help="how many, drawn by layer and tenth of stability (default 100)"
    )
    parser.add_argument("--units-from", type=Path, metavar="FILE", help="these units instead: a CSV with layer,unit")
    parser.add_argument(
        "--methods", default="", help="whose labels, as clip_dissect,netdissect; all of the run where left out"
    )
    parser.add_argument("--per-unit", type=int, help="trials per unit; of presence, images per unit and description")
    parser.add_argument("--images", type=int, help="images of one trial")
    parser.add_argument("--raters", type=int, default=3, help="people per task (default 3)")
    parser.add_argument("--batch", type=int, default=15, help="tasks that one person answers (default 15)")
    parser.add_argument(
        "--catch", type=int, default=10, help="trials of known answer among them (default and least 10)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    parser.add_argument("--trust", action="store_true", help="let the code run that the run folder names")


def _plan_of(options: argparse.Namespace) -> Any:
    from cd_exp.study.make import Plan, read_units

    return Plan(
        design=options.design,
        units=options.units,
        methods=tuple(name.strip() for name in options.methods.split(",") if name.strip()),
        per_unit=options.per_unit,
        images=options.images,
        raters=options.raters,
        batch=options.batch,
        catch=options.catch,
        seed=options.seed,
        among=read_units(options.units_from) if options.units_from else None,
    )


def _make(options: argparse.Namespace) -> None:
    from cd_exp.study.make import CONSENT, Words, make

    try:
        consent = options.consent.read_text(encoding="utf-8") if options.consent else CONSENT
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--consent {options.consent} cannot be read as text: {error}; give a text file") from error
    words = Words(options.title, consent, options.contact, options.code, options.submit_to)
    study, pages = make(options.folder, options.out, _plan_of(options), words, trust=options.trust)
    plan = study.plan
    if options.json:
        counts = {"units": len(study.units), "tasks": len(study.tasks), "batches": len(study.batches)}
        each = {"batch": plan.batch, "catch": plan.catch, "raters": plan.raters, "known_from": study.gold}
        print_json({**counts, **each, "pages": [options.out / page for page in pages]})
        return
    people = "1 person" if plan.raters == 1 else f"{plan.raters} people"
    print(f"{len(study.units)} units, {len(study.tasks)} tasks in {len(study.batches)} batches of {plan.batch} with "
          f"{plan.catch} trials of known answer each, {people} per batch")  # fmt: skip
    if study.gold == "clip":
        print("note: the probe has no annotations, or of too few images, so trials of known answer are those of which "
              f"CLIP has no doubt; look at {options.out / 'known.html'} before you send the page out")  # fmt: skip
    print("host these pages, and keep key.json and known.html: " + ", ".join(str(options.out / page) for page in pages))


def _plan(options: argparse.Namespace) -> None:
    from cd_exp.study.make import draw, open_run, strongest_needed
    from cd_exp.study.plan import ERRORS, assume_quality, costs, outlook

    plan = _plan_of(options)
    plan.check()
    quality = _qualities(options.quality)
    for name in ("price", "seconds"):
        if (getattr(options, name) or 0) < 0:
            raise InputError(f"--{name} {getattr(options, name):g} is negative; give 0 or more")
    run = open_run(options.folder, plan.methods, strongest=strongest_needed(plan), trust=options.trust)
    study = draw(run.source, plan)
    expected = costs(study, price=options.price, seconds=options.seconds)
    assumed = assume_quality(list(run.source.methods), quality)
    outlooks = [outlook(study, run.source, error=error, quality=assumed, seed=plan.seed) for error in ERRORS]
    if options.json:
        rows = [
            {"error": o.error, "half_width": dict(o.half_width), "careful_dropped": o.careful_dropped,
             "power": {" - ".join(pair): value for pair, value in o.power.items()}} for o in outlooks
        ]  # fmt: skip
        print_json({**expected, "quality": assumed, "outlook": rows})
        return
    for name, value in expected.items():
        digits = {"minutes_per_batch": 1, "cost": 2}.get(name, 0)
        print(f"{name.replace('_', ' '):<20} {value:>10,.{digits}f}")
    if plan.design != "presence":
        print("assumed quality:     " + ", ".join(f"{name} {value:.2f}" for name, value in assumed.items()))
    for prospect in outlooks:
        print(f"raters wrong in {prospect.error:.0%}:")
        for name, half in prospect.half_width.items():
            print(f"  {name or 'units':<24} half-width {half:.3f}")
        for (first, second), power in prospect.power.items():
            print(f"  {first} - {second}: power {power:.0%}")
        print(f"  dropped by the catch rule, were its trials as hard as the tasks: {prospect.careful_dropped:.0%}")


def _qualities(text: str | None) -> list[float]:
    try:
        values = [float(part) for part in (text or "").split(",") if part.strip()]
    except ValueError as error:
        raise InputError(f"--quality {text!r} is no list of shares; give one per method, as .65,.5") from error
    if any(not 0 <= value <= 1 for value in values):
        raise InputError(f"--quality {text!r} has a share outside 0 to 1; give one per method, as .65,.5")
    return values


def _read(options: argparse.Namespace) -> None:
    from cd_exp.study import read

    if options.columns:
        columns = read.parse_columns(options.columns)
        rows = [row for path in options.answers for row in read.long_rows(path, columns)]
        source = ", ".join(map(str, options.answers))
        if not rows:
            raise InputError(f"{source}: no answers under the columns named; look at --columns")
        if "task" in columns:
            study = read.open_study(options.study)
            submissions = read.answers_elsewhere(study, rows, source)
        else:
            study, submissions = read.foreign_study(options.study, rows, source)
    else:
        study = read.open_study(options.study)
        submissions = read.read_answers(study, options.answers)
    judged = read.judge_submissions(study, submissions)
    read.write_answers(options.study, judged)
    kept = [submission for submission in judged if not submission.dropped]
    if options.json:
        dropped = {rule: sum(rule in submission.dropped for submission in judged) for rule in read.RULES}
        people = len({submission.rater for submission in judged})
        files = [options.study / name for name in ("answers.csv", "raters.csv")]
        counts = {"submissions": len(judged), "people": people, "kept": len(kept)}
        print_json({**counts, "dropped": dropped, "files": files})
        return
    print(f"{len(judged)} submissions of {len({submission.rater for submission in judged})} people, {len(kept)} kept")
    for rule in read.RULES:
        count = sum(rule in submission.dropped for submission in judged)
        if count:
            print(f"  dropped, {rule}: {count} ({read.MEANING[rule]})")
    print(f"{options.study / 'answers.csv'}, {options.study / 'raters.csv'}")


def _analyse(options: argparse.Namespace) -> None:
    from cd_exp.study import analyse
    from cd_exp.study.read import load_answers, open_study

    study = open_study(options.study)
    run = options.folder or (Path(study.key["run"]) if study.key["run"] else None)
    there = run if run is not None and (run / "labels.csv").is_file() else None
    if options.join and there is None:
        where = "the study has none" if run is None else f"{run} holds no labels.csv"
        raise InputError(f"--join needs the run, and {where}; say where it is with --run")
    if there is not None:
        _check_run(study, there)
    try:
        outcome, values = analyse.results(study, load_answers(study), run=there)
    except ModuleNotFoundError as missing:
        raise InputError(f"analyse needs {missing.name}; install it with: pip install 'cd-exp[study]'") from missing
    paths = analyse.write_results(options.study, outcome, values)
    changed = analyse.join(there, values) if options.join and there is not None else []
    if options.json:
        print(json.dumps(outcome, indent=1, ensure_ascii=False))
        return
    _show(outcome)
    if there is None and run is not None:
        print(f"note: {run} holds no labels.csv, so its automatic scores are left out; say where the run is with --run")
    print(", ".join(map(str, [*paths, *changed])))


def _check_run(study: Any, run: Path) -> None:
    """Refuse a run whose labels are not those that people were asked about."""
    from cd_exp.study.make import labels_digest, run_labels

    digest = study.study.get("run_digest")
    if digest and labels_digest(run_labels(run, study.key["methods"])) != digest:
        raise InputError(f"{run} does not have the labels that this study asks about; give its run with --run")


def _show(outcome: dict[str, Any]) -> None:
    everything = outcome["rules"]["all"]
    print(f"{outcome['design']}: {everything['answers']} answers kept of {outcome['rules']['none']['answers']}")
    for row in everything["scores"]:
        if not row["layer"]:
            method = row["method"] or "units"
            print(f"  {row['score']:<10} {method:<20} {row['mean']:.4f}{_interval(row)} n={row['units']}")
    for row in everything["differences"]:
        print(f"  {row['first']} - {row['second']}: {row['difference']:+.4f}{_interval(row)} "
              f"p={row['difference_p']:.2g}, Holm {row['difference_p_adjusted']:.2g}")  # fmt: skip
    for name, value in everything["agreement"].items():
        print(f"  {name.replace('_', ' ')}: {value:.4f}")
    for row in everything.get("strengths", ()):
        print(f"  strength of {row['method']}: {row['strength']:+.3f}{_interval(row)}")
    for row in everything.get("tenths", ()):
        print(f"  tenth {row['tenth']}: {row['mean']:.3f}{_interval(row)} n={row['units']}")
    people = everything.get("people_with_people")
    if people:
        print(f"  people with people, Spearman: {people['spearman']:.3f}{_interval(people)}")
    for row in everything["orders"][:8]:
        print(f"  people with {row['score']} of {row['method']}, Spearman: {row['spearman']:.3f}{_interval(row)}")


def _interval(row: dict[str, Any]) -> str:
    return f" [{row['ci95'][0]:.4f}, {row['ci95'][1]:.4f}]" if "ci95" in row else ""


if __name__ == "__main__":
    sys.exit(main())
