"""Plain words: of the sentences that readers could not follow, none is left in what a user sees."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("cd_exp", "conf", "docs", "experiments", "examples", "notebooks")
KINDS = {".py", ".yaml", ".md", ".js", ".html", ".ipynb"}
OLD = (
    "one run a combination", "what axes do only together", "at the highest score there is", "an earlier class has too",
    "st.AUC", "stability AUC less AUC", "cov.80", "is there already, and +", "about these configurations on the units",
    "can be told once", "read, not made", '"images unknown"', "B more below", "judge does not know the label",
    "labels were judged on", "goes on from", "nothing was removed", "embedded world", "ADDRESS is where this page lies",
    "nothing is looked at twice", "words of your own as well", "cache never lies", "Errors a user can mend",
    "never run here", "no GPU was at hand", "holds them against", "units held against a truth",
    "tells right labels from wrong", "most stable first, of which 80", "the same, the middle unit", "redrawings",
    "images are drawn anew", "first score less second", "the labels of 90 % of resamples", "answers to weakly",
    "act alike", "CLIP thinks", "answer to it best", "rank of the words among", '" in five"', "only the first",
    "units have says little", "many units have says", "CLIP's best picture", "explains %", "same name %",
    "numbers a position", "of every random draw", "of these in which", "smaller norms count as this",
    "than a concept has images hurts", "bias is taken off first", "# Moving over", "# From 0.1.0",
    "# A labeller of our own", "Scores without a truth", "columns of files", "## Where it ends",
    "What it is worth, and what not", "network in hand", "is at hand", "was at hand", "cannot be told", "passed over",
    "has no unit ${", "a line a unit", "a run a job", "run a job", "one a unit", "a row a unit", "an image a folder",
    "held against", "at hand for", "weights drawn anew", "of the activations' whitening",
)  # fmt: skip


def pages() -> list[Path]:
    below = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")))
    written = (path for path in below if path.suffix in KINDS and "_build" not in path.parts)  # not the site
    return [ROOT / "README.md", *filter(Path.is_file, written)]


@pytest.mark.parametrize("phrase", OLD)
def test_no_page_message_or_comment_has_the_old_sentence(phrase):
    assert [str(path.relative_to(ROOT)) for path in pages() if phrase in path.read_text(encoding="utf-8")] == []
