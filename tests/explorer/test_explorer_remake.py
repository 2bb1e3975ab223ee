"""Pages of stored runs and sweeps, made again."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers.browsing import needs_browser
from made_runs import MANIFEST, made_run

from cd_exp import explorer, results
from cd_exp.cli import entry
from cd_exp.config.resolved import TARGETS_OF_0_2_0
from cd_exp.errors import InputError
from cd_exp.explorer.payload import decode_array
from cd_exp.explorer.thumbnails import StoredThumbnails, read_top_images
from cd_exp.metrics import compare_methods
from cd_exp.records import UnitResults
from cd_exp.report import main, rebuild_pages
from cd_exp.results.load_run import read_results
from cd_exp.sweep import read_sweep, write_sweep_page

pytestmark = pytest.mark.slow

LAYERS = {"layer4": 30, "fc": 40}
WITH_BASELINE = {**MANIFEST, "baselines": ["netdissect"], "config": {}}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Two finished runs, with everything that a run leaves."""
    folders = [tmp_path_factory.mktemp("runs") / name for name in ("0", "1")]
    for seed, folder in enumerate(folders):
        run, outcome = made_run(LAYERS, folder, seed=seed)
        manifest = MANIFEST | {"baselines": ["netdissect"], "overrides": [f"seed={seed}"], "config": {"seed": seed}}
        results.write_run_files(folder, outcome, manifest=manifest)
        content = explorer.collect_pages(run, outcome, manifest=manifest, title="made")
        explorer.write_pages(folder, explorer.find_page({folder.name: content}, title="made"))
    return folders


@pytest.fixture
def folders(stored, tmp_path):
    return [shutil.copytree(folder, tmp_path / "sweep" / folder.name) for folder in stored]


def test_the_pages_of_a_run_are_made_again_from_its_files(folders):
    (folder, _) = folders
    before = explorer.read_pages(folder)
    (folder / "explorer" / "index.html").write_text(
        (folder / "explorer" / "index.html").read_text().replace("<header", "<b>old</b><header")
    )
    pages = rebuild_pages([folder])
    assert [page.relative_to(folder).as_posix() for page in pages] == ["report.html", "explorer/index.html"]
    assert explorer.read_pages(folder) == before
    assert "<b>old</b>" not in pages[1].read_text()
    text = pages[0].read_text()
    assert 'href="explorer/index.html"' in text
    assert 0 < text.count("data:image/jpeg") <= 60  # each image of the probe set once at most
    assert (folder / "figures" / "units.png").is_file()


def test_pictures_of_another_number_of_units_than_labels_are_refused(folders):
    shown = {layer: np.zeros((units, 5), dtype=int) for layer, units in LAYERS.items()}
    assert read_results(folders[0], probe=StoredThumbnails(None), top_images=shown).top_images.keys() == LAYERS.keys()
    for other in ({"fc": shown["layer4"]}, {"conv": shown["fc"]}):
        with pytest.raises(InputError, match=r"does not have the units of .* that explorer/ shows"):
            read_results(folders[0], probe=StoredThumbnails(None), top_images=shown | other)


def test_pages_made_elsewhere_leave_the_run_alone(folders, tmp_path):
    before = {path: path.read_bytes() for path in folders[0].rglob("*") if path.is_file()}
    rebuild_pages([folders[0]], out=tmp_path / "elsewhere")
    assert {path: path.read_bytes() for path in folders[0].rglob("*") if path.is_file()} == before
    assert (tmp_path / "elsewhere" / "explorer" / "index.html").is_file()


def test_a_run_without_an_explorer_gets_one_of_its_labels(folders):
    shutil.rmtree(folders[0] / "explorer")
    rebuild_pages([folders[0]])
    run = explorer.list_runs(explorer.read_pages(folders[0]))["0"].parts["run"]
    assert [layer["units"] for layer in run["layers"]] == [30, 40]
    assert run["images"]["ids"] == []
    ranks = decode_array(run["methods"][0]["layers"]["fc"]["numbers"]["rank"])
    assert (decode_array(run["methods"][0]["layers"]["fc"]["right"]) == (ranks == 1)).all()


