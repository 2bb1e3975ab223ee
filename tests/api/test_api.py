"""`dissect` takes what people hold; a wrong kind of anything is one refusal that names the argument."""

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision import transforms

from cd_exp import clips, concepts, dissect, models, probes, similarity
from cd_exp.cli import entry
from cd_exp.errors import InputError
from cd_exp.features import ExtractionSettings
from cd_exp.records import Labels

ROOT = Path(__file__).parents[2]
QUIET = ExtractionSettings(progress=False, workers=0)
WORDS = ["red circle", "blue square", "a dog", "green star"]


class Colours(nn.Module):
    """One unit for each of red, green and blue."""

    def __init__(self):
        super().__init__()
        self.mixed = nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.mixed.weight.copy_((1.5 * torch.eye(3) - 0.5).reshape(3, 3, 1, 1))

    def forward(self, pictures):
        return self.mixed(pictures).mean((2, 3))


TRANSFORM = transforms.Compose([transforms.Resize((16, 16)), transforms.ToTensor()])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CD_EXP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def pictures():
    world = probes.shapes(size=24)
    return [world[index] for index in range(24)]


@pytest.fixture
def photos(pictures, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{number:02d}.png")
    return folder


def small(**changed):
    """A call that works, with some arguments changed."""
    arguments = {
        "net": Colours(),
        "images": [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue", "white")],
        "words": WORDS,
        "clip": "shapes",
        "layers": ["mixed"],
        "transform": TRANSFORM,
        "similarity": partial(similarity.soft_wpmi, top_k=2),
        "settings": QUIET,
        "resamples": 0,
    } | changed
    return dissect(arguments.pop("net"), **arguments)


def same(one, other):
    assert one.descriptions == other.descriptions
    np.testing.assert_allclose(one.similarity, other.similarity, rtol=1e-5)


@pytest.mark.slow
def test_in_a_fresh_interpreter(photos, cache):
    code = (
        "import torchvision\nfrom cd_exp import dissect\n"
        "net = torchvision.models.resnet18(weights=None)\n"
        'found = dissect(net, images="photos/", words=["cat", "dog"], clip="shapes", layers=["layer4"])\n'
        'frame = found.labels["layer4"].to_frame()\n'
        'print(frame.shape, *frame.columns, sep=",")\nprint(found.notes)\nprint(net.training)\n'
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CD_EXP_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=photos.parent, env=environment, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "(512, 12),layer,unit,description,similarity,top5,truth,rank_of_truth,margin,stability,stable_set,p_right,marks"
    )
    assert "ResNet came without a transform; ImageNet's was used" in lines[1]
    assert lines[2] == "True"  # the network is left as it was
    assert any((cache / "activations").iterdir())


class Pairs(torch.utils.data.Dataset):
    def __init__(self, pictures):
        self.pictures = pictures

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        return self.pictures[index], index % 3


@pytest.mark.slow
def test_images_in_every_form_are_the_same_images(pictures, photos):
    paths = sorted(photos.iterdir())
    forms = {
        "folder": str(photos),
        "path": photos,
        "pictures": pictures,
        "paths": paths,
        "texts": tuple(map(str, paths)),
        "opened": [Image.open(path) for path in paths],
        "mixed": [*pictures[:12], *paths[12:]],
        "data set": Pairs(pictures),
        "part of a data set": torch.utils.data.Subset(Pairs([*pictures, *pictures]), range(24)),
        "probe": probes.folder(root=str(photos)),
    }
    labels_by_form = {form: small(images=images)["mixed"] for form, images in forms.items()}
    for labels in labels_by_form.values():
        same(labels, labels_by_form["folder"])


@pytest.mark.slow
def test_pictures_of_16_bits_in_memory_are_those_of_the_file(photos):
    for number in range(3):
        Image.fromarray(np.full((20, 20), 9000 * (number + 1), np.uint16)).save(photos / f"grey{number}.png")
    in_memory = [Image.open(path) for path in sorted(photos.iterdir())]
    same(small(images=in_memory)["mixed"], small(images=photos)["mixed"])


@pytest.mark.slow
def test_words_in_every_form(tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    forms = [WORDS, tuple(WORDS), str(tmp_path / "words.txt"), tmp_path / "words.txt", concepts.words(names=WORDS)]
    labels_by_form = [small(words=words)["mixed"] for words in forms]
    for labels in labels_by_form:
        same(labels, labels_by_form[0])


def test_clip_and_similarity_by_name_or_in_hand():
    def mine(match, neurons, *, sign=1.0):
        return sign * (neurons.T @ match.images) @ match.texts.T

    same(small(clip="shapes")["mixed"], small(clip=clips.shapes_clip())["mixed"])
    same(small(similarity="cos")["mixed"], small(similarity=similarity.cos)["mixed"])
    assert (
        small(similarity=mine)["mixed"].descriptions != small(similarity=partial(mine, sign=-1.0))["mixed"].descriptions
    )


def test_a_run_names_a_function_in_hand_as_it_is_defined(tmp_path):
    manifest = json.loads((small().save(tmp_path / "run") / "manifest.json").read_text())
    assert manifest["choices"]["similarity"] == "soft_wpmi"


@pytest.mark.slow
def test_the_old_form_takes_recipes(tmp_path):
    model, probe = models.shapes_model(layers=["layer4", "fc"], final="fc"), probes.shapes(size=60)
    labels = dissect(
        model, probe, concepts.shapes(), clips.shapes_clip(), partial(similarity.soft_wpmi, top_k=10),
        layers=["fc"], store=tmp_path / "store", settings=QUIET, top=3,
    )  # fmt: skip
    assert list(labels) == ["fc"]
    assert isinstance(labels["fc"], Labels)
    assert {len(names) for names in labels["fc"].top} == {3}
    assert (tmp_path / "store" / "activations").is_dir()


def test_truth_is_held_against_the_labels():
    result = small(truth={"mixed": ["red circle", "", "a dog"]})
    assert result["mixed"].truth == (("red circle",), None, ("a dog",))
    assert result.metrics["mixed"]["judged"] == 2
    recipe = models.shapes_model(layers=["layer4", "fc"], final="fc")
    swapped = list(reversed(recipe.classes))
    arguments = {"images": probes.shapes(size=40), "words": concepts.shapes(), "transform": None, "layers": ["fc"]}
    assert small(net=recipe, truth={"fc": swapped}, **arguments)["fc"].truth[0] == (swapped[0],)


def test_a_network_is_left_as_it_was():
    net = Colours().double()
    net.register_buffer("seen", torch.ones(2, dtype=torch.float64))
    net.train()
    net.mixed.eval()
    net.mixed.weight.data += 1e-12
    net(torch.rand(2, 3, 4, 4).double()).sum().backward()
    weight, buffer = net.mixed.weight, net.seen
    before, gradient = weight.detach().clone(), weight.grad.clone()
    small(net=net)
    assert (net.training, net.mixed.training) == (True, False)
    assert net.mixed.weight is weight
    assert net.seen is buffer
    assert weight.dtype == torch.float64
    assert torch.equal(weight, before)
    assert weight.grad.dtype == torch.float64
    assert torch.equal(weight.grad, gradient)


def made(cache):
    return {path.name for path in (cache / "activations").iterdir()}


@pytest.mark.slow
def test_features_of_a_network_are_kept_until_something_of_it_changes(cache):
    net = Colours()
    small(net=net)
    first = made(cache)
    small(net=Colours())
    assert made(cache) == first  # the same network, made anew
    with torch.no_grad():
        net.mixed.weight.mul_(-1)
    small(net=net)
    second = made(cache)
    assert len(second) == 2
    small(net=net, transform=transforms.Compose([transforms.Resize((8, 8)), transforms.ToTensor()]))
    third = made(cache)
    assert len(third) == 3
    net.forward = lambda pictures: Colours.forward(net, pictures.flip(1))  # what no source and no weight tells
    small(net=net)
    assert len(made(cache)) == 4


def test_the_sources_of_a_networks_classes_are_part_of_its_key(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "import torch\nclass Net(torch.nn.Module):\n    pass\n"
    keys = []
    for name, added in (("one", ""), ("two", "FACTOR = 2\n")):
        (tmp_path / f"nets_{name}.py").write_text(text + added)
        module = __import__(f"nets_{name}")
        keys.append(models.LoadedModel("net", (), module=module.Net()).key["sources"])
    assert list(keys[0]) == ["nets_one"]
    assert keys[0]["nets_one"] != keys[1]["nets_two"]


def test_a_transform_of_the_users_own_is_part_of_the_key():
    def one(picture):
        return TRANSFORM(picture)

    other = partial(one)
    keys = [
        models.LoadedModel("net", (), module=Colours(), transform=preprocessing).key
        for preprocessing in (one, other, TRANSFORM)
    ]
    assert len({json.dumps(key) for key in keys}) == 3


@pytest.mark.slow
def test_results_of_one_store_do_not_mix():
    from cd_exp.cache import Store

    store = Store("store_of_two")
    first = small(
        store=Store(os.environ["CD_EXP_CACHE"]), transform=None, net=torchvision.models.resnet18(), layers=["fc"]
    )
    assert sum("came without a transform" in note for note in first.notes) == 1
    second = small(store=Store(os.environ["CD_EXP_CACHE"])).notes  # what a run says of its own settings aside
    assert not any("came without a transform" in note for note in second)
    assert store.made == []


@pytest.mark.slow
def test_save_writes_what_the_command_line_writes(tmp_path, monkeypatch, cache):
    run_folder = tmp_path / "run"
    words = ["probe.size=120", "similarity.top_k=10", "logger=none", "features.progress=false", "features.workers=0"]
    monkeypatch.setattr("sys.argv", ["run.py", *words, f"hydra.run.dir={run_folder}"])
    entry.main()
    result = dissect(
        models.shapes_model(layers=["layer4", "fc"], final="fc"),
        images=probes.shapes(size=120),
        words=concepts.shapes(),
        clip="shapes",
        similarity=partial(similarity.soft_wpmi, top_k=10),
        settings=QUIET,
    )
    own = result.save(tmp_path / "own")
    assert (own / "labels.csv").read_bytes() == (run_folder / "labels.csv").read_bytes()
    names = {path.name for path in run_folder.iterdir()} - {".hydra", "run.log"}
    assert {path.name for path in own.iterdir()} == names
    ours, theirs = (json.loads((folder / "metrics.json").read_text())["layers"] for folder in (own, run_folder))
    assert ours == theirs
    manifest = json.loads((own / "manifest.json").read_text())
    assert manifest["fingerprints"] == json.loads((run_folder / "manifest.json").read_text())["fingerprints"]
    assert manifest["choices"]["clip"] == "shapes"
    assert manifest["config"]["probe"]["held"] == "cd_exp.probes.shapes.Shapes"

    from cd_exp.report import rebuild_pages

    assert all(page.is_file() for page in rebuild_pages([own]))
    with pytest.raises(InputError, match=r"was an object of a program \(.*\), which no configuration can build"):
        rebuild_pages([own], queries=["red"])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda m, n: n.sub_(n.mean(0)).T @ (m.images @ m.texts.T), r"changes its arguments.*neurons\.clone\(\)"),
        (lambda m, n: (n.T @ (m.images @ m.texts.T)).log(), r"gives unit \d a best score of nan, as it does \d of 3"),
        (lambda m, n: (n.T @ (m.images @ m.texts.T)).to(torch.complex64), "scores of complex64, strided"),
        (lambda m, n: torch.full((n.shape[1], len(m.texts)), -torch.inf), "gives unit 0 a best score of -inf"),
    ],
)
def test_a_function_whose_scores_say_nothing_is_refused(function, message):
    with pytest.raises(InputError, match=message):
        small(similarity=function)


def test_a_function_may_hand_out_scores_with_gradients_and_in_double_precision():
    def scored(match, neurons):
        return (neurons.double().T @ (match.images @ match.texts.T).double()).requires_grad_()

    plain = small(similarity=lambda match, neurons: neurons.T @ (match.images @ match.texts.T))
    same(small(similarity=scored)["mixed"], plain["mixed"])


def test_the_callers_random_numbers_go_on_as_they_were(photos):
    net, names = Colours(), {"mixed": ["red circle", "", "blue square"]}
    arguments = {"clip": "shapes", "layers": ["mixed"], "transform": TRANSFORM, "settings": QUIET, "truth": names}
    before = torch.random.get_rng_state()
    assert dissect(net, photos, WORDS, resamples=np.int64(3), **arguments).metrics["mixed"]["judged"]
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.slow
def test_saving_twice_leaves_the_second(tmp_path):
    small().save(tmp_path / "run")
    small(words=["a cat", "a wolf"]).save(str(tmp_path / "run"))
    assert "a wolf" in (tmp_path / "run" / "labels.csv").read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"folder=.*file is a file"):
        small().save(tmp_path / "file")
    with pytest.raises(InputError, match="folder is of type int"):
        small().save(3)


