import html
import re
import shutil
import subprocess
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.made_outcomes import HOSTILE
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
    outcome = replace(outcome, notes=[*outcome.notes, HOSTILE])
    results.draw_figures(tmp_path, outcome, units=2)
    return results.write_report(tmp_path, outcome, manifest=manifest).read_text()


def test_names_from_files_are_escaped_everywhere(text):
    assert HOSTILE not in text
    assert html.escape(HOSTILE, quote=False).replace("'", "&#39;") in text
    assert "<script" not in text  # it needs none
    assert "<9a>" not in text  # of the manifest
    assert "& <b>" not in text  # of the probe's ids


def test_nothing_is_loaded_from_anywhere(text):
    page = Page(text)
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert not page.all("link")
    assert not re.search(r"https?://", text)
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_the_page_holds_every_figure_with_its_caption_and_no_list_of_units(text, outcome):
    page = Page(text)
    assert len(page.all("figure")) == len(page.all("img")) == 5
    assert text.count("data:image/jpeg") == 1  # of the units, whose images are a fifth of a PNG
    assert all(image["alt"] for image in page.all("img"))
    assert text.count("<figcaption>") == 5
    assert len(page.all("tr")) < sum(map(len, (labels.units for labels in outcome.labels.values())))
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))


def test_metrics_tests_and_settings_are_on_the_page(text):
    for words in (
        "58.3 [52.1, 63.8]",
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


def test_everything_is_written_within_3_s_of_work_for_1000_units(outcome, many_units, manifest, tmp_path):
    results.draw_figures(tmp_path, outcome, units=1)  # imports matplotlib
    began = time.process_time()
    results.write_run_files(tmp_path, many_units, manifest=manifest)
    results.draw_figures(tmp_path, many_units)
    results.write_report(tmp_path, many_units, manifest=manifest)
    assert time.process_time() - began < 3


@browser
def test_the_page_prints_on_paper(outcome, manifest, tmp_path):
    results.draw_figures(tmp_path, outcome, units=6)
    path = results.write_report(tmp_path, outcome, manifest=manifest)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    paper = tmp_path / "report.pdf"
    subprocess.run([*command, f"--print-to-pdf={paper}", path.as_uri()], capture_output=True, timeout=120, check=True)
    pages = len(re.findall(rb"/Type /Page\b(?!s)", paper.read_bytes()))
    assert 1 < pages <= 6


@browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_follows_light_and_dark(outcome, manifest, tmp_path, dark):
    path = results.write_report(tmp_path, outcome, manifest=manifest)
    picture = tmp_path / "page.png"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    scheme = ["--force-dark-mode"] if dark else []
    subprocess.run([*command, *scheme, "--window-size=800,400", f"--screenshot={picture}", path.as_uri()],
                   capture_output=True, timeout=120, check=True)  # fmt: skip
    with Image.open(picture) as image:
        assert bool(np.asarray(image.convert("L")).mean() < 90) is dark


def test_the_page_links_to_the_explorer_where_there_is_one(outcome, manifest, tmp_path):
    assert 'href="explorer' not in results.write_report(tmp_path, outcome, manifest=manifest).read_text()
    (tmp_path / "explorer").mkdir()
    (tmp_path / "explorer" / "index.html").write_text("")
    assert 'href="explorer/index.html"' in results.write_report(tmp_path, outcome, manifest=manifest).read_text()