def test_several_runs_make_one_page(folders, tmp_path):
    (page,) = rebuild_pages(folders, out=tmp_path / "both")
    content = explorer.read_pages(tmp_path / "both")
    assert page == tmp_path / "both" / "explorer" / "index.html"
    assert [run["key"] for run in content.parts["page"]["runs"]] == ["0", "1"]
    labels = [read_results(folder, probe=StoredThumbnails(None), top_images={}).labels["fc"] for folder in folders]
    with_truth = [(part, part.verdicts >= 0) for part in labels]
    judged = [UnitResults(units=part.units[rows], top1=part.verdicts[rows] == 1) for part, rows in with_truth]
    expected = compare_methods(*judged)
    test = next(
        row
        for row in content.parts["page"]["comparisons"]
        if row["layer"] == "fc" and row["second"] == "1/clip_dissect"
    )
    assert (test["first"], test["second"]) == ("0/clip_dissect", "1/clip_dissect")
    assert (test["top1_p"], test["top1_difference"]) == (expected["top1_p"], expected["top1_difference"])
    again = [shutil.copytree(folder, tmp_path / folder.name / "run") for folder in folders]
    rebuild_pages(again, out=tmp_path / "named")
    assert [run["key"] for run in explorer.read_pages(tmp_path / "named").parts["page"]["runs"]] == ["0/run", "1/run"]


def test_a_sweep_gets_the_pages_of_its_jobs_and_one_of_them_all(folders):
    sweep = folders[0].parent
    pages = rebuild_pages([sweep])
    assert pages[-1] == sweep / "explorer" / "index.html"
    content = explorer.read_pages(sweep)
    assert [run["home"] for run in content.parts["page"]["runs"]] == [
        "../0/explorer/index.html",
        "../1/explorer/index.html",
    ]
    assert not [name for name in content.parts if "layer" in name]
    table = content.parts["sweep"]
    assert table["axes"] == ["seed"]
    assert [layer["words"] for layer in table["layers"]] == ["layer4", "fc"]
    assert decode_array(table["layers"][1]["labels"]).shape == (40, 2)
    labels = read_results(folders[1], probe=StoredThumbnails(None), top_images={}).labels["fc"]
    column = [table["names"][number] for number in decode_array(table["layers"][1]["labels"])[:, 1]]
    assert column == list(labels.descriptions)


def test_a_sweep_of_which_no_job_has_pages_has_none(folders):
    sweep = folders[0].parent
    assert write_sweep_page(read_sweep(sweep), sweep) is not None
    for folder in folders:
        shutil.rmtree(folder / "explorer")
    assert write_sweep_page(read_sweep(sweep), sweep) is None
    assert not (sweep / "explorer").exists()


def test_what_a_run_found_comes_back_from_its_files(stored, tmp_path):
    _, outcome = made_run(LAYERS, tmp_path, seed=0)
    results = read_results(stored[0], probe=StoredThumbnails(None), top_images={})
    assert results.metrics == outcome.metrics
    assert results.comparisons == outcome.comparisons
    assert results.baselines["netdissect"]["fc"].top == outcome.baselines["netdissect"]["fc"].top
    for layer, labels in outcome.labels.items():
        assert results.labels[layer].top == labels.top
        assert results.labels[layer].marks == labels.marks
        np.testing.assert_allclose(results.labels[layer].similarity, labels.similarity, rtol=1e-5)


def test_pages_made_again_know_which_labels_of_every_method_were_right(tmp_path):
    """A baseline has no ranks: its 64 right and 36 wrong labels were 100 unknown ones on pages made again."""
    _, outcome = made_run(LAYERS, tmp_path, seed=0)
    theirs = replace(outcome.baselines["netdissect"]["fc"], ranks=None, right=np.arange(40) % 3 - 1)
    results.write_run_files(
        tmp_path, replace(outcome, baselines={"netdissect": {"fc": theirs}}), manifest=WITH_BASELINE
    )
    assert (tmp_path / "judged.csv").read_text().splitlines()[0] == "layer,unit,method,right"
    stored_results = read_results(tmp_path, probe=StoredThumbnails(None), top_images={})
    assert stored_results.baselines["netdissect"]["fc"].verdicts.tolist() == theirs.right.tolist()
    assert stored_results.labels["fc"].verdicts.tolist() == outcome.labels["fc"].verdicts.tolist()
    assert (stored_results.labels["layer4"].verdicts == -1).all()
    content = explorer.describe_labels_only(stored_results, manifest=WITH_BASELINE, title="again")
    layers = content.parts["run"]["methods"][1]["layers"]
    assert decode_array(layers["fc"]["right"]).tolist() == theirs.right.tolist()
    (tmp_path / "judged.csv").write_text("layer,unit,method,right\nfc,0,netdissect,perhaps\n")
    with pytest.raises(InputError, match=r"judged.csv is not a table of layer, unit, method, right"):
        read_results(tmp_path, probe=StoredThumbnails(None), top_images={})


