import html
import re
import shutil
import subprocess
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from made_outcomes import HOSTILE
from PIL import Image

from cd_exp import results

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on the PATH")


class Page(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, name: str) -> list[dict]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture
def text(outcome, manifest, tmp_path) -> str:
    results.draw_figures(tmp_path, outcome, units=2)
    return results.write_report(tmp_path, outcome, manifest=manifest, units=6, images=4).read_text()


def test_names_from_files_are_escaped_everywhere(text):
    assert HOSTILE not in text
    assert html.escape(HOSTILE, quote=False).replace("'", "&#39;") in text
    assert text.count("<script>") == 1
    assert "<9a>" not in text  # of the manifest
    assert "& <b>" not in text  # of the probe's ids


def test_nothing_is_loaded_from_anywhere(text):
    page = Page(text)
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert not page.all("link")
    assert not [tag for tag in page.all("script") if "src" in tag]
    assert not re.search(r"https?://", text)
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_the_page_holds_figures_pictures_and_every_unit(text, outcome):
    page = Page(text)
    assert len(page.all("figure")) == 4
    assert len([item for item in page.all("li") if "data-item" in item]) == 6
    assert len(page.all("img")) == len(page.all("figure"))
    pictures = [span for span in page.all("span") if span.get("role") == "img"]
    assert len(pictures) == 6 * 4
    assert all(picture["aria-label"] for picture in pictures)
    shown = {picture["class"].split()[-1] for picture in pictures}
    assert text.count("data:image/jpeg") == len(shown) < 6 * 4  # each distinct picture once
    assert all(f".{name} {{ background-image" in text for name in shown)
    assert all(image["alt"] for image in page.all("img"))
    assert len([row for row in page.all("tr") if "data-item" in row]) == sum(
        map(len, (labels.units for labels in outcome.labels.values()))
    )
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))


def test_each_label_is_right_wrong_or_unknown(text):
    rows = [row for row in Page(text).all("tr") if "data-verdict" in row]
    assert {row["data-verdict"] for row in rows if row["data-layer"] == "fc"} == {"right", "wrong"}
    assert {row["data-verdict"] for row in rows if row["data-layer"] != "fc"} == {"unknown"}


def test_metrics_tests_and_settings_are_on_the_page(text):
    for words in (
        "58.3 [52.1,\N{NO-BREAK SPACE}63.8]",
        "netdissect",
        "+14.6",
        "similarity.top_k",
        "2 units of fc never fire",
    ):
        assert words in text


def test_a_run_with_nothing_but_labels_has_a_page(outcome, tmp_path):
    layer = "layer4.1.act2"
    plain = replace(
        outcome,
        labels={layer: outcome.labels[layer]},
        metrics={layer: {"units": 60}},
        baselines={}, baseline_metrics={}, comparisons=(), notes=(), top_images={},
    )  # fmt: skip
    page = Page(results.write_report(tmp_path, plain, manifest={}).read_text())
    assert not page.all("img")


def test_a_very_long_list_is_cut_and_says_so(outcome, manifest, tmp_path, monkeypatch):
    monkeypatch.setattr("cd_exp.results.html.CAP", 100)
    text = results.write_report(tmp_path, outcome, manifest=manifest, units=0).read_text()
    assert "20 more units are in labels.csv" in text


def test_everything_is_written_within_3_s_of_work_for_1000_units(outcome, many_units, manifest, tmp_path):
    results.draw_figures(tmp_path, outcome, units=1)  # imports matplotlib
    began = time.process_time()
    results.write_run_files(tmp_path, many_units, manifest=manifest)
    results.draw_figures(tmp_path, many_units)
    results.write_report(tmp_path, many_units, manifest=manifest)
    assert time.process_time() - began < 3


@browser
def test_a_browser_shows_the_page_without_errors_and_searches_it(outcome, manifest, tmp_path):
    path = results.write_report(tmp_path, outcome, manifest=manifest, units=6)
    probe = """
<script>
const buttons = [...document.querySelectorAll("#list th button")];
buttons[3].click(); buttons[3].click();
const first = document.querySelector("#list tbody tr").cells[3].textContent;
search.value = "SCRIPT fc"; search.dispatchEvent(new Event("input"));
const count = document.getElementById("count").textContent, scripts = document.querySelectorAll("#list script").length;
document.title = [first, count, scripts].join("|");
</script></body>"""
    path.write_text(path.read_text().replace("</body>", probe))
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
    ]
    shown = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout
    title = re.search(r"<title>(.*?)</title>", shown).group(1)
    highest = max(float(labels.similarity.max()) for labels in outcome.labels.values())
    found = sum(
        HOSTILE.split(">")[0] in " ".join((*labels.top[place], *(labels.truth[place] or ())))
        or any("script" in name for name in outcome.baselines["netdissect"]["fc"].top[place])
        for labels in [outcome.labels["fc"]]
        for place in range(60)
    )
    assert title == f"{highest:.4g}|{found} of 120 units|0"


@browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_follows_light_and_dark(outcome, manifest, tmp_path, dark):
    path = results.write_report(tmp_path, outcome, manifest=manifest, units=0)
    picture = tmp_path / "page.png"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    scheme = ["--force-dark-mode"] if dark else []
    subprocess.run([*command, *scheme, "--window-size=800,400", f"--screenshot={picture}", path.as_uri()],
                   capture_output=True, timeout=120, check=True)  # fmt: skip
    with Image.open(picture) as image:
        assert bool(np.asarray(image.convert("L")).mean() < 90) is dark


def test_the_page_links_to_the_explorer_where_there_is_one(outcome, manifest, tmp_path):
    assert 'href="explorer' not in results.write_report(tmp_path, outcome, manifest=manifest, units=0).read_text()
    (tmp_path / "explorer").mkdir()
    (tmp_path / "explorer" / "index.html").write_text("")
    assert (
        'href="explorer/index.html"' in results.write_report(tmp_path, outcome, manifest=manifest, units=0).read_text()
    )


def test_cards_and_list_say_how_sure_a_label_is(outcome, manifest, tmp_path):
    labels = outcome.labels["fc"]
    stability = np.linspace(0, 1, len(labels.units))
    outcome = replace(outcome, labels={"fc": replace(labels, stability=stability, p_right=None)})
    text = results.write_report(tmp_path, outcome, manifest=manifest, units=2).read_text()
    assert "stability 1.00" in text
    assert text.count('class="unsure" title="unsure"') == (stability < 0.5).sum()
    unsure = replace(outcome, labels={"fc": replace(labels, stability=stability / 3, p_right=None)})
    text = results.write_report(tmp_path, unsure, manifest=manifest, units=2).read_text()
    assert '<b class="unsure">' in text
    assert "unsure, stability 0.33" in text