def test_a_frame_is_the_rows_of_the_file(tmp_path):
    import pandas as pd

    result = small(truth={"mixed": ["red circle", "", "a dog"]}, resamples=5)
    frame = result.labels["mixed"].to_frame()
    written = pd.read_csv(result.save(tmp_path / "run") / "labels.csv")
    assert list(frame.columns) == list(written.columns)
    for name in frame.columns:
        if frame[name].dtype.kind in "if":
            np.testing.assert_allclose(frame[name].astype(float), written[name].astype(float), rtol=1e-5)
        else:
            assert list(frame[name]) == list(written[name].astype(object).fillna(""))


def test_a_frame_without_pandas_says_what_to_install(monkeypatch):
    result = small()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"pip install 'cd-exp\[pandas\]'"):
        result["mixed"].to_frame()


def test_a_notebook_shows_names_as_text_and_the_strongest_pictures():
    hostile = ["<script>alert(1)</script>", "a & b", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}"]
    result = small(words=hostile, truth={"mixed": ["<b>bold</b>", None, "{% raw %}"]})
    for shown in (result._repr_html_(), result["mixed"]._repr_html_()):
        assert "<script" not in shown
        assert not re.search(r"<img src=x", shown)
        assert "<b>bold" not in shown
        assert any(text in shown for text in ("&lt;script", "a &amp; b", "&#34;&gt;&lt;img", "{{ 7 * 7 }}"))
        assert "&lt;b&gt;bold" in shown
        assert shown.count("<tr>") == 4
    assert result._repr_html_().count('<img src="data:image/jpeg;base64,') == 3
    assert "'mixed': 3 units" in repr(result)


