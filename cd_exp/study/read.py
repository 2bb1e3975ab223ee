"""`read`: answers of any origin checked, their givers made anonymous, and who is dropped said with the reason.

What comes in: the page's own files of answers; results of MTurk and tables of forms, wherever a cell holds such a file;
and with `--columns` tables of answers that were collected elsewhere.
"""

import csv
import hashlib
import io
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from cd_exp.errors import InputError, unknown_name_error
from cd_exp.io.atomic import write_file
from cd_exp.io.text import decode_text, format_csv, refuse_repeated
from cd_exp.study.designs import CANNOT_TELL, NONE

RULES = ("catch", "fast", "straight", "double")
MEANING = {
    "catch": "fewer than .8 of the trials of known answer right",
    "fast": "median below 1 second per question",
    "straight": "the same place on the screen in at least .95 of at least 10 answers",
    "double": "a question answered before by the same person",
}
CATCH_RIGHT, FASTEST_MS, STRAIGHT, STRAIGHT_ANSWERS = 0.8, 1000, 0.95, 10
COLUMNS = ("task", "layer", "unit", "method", "rater", "answer", "seconds")
FILES = ("study.json", "key.json")


@dataclass(frozen=True)
class Answer:
    """One answer: rating 1 to 5, yes or no, the number of an option or image, `none` or `cannot_tell`, as text.

    `position` is where it stood on the screen, -1 where that is not known; so is `ms`, the time it took.
    """

    task: str
    answer: str
    position: int = -1
    ms: int = -1


@dataclass(frozen=True)
class Submission:
    """What one person sent at once. `rater` is their identity until it is hashed."""

    rater: str
    batch: int
    started: str
    answers: tuple[Answer, ...]
    source: str
    dropped: tuple[str, ...] = ()
    catch_right: float | None = None


@dataclass(frozen=True)
class StudyFolder:
    """The two files of a study."""

    folder: Path
    study: Mapping[str, Any]
    key: Mapping[str, Any]

    @property
    def design(self) -> str:
        """Which question was asked."""
        return self.study["design"]

    @property
    def trials(self) -> Mapping[str, Any]:
        """All questions by id."""
        return self.key["trials"]


def open_study(folder: Path) -> StudyFolder:
    """A study's folder.

    Raises:
        InputError: it is none, or a file of it was edited or cut off.
    """
    parts = []
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise InputError(f"{folder} holds no {name}; give the folder that `python -m cd_exp.study make` wrote")
        try:
            parts.append(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not JSON: {error}; it was edited or cut off: make the study again") from error
    if not all(isinstance(part, dict) for part in parts) or "design" not in parts[0] or "trials" not in parts[1]:
        raise InputError(
            f"{folder} holds other files than `make` writes as {' and '.join(FILES)}; make the study again"
        )
    return StudyFolder(folder, *parts)


# Files of answers ----------------------------------------------------------------------------------------------------


def read_answers(study: StudyFolder, paths: Sequence[Path]) -> list[Submission]:
    """The submissions in files of answers, in tables that hold such files in their cells, and in folders of both.

    Raises:
        InputError: a file is missing, cut, altered, or of another study.
    """
    submissions = []
    for path in _each(paths):
        text = _text(path)
        if path.suffix.lower() == ".csv" or not text.lstrip().startswith(("{", "[")):
            submissions += _from_table(study, path, text)
        else:
            submissions.append(_submission(study, _json(text, str(path)), str(path)))
    if not submissions:
        raise InputError(f"no answers in {', '.join(map(str, paths))}; give the files that the page saves")
    return submissions


def _each(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.iterdir() if file.suffix.lower() in (".json", ".csv"))
        else:
            yield path


def _text(path: Path) -> str:
    try:
        return decode_text(path.read_bytes(), path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; give files of answers, or a folder of them"
        ) from error


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where} is cut or no file of answers ({error}); ask for it again, or leave it out"
        ) from error


