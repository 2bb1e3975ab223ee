"""The page in a real browser: as raters meet it, by mouse, touch and keys, with a reload in the middle."""

import json

import pytest
from helpers.browsing import needs_browser
from selenium.webdriver.common.keys import Keys

from cd_exp.study.make import Plan, Words, make
from cd_exp.study.read import allowed_answers, open_study, read_answers

pytestmark = [pytest.mark.slow, needs_browser]
VIEW = "return document.documentElement.dataset.view"


def start(window, folder, query):
    """Open the page and go as far as the first question."""
    opens(window, folder, query)
    for name in ("agree", "practise"):
        window.js("document.getElementById(arguments[0]).click()", name)
    while not window.js("return document.getElementById('begin') !== null"):
        window.js("(document.querySelector('.answers button') ?? document.querySelector('.images button')).click()")
        window.js("document.getElementById('next').click()")
    window.js("document.getElementById('begin').click()")


def opens(window, folder, query):
    window.driver.get("about:blank")
    window.driver.get(f"{sorted(folder.glob('page*.html'))[0].as_uri()}?{query}")
    window.wait("return document.documentElement.dataset.view !== undefined")


def answered(window):
    return int(window.text("#count").split()[1]) - 1 if window.js(VIEW) == "tasks" else None


def touch(window, selector):
    """A finger on the first element that fits: what a phone sends, not a click."""
    x, y = window.js(
        "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center'});"
        "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2];",
        selector,
    )
    point = {"x": x, "y": y}
    window.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    window.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_batch_by_keys_touch_and_mouse_with_a_reload_comes_out_intact(window, made, tmp_path):
    folder = made("rating")
    study = open_study(folder)
    batch = study.study["batches"][0]
    window.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    start(window, folder, "PROLIFIC_PID=p1&STUDY_ID=s&SESSION_ID=t&batch=1")
    words_given = []
    for key in "12345":
        window.keys(key)
        words_given.append(key)
    window.wait("return document.getElementById('count').innerText.startsWith('Question 6 ')")
    window.keys(Keys.BACK_SPACE)
    window.keys("0")
    words_given[-1] = "cannot_tell"
    for number in range(5):
        touch(window, ".answers button[data-answer='2']")
        words_given.append("2")
        window.wait(f"return document.getElementById('count').innerText.startsWith('Question {7 + number} ')")
    window.driver.refresh()
    window.wait("return document.documentElement.dataset.view === 'tasks'")
    assert answered(window) == 10
    while window.js(VIEW) == "tasks":
        window.js("document.querySelector('.answers button[data-answer=\"4\"]').click()")
        words_given.append("4")
    window.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert len(words_given) == len(batch) == 18
    assert window.text("#code") == json.loads(data_of(folder))["code"]
    path = tmp_path / "answers.json"
    path.write_text(window.js("return document.getElementById('answers').value"))
    (submission_read,) = read_answers(study, [path])
    assert [answer.answer for answer in submission_read.answers] == words_given
    assert sorted(answer.task for answer in submission_read.answers) == sorted(batch)
    assert (submission_read.rater, submission_read.batch) == ("p1", 1)
    assert json.loads(path.read_text())["reloads"] == 1
    assert all(answer.ms >= 0 for answer in submission_read.answers)
    assert window.js("return document.getElementById('prolific').href").endswith(f"cc={window.text('#code')}")
    assert window.complaints() == []


def data_of(folder):
    text = sorted(folder.glob("page*.html"))[0].read_text()
    return text.split('id="study-data">')[1].split("</script>")[0]


@pytest.mark.parametrize("design", ["presence", "choice", "intruder"])
def test_every_design_is_answered_by_keys(window, made, tmp_path, design):
    folder, key = made(design), {"presence": "y", "choice": "2", "intruder": "3"}[design]
    start(window, folder, "workerId=w1&assignmentId=a1&hitId=h1&batch=1")
    while window.js(VIEW) == "tasks":
        window.keys(key)
    path = tmp_path / "answers.json"
    path.write_text(window.js("return document.getElementById('answers').value"))
    study = open_study(folder)
    (submission_read,) = read_answers(study, [path])
    assert submission_read.rater == "w1"
    assert {answer.position for answer in submission_read.answers} == {
        {"presence": 0, "choice": 1, "intruder": 2}[design]
    }
    assert all(
        answer.answer in allowed_answers(design, study.trials[answer.task]) for answer in submission_read.answers
    )
    if design == "choice":  # options are shown in another order to everybody
        assert len({answer.answer for answer in submission_read.answers}) > 1


