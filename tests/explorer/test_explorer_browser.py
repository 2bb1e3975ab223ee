"""The pages in a real browser: what a reader sees and does."""

import csv
import io
import json
import statistics
from collections import Counter

import numpy as np
import pytest
from helpers.browsing import needs_browser
from helpers.made_outcomes import HOSTILE
from made_runs import made_content
from PIL import Image
from selenium.webdriver.common.keys import Keys

from cd_exp.explorer import PageContent, find_page, write_pages
from cd_exp.explorer.heatmaps import MISSING
from cd_exp.explorer.payload import decode_array, encode_array

pytestmark = [pytest.mark.slow, needs_browser]
VIEWS = (
    "",
    "view=units",
    "view=unit&of=fc&unit=3",
    "view=concepts",
    "view=concept&concept=red+circle",
    "view=picture&image=4",
    "view=compare",
    "view=shortlist&list=fc:3,layer4.1.act2:7",
)


def search(window, text: str) -> str:
    """Type into the search field of the list, and read how many units there are."""
    window.js(
        "const field = document.getElementById('search'); field.value = arguments[0];"
        "field.dispatchEvent(new Event('input'));",
        text,
    )
    return window.text(".count")


def labels(window) -> list[str]:
    return window.js("return [...document.querySelectorAll('.rows .c-label .name')].map(node => node.innerText.trim())")


@pytest.mark.parametrize("layout", ["single", "folder"])
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_opens_by_its_link_without_complaint(window, content, tmp_path, layout, view):
    path = write_pages(tmp_path, find_page({"made": content}, title="made"), layout=layout)
    window.go(path, view)
    assert window.text("h1")
    assert "Not in this page" not in window.text()
    assert window.js("return document.querySelectorAll('.picture').length") > 0 or not view
    window.wait("return [...document.images].every(image => image.complete)")
    assert window.complaints() == []


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_every_view_without_sideways_scroll(window, page, view, scheme):
    window.size(390, 844)
    window.scheme(scheme)
    window.go(page, view)
    assert window.js("return document.documentElement.scrollWidth") == 390
    assert window.js("const main = document.getElementById('main'); return main.scrollWidth - main.clientWidth") == 0
    bright = window.js(
        "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).every(c => c > 128)"
    )
    assert bright is (scheme == "light")


def test_the_button_turns_dark_to_light(window, page):
    window.scheme("dark")
    window.go(page)
    window.js("document.querySelector('[aria-label=\"light or dark\"]').click()")
    assert window.js("return getComputedStyle(document.body).backgroundColor") == "rgb(251, 251, 250)"
    window.js("localStorage.clear()")


@pytest.mark.parametrize("view", [*VIEWS, f"view=concept&concept={HOSTILE}"])
def test_hostile_names_stay_text(window, page, view):
    window.go(page, view)
    assert window.js("return document.querySelectorAll('main script, main b > *').length") == 0
    assert window.complaints() == []