def _from_table(study: StudyFolder, path: Path, text: str) -> list[Submission]:
    """Rows of a results table: the cell that holds a file of answers, and MTurk's WorkerId where the file has none."""
    submissions = []
    for number, row in _rows(path, text):
        cells = [cell for cell in row.values() if isinstance(cell, str) and cell.lstrip().startswith('{"schema"')]
        if not cells:
            continue
        content = _json(cells[0], f"{path}, row {number}")
        if isinstance(content, dict) and row.get("WorkerId"):
            content["rater"] = {**(content.get("rater") or {}), "workerId": row["WorkerId"]}
        submissions.append(_submission(study, content, f"{path}, row {number}"))
    if not submissions:
        raise InputError(f"{path} has no column with files of answers; tables of single answers need --columns")
    return submissions


def _rows(path: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    usual = csv.field_size_limit(2**27)  # a cell holds a file of answers; the limit is that of the process
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = list(enumerate(reader, 1))
    except csv.Error as error:
        raise InputError(f"{path} is no table: {error}; give it as CSV") from error
    finally:
        csv.field_size_limit(usual)
    refuse_repeated(list(reader.fieldnames or ()), path)
    wrong = next((number for number, row in rows if None in row or None in row.values()), None)
    if wrong is not None:
        raise InputError(
            f"{path}, row {wrong}: not the {len(reader.fieldnames or ())} cells of the header; mend the row"
        )
    return rows


def _submission(study: StudyFolder, content: Any, where: str) -> Submission:
    """One file of answers checked against the study.

    Raises:
        InputError: it is none, of another study, cut, altered, or answers what was not asked.
    """
    if not isinstance(content, dict) or not {"study", "batch", "rater", "answers", "check"} <= content.keys():
        raise InputError(f"{where} is no file of answers of the page; leave it out, or give a table with --columns")
    if content["study"] != study.study["study"]:
        raise InputError(f"{where} is of another study ({content['study']}, not {study.study['study']}); leave it out")
    answers = _answers(content["answers"], where)
    line = ";".join(f"{a.task},{a.answer},{a.position},{a.ms}" for a in answers)
    if f"{fnv(line):08x}" != content["check"]:
        raise InputError(f"{where} was altered or cut: its check is {content['check']}; ask for the file again")
    batches = study.study["batches"]
    number = content["batch"]
    if not isinstance(number, int) or not 1 <= number <= len(batches):
        raise InputError(f"{where} is of batch {number}, and the study has 1 to {len(batches)}; leave it out")
    if sorted(a.task for a in answers) != sorted(batches[number - 1]):
        raise InputError(
            f"{where} does not answer the {len(batches[number - 1])} questions of batch {number}; leave it out"
        )
    for answer in answers:
        _check_value(study, answer, where)
    rater = content["rater"] if isinstance(content["rater"], dict) else {}
    names = [rater[key] for key in ("PROLIFIC_PID", "workerId", "anonymous") if rater.get(key)]
    if not names:
        raise InputError(f"{where} does not say who answered; leave it out")
    return Submission(str(names[0]), number, str(content.get("started") or ""), answers, Path(where).name)


def _answers(value: Any, where: str) -> tuple[Answer, ...]:
    try:
        return tuple(Answer(a["task"], str(a["answer"]), int(a["position"]), int(a["ms"])) for a in value)
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{where} has an answer that is not whole ({error}); ask for the file again") from error


def _check_value(study: StudyFolder, answer: Answer, where: str) -> None:
    allowed = allowed_answers(study.design, study.trials[answer.task])
    if answer.answer not in allowed:
        raise InputError(f"{where}: {answer.answer!r} is no answer to {answer.task}; expected {', '.join(allowed)}")


def allowed_answers(design: str, trial: Mapping[str, Any]) -> list[str]:
    """What can be answered to a trial, as text."""
    if design == "rating":
        return [*map(str, range(1, 6)), CANNOT_TELL]
    if design == "presence":
        return ["yes", "no"]
    if design == "choice":
        return [*map(str, range(len(trial["texts"]))), NONE]
    return list(map(str, range(len(trial["images"]))))


def fnv(text: str) -> int:
    """The 32-bit FNV-1a hash that the page ends its files with: a cut or an edit shows.

    >>> f"{fnv('a'):08x}"
    'e40c292c'
    """
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


# Tables collected elsewhere ------------------------------------------------------------------------------------------


def parse_columns(words: Sequence[str]) -> dict[str, str]:
    """`NAME=COLUMN` as a mapping.

    Raises:
        InputError: an unknown name, or one without a column.
    """
    columns: dict[str, str] = {}
    for word in words:
        name, equals, column = word.partition("=")
        if name not in COLUMNS:
            raise unknown_name_error("--columns", name, COLUMNS)
        if not equals or not column:
            raise InputError(f"--columns {word!r} names no column; write it as {name}=COLUMN")
        if name in columns:
            raise InputError(f"--columns names two columns of {name}, {columns[name]!r} and {column!r}; leave one out")
        columns[name] = column
    if "answer" not in columns:
        raise InputError("--columns needs answer=COLUMN; a table with a column for each method or rater has a pattern "
                         "there, as in 'answer={method} E{rater} Rating'")  # fmt: skip
    return columns


def long_rows(path: Path, columns: Mapping[str, str]) -> list[dict[str, str]]:
    """The rows of a table with one answer each, under the names of `COLUMNS`; empty answers are left out.

    A pattern for the answer, as `{method} E{rater} Rating`, reads every column that fits it.

    Raises:
        InputError: no such file, no such column, or an answer in a row that does not say whose or of what.
    """
    rows = _rows(path, _text(path))
    header = list(rows[0][1]) if rows else []
    for name, column in columns.items():
        if name != "answer" and column not in header:
            raise unknown_name_error(f"--columns {name}: column", column, header, where=f"in {path}")
    pattern = re.sub(r"\\\{(method|rater)\\\}", r"(?P<\1>.+?)", re.escape(columns["answer"]))
    fits = {column: match.groupdict() for column in header if (match := re.fullmatch(pattern, column))}
    if not fits:
        raise unknown_name_error("--columns answer: column", columns["answer"], header, where=f"in {path}")
    both = next((name for parts in fits.values() for name in parts if name in columns), None)
    if both is not None:
        raise InputError(
            f"--columns names a column of {both}, which stands in the pattern of the answers too; leave one out"
        )
    table = []
    for number, row in rows:
        shared = {name: row[column].strip() for name, column in columns.items() if name != "answer"}
        answered = [(parts, row[column].strip()) for column, parts in fits.items() if row[column].strip()]
        blank = next((name for name, value in shared.items() if not value and name != "seconds"), None)
        if answered and blank is not None:
            raise InputError(f"{path}, row {number} has an answer and no {blank} under {columns[blank]!r}; fill it in")
        table += [{**shared, **parts, "answer": answer} for parts, answer in answered]
    return table


def _add_answer(answers: dict[str, Answer], answer: Answer, row: Mapping[str, str], *, of: str, source: str) -> None:
    """Keep a person's answer; one that is given twice counts once, two that differ are refused."""
    if answers.setdefault(answer.task, answer).answer != answer.answer:
        raise InputError(
            f"{source}: rater {row.get('rater', '1')!r} gives {of} answers that differ, the last {row['answer']!r}; "
            "keep one, or name the column of the people with --columns rater=COLUMN"
        )


def foreign_study(folder: Path, rows: Sequence[Mapping[str, str]], source: str) -> tuple[StudyFolder, list[Submission]]:
    """A study made of a table of ratings that were collected without one.

    Raises:
        InputError: a unit or rating that is no number from 1 to 5, or a folder that holds a study.
    """
    if any((folder / name).exists() for name in FILES):
        raise InputError(
            f"{folder} holds a study already; answers to it need --columns task=COLUMN, others a new folder"
        )
    trials: dict[str, dict[str, Any]] = {}
    by_rater: dict[str, dict[str, Answer]] = {}
    for row in rows:
        written = row.get("unit", "")
        if row["answer"] not in map(str, range(1, 6)):
            raise InputError(f"{source}: {row['answer']!r} is no rating; expected a whole number from 1 to 5")
        if not written.isdecimal():
            raise InputError(
                f"{source}: {written!r} is no unit; name the column of its number with --columns unit=COLUMN"
            )
        key = (row.get("layer", ""), str(int(written)), row.get("method", "ratings"))  # 07 is unit 7
        task = hashlib.sha256(repr(key).encode()).hexdigest()[:8]
        trials[task] = {
            "kind": "task",
            "texts": [""],
            "images": [],
            "layer": key[0],
            "unit": int(key[1]),
            "methods": [key[2]],
        }
        of = f"unit {key[1]} of {key[0]!r}, {key[2]},"
        answer = Answer(task, row["answer"], ms=_ms(row))
        _add_answer(by_rater.setdefault(row.get("rater", "1"), {}), answer, row, of=of, source=source)
    methods = list(dict.fromkeys(trial["methods"][0] for trial in trials.values()))
    digest = hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()
    study = {"schema": 1, "study": digest[:16], "design": "rating", "collected": "elsewhere", "seed": 0,
             "images_in_run": 0, "per_unit": 1, "raters": len(by_rater), "batches": [list(trials)]}  # fmt: skip
    key_file = {"schema": 1, "run": "", "salt": secrets.token_hex(16), "methods": methods, "trials": trials}
    for name, content in zip(FILES, (study, key_file), strict=True):
        write_file(folder / name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    made = [Submission(rater, 1, "", tuple(answers.values()), source) for rater, answers in by_rater.items()]
    return StudyFolder(folder, study, key_file), made


def answers_elsewhere(study: StudyFolder, rows: Sequence[Mapping[str, str]], source: str) -> list[Submission]:
    """Answers to the tasks of `tasks.csv` that were asked on another page: options and images count from 1 there.

    Raises:
        InputError: a task that the study does not have, or an answer that is none.
    """
    by_rater: dict[str, dict[str, Answer]] = {}
    for row in rows:
        task, value = row["task"], row["answer"].lower()
        if task not in study.trials:
            raise InputError(f"{source}: the study has no task {task!r}; give answers to the tasks of tasks.csv")
        texts = [text.lower() for text in study.trials[task]["texts"]]
        if study.design in ("choice", "intruder"):
            value = str(texts.index(value)) if value in texts else str(int(value) - 1) if value.isdecimal() else value
        answer, allowed = Answer(task, value, ms=_ms(row)), allowed_answers(study.design, study.trials[task])
        if value not in allowed:
            counted = [
                str(int(name) + 1) if name.isdecimal() and study.design != "rating" else name for name in allowed
            ]
            raise InputError(f"{source}: {row['answer']!r} is no answer to {task}; expected {', '.join(counted)}")
        _add_answer(by_rater.setdefault(row.get("rater", "1"), {}), answer, row, of=f"task {task}", source=source)
    return [Submission(rater, 0, "", tuple(answers.values()), source) for rater, answers in by_rater.items()]


def _ms(row: Mapping[str, str]) -> int:
    if not row.get("seconds"):
        return -1
    try:
        ms = round(1000 * float(row["seconds"]))
    except (ValueError, OverflowError):
        ms = -1
    if ms < 0:
        raise InputError(f"--columns seconds: {row['seconds']!r} is no number from 0 on; give seconds, or nothing")
    return ms


# Who is dropped ------------------------------------------------------------------------------------------------------


def judge_submissions(study: StudyFolder, submissions: Iterable[Submission]) -> list[Submission]:
    """The submissions by start, identities hashed with the study's salt, each with the reasons to drop it."""
    seen: set[tuple[str, str]] = set()
    marked = []
    for submission in sorted(
        submissions, key=lambda submission: (submission.started, submission.rater, submission.batch)
    ):
        rater = hashlib.sha256(f"{study.key['salt']} {submission.rater}".encode()).hexdigest()[:12]
        right = catch_right(study, submission.answers)
        reasons = []
        if right is not None and right < CATCH_RIGHT:
            reasons.append("catch")
        times = [answer.ms for answer in submission.answers if answer.ms >= 0]
        if times and median(times) < FASTEST_MS:
            reasons.append("fast")
        if _is_straight(submission.answers):
            reasons.append("straight")
        mine = {(rater, answer.task) for answer in submission.answers if study.trials[answer.task]["kind"] == "task"}
        if mine & seen:
            reasons.append("double")
        seen |= mine
        marked.append(replace(submission, rater=rater, dropped=tuple(reasons), catch_right=right))
    return marked


def catch_right(study: StudyFolder, answers: Sequence[Answer]) -> float | None:
    """The share of trials of known answer that are right; None where none was asked."""
    answered = [(answer.answer, study.trials[answer.task]) for answer in answers]
    right = [value in map(str, trial["accept"]) for value, trial in answered if trial["kind"] == "catch"]
    return sum(right) / len(right) if right else None


def _is_straight(answers: Sequence[Answer]) -> bool:
    if len(answers) < STRAIGHT_ANSWERS:
        return False
    positions = [answer.answer if answer.position < 0 else answer.position for answer in answers]
    return max(map(positions.count, set(positions))) >= STRAIGHT * len(positions)


def write_answers(folder: Path, submissions: Sequence[Submission]) -> None:
    """`answers.csv`, one row per answer, and `raters.csv`, one per submission with the reasons to drop it."""
    rows: list[list[object]] = [["submission", "rater", "batch", "task", "answer", "position", "ms"]]
    for number, submission in enumerate(submissions, 1):
        rows += [
            [number, submission.rater, submission.batch, a.task, a.answer, a.position, a.ms] for a in submission.answers
        ]
    write_file(folder / "answers.csv", format_csv(rows))
    rows = [["submission", "rater", "batch", "answers", "catch_right", "seconds_per_question", "dropped"]]
    for number, submission in enumerate(submissions, 1):
        times = [answer.ms for answer in submission.answers if answer.ms >= 0]
        right = "" if submission.catch_right is None else f"{submission.catch_right:.3f}"
        seconds = f"{median(times) / 1000:.2f}" if times else ""
        rows.append(
            [
                number,
                submission.rater,
                submission.batch,
                len(submission.answers),
                right,
                seconds,
                " ".join(submission.dropped),
            ]
        )
    write_file(folder / "raters.csv", format_csv(rows))


def load_answers(study: StudyFolder) -> list[Submission]:
    """What `write_answers` wrote.

    Raises:
        InputError: there is none, or it was edited or cut off.
    """
    tables = []
    for name in ("answers.csv", "raters.csv"):
        path = study.folder / name
        if not path.is_file():
            raise InputError(
                f"{study.folder} holds no {name}; read answers first: python -m cd_exp.study read DIR ANSWERS"
            )
        tables.append([row for _, row in _rows(path, _text(path))])
    answers: dict[str, list[Answer]] = {}
    try:
        for row in tables[0]:
            answer = Answer(row["task"], row["answer"], int(row["position"]), int(row["ms"]))
            if answer.task not in study.trials:
                raise ValueError(f"unknown task {answer.task}")
            answers.setdefault(row["submission"], []).append(answer)
        return [
            Submission(row["rater"], int(row["batch"]), "", tuple(answers[row["submission"]]), "",
                       tuple(row["dropped"].split()), float(row["catch_right"]) if row["catch_right"] else None)
            for row in tables[1]
        ]  # fmt: skip
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"answers.csv of {study.folder} was edited or cut off ({error}); read the answers again"
        ) from error