def test_stored_pictures_are_those_of_the_probe(stored, tmp_path):
    run, _ = made_run(LAYERS, tmp_path, seed=0)
    content = explorer.list_runs(explorer.read_pages(stored[0]))["0"]
    pictures, shown = StoredThumbnails(content), read_top_images(content)["fc"]
    expected = run.features.activations["fc"].topk(10, dim=0).indices.T.numpy()
    assert (shown == expected).all()
    image = int(shown[3, 0])
    difference = np.asarray(pictures[image], dtype=float) - np.asarray(run.probe[image], dtype=float)
    assert np.abs(difference).mean() < 8
    assert pictures.ids[image] == run.probe.ids[image]
    assert len(pictures) == len(run.probe)
    with pytest.raises(OSError, match="not among the images"):
        StoredThumbnails(None)[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{0}", "{1}"], "--out DIR"),
        (["{0}", "{0}", "--out", "{out}"], "occurs twice"),
        (["{none}"], "holds no metrics.json"),
        (["{0}", "{1}", "--out", "{out}", "--query", "cat"], "one FOLDER"),
        (["{sweep}", "--query", "cat"], "one of its jobs"),
        (["{0}", "{1}", "--out", "{out}", "--maps"], "--maps looks into one run"),
        (["{sweep}", "--maps"], "--maps looks into one run, and {sweep} is a sweep"),
    ],
)
def test_what_cannot_be_done_is_one_line(folders, tmp_path, capsys, arguments, words):
    folders_by_name = {"0": folders[0], "1": folders[1], "none": tmp_path / "none", "out": tmp_path / "out"}
    command = [
        text.format(folders[0], folders[1], sweep=folders[0].parent, **{k: folders_by_name[k] for k in ("none", "out")})
        for text in arguments
    ]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert words.format(sweep=folders[0].parent) in error
    assert not (tmp_path / "out").exists()


@needs_browser
def test_a_sweep_in_a_browser_shows_jobs_labels_and_pairs(window, folders):
    sweep = folders[0].parent
    page = rebuild_pages([sweep])[-1]
    window.go(page)
    assert window.js("return document.body.dataset.view") == "sweep"
    jobs = window.js("return [...document.querySelectorAll('.jobs tbody tr')].map(row => row.cells[0].innerText)")
    assert jobs == ["0", "0", "1", "1"]
    window.js("[...document.querySelectorAll('.jobs thead button')].find(b => b.innerText === 'job').click()")
    window.wait("return document.querySelector('.jobs tbody td').innerText === '1'")
    assert window.js("return document.querySelectorAll('.side tbody tr').length") == 40
    window.js("document.querySelector('.side tbody a').click()")
    window.wait("return document.body.dataset.view === 'unit'")
    home = window.js("return document.querySelector('.elsewhere a').href")
    assert (sweep / "0" / "explorer").as_uri() in home
    window.driver.get(home)
    window.wait("return document.documentElement.dataset.ready !== undefined")
    assert "Units with correlated activations" in window.text()
    window.go(page, "view=compare&a=0/clip_dissect&b=1/clip_dissect&show=b")
    assert window.text(".count").endswith("of 70 units that both label")
    window.size(390, 844)
    for view in ("", "view=compare", "view=overview&run=1"):
        window.go(page, view)
        assert window.js("return document.documentElement.scrollWidth") == 390
    assert window.complaints() == []


def test_words_asked_for_are_ranked_among_all_concepts(tmp_path):
    """On the real thing: the embedded network and its CLIP."""
    from cd_exp import clips, models, probes, similarity
    from cd_exp import concepts as vocabularies
    from cd_exp.cache import Store
    from cd_exp.dissection import RunInputs, dissect_layers
    from cd_exp.experiment import run_experiment as _  # noqa: F401  what a run needs is there
    from cd_exp.explorer import run_text_query
    from cd_exp.features import ExtractionSettings

    inputs = RunInputs(
        model=models.shapes_model(layers=["fc"], final="fc"),
        probe=probes.shapes(size=80),
        concepts=vocabularies.shapes(),
        clip=clips.shapes_clip(),
        store=Store(tmp_path),
        settings=ExtractionSettings(device="cpu", progress=False),
    )
    run = dissect_layers(inputs, similarity.cos, top=5)
    known_name = run.concepts.names[7]
    asked, twice = run_text_query(run, similarity.cos, ["a red thing", known_name])
    match = similarity.concept_activations(run.features.images, run.texts)
    scores = similarity.cos(match, run.features.activations["fc"])
    unit = int(twice.units["fc"][0])
    # Words that are a concept already come right behind it.
    assert twice.ranks["fc"][0] == 1 + int((scores[unit] >= scores[unit, 7]).sum())
    assert twice.scores["fc"][0] == pytest.approx(float(scores[unit, 7]), abs=1e-5)
    assert len(asked.images) == 10
    assert (np.diff(asked.ranks["fc"]) >= 0).all()


