"""Answers read: who is dropped and why, files that are refused, tables from elsewhere."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys

import pytest

from cd_exp.study.__main__ import main
from cd_exp.study.read import (
    Answer,
    Submission,
    catch_right,
    fnv,
    foreign_study,
    judge_submissions,
    load_answers,
    long_rows,
    open_study,
    parse_columns,
    read_answers,
)


@pytest.fixture
def study(made, tmp_path):
    """A study's folder of its own."""
    return shutil.copytree(made("rating"), tmp_path / "study")


def refused(capsys, *words):
    assert main(["read", *map(str, words)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def signed(content):
    line = ";".join(f"{a['task']},{a['answer']},{a['position']},{a['ms']}" for a in content["answers"])
    return content | {"check": f"{fnv(line):08x}"}


def first_file(answers, design="rating"):
    return json.loads(sorted(answers(design).iterdir())[0].read_text())


def test_answers_become_two_tables(study, answers, capsys):
    assert main(["read", str(study), str(answers("rating"))]) == 0
    assert "submissions of" in capsys.readouterr().out
    opened = open_study(study)
    with (study / "answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    batches = opened.study["batches"]
    assert len(rows) == sum(map(len, batches)) * opened.study["raters"]
    assert load_answers(opened)[0].answers[0].task == rows[0]["task"]


def test_identities_become_salted_hashes(study, answers):
    opened = open_study(study)
    (one,) = judge_submissions(opened, read_answers(opened, [sorted(answers("rating").iterdir())[0]]))
    salted = hashlib.sha256(f"{opened.key['salt']} rehearsal-1-0".encode()).hexdigest()[:12]
    assert one.rater == salted
    main(["read", str(study), str(answers("rating"))])
    written = "".join((study / name).read_text() for name in ("answers.csv", "raters.csv"))
    assert "rehearsal" not in written
    assert salted in written


def submission(study, batch=1, rater="r", *, wrong=0, ms=5000, same=False, started=""):
    """Somebody who answers `wrong` trials of known answer wrongly."""
    answers, left = [], wrong
    for position, task in enumerate(study.study["batches"][batch - 1]):
        trial = study.trials[task]
        value = str(1 + position % 5)
        if trial["kind"] == "catch":
            value = "3" if left > 0 else str(trial["accept"][0])
            left -= 1
        answers.append(Answer(task, "5" if same else value, 4 if same else int(value) - 1, ms))
    return Submission(rater, batch, started, tuple(answers), "")


def test_careful_answers_are_kept(study):
    opened = open_study(study)
    submission_read = judge_submissions(
        opened, [submission(opened), submission(opened, rater="s", wrong=2), submission(opened, batch=2)]
    )
    assert [one.dropped for one in submission_read] == [()] * 3
    assert sorted(one.catch_right for one in submission_read) == pytest.approx([0.8, 1, 1])


@pytest.mark.parametrize(
    ("more", "reason"), [({"wrong": 3}, "catch"), ({"ms": 900}, "fast"), ({"same": True}, "straight")]
)
def test_each_rule_drops_with_its_reason(study, more, reason):
    opened = open_study(study)
    (submission_read,) = judge_submissions(opened, [submission(opened, **more)])
    assert reason in submission_read.dropped
    assert judge_submissions(opened, [submission(opened)])[0].dropped == ()


def test_who_answers_twice_is_kept_once(study):
    opened = open_study(study)
    first = submission(opened, started="2026-01-01T10:00")
    second = submission(opened, started="2026-01-01T11:00")
    other = submission(opened, batch=2, started="2026-01-01T12:00")
    assert [one.dropped for one in judge_submissions(opened, [second, other, first])] == [(), ("double",), ()]


def test_answers_without_catch_trials_are_not_judged_by_them(study):
    opened = open_study(study)
    task = next(i for i, trial in opened.trials.items() if trial["kind"] == "task")
    assert catch_right(opened, [Answer(task, "1")]) is None


def test_cut_altered_and_foreign_files_are_one_line(study, answers, made, tmp_path, capsys):
    whole = sorted(answers("rating").iterdir())[0]
    content, path = json.loads(whole.read_text()), tmp_path / "answers.json"
    path.write_text(whole.read_text()[:400])
    assert "is cut or no file of answers" in refused(capsys, study, path)
    path.write_text(json.dumps(content | {"answers": [content["answers"][0] | {"ms": 1}, *content["answers"][1:]]}))
    assert "was altered or cut" in refused(capsys, study, path)
    path.write_text(json.dumps(signed(content | {"answers": content["answers"][1:]})))
    assert "does not answer the" in refused(capsys, study, path)
    path.write_text(
        json.dumps(signed(content | {"answers": [content["answers"][0] | {"answer": "6"}, *content["answers"][1:]]}))
    )
    assert "'6' is no answer to" in refused(capsys, study, path)
    path.write_text(json.dumps(content | {"batch": 99}))
    assert "is of batch 99" in refused(capsys, study, path)
    path.write_text(json.dumps(content | {"rater": {}}))
    assert "does not say who answered" in refused(capsys, study, path)
    path.write_text('{"some": "thing"}')
    assert "is no file of answers of the page" in refused(capsys, study, path)
    path.write_bytes(b"\xff\x00\xfe")
    assert "is not UTF-8: line 1, byte 1" in refused(capsys, study, path)
    assert "cannot be read" in refused(capsys, study, tmp_path / "none.json")
    foreign = sorted(answers("choice").iterdir())[0]
    assert "is of another study" in refused(capsys, study, foreign)
    (tmp_path / "empty").mkdir()
    assert "no answers in" in refused(capsys, study, tmp_path / "empty")
    assert "holds no study.json" in refused(capsys, tmp_path / "empty", whole)
    assert not (study / "answers.csv").exists()
    (study / "key.json").write_text("{")
    assert "is not JSON" in refused(capsys, study, whole)


def test_the_results_of_mturk_are_read(study, answers, tmp_path):
    content = first_file(answers)
    del content["rater"]["anonymous"]
    path = tmp_path / "Batch_1_batch_results.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["HITId", "WorkerId", "Answer.answers", "Answer.code"])
        writer.writerow(["H", "A1WORKER", json.dumps(content), "CODE"])
        writer.writerow(["H", "A2WORKER", "", ""])
    opened = open_study(study)
    (submission_read,) = read_answers(opened, [path])
    assert submission_read.rater == "A1WORKER"
    assert len(submission_read.answers) == len(content["answers"])
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no column with files of answers"):
        read_answers(opened, [path])
    assert csv.field_size_limit() == 131_072  # of the process, and of every other table


TABLE = """Layer,Unit,Ours E1 Rating,Theirs E1 Rating,Ours E2 Rating,Theirs E2 Rating
fc,0,5,1,4,2
fc,1,4,3,,3
"""


def test_a_wide_table_of_ratings_is_read_by_a_pattern(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    columns = parse_columns(["layer=Layer", "unit=Unit", "answer={method} E{rater} Rating"])
    rows = long_rows(tmp_path / "t.csv", columns)
    assert len(rows) == 7
    assert rows[0] == {"layer": "fc", "unit": "0", "method": "Ours", "rater": "1", "answer": "5"}


def test_a_table_of_ratings_becomes_a_study(tmp_path, capsys):
    (tmp_path / "t.csv").write_text(TABLE)
    words = ["read", str(tmp_path / "new"), str(tmp_path / "t.csv"), "--columns", "layer=Layer", "unit=Unit"]
    assert main([*words, "answer={method} E{rater} Rating"]) == 0
    assert "2 submissions of 2 people, 2 kept" in capsys.readouterr().out
    assert "holds a study already" in refused(capsys, *words[1:], "answer={method} E{rater} Rating")


def test_answers_to_tasks_asked_elsewhere(made, tmp_path):
    folder = shutil.copytree(made("choice"), tmp_path / "study")
    study = open_study(folder)
    tasks = [i for i, trial in study.trials.items() if trial["kind"] == "task"]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "who", "said", "took"])
        for number, task in enumerate(tasks):
            said = [study.trials[task]["texts"][0].upper(), "2", "none"][number % 3]
            writer.writerow([task, "w1", said, "7.5"])
    columns = ["task=id", "rater=who", "answer=said", "seconds=took"]
    assert main(["read", str(folder), str(tmp_path / "t.csv"), "--columns", *columns]) == 0
    (submission_read,) = load_answers(study)
    assert [answer.answer for answer in submission_read.answers[:3]] == ["0", "1", "none"]
    assert submission_read.answers[0].ms == 7500


def test_wrong_columns_are_one_line(tmp_path, capsys):
    (tmp_path / "t.csv").write_text(TABLE)
    words = (tmp_path / "new", tmp_path / "t.csv", "--columns")
    assert "did you mean 'layer'" in refused(capsys, *words, "layr=Layer", "answer=x")
    assert "names no column" in refused(capsys, *words, "answer")
    assert "--columns needs answer=COLUMN" in refused(capsys, *words, "unit=Unit")
    assert "column 'Unti' is not in" in refused(capsys, *words, "unit=Unti", "answer=Ours E1 Rating")
    assert "'Nothing' is not in" in refused(capsys, *words, "answer=Nothing")
    assert "'fc' is no unit" in refused(capsys, *words, "unit=Layer", "answer=Ours E1 Rating")
    (tmp_path / "t.csv").write_text(TABLE.replace("fc,0,5", "fc,0,7"))
    assert "'7' is no rating" in refused(capsys, *words, "unit=Unit", "answer=Ours E1 Rating")
    assert not (tmp_path / "new").exists()


def test_reading_answers_loads_no_network_library():
    code = "import sys, cd_exp.study.__main__, cd_exp.study.read; print(*{'torch', 'scipy', 'PIL'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


LONG = "Layer,Unit,Who,Score,Took\nfc,0,a,5,2\nfc,1,a,4,\n"
OF_LONG = ["layer=Layer", "unit=Unit", "rater=Who", "answer=Score", "seconds=Took"]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        (
            LONG + "fc,1,a,3,2\n",
            OF_LONG,
            "rater 'a' gives unit 1 of 'fc', ratings, answers that differ, the last '3'; keep one",
        ),
        (LONG + "fc,01,a,3,2\n", OF_LONG, "rater 'a' gives unit 1 of 'fc', ratings, answers that differ"),
        (LONG + "fc,2,,3,2\n", OF_LONG, "row 3 has an answer and no rater under 'Who'; fill it in"),
        (LONG + ",2,a,3,2\n", OF_LONG, "row 3 has an answer and no layer under 'Layer'"),
        (LONG + "fc,2,a,3,-1\n", OF_LONG, "'-1' is no number from 0 on; give seconds, or nothing"),
        (LONG + "fc,2,a,3,inf\n", OF_LONG, "'inf' is no number from 0 on"),
        (LONG + "fc,2,a,3\n", OF_LONG, "row 3: not the 5 cells of the header"),
        (LONG + "fc,2,a,3,1,1\n", OF_LONG, "row 3: not the 5 cells of the header"),
        (LONG.replace("Took", "Unit"), OF_LONG[:4], "has two columns 'Unit'; rename one, or take it out"),
        (LONG, [*OF_LONG, "unit=Took"], "--columns names two columns of unit, 'Unit' and 'Took'; leave one out"),
        (
            TABLE,
            ["unit=Unit", "method=Layer", "answer={method} E1 Rating"],
            "names a column of method, which stands in",
        ),
    ],
)
def test_tables_from_elsewhere_say_one_thing_or_are_one_line(tmp_path, capsys, text, columns, message):
    (tmp_path / "t.csv").write_text(text)
    assert message in refused(capsys, tmp_path / "new", tmp_path / "t.csv", "--columns", *columns)
    assert not (tmp_path / "new").exists()