def test_the_policy_holds_under_file(window, page):
    window.go(page)
    window.js(
        "const s = document.createElement('script'); s.textContent = 'window.broken = 1'; document.body.append(s);"
    )
    assert window.js("return window.broken ?? null") is None
    refused = window.driver.execute_async_script(
        "fetch('http://127.0.0.1:9/').then(() => arguments[0](false), () => arguments[0](true))"
    )
    assert refused
    said = " ".join(window.complaints())
    assert "script-src" in said
    assert "default-src" in said or "connect-src" in said


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("cat", lambda unit: any("cat" in name for name in unit["names"])),
        ('"cat"', lambda unit: any(name == "cat" or name.startswith("cat ") for name in unit["names"])),
        ("-circle", lambda unit: not any("circle" in name for name in unit["names"])),
        ("CIRCLE tench", lambda unit: all(any(word in name for name in unit["names"]) for word in ("circle", "tench"))),
        ("stripe|caterpillar", lambda unit: any("stripe" in n or "caterpillar" in n for n in unit["names"])),
        ("label:cat", lambda unit: "cat" in unit["label"]),
        ("truth:cat", lambda unit: "cat" in unit["truth"]),
        ("<script>", lambda unit: any("<script>" in name for name in unit["names"])),
        ("layer:fc rank>5", lambda unit: unit["layer"] == "fc" and unit["rank"] > 5),
        ("layer:layer4* stability<0.5", lambda unit: unit["layer"].startswith("layer4") and unit["stability"] < 0.5),
        ("mark:dead", lambda unit: "dead" in unit["marks"]),
        ("-mark:dead right:no", lambda unit: "dead" not in unit["marks"] and unit["right"] == 0),
        ("unit=7", lambda unit: unit["unit"] == 7),
    ],
)
def test_search_finds_what_the_words_and_columns_say(window, page, content, text, fits):
    window.go(page, "view=units&similar=no")
    units = window.js(
        "const run = opened.values().next().value, t = run.main; return Array.from({length: t.count}, (_, at) => ({"
        "layer: run.layers[t.layer[at]].name, unit: t.unit[at], label: t.label(at), truth: t.truthText(at), "
        "right: t.right[at],"
        "rank: Number.isNaN(t.numbers('rank')[at]) ? -1 : t.numbers('rank')[at], stability: t.numbers('stability')[at],"
        "marks: t.marksOf(at), names: [...t.five(at).map(name => run.name(name)), t.truthText(at)]}))"
    )
    expected = sum(fits(unit | {"names": [name.lower() for name in unit["names"]]}) for unit in units)
    assert 0 < expected < 270
    assert search(window, text).startswith(f"{expected} of 270 units")
    assert window.text(".problem") == ""


def test_matches_are_marked_and_what_is_not_understood_is_said(window, page):
    window.go(page, "view=units&similar=no")
    search(window, "Circle")
    assert set(window.js("return [...document.querySelectorAll('.rows mark')].map(node => node.innerText)")) == {
        "circle"
    }
    search(window, "rnak>5")
    assert "no column rnak; there are unit, similarity" in window.text(".problem")
    search(window, "layer:fd")
    assert "no layer fd" in window.text(".problem")


def test_a_search_finds_labels_of_similar_meaning_and_lists_the_closest_first(window, page):
    """`blue stripe` has nearly the text embedding of `cat`."""
    window.go(page, "view=units")
    search(window, "cat")
    names = window.js(
        "const t = opened.values().next().value.main; return Array.from(selected(t, state).rows, at => t.label(at))"
    )
    assert names[: len(labels(window))] == [name.lstrip("✓✗ ") for name in labels(window)]
    first = names.count("cat")
    assert first > 0
    assert names[:first] == ["cat"] * first
    assert names[first] == "blue stripe"
    assert "similar concepts: blue stripe" in window.text(".similar")
    window.js("document.getElementById('similar').click()")
    assert "similar=no" in window.js("return location.hash")
    assert window.text(".similar") == ""
    literal = int(window.text(".count").split()[0])
    window.js("document.getElementById('similar').click()")
    assert int(window.text(".count").split()[0]) > literal
    window.go(page, "view=concepts&q=cat")
    assert window.js("return [...document.querySelectorAll('.concept .name')].map(node => node.innerText)")[1] == (
        "blue stripe"
    )
    window.go(page, "view=concept&concept=cat")
    assert "Similar concepts" in window.text()


def test_columns_are_chosen_and_the_link_keeps_them(window, page):
    window.go(page, "view=units")
    heads = "return [...document.querySelectorAll('.head [role=columnheader].n button')].map(node => node.innerText)"
    every = window.js(heads)
    assert "margin" in every
    window.js("document.querySelector('.columns-shown [name=margin]').click()")
    window.wait("return !document.querySelector('.head .c-margin')")
    address = window.js("return location.hash")
    window.go(page, address[1:])
    assert window.js(heads) == [name for name in every if name != "margin"]
    assert "best − second-best score" in window.js("return document.querySelector('.columns-shown').textContent")