@pytest.mark.parametrize("design", ["rating", "presence", "choice", "intruder"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_every_question_whole_and_without_sideways_scroll(window, made, design, scheme):
    window.size(390, 844)
    window.scheme(scheme)
    start(window, made(design), f"PROLIFIC_PID={scheme}&batch=1")
    assert window.js("return document.documentElement.scrollWidth") == 390
    assert window.js("return document.getElementById('count').getBoundingClientRect().bottom") <= 844
    small = (
        "return [...document.querySelectorAll('.answers button, .pick button')].filter(b => b.offsetHeight < 44).length"
    )
    assert window.js(small) == 0
    bright = window.js("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(c => c > 128)")
    assert bright is (scheme == "light")
    window.wait(
        "return [...document.querySelectorAll('main img')].every(image => image.complete && image.naturalWidth)"
    )


def test_a_preview_on_mturk_records_nothing(window, made):
    opens(window, made("rating"), "assignmentId=ASSIGNMENT_ID_NOT_AVAILABLE&hitId=h&batch=2")
    assert window.js("return document.getElementById('agree').disabled")
    assert "Accept the task first" in window.text()


def test_answers_go_back_to_mturk_by_a_form(window, made):
    query = "workerId=w9&assignmentId=a9&hitId=h9&turkSubmitTo=https%3A%2F%2Fworkersandbox.mturk.com&batch=1"
    start(window, made("intruder"), query)
    while window.js(VIEW) == "tasks":
        window.keys("1")
    assert window.js("return document.getElementById('submit').action") == (
        "https://workersandbox.mturk.com/mturk/externalSubmit"
    )
    fields = window.js("return Object.fromEntries(new FormData(document.getElementById('submit')))")
    assert fields["assignmentId"] == "a9"
    assert json.loads(fields["answers"])["rater"]["workerId"] == "w9"


def test_practice_says_what_was_expected(window, made):
    opens(window, made("rating"), "PROLIFIC_PID=p7&batch=1")
    window.js("document.getElementById('agree').click()")
    assert "A good answer" in window.text()
    assert window.js("return document.querySelectorAll('.example .wanted').length") == 2
    window.js("document.getElementById('practise').click()")
    data = json.loads(data_of(made("rating")))["practice"][1]
    window.keys("3")
    assert "was expected" in window.text()
    assert window.js("return document.querySelector('.chosen').dataset.answer") == "3"
    assert window.js("return document.querySelectorAll('.wanted').length") == 2
    window.js("document.getElementById('next').click()")
    assert data["accept"] in ([4, 5], [1, 2])


def test_the_image_that_does_not_belong_is_outlined_in_the_example(window, made):
    opens(window, made("intruder"), "PROLIFIC_PID=p11&batch=1")
    window.js("document.getElementById('agree').click()")
    assert window.js("return getComputedStyle(document.querySelector('.example .wanted')).outlineWidth") == "3px"


def test_answers_are_sent_before_the_code_and_in_another_tab(window, run, tmp_path):
    words = Words(submit_to="https://forms.example.org/answers", code="CODE1")
    make(run, tmp_path / "out", Plan("intruder", units=3), words)
    start(window, tmp_path / "out", "PROLIFIC_PID=p12&batch=1")
    while window.js(VIEW) == "tasks":
        window.keys("1")
    assert window.js("return document.getElementById('submit').target") == "_blank"
    order = [
        window.js(f"return document.getElementById('{name}').offsetTop") for name in ("submit", "code", "prolific")
    ]
    assert order == sorted(order)


def test_who_does_not_agree_leaves_nothing(window, made):
    opens(window, made("rating"), "PROLIFIC_PID=p8&batch=1")
    window.js("document.getElementById('decline').click()")
    assert "Nothing was recorded" in window.text()
    opens(window, made("rating"), "PROLIFIC_PID=p8&batch=1")
    assert window.js(VIEW) == "consent"


def test_a_link_to_a_batch_that_is_elsewhere_says_so(window, made):
    opens(window, made("rating"), "batch=999")
    assert "This page has no batch 999" in window.text()


def test_the_page_can_reach_nothing(window, made):
    opens(window, made("rating"), "PROLIFIC_PID=p9")
    refused = window.driver.execute_async_script(
        "fetch('http://127.0.0.1:9/').then(() => arguments[0](false), () => arguments[0](true))"
    )
    assert refused
    assert any("Content Security Policy" in said for said in window.complaints())


def test_an_image_can_be_seen_larger(window, made):
    start(window, made("rating"), "PROLIFIC_PID=p10&batch=1")
    window.js("document.querySelector('.images button').click()")
    assert window.js("return document.getElementById('large').open")
    before = answered(window)
    window.keys("3")
    assert answered(window) == before
    window.keys(Keys.ESCAPE)
    assert not window.js("return document.getElementById('large').open")