@pytest.mark.slow
def test_of_many_units_some_are_shown():
    result = small(net=torchvision.models.resnet18(), layers=["layer4"], transform=None)
    shown = result._repr_html_()
    assert "and 488 more units" in shown
    assert shown.count("<figure") == 12


def test_another_application_of_hydra_goes_on(tmp_path):
    """The caller may be one itself."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "theirs.yaml").write_text("size: 3\n")
    with hydra.initialize_config_dir(str(tmp_path / "conf"), version_base="1.2"):
        theirs = GlobalHydra.instance().hydra
        small()
        assert GlobalHydra.instance().hydra is theirs
        assert hydra.version.getbase() is not None
        assert str(hydra.version.getbase()) == "1.2"
        assert hydra.compose("theirs").size == 3


def _needs(match, neurons, *, strength):
    return strength * neurons.T


WRONG = {
    "net": [
        (3, "net is of type int, expected an nn.Module"),
        ("resnet18", "net is of type str"),
        (Colours, "net is of"),
    ],
    "images": [
        (None, "images is not given, expected a folder, a list of PIL images or paths, a torch Dataset"),
        (3, "images is of type int"),
        ("nowhere", "images=nowhere is no such folder"),
        (__file__, "is a file, expected a folder"),
        (Image.new("RGB", (9, 9)), "images is of type Image"),
        ([], "images"),
        ([Image.new("RGB", (9, 9))], "has 1 image"),
        (["nowhere.png", __file__], "images: 1 of 2 files are not there, first nowhere.png"),
        ([3, 4], "images: image 0 is of type int, expected a PIL image"),
        (torch.zeros(3, 3, 8, 8), "images: image 0 is of type Tensor"),
        (np.zeros((3, 8, 8, 3), np.uint8), "images: image 0 is of type ndarray"),
        ({"a": 1}, "images is of type dict"),
        ((picture for picture in ()), "images is of type generator"),
        (torch.utils.data.DataLoader([1, 2]), "images is of type DataLoader"),
        (Pairs, "images is of type type"),
    ],
    "words": [
        (None, "words is not given, expected a list of words, a file of one a line, or a concept set"),
        (3, "words is of type int"),
        ("nowhere.txt", "words='nowhere.txt' is no file"),
        ([], "words holds no concept"),
        (["red", 3], "words holds 3, which is no text"),
        ({"red"}, "words is of type set"),
        ({"red": 1}, "words is of type dict"),
    ],
    "clip": [
        (None, "clip is not given, expected a name of conf/clip"),
        (3, "clip is of type int"),
        ("shape", "clip 'shape' is not known; did you mean 'shapes'"),
        (clips.OpenClip, "clip is of type"),
        ("open_clip", "this clip needs architecture: give a recipe of cd_exp.clips with architecture="),
        (Colours(), "clip is of type Colours"),
    ],
    "layers": [
        (None, "layers is missing; a network needs a list of mixed"),
        ("mixed", r"layers='mixed' is text, expected a list: layers=\['mixed'\]"),
        ([], "layers is empty"),
        ([3], "layers holds 3, expected module paths"),
        (3, "layers is of type int"),
        (["mixde"], "layer 'mixde' is not in Colours; did you mean 'mixed'"),
    ],
    "similarity": [
        (None, "similarity is not given"),
        (3, "similarity is of type int"),
        ("soft_wpni", "similarity 'soft_wpni' is not known; did you mean 'soft_wpmi'"),
        ("custom", "similarity 'custom' is not known"),
        (lambda match: 3, r"similarity takes 1 arguments, expected \(match, neurons\)"),
        (lambda match, neurons: neurons, "similarity returned .*, expected a tensor of neurons x concepts"),
        (_needs, "similarity needs strength, which no run gives: bind it with functools.partial"),
    ],
    "truth": [
        ({"fc:max": ["a"], "fc": ["b"]}, "truth names the units of 'fc' twice"),
        (3, "truth is of type int, expected {layer: names}"),
        (["red"], "truth is of type list"),
        ({"mixed": 3}, r"truth\['mixed'\] is of type int"),
        ({"mixed": [1, 2, 3]}, r"truth\['mixed'\] holds 1"),
        ({"mixed": ["red"]}, r"truth\[\"mixed\"\] has 1 names and layer 'mixed' of Colours has 3 units"),
        ({"mixde": ["a"] * 3}, r"'mixde' is not in Colours \(truth\); did you mean 'mixed'"),
        ({"mixed": "nowhere.txt"}, r"truth\['mixed'\]=nowhere.txt: there is no such file"),
    ],
    "transform": [(3, "transform is of type int, expected a function"), (lambda picture: "x", "the transform")],
    "store": [(3, "store is of type int")],
    "settings": [
        (3, "settings is of type int"),
        (ExtractionSettings(batch_size=0), "settings.batch_size=0 is out of range"),
        (ExtractionSettings(device="gpu"), "settings.device"),
        (ExtractionSettings(on_error="ignore"), "settings.on_error"),
    ],
    "top": [(0, "top=0 is out of range"), ("5", "top='5' is of type str")],
    "resamples": [(-1, "resamples=-1 is out of range")],
    "seed": [(0.5, "seed=0.5 is of type float")],
}


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [(argument, *case) for argument, cases in WRONG.items() for case in cases],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "-",
)
def test_a_wrong_kind_of_an_argument_is_one_refusal_that_names_it(argument, value, message):
    with pytest.raises(InputError, match=message) as refused:
        small(**{argument: value})
    assert argument.removesuffix("s") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_arguments_that_belong_to_a_network_in_hand_are_not_taken_with_a_recipe():
    recipe = models.shapes_model(layers=["fc"], final="fc")
    with pytest.raises(InputError, match=r"transform goes with an nn.Module; the recipe shapes has its own"):
        small(net=recipe, layers=["fc"])
    with pytest.raises(InputError, match=r"units_axis goes with an nn.Module"):
        small(net=recipe, layers=["fc"], transform=None, units_axis=1)


def test_unreadable_pictures_are_refused_with_what_to_write_instead(photos):
    (photos / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r'set settings=Settings\(on_error="skip"\)'):
        small(images=photos)
    left_out = small(images=photos, settings=ExtractionSettings(progress=False, workers=0, on_error="skip"))
    assert any("broken.png" in note for note in left_out.notes)


@pytest.fixture(scope="module")
def judged_call():
    """`shapes` with another method and a judge, asked for by name."""
    return dissect(
        models.shapes_model(layers=["layer4"]),
        probes.shapes(size=120),
        concepts.shapes(),
        clips.shapes_clip(),
        "cos",
        methods="netdissect",
        judge="whitened",
        settings=QUIET,
        resamples=3,
    )


@pytest.mark.slow
def test_methods_and_a_judge_are_arguments(judged_call, tmp_path):
    assert "netdissect" in judged_call.outcome.baseline_metrics
    assert [key for key in judged_call.metrics["layer4"] if key.startswith("faithfulness")]
    judged_call.save(tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["baselines"] == ["netdissect"]
    assert manifest["choices"]["judge"] == "whitened"
    assert (tmp_path / "run" / "labels_netdissect.csv").is_file()


def test_the_repr_of_a_layer_is_a_short_table(judged_call):
    lines = repr(judged_call["layer4"]).splitlines()
    assert lines[0] == "layer4: 96 units"
    assert lines[1].split() == ["unit", "label", "similarity", "stability", "truth"]
    assert len(lines) == 13
    assert lines[-1] == "... 86 more"
    assert max(map(len, lines)) < 120


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": "netdisect"}, "netdissect"),
        ({"methods": 3}, "methods"),
        ({"methods": {"mine": 3}}, "methods['mine']"),
        ({"judge": "whitend"}, "whitened"),
        ({"judge": 3}, "judge"),
    ],
)
def test_a_wrong_method_or_judge_is_named(arguments, message):
    with pytest.raises(InputError, match=re.escape(message)):
        dissect(nn.Flatten(), probes.shapes(size=9), WORDS, clips.shapes_clip(), layers=["x"], **arguments)