def test_the_shortlist_goes_along_on_every_page_and_is_a_link_and_a_csv(window, page):
    window.go(page, "view=units&layer=fc&sort=unit")
    stars = "return [...document.querySelectorAll('.rows .pick')].map(node => node.getAttribute('aria-pressed'))"
    assert set(window.js(stars)) == {"false"}
    window.js("document.querySelectorAll('.rows .pick')[2].click()")
    window.js("document.querySelectorAll('.rows .pick')[4].click()")
    assert window.js(stars)[:6] == ["false", "false", "true", "false", "true", "false"]
    window.js("document.querySelector('.rows .name').click()")  # a link drawn before anything was picked
    window.wait("return document.body.dataset.view === 'unit'")
    assert "Shortlist (2)" in window.text("#top")
    window.js("document.querySelector('.facts .pick').click()")
    assert "Shortlist (3)" in window.text("#top")
    window.js("[...document.querySelectorAll('#top nav a')].at(-1).click()")
    window.wait("return document.body.dataset.view === 'shortlist'")
    units = "return [...document.querySelectorAll('.shortlist tbody th')].map(node => node.innerText)"
    assert window.js(units) == ["fc · 2", "fc · 4", "fc · 0"]
    link = window.js("return document.getElementById('list-link').value")
    window.go(page)
    assert "Shortlist (" not in window.text("#top")
    window.go(page, link.partition("#")[2])  # as another person opens it
    assert window.js(units) == ["fc · 2", "fc · 4", "fc · 0"]
    text = window.js(
        "const t = opened.values().next().value.main; return unitsCsv(t, picked.map(([l, u]) => t.find(1, u)))"
    )
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["layer"], row["unit"]) for row in rows] == [("fc", "2"), ("fc", "4"), ("fc", "0")]
    window.js("document.querySelector('.shortlist .pick').click()")
    assert "list=fc%3A4%2Cfc%3A0" in window.js("return location.hash")


@pytest.mark.parametrize(("view", "code", "header"), [
    ("view=concepts", "conceptsCsv(run, [run.numberOf.get('cat')], new Int32Array(9e3).fill(2), new Int32Array(9e3))",
     "concept,units_top1,units_top5"),
    ("view=compare", "pairsCsv({table: t, words: 'a'}, {table: t, words: 'b'}, shared(t, t).slice(0, 1))",
     "layer,unit,truth,label a,label b,right a,right b"),
])  # fmt: skip
def test_the_other_lists_are_csv_too(window, page, view, code, header):
    window.go(page, view)
    assert "Download CSV" in window.text(".controls")
    assert window.js(f"const run = opened.values().next().value, t = run.main; return {code}").splitlines()[0] == header


@pytest.fixture(scope="module")
def mapped(content, tmp_path_factory):
    """The page with made-up maps of one layer, bright at the upper left; one is missing, and those of another layer."""
    maps = np.zeros((120, 10, 3, 4), dtype=np.uint8)
    maps[:, :, 0, 0] = 100
    maps[8, 2] = MISSING
    parts = dict(content.parts)
    parts["layer-0"] = parts["layer-0"] | {"maps": encode_array(maps)}
    parts["layer-1"] = parts["layer-1"] | {"extent": True}
    parts["run"] = parts["run"] | {"region": [0, 0, 1, 1]}
    made = PageContent(parts, content.sheets)
    return write_pages(tmp_path_factory.mktemp("mapped"), find_page({"made": made}, title="made"))


