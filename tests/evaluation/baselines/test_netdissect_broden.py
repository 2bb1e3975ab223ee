"""Network Dissection from Broden's files to its tally, against a scoring that reads the files by itself."""

import csv
from collections import defaultdict

import numpy as np
import pytest
import torch
from PIL import Image

from cd_exp import probes
from cd_exp.cache import Store
from cd_exp.evaluation.baselines.netdissect import label_from_tally, netdissect
from cd_exp.evaluation.baselines.netdissect.method import format_tally
from cd_exp.features import ExtractionSettings, read_maps
from cd_exp.models import CustomModel

IMAGES, SIDE = 24, 32
CATEGORIES = ("color", "object", "part", "material", "scene", "texture")
LABELS = {  # numbers as Broden's are: some above 255, which need the second byte
    "color": {1: "red-c", 2: "blue-c"},
    "object": {3: "car", 300: "tree", 301: "sky"},
    "part": {4: "wheel", 515: "leaf"},
    "material": {5: "metal", 6: "wood"},
    "scene": {7: "street-s", 8: "forest-s"},
    "texture": {9: "striped", 1100: "dotted"},
}
PAINT = {1: 0, 2: 2, 3: 1}  # labels that show in the photograph, as one of its channels
NETWORK = """
import numpy as np, torch
from torch import nn

def pixels(picture):
    return torch.from_numpy(np.array(picture, dtype=np.float32)).permute(2, 0, 1) / 255

def colours():
    '''Units 0 to 2 are the channels of the photograph, shrunk; the others mix them.'''
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 6, 1)
    with torch.no_grad():
        layer.weight[:3], layer.bias[:3] = torch.eye(3)[:, :, None, None], 0
    return nn.Sequential(nn.AvgPool2d(2), layer, nn.Conv2d(6, 4, 3, stride=2)), pixels, None
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Photographs, masks of two sizes, several masks of parts, and images that lack some categories."""
    root, random = tmp_path_factory.mktemp("broden"), np.random.default_rng(0)
    (root / "images").mkdir()
    lines = ["image,split,ih,iw,sh,sw," + ",".join(CATEGORIES)]
    for index in range(IMAGES):
        height, width = ((16, 16), (16, 24), (11, 7))[index % 3]
        photo = random.integers(0, 30, (SIDE, SIDE, 3))
        cells = []
        for kind, named in LABELS.items():
            if random.random() < 0.35:  # nothing of this category is annotated here
                cells.append("")
            elif kind in ("scene", "texture"):
                cells.append(";".join(map(str, random.choice(list(named), random.integers(1, 3), replace=False))))
            else:
                layers = 2 if kind == "part" else 1
                cells.append(";".join(_masks(root, photo, f"{index}_{kind}", named, layers, (height, width), random)))
        Image.fromarray(photo.astype(np.uint8)).save(root / f"images/{index}.png")
        lines.append(f"{index}.png,train,{SIDE},{SIDE},{height},{width}," + ",".join(cells))
    (root / "index.csv").write_text("\n".join(lines) + "\n")
    _tables(root)
    return root