def test_a_row_that_stands_twice_counts_once_and_utf_16_is_read(tmp_path):
    (tmp_path / "t.csv").write_bytes((LONG + "fc,01,a,4,\n").encode("utf-16"))
    rows = long_rows(tmp_path / "t.csv", parse_columns(OF_LONG))
    study, (one,) = foreign_study(tmp_path / "new", rows, "t.csv")
    assert [(study.trials[answer.task]["unit"], answer.answer) for answer in one.answers] == [(0, "5"), (1, "4")]


def test_answers_elsewhere_are_refused_by_the_numbers_that_were_asked_there(made, tmp_path, capsys):
    folder = shutil.copytree(made("choice"), tmp_path / "study")
    task, trial = next((i, trial) for i, trial in open_study(folder).trials.items() if trial["kind"] == "task")
    count = len(trial["texts"])
    for said in ("0", str(count + 1)):
        (tmp_path / "t.csv").write_text(f"id,said\n{task},{said}\n")
        words = (folder, tmp_path / "t.csv", "--columns", "task=id", "answer=said")
        expected = ", ".join(map(str, range(1, count + 1)))
        assert f"'{said}' is no answer to {task}; expected {expected}, none" in refused(capsys, *words)


def test_people_who_answer_the_same_question_have_a_column(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("Unit,Who,Score\n0,a,5\n0,b,4\n")
    words = [str(tmp_path / "new"), str(tmp_path / "t.csv"), "--columns", "unit=Unit", "answer=Score"]
    assert "or name the column of the people with --columns rater=COLUMN" in refused(capsys, *words)
    assert main(["read", *words, "rater=Who"]) == 0
    assert "2 submissions of 2 people" in capsys.readouterr().out