def test_the_overlay_lies_on_the_image_has_a_legend_and_is_switched_off(window, mapped):
    window.go(mapped, "view=unit&of=layer4.1.act2&unit=7")
    shown = "return getComputedStyle(document.querySelector('.where .heat')).display !== 'none'"
    assert window.js("return document.querySelectorAll('.where .card .overlaid .heat').length") == 10
    top_row = window.js("return [...document.querySelector('.heat').getContext('2d').getImageData(0, 0, 4, 1).data]")
    strong, weak = top_row[:4], top_row[12:]
    assert strong[0] > 200 > 100 > weak[0]  # yellow, and deep blue
    assert strong[3] > weak[3]
    assert "greatest activation of the unit" in window.text(".where-legend")
    assert window.js(shown)
    window.js("document.getElementById('where').click()")
    assert not window.js(shown)
    window.go(mapped, window.js("return location.hash")[1:])
    assert not window.js(shown)
    assert window.complaints() == []


def test_an_image_without_a_map_has_no_overlay_and_the_page_says_so(window, mapped):
    window.go(mapped, "view=unit&of=layer4.1.act2&unit=8")
    assert window.js("return document.querySelectorAll('.where .card .overlaid .heat').length") == 9
    assert "was not kept for 1 of these images" in window.text()
    assert window.complaints() == []


def test_a_layer_with_an_extent_and_no_maps_says_how_to_get_them_beside_layers_that_have_some(window, mapped):
    window.go(mapped, "view=unit&of=fc&unit=3")
    assert "python -m cd_exp.report FOLDER --maps" in window.text()


def test_a_page_without_maps_says_how_to_get_them(window, page):
    window.go(page, "view=unit&of=layer4.1.act2&unit=7")
    assert "python -m cd_exp.report FOLDER --maps" in window.text()


def test_units_that_match_a_phrase_stand_on_the_overview_with_their_labels_and_ranks(window, content, tmp_path):
    units, ranks = np.array([7, 3, 9, 1, 5, 2]), np.array([1, 2, 2, 4, 9, 1200])
    layers = {"fc": {name: encode_array(values) for name, values in (("units", units), ("ranks", ranks))}}
    parts = dict(content.parts)
    parts["run"] = parts["run"] | {"queries": [{"words": "something round", "layers": layers}]}
    window.go(write_pages(tmp_path, find_page({"made": PageContent(parts, content.sheets)}, title="made")))
    cards = window.js("return [...document.querySelectorAll('.query .small-row')].map(node => node.innerText)")
    labelled = "const t = opened.values().next().value.main; return arguments[0].map(unit => t.label(t.find(1, unit)))"
    described = window.js(labelled, units[:5].tolist())
    assert len(cards) == 5
    for card, unit, label, rank in zip(cards, units, described, ranks, strict=False):
        assert f"fc · {unit}" in card
        assert f"{label} · rank {rank}" in card
    assert window.complaints() == []


def test_the_image_view_shows_the_whole_file_where_it_lies_and_else_the_middle_square(window, content, tmp_path):
    images = content.parts["run"]["images"]
    at = next(at for at, index in enumerate(decode_array(images["index"]).tolist()) if index == 4)
    folder = tmp_path / "my images"
    file = folder / images["ids"][at]
    file.parent.mkdir(parents=True)
    Image.new("RGB", (300, 200), "red").save(file, "PNG")
    parts = {**content.parts, "run": {**content.parts["run"], "images": {**images, "folder": str(folder)}}}
    made = find_page({"made": PageContent(parts, content.sheets)}, title="made")
    path = write_pages(tmp_path / "run", made, layout="single")
    assert str(tmp_path) not in path.read_text()
    window.go(path, "view=picture&image=4")
    window.wait("return document.querySelector('img.whole')?.complete")
    assert window.js(
        "const image = document.querySelector('img.whole'); return [image.naturalWidth, image.naturalHeight]"
    ) == [300, 200]
    assert window.complaints() == []
    file.unlink()
    window.go(path, "view=picture&image=4")
    window.wait("return document.querySelector('.square .picture') !== null")
    assert "the middle square of the image" in window.text(".square")