def _masks(root, photo, name, named, layers, size, random):
    """Draw a box of each label of a category; paint those that show where they are."""
    for layer in range(layers):
        mask = np.zeros(size, int)
        for label in random.permutation(list(named)):
            top, left = random.integers(0, size[0] - 4), random.integers(0, size[1] - 4)
            box = np.s_[top : top + random.integers(3, 6), left : left + random.integers(3, 6)]
            mask[box] = label
        for label in set(PAINT) & set(np.unique(mask).tolist()):
            there = np.array(Image.fromarray((mask == label).astype(np.uint8)).resize((SIDE, SIDE), 0), bool)
            photo[there, PAINT[label]] = random.integers(200, 256, there.sum())
        pixels = np.stack([mask % 256, mask // 256, np.zeros_like(mask)], axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"images/{name}_{layer}.png")
        yield f"{name}_{layer}.png"


def _tables(root):
    numbered = [(number, name, kind) for kind, named in LABELS.items() for number, name in named.items()]
    rows = [f"{number},{name},{kind}(9),9,0.5," for number, name, kind in sorted(numbered)]
    (root / "label.csv").write_text("\n".join(["number,name,category,frequency,coverage,syns", *rows]) + "\n")
    (root / "category.csv").write_text("\n".join(["name,first,last", *(f"{kind},1,9" for kind in CATEGORIES)]) + "\n")
    for kind, named in LABELS.items():
        rows = [f"{code},{number},{name},9,0.5" for code, (number, name) in enumerate(named.items(), 1)]
        (root / f"c_{kind}.csv").write_text("\n".join(["code,number,name,frequency,coverage", *rows]) + "\n")


def literal(root, activations, thresholds):
    """Counts by the paper's definition, a label at a time: {(unit, label): [truth, active, both]} in pixels.

    A unit's active pixels count for a category only on images in which something of that category is annotated.
    """
    counts = defaultdict(lambda: np.zeros(3, dtype=int))
    with (root / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, maps_of_image in zip(rows, activations, strict=True):
        size = int(row["sh"]), int(row["sw"])
        whole = torch.nn.functional.interpolate(maps_of_image[None], size=size, mode="bilinear", align_corners=False)[0]
        active = (whole > thresholds[:, None, None]).numpy()
        for kind, named in LABELS.items():
            cells = [cell for cell in row[kind].split(";") if cell]
            pictures = [np.asarray(Image.open(root / "images" / cell)).astype(int) for cell in cells if "png" in cell]
            annotated = [picture[..., 0] + 256 * picture[..., 1] for picture in pictures]
            annotated += [np.full(size, int(cell)) for cell in cells if "png" not in cell]
            if not any(mask.any() for mask in annotated):
                continue
            for label in named:
                truth = np.any([mask == label for mask in annotated], axis=0)
                for unit, mask in enumerate(active):
                    counts[unit, label] += [truth.sum(), mask.sum(), (truth & mask).sum()]
    return counts


@pytest.fixture(scope="module")
def scored(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    (folder / "network.py").write_text(NETWORK)
    model = CustomModel(name="colours", factory=f"{folder}/network.py:colours", layers=["1", "2"])
    probe = probes.broden(root=str(root))
    settings = ExtractionSettings(device="cpu", workers=0, batch_size=5, progress=False)
    passes = read_maps(
        model, probe, layers=["1", "2"], kept=range(len(probe)), store=Store(folder / "cache"), settings=settings
    )
    activations = defaultdict(list)
    for _, layers in passes():
        for name, batch in layers.items():
            activations[name].append(batch.clone())
    tallies = netdissect(passes, probe, quantile=0.07)
    return probe, tallies, {name: torch.cat(batches) for name, batches in activations.items()}


@pytest.mark.parametrize("layer", ["1", "2"])
def test_every_concept_is_counted_as_by_the_definition(root, scored, layer):
    probe, tallies, activations = scored
    tally = tallies[layer]
    share = (activations[layer] > tally.threshold[:, None, None]).float().mean((0, 2, 3))
    assert share.max() <= 0.07 * 1.03
    names = {number: name for named in LABELS.values() for number, name in named.items()}
    kinds = {number: kind for kind, named in LABELS.items() for number in named}
    counts = literal(root, activations[layer], tally.threshold)
    assert len(counts) == len(tally.threshold) * len(names)
    for (unit, label), (truth, active, both) in counts.items():
        concept = probe.concepts.index(names[label])
        counted = (tally.truth[concept], tally.activation[unit, tally.kinds.index(kinds[label])])
        assert [*map(int, counted), int(tally.intersection[unit, concept])] == [truth, active, both]
        assert tally.iou[unit, concept].item() == both / (truth + active - both)


def test_each_category_has_its_best_concept_in_the_table(root, scored, tmp_path):
    _, tallies, activations = scored
    (tmp_path / "tally.csv").write_text(format_tally(tallies["1"]), encoding="utf-8")
    counts = literal(root, activations["1"], tallies["1"].threshold)
    with (tmp_path / "tally.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for unit, row in enumerate(rows):
        iou = {
            label: both / (truth + active - both) for (u, label), (truth, active, both) in counts.items() if u == unit
        }
        assert float(row["score"]) == pytest.approx(max(iou.values()))
        for kind, named in LABELS.items():
            assert float(row[f"{kind}-iou"]) == pytest.approx(max(iou[label] for label in named))
            assert row[f"{kind}-label"] in (named.values() if float(row[f"{kind}-iou"]) else [""])


def test_units_that_see_what_is_painted_are_named_after_it(scored):
    labels = label_from_tally(scored[1]["1"], "1")
    assert labels.descriptions[:3] == ("red-c", "car", "blue-c")
    assert labels.similarity[:3].min() > 0.4