def _reversed(text):
    header, *rows = text.splitlines()
    return "\n".join([header, *reversed(rows)]) + "\n"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("labels.csv", _reversed, "does not have the units of fc in their order"),
        ("labels.csv", lambda text: "".join(text.splitlines(keepends=True)[:-1]), "tells of 40 units of fc"),
        ("labels.csv", lambda text: text.splitlines()[0] + "\n", "tells of 30 units of layer4"),
        ("labels.csv", lambda text: text[: len(text) // 2].rpartition(",")[0], "has not the"),
        ("labels.csv", lambda text: text.replace("fc,3,", "fc,nan,"), "holds what no run writes"),
        ("labels.csv", lambda text: text.encode("utf-16"), "is no table as a run writes it"),
        ("metrics.json", lambda text: "[]", "is of type list, expected dict"),
        ("metrics.json", lambda text: '{"layers": {"fc": 5}}', "metrics.json: fc is of type int"),
        ("metrics.json", lambda text: "[" * 100_000, "is not JSON"),
        ("manifest.json", lambda text: '{"baselines": 3}', "baselines is of type int, expected list"),
        ("manifest.json", lambda text: '{"config": {"report": []}}', "config.report is of type list"),
        ("comparisons.json", lambda text: '{"a": 1}', "is of type dict, expected list"),
    ],
)
def test_pages_are_not_made_of_damaged_files(folders, name, change, message, capsys):
    folder = folders[0]
    changed = change((folder / name).read_text())
    (folder / name).write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    page = (folder / "explorer" / "index.html").read_bytes()
    assert main([str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert message in said
    assert (folder / "explorer" / "index.html").read_bytes() == page


def test_a_run_of_0_2_0_is_asked_for_words(tmp_path, monkeypatch):
    """Its manifest names constructors as they were called then."""
    monkeypatch.setenv("CD_EXP_CACHE", str(tmp_path / "cache"))
    words = ["probe.size=60", "similarity.top_k=5", "judge=clip", "judge.clip=shapes", "logger=none"]
    quiet = ["features.progress=false", "features.workers=0", "stability.resamples=3", "report.figures=false"]
    monkeypatch.setattr("sys.argv", ["run.py", *words, *quiet, f"hydra.run.dir={tmp_path}/run"])
    entry.main()
    path = tmp_path / "run" / "manifest.json"
    text = path.read_text()
    for before, now in TARGETS_OF_0_2_0.items():
        text = text.replace(f'"{now}"', f'"{before}"')
    assert '"cd_exp.faithfulness.Backbone"' in text
    assert '"cd_exp.tracking.NoLogger"' in text
    path.write_text(text)
    pages = rebuild_pages([tmp_path / "run"], queries=["something round"])
    assert "something round" in "".join(page.read_text() for page in pages)


def test_pages_do_not_replace_those_of_another_run(folders, tmp_path):
    (folder, other) = folders
    for stored_runs in ([folder], folders):
        with pytest.raises(InputError, match="is the folder of a run or sweep, whose pages would be replaced"):
            rebuild_pages(stored_runs, out=other)
    (other / "multirun.yaml").write_text("")
    (other / "metrics.json").unlink()
    with pytest.raises(InputError, match="is the folder of a run or sweep"):
        rebuild_pages([folder], out=other)
    assert rebuild_pages([folder], out=folder / "sub")


@pytest.mark.parametrize("relative_path", ["file", "file/below"])
def test_a_file_in_the_place_of_the_pages_is_said(folders, tmp_path, relative_path):
    (tmp_path / "file").write_text("of the user")
    with pytest.raises(InputError, match="file is a file, and a folder is to be written there; move it away"):
        rebuild_pages(folders, out=tmp_path / relative_path)
    assert (tmp_path / "file").read_text() == "of the user"


@pytest.mark.parametrize(("name", "folder"), [("explorer", False), ("figures", False), ("report.html", True)])
def test_what_stands_where_a_page_goes_is_said(folders, tmp_path, name, folder):
    out = tmp_path / "pages"
    out.mkdir()
    if folder:
        (out / name).mkdir()
    else:
        (out / name).write_text("of the user")
    with pytest.raises(InputError, match=f"{name} is a {'folder' if folder else 'file'}, and a .* is to be written"):
        rebuild_pages([folders[0]], out=out)


def test_an_error_stays_on_one_line_whatever_a_folder_is_called(capsys):
    assert main(["no\nfolder\x1b[31m"]) == 2
    assert capsys.readouterr().err.startswith("error: no\\nfolder\\x1b[31m holds no metrics.json")