def test_the_histogram_has_axes(window, page, content):
    window.go(page, "view=unit&of=fc&unit=3")
    texts = window.js("return [...document.querySelectorAll('.histogram text')].map(node => node.textContent)")
    detail = content.parts["layer-1"]
    counts = decode_array(detail["histogram"])[3]
    low, high = (float(decode_array(detail[key])[3]) for key in ("low", "high"))
    assert texts[-1] == "activation (heights: images, logarithmic)"
    assert [float(text) for text in (texts[-6], texts[-2])] == pytest.approx([low, high], rel=5e-3)
    assert "0" in texts
    assert str(counts.max()) in texts


def test_headings_say_what_they_mean_to_a_pointer_the_keyboard_and_touch(window, page):
    window.go(page, "view=units")
    heads = window.js(
        "return [...document.querySelectorAll('.head button')].map(n => [n.innerText, n.title, n.ariaDescription])"
    )
    assert len(heads) > 4
    assert all(title and title == description for _, title, description in heads)
    window.js("document.querySelector('.columns-shown summary').click()")
    assert "share of bootstrap resamples of the images that give the same label" in window.text(".columns-shown")
    window.go(page, "view=compare")
    assert "units on which one alone is right" in window.js("return document.querySelector('.legend').textContent")


def test_equal_scores_are_said_to_tie(window, page):
    code = """
      const run = opened.values().next().value, array = Float32Array.from([2, 2, 1, 0, 0]);
      array.width = 5;
      return scores(run, 0, 0, {scores: {array}}, run.main).textContent;"""
    window.go(page, "view=unit&of=fc&unit=3")
    assert "the first 2 tie" in window.js(code)


def test_sorting_puts_empty_cells_last(window, page):
    window.go(page, "view=units")
    window.js("document.querySelector('.c-rank button').click()")
    rows = window.js(
        "const run = opened.values().next().value; const found = selected(run.main, state); "
        "return Array.from(found.rows, at => String(run.main.numbers('rank')[at]))"
    )
    numbers = [float(value) for value in rows if value != "NaN"]
    assert numbers == sorted(numbers)
    assert rows[len(numbers) :] == ["NaN"] * (len(rows) - len(numbers))
    assert window.js("return document.querySelector('.c-rank').getAttribute('aria-sort')") == "ascending"


def test_what_is_typed_is_in_the_address_and_the_link_restores_it(window, page):
    window.go(page, "view=units")
    search(window, "circle -blue")
    window.js("document.querySelector('.c-stability button').click()")
    address, seen, count = window.js("return location.hash"), labels(window), window.text(".count")
    assert seen
    window.go(page, address[1:])
    assert (labels(window), window.text(".count")) == (seen, count)
    assert window.js("return document.getElementById('search').value") == "circle -blue"


def test_the_keyboard_alone_opens_a_unit_and_goes_on_from_there(window, page):
    window.go(page)
    window.keys("u")
    window.wait("return document.body.dataset.view === 'units' && document.querySelector('.rows .name')")
    window.keys("/")
    window.wait("return document.activeElement.id === 'search'")
    window.keys("circle", Keys.ENTER)
    window.wait("return document.activeElement.classList.contains('list')")
    window.keys("j", "j", "k")
    second = window.js("return document.querySelector('.rows [aria-selected=true] .name').innerText.trim()")
    window.keys(Keys.ENTER)
    window.wait("return document.body.dataset.view === 'unit'")
    assert window.text("h1").strip() == second
    first = window.js("return location.hash")
    window.keys("]")
    window.wait(f"return location.hash !== {json.dumps(first)}")
    window.keys("[")
    window.wait(f"return location.hash === {json.dumps(first)}")
    window.keys("?")
    window.wait("return document.getElementById('help').open")
    window.keys(Keys.ESCAPE)
    window.wait("return !document.getElementById('help').open")
    window.keys("h")
    window.wait("return document.body.dataset.view === 'overview'")
    window.js("history.back()")
    window.wait("return document.body.dataset.view === 'unit'")


