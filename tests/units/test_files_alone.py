"""Activations and embeddings from files, and no image at all: a whole run, from the command line to its pages."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.reading import read_rows
from scipy import sparse

from cd_exp.explorer.page import list_runs, read_pages

ROOT = Path(__file__).parents[2]
IMAGES, WORDS, UNITS = 300, 40, 12


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Units that answer to the word of their number, with the same numbers as a dense and a sparse file."""
    folder = tmp_path_factory.mktemp("files")
    generator = np.random.default_rng(0)
    words = np.linalg.qr(generator.standard_normal((64, WORDS)))[0].T.astype(np.float32)
    shown = generator.integers(WORDS, size=IMAGES)
    embeddings = words[shown] + 0.05 * generator.standard_normal((IMAGES, 64)).astype(np.float32)
    activations = (shown[:, None] == np.arange(UNITS)).astype(np.float32) * generator.uniform(1, 2, (IMAGES, 1))
    names = [f"{number}.jpg" for number in range(IMAGES)]
    np.save(folder / "image_embeddings.npy", embeddings)
    np.save(folder / "words_text.npy", words)
    (folder / "words_names.txt").write_text("\n".join(f"word {number}" for number in range(WORDS)))
    (folder / "images.txt").write_text("\n".join(names))
    for kind in ("dense", "sparse"):
        (folder / kind).mkdir()
        (folder / kind / "images.txt").write_text("\n".join(names))
    np.save(folder / "dense" / "own.npy", activations.astype(np.float32))
    sparse.save_npz(folder / "sparse" / "own.npz", sparse.csr_array(activations.astype(np.float32)))
    (folder / "truth.txt").write_text("\n".join(f"word {number}" for number in range(UNITS)))
    return folder


def run(world: Path, kind: str, *more: str) -> Path:
    words = [
        "units=matrix", f"units.path={world}/{kind}", f"units.truth={{own:{world}/truth.txt}}", "probe=ids",
        f"probe.path={world}/images.txt", "clip=precomputed", f"clip.folder={world}", "concepts=file",
        f"concepts.path={world}/words_names.txt", f"cache.dir={world}/cache", f"hydra.run.dir={world}/run-{kind}",
        "logger=none", "similarity.top_k=5", *more,
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "run.py", *words], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return world / f"run-{kind}"


@pytest.mark.slow
def test_a_run_without_pictures_leaves_out_only_what_shows_them(world):
    folder = run(world, "dense")
    rows = read_rows(folder / "labels.csv")
    assert [row["description"] for row in rows] == [row["truth"] for row in rows]
    figures = json.loads((folder / "metrics.json").read_text())["layers"]["own"]
    assert (figures["units"], figures["judged"], figures["top1"]) == (UNITS, UNITS, 100.0)
    report = (folder / "report.html").read_text()
    assert "own" in report
    assert "100.0" in report
    assert list((folder / "figures").glob("*.png"))
    content = next(iter(list_runs(read_pages(folder)).values()))
    assert content.sheets == {}
    assert set(content.parts["run"]["images"]["ids"]) <= {f"{number}.jpg" for number in range(IMAGES)}


@pytest.mark.slow
def test_sparse_files_of_the_same_numbers_give_the_same_file(world):
    quick = ("report.html=false", "report.figures=false", "report.explorer=none")
    one, other = (run(world, kind, *quick) / "labels.csv" for kind in ("dense", "sparse"))
    assert one.read_bytes() == other.read_bytes()