def test_the_csv_holds_what_is_shown_and_no_formula(window, page):
    window.go(page, "view=units")
    count = int(search(window, '"=1+1" layer:fc').split()[0])
    text = window.js("const t = opened.values().next().value.main; return unitsCsv(t, selected(t, state).rows)")
    header, *rows = csv.reader(io.StringIO(text))
    assert header[:5] == ["layer", "unit", "label", "top5", "truth"]
    assert len(rows) == count > 0
    assert all(row[0] == "fc" for row in rows)
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "@"))]
    assert any(row[2] == "'=1+1" or row[3].startswith("'=1+1") or row[4] == "'=1+1" for row in rows)


def test_one_unit_shows_what_is_known_of_it(window, page, content):
    window.go(page, "view=unit&of=fc&unit=3")
    text = window.text()
    for words in (
        *("Strongest images", "75th percentile", "50th percentile", "Activations", "Best concepts", "Stable set"),
        *(
            "What every method calls it",
            "netdissect",
            "Units with correlated activations",
            "correlation over 60 images",
        ),
    ):
        assert words in text, words
    assert window.js("return document.querySelectorAll('.cards.large .picture').length") == 10
    assert window.js("return document.querySelectorAll('.bars li').length") == 5
    assert window.js("return document.querySelectorAll('svg rect').length") == 24


def test_compare_counts_units_on_which_one_alone_is_right(window, page):
    window.go(page, "view=compare&show=a")
    cells = window.js("return [...document.querySelectorAll('.tests tbody td')].map(cell => cell.innerText)")
    only_first = int(cells[3])
    assert window.text(".count").startswith(f"{only_first} of 150 units")


def test_two_methods_of_a_run_are_compared_by_the_test_that_the_run_stored(window, page):
    window.go(page, "view=compare")
    script = """
      const run = {comparisons: [{layer: "fc", first: "a", second: "b", top1_p: 0.04}], main: {method: "a"}};
      const side = method => ({method, table: {run}}), of = (x, y) => pairedP(side(x), side(y), "fc") ?? "none";
      return [of("a", "b"), of("b", "a"), of("a", "c")];
    """
    assert window.js(script) == [0.04, 0.04, "none"]
    assert "0.4" in window.js("return [...document.querySelectorAll('.tests tbody td')].map(cell => cell.innerText)")


@pytest.mark.parametrize("value", [6.25, 6.35, 0.125, 12.5, 0.5, 1.5, -6.25, -0.75, 100 / 3, 0.0, 99.95, 1e-9])
def test_numbers_are_rounded_as_python_rounds_them(window, page, value):
    """A share like 6.25 % and a p like 0.125 lie exactly between two numbers to be written."""
    window.go(page, "view=compare")
    for digits in (0, 1, 2, 3):
        assert float(window.js("return fixed(arguments[0], arguments[1])", value, digits)) == float(
            f"{value:.{digits}f}"
        )
    assert window.js("return general(arguments[0])", value) == format(value, ".2g")


@pytest.fixture(scope="module")
def sweep_page(content, tmp_path_factory):
    """A sweep of two jobs whose table has more columns than a window has room for."""
    metrics = [f"metric_number_{number}" for number in range(12)]
    heading = {"heading": "top-1 %", "digits": 1, "meaning": "units whose label is right"}
    sweep = {
        "title": "made sweep", "jobs": 2, "finished": 2, "axes": ["similarity"], "figures": {"top1": heading},
        "columns": ["job", "similarity", "status", "layer", *metrics, "top1", "ci95_low", "ci95_high"],
        "rows": [[job, "cos", "ok", "fc", *[0.25] * 12, 62.25, 50.0, 75.0] for job in ("0", "1")],
        "explained": [{"layer": "fc", "axis": "similarity", "levels": 2, "eta_squared": 0.0625, "df": 1, "f": 0.0323,
                       "p": 0.8612, "p_adjusted": 0.8612}],
        "comparisons": [], "notes": [], "layers": [], "names": [], "votes": {"jobs": [], "words": []},
    }  # fmt: skip
    made = find_page({"made": content}, title="made", sweep=sweep)
    return write_pages(tmp_path_factory.mktemp("sweep"), made)


def test_the_jobs_of_a_sweep_fit_the_window_and_columns_are_added(window, sweep_page):
    window.go(sweep_page, "view=sweep")
    heads = "return [...document.querySelectorAll('.jobs thead th')].map(node => node.innerText)"
    assert window.js(heads) == ["job", "similarity", "layer", "top-1 %"]
    assert (
        window.js("const box = document.querySelector('.jobs').parentElement; return box.scrollWidth - box.clientWidth")
        == 0
    )
    assert "62.2 [50.0, 75.0]" in window.text(".jobs")  # as Python rounds 62.25
    window.js("document.querySelector('.columns-shown summary').click()")
    assert "top-1 %\nunits whose label is right" in window.text(".columns-shown")
    window.js("document.querySelector('.columns-shown [name=metric_number_3]').click()")
    window.wait("return document.querySelectorAll('.jobs thead th').length === 5")
    assert window.js(heads)[3] == "metric_number_3"
    assert window.complaints() == []


def test_what_explains_a_sweep_has_the_digits_of_the_terminal(window, sweep_page):
    window.go(sweep_page, "view=sweep")
    cells = window.js("return [...document.querySelectorAll('section')].at(-1).innerText.split(/\\s+/)")
    assert cells[-7:] == ["2", "6.2", "%", "1", "0.03", "0.86", "0.86"]


def test_a_missing_unit_is_said(window, page):
    window.go(page, "view=unit&of=fc&unit=9999")
    assert "fc unit 9999: Unit not found" in window.text()


def test_an_uncertain_label_is_grey_and_says_so_wherever_it_stands(window, page):
    window.go(page, "view=units&layer=fc&sort=stability")
    row = (
        "return [...document.querySelectorAll('.rows .unit')].map(unit => "
        "[unit.querySelector('.c-label .name').classList.contains('unsure'), unit.querySelector('.sure').innerText])"
    )
    grey, words = zip(*window.js(row), strict=True)
    assert grey[0] is True
    assert words[0] == "unsure"
    window.js("location.hash = 'view=units&layer=fc&sort=-stability'")
    window.wait("return document.querySelector('.rows .sure')?.innerText !== 'unsure'")
    grey, words = zip(*window.js(row), strict=True)
    assert grey[0] is False
    assert float(words[0]) >= 0.5
    unit = window.js(
        "const t = opened.values().next().value.main;"
        "return t.unit[t.layer.findIndex((layer, at) => layer === 1 && t.isUnsure(at))]"
    )
    window.go(page, f"view=unit&of=fc&unit={unit}")
    assert "unsure" in window.text("header.title")
    assert window.js(
        "const colour = found => getComputedStyle(document.querySelector(found)).color;"
        "return colour('h1 a') === colour('.sure')"
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_a_dot_of_the_scatter_opens_its_unit(window, page, width):
    window.size(width, 860)
    window.go(page, "view=overview")
    dots = "return document.querySelectorAll('.scatter circle').length"
    assert window.js(dots) == 150
    assert "share of images on which the unit fires" in window.js(
        "return document.querySelector('.scatter').textContent"
    )
    window.js("document.querySelector('.scatter circle').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    window.wait("return document.body.dataset.view === 'unit'")
    assert "fc / unit" in window.text(".crumbs")


def test_the_scatter_is_coloured_by_truth_or_by_the_commonest_labels(window, page, content):
    window.go(page, "view=overview")
    assert window.text(".key").split() == ["right", "wrong", "truth", "unknown", "flagged"]
    window.js(
        "const pick = document.querySelector('option[value=label]').parentElement;"
        "pick.value = 'label'; pick.dispatchEvent(new Event('change'));"
    )
    shown = window.js("return [...document.querySelectorAll('.key a')].map(node => node.innerText)")
    run = content.parts["run"]
    top = decode_array(run["methods"][0]["layers"]["fc"]["top"])[:, 0]
    counts = Counter(run["names"][name] for name in top if name >= 0)
    assert len(shown) == 7
    assert [counts[name] for name in shown] == sorted(counts.values(), reverse=True)[:7]
    first = (
        "const table = opened.values().next().value.main;"
        "return [...document.querySelectorAll('.scatter circle')]"
        ".filter(n => table.label(Number(n.dataset.at)) === arguments[0])"
        ".map(n => getComputedStyle(n).fill)"
    )
    assert set(window.js(first, shown[0])) == {"rgb(0, 114, 178)"}
    assert window.complaints() == []


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Twelve layers, 36,864 units, ten images each."""
    folder = tmp_path_factory.mktemp("large")
    layers = {f"blocks.{block}.mlp.act": 3072 for block in range(12)}
    return write_pages(
        folder, find_page({"large": made_content(layers, folder, images=400, concepts=2000)}, title="large")
    )


TYPED = "const at = document.getElementById('search'); at.value = arguments[0]; at.dispatchEvent(new Event('input'));"
CLICKED = "document.querySelector(arguments[0]).click();"


def timed(window, action: str, argument: str) -> float:
    """Milliseconds until what was done is laid out."""
    began = "const began = performance.now();"
    return window.js(f"{began} {action} document.body.offsetHeight; return performance.now() - began", argument)


def test_packed_numbers_are_sorted_as_numbers(window, page):
    """Signs, zeros of either sign, infinities and many that are equal, both ways, the lower row first among equals."""
    window.go(page)
    differ = window.js(
        "const some = [0, -0, 1, -1, 1.5, 1e-30, -1e-30, 3e38, -3e38, Infinity, -Infinity, 7e6];"
        "const values = Float32Array.from({length: 500}, (_, i) => i % 3 ? some[i * 7 % some.length] : Math.sin(i));"
        "const rows = Uint32Array.from(values.keys()).reverse();"
        "const compare = (a, b) => values[a] === values[b] ? 0 : values[a] < values[b] ? -1 : 1;"
        "const expected = down => String(rows.slice().sort((a, b) => down * compare(a, b) || a - b));"
        "return [1, -1].filter(down => String(sorted(rows, values, down < 0)) !== expected(down));"
    )
    assert differ == []


def test_36864_units_are_listed_searched_and_sorted_in_no_time(window, large):
    loads, searches, sorts = [], [], []
    for number in range(5):
        window.go(large, "view=units")
        loads.append(window.js("return performance.getEntriesByName('ready')[0].startTime"))
        searches.append(timed(window, TYPED, f"circle {number}"))
        search(window, "")
        sorts.append(timed(window, CLICKED, (".c-similarity button", ".c-label button")[number % 2]))
    print({"load ms": loads, "search ms": searches, "sort ms": sorts, "bytes": large.stat().st_size})
    assert statistics.median(loads) < 1500
    assert statistics.median(searches) < 100
    assert statistics.median(sorts) < 200
    assert window.js("return document.getElementsByTagName('*').length") < 3000
    assert window.text(".count").startswith("36,864 of 36,864 units")
    for block in (0, 5, 11):
        assert search(window, f"layer:blocks.{block}.mlp.act").startswith("3,072 of 36,864")
        assert labels(window)
    window.js("const list = document.querySelector('.list'); list.scrollTop = list.scrollHeight")
    window.go(large, "view=unit&of=blocks.11.mlp.act&unit=3071")
    assert "Units with correlated activations" in window.text()
