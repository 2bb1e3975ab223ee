import csv
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.evaluation.baselines.netdissect import (
    NetDissect,
    Tally,
    count_detectors,
    label_from_tally,
    netdissect,
    overlap,
)
from cd_exp.evaluation.baselines.netdissect import overlap as thresholds
from cd_exp.evaluation.baselines.netdissect.method import format_tally, note_images
from cd_exp.evaluation.baselines.published import read_published_labels
from cd_exp.records import Probe, Segmentation

ROOT = Path(__file__).parents[3]
TALLY = ROOT / "../shared/reference/NetDissect_results/resnet18_places365_fc.csv"


@dataclass(frozen=True, eq=False)
class Annotated(Probe):
    """Annotations without pictures: all that the counting asks of a probe set."""

    segmentations: Sequence[Segmentation]
    concepts: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    has_masks: bool = True
    name: str = "annotated"
    fingerprint: str = ""

    @property
    def ids(self) -> list[str]:
        return [str(index) for index in range(len(self))]

    def __len__(self) -> int:
        return len(self.segmentations)

    def __getitem__(self, index: int):
        raise OSError(index)

    def segmentation(self, index: int) -> Segmentation:
        return self.segmentations[index]


def passes(layers: dict[str, Tensor], batch: int = 2):
    def walk() -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        images = len(next(iter(layers.values())))
        for start in range(0, images, batch):
            indices = list(range(start, min(start + batch, images)))
            yield indices, {name: maps[indices] for name, maps in layers.items()}

    return walk


def world() -> Annotated:
    """Overlapping maps, whole-image concepts, differing sizes, and images without some or all categories."""
    random = np.random.default_rng(0)

    def image(height: int, width: int, *pools: Sequence[int], whole: tuple[int, ...] = ()) -> Segmentation:
        maps = [random.choice(pool, size=(height, width)) for pool in pools]
        return Segmentation(np.array(maps, dtype=np.int64).reshape(len(maps), height, width), whole)

    return Annotated(
        [
            image(9, 7, [-1, 0, 1], [-1, 2, 3], [2, 3, -1]),  # a pixel may have two of one category
            image(5, 12, [-1, -1, -1, 1], whole=(4,)),
            image(8, 8, whole=(4, 5)),
            image(6, 6),  # nothing annotated
            image(11, 4, [-1, -1], [2, -1, -1], whole=(5,)),  # a map without a label
            image(7, 7, [3, 2], whole=(3,)),  # one concept both whole and drawn
        ],
        concepts=("red", "blue", "cat", "dog", "street", "dotted", "never"),
        categories=("color", "color", "object", "object", "scene", "texture", "texture"),
    )


def literal_pixel(image: np.ndarray, row: int, column: int, height: int, width: int) -> float:
    """Bilinear interpolation, corners not aligned, the border repeated."""

    def neighbours(pixel: int, size: int, of: int) -> tuple[int, int, float]:
        at = max((pixel + 0.5) * of / size - 0.5, 0)
        first = int(at)
        return first, min(first + 1, of - 1), at - first

    top, bottom, down = neighbours(row, height, image.shape[0])
    left, right, along = neighbours(column, width, image.shape[1])
    upper = image[top, left] * (1 - along) + image[top, right] * along
    lower = image[bottom, left] * (1 - along) + image[bottom, right] * along
    return upper * (1 - down) + lower * down


def literal_iou(maps: np.ndarray, threshold: np.ndarray, probe: Annotated) -> np.ndarray:
    """IoU[u, c] over the images that carry any concept of c's category, a pixel at a time."""
    both = np.zeros((maps.shape[1], len(probe.concepts)))
    either = np.zeros_like(both)
    for index in range(len(probe)):
        segmentation = probe.segmentation(index)
        height, width = segmentation.maps.shape[1:]
        carried = {
            probe.categories[c] for c in set(segmentation.maps.ravel().tolist()) - {-1} | set(segmentation.whole)
        }
        for row in range(height):
            for column in range(width):
                here = set(segmentation.maps[:, row, column].tolist()) | set(segmentation.whole)
                for unit in range(maps.shape[1]):
                    active = literal_pixel(maps[index, unit], row, column, height, width) > threshold[unit]
                    for concept, category in enumerate(probe.categories):
                        if category in carried:
                            both[unit, concept] += active and concept in here
                            either[unit, concept] += active or concept in here
    return both / np.maximum(either, 1)


@pytest.mark.parametrize("quantile", [0.005, 0.1, 0.4])
@pytest.mark.parametrize("batch", [1, 4])
def test_every_iou_equals_the_literal_one(quantile, batch):
    probe, random = world(), torch.Generator().manual_seed(1)
    layers = {
        "conv": torch.randn(6, 5, 4, 3, generator=random),
        "wide": torch.randn(6, 3, 16, 16, generator=random),  # larger than the masks
        "fc": torch.randn(6, 4, generator=random)[:, :, None, None],
    }
    tallies = netdissect(passes(layers, batch), probe, quantile=quantile)
    assert list(tallies) == ["conv", "wide", "fc"]
    for name, maps in layers.items():
        expected = literal_iou(maps.double().numpy(), tallies[name].threshold.double().numpy(), probe)
        np.testing.assert_array_equal(tallies[name].iou.numpy(), expected)
    assert (tallies["conv"].iou[:, -1] == 0).all()


@pytest.mark.parametrize(("of", "size"), [((7, 7), (112, 112)), ((5, 3), (7, 11)), ((9, 8), (4, 8)), ((1, 1), (3, 5))])
def test_the_active_pixels_are_those_of_the_whole_upsampled_map(of, size):
    maps = torch.randn(6, *of, generator=torch.Generator().manual_seed(4))
    for threshold in (torch.full((6,), -9.0), torch.zeros(6), torch.linspace(-1, 3, 6), torch.full((6,), 9.0)):
        whole = torch.nn.functional.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
        computed = torch.zeros(6, size[0] * size[1], dtype=torch.int64)
        for unit, pixel in overlap.find_active_pixels(maps, threshold, torch.Size(size)):
            computed.index_put_((unit, pixel), torch.ones_like(unit), accumulate=True)
        assert torch.equal(computed, (whole > threshold[:, None, None]).flatten(1).long())


@pytest.mark.parametrize("anchors", overlap.ANCHORS)
@pytest.mark.parametrize(("of", "size"), [((7, 7), (112, 112)), ((2, 3), (8, 9)), ((1, 4), (3, 5)), ((2, 2), (1, 1))])
def test_whole_maps_and_active_pixels_are_anchored_alike(of, size, anchors):
    maps, threshold = torch.randn(6, *of, generator=torch.Generator().manual_seed(4)), torch.linspace(-1, 1.5, 6)
    whole = overlap.upsample_at(maps, torch.Size(size), anchors=anchors)
    # Within rounding of the threshold either may be called active.
    near = (whole - threshold[:, None, None]).abs() < 1e-5
    computed = torch.zeros(6, size[0] * size[1], dtype=torch.bool)
    for unit, pixel in overlap.find_active_pixels(maps, threshold, torch.Size(size), anchors=anchors):
        computed[unit, pixel] = True
    assert torch.equal(computed.view(6, *size) | near, (whole > threshold[:, None, None]) | near)
    if anchors != "receptive_fields" and min(of) > 1 and min(size) > 1:
        torchs = torch.nn.functional.interpolate(
            maps[None], size=size, mode="bilinear", align_corners=anchors == "corners"
        )
        assert torch.allclose(whole, torchs[0], atol=1e-5)


def test_receptive_fields_stand_a_stride_apart_from_the_first_pixel():
    maps = torch.tensor([[[1.0, 3.0], [5.0, 11.0]]])
    computed = overlap.upsample_at(maps, torch.Size((4, 4)), anchors="receptive_fields")[0]
    assert computed[::2, ::2].tolist() == maps[0].tolist()
    assert computed[0].tolist() == [1, 2, 3, 3]
    assert computed[:, 0].tolist() == [1, 3, 5, 5]


def test_the_quantile_is_taken_of_what_the_setting_says():
    probe, maps = world(), torch.randn(6, 9, 2, 2, generator=torch.Generator().manual_seed(2))
    sizes = [torch.Size(probe.segmentation(index).maps.shape[1:]) for index in range(6)]
    of_maps = netdissect(passes({"conv": maps}), probe, quantile=0.1)["conv"]
    of_upsampled = netdissect(passes({"conv": maps}), probe, quantile=0.1, quantile_of="upsampled")["conv"]
    whole = torch.cat([overlap.upsample_at(maps[i], sizes[i]).flatten(1) for i in range(6)], dim=1)
    for tally, values in ((of_maps, maps.transpose(0, 1).flatten(1)), (of_upsampled, whole)):
        above = (values > tally.threshold[:, None]).double().mean(1)
        assert (above <= 0.1).all()
        assert (above > 0.05).all()
    assert not torch.equal(of_maps.threshold, of_upsampled.threshold)
    assert of_maps.size == (2, 2)


@pytest.mark.parametrize(("size", "said"), [((2, 2), 2), ((6, 1), 2), ((7, 7), 1), ((1, 1), 1)])
def test_labels_that_rest_on_small_maps_are_said_to(size, said):
    maps = torch.randn(6, 9, *size, generator=torch.Generator().manual_seed(2))
    notes = list(note_images("layer4", netdissect(passes({"layer4": maps}), world())["layer4"]))
    assert len(notes) == said
    assert "of 9 units of layer4 are detectors (IoU at least 0.04)" in notes[0]
    assert (
        said == 1 or f"the maps of layer4 are {size[0]} x {size[1]}; on so few positions many labels move" in notes[1]
    )


def test_anchors_change_what_a_mask_covers():
    probe, maps = world(), torch.randn(6, 9, 2, 2, generator=torch.Generator().manual_seed(2))
    tallies = [
        netdissect(passes({"conv": maps}), probe, quantile=0.2, anchors=name)["conv"] for name in overlap.ANCHORS
    ]
    assert len({tuple(tally.iou.flatten().tolist()) for tally in tallies}) == 3
    assert all(torch.equal(tally.threshold, tallies[0].threshold) for tally in tallies)


def test_chunks_do_not_change_a_count():
    probe, maps = world(), torch.randn(6, 9, 4, 4, generator=torch.Generator().manual_seed(2))

    def threshold(**at_once: int) -> Tensor:
        histogram = overlap.begin_histogram(maps, quantile=0.1, **at_once)
        overlap.add_values(histogram, maps, **at_once)
        return overlap.find_threshold(histogram, quantile=0.1)

    assert torch.equal(threshold(), threshold(at_once=100))
    for index in range(len(probe)):
        annotated = overlap.make_annotation(probe.segmentation(index), concepts=len(probe.concepts))
        whole = overlap.count_overlap(maps[index], threshold(), annotated)
        chunked = overlap.count_overlap(maps[index], threshold(), annotated, at_once=100)
        assert all(map(torch.equal, whole, chunked))


def planted(images: int = 40, size: int = 40) -> tuple[Annotated, Tensor]:
    """Four concepts, each on an eighth of the images, each about 0.4 % of all pixels; and their masks as maps."""
    maps = np.full((images, 1, size, size), -1)
    for index in range(images):
        row, column = np.random.default_rng(index).integers(0, size - 8, size=2)
        if index % 8 < 4:
            maps[index, 0, row : row + 7, column : column + 7] = index % 8
    probe = Annotated(
        [Segmentation(each) for each in maps], ("cup", "car", "hat", "owl"), ("object", "object", "part", "part")
    )
    return probe, torch.stack([torch.from_numpy(maps[:, 0] == concept).float() for concept in range(4)], dim=1)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.01, -5.0), (300.0, 70.0), (1e-6, 0.0)])
def test_a_unit_that_is_a_mask_gets_its_concept(scale, shift):
    probe, maps = planted()
    tally = netdissect(passes({"planted": scale * maps + shift}, 16), probe)["planted"]
    labels = label_from_tally(tally, "planted")
    assert labels.descriptions == probe.concepts
    np.testing.assert_array_equal(labels.similarity, 1)
    assert count_detectors(tally).all()


def test_a_noisy_planted_unit_gets_its_concept():
    probe, maps = planted()
    area = maps.mean((0, 2, 3)).max().item()
    noisy = maps + 0.1 * torch.randn(maps.shape, generator=torch.Generator().manual_seed(0))
    tally = netdissect(passes({"planted": noisy}, 16), probe, quantile=area * 1.0001)["planted"]
    assert label_from_tally(tally, "planted").descriptions == probe.concepts
    assert tally.iou.diagonal().min() > 0.98
    usual = netdissect(passes({"planted": noisy}, 16), probe)["planted"]  # noise fills up the 0.5 %
    assert label_from_tally(usual, "planted").descriptions == probe.concepts
    assert usual.iou.diagonal().min() > 0.7


def test_a_layer_without_extent_finds_a_concept_of_the_whole_image():
    scene = {3, 150}
    empty = np.empty((0, 12, 9), dtype=np.int64)
    probe = Annotated([Segmentation(empty, (int(i in scene),)) for i in range(400)], ("room", "beach"), ("scene",) * 2)
    fires = torch.tensor([float(i in scene) for i in range(400)])[:, None, None, None]
    tally = netdissect(passes({"fc": fires}, 50), probe)["fc"]
    assert label_from_tally(tally, "fc").top == (("beach",),)
    assert tally.iou[0, 1] == 1


def test_a_dead_unit_is_left_unlabelled():
    probe, maps = planted()
    maps[:, 1] = 0
    maps[:, 2] = 0.3  # a plateau, which interpolation may round up
    tally = netdissect(passes({"layer": maps}, 16), probe)["layer"]
    right = [np.array([unit]) for unit in range(4)]
    labels = label_from_tally(tally, "layer", accepted=right, truth=[(name,) for name in probe.concepts])
    assert labels.top == (("cup",), (), (), ("owl",))
    assert labels.descriptions == ("cup", "", "", "owl")
    np.testing.assert_array_equal(labels.ranks, [1, 4, 4, 1])
    assert count_detectors(tally).tolist() == [True, False, False, True]
    labels = label_from_tally(tally, "fc")
    assert [sorted(marks) for marks in labels.marks] == [[], ["below_min_iou"], ["below_min_iou"], []]
    assert labels.candidates == len(tally.concepts)
    assert tally.exceeding[1:3].tolist() == [0, 0]


def test_a_unit_at_the_smallest_iou_itself_detects_its_concept():
    def tally(intersection: int) -> Tally:
        one = torch.ones(1, dtype=torch.float64)
        counts = [torch.tensor([[count]]) for count in (13, intersection)]
        return Tally(("cup",), ("object",), one, one, torch.tensor([13]), *counts, min_iou=0.04)

    assert tally(1).iou.item() == 0.04  # 1 / (13 + 13 - 1)
    assert label_from_tally(tally(1), "fc").marks == (frozenset(),)
    assert label_from_tally(tally(0), "fc").marks == (frozenset(["below_min_iou"]),)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_names_layer_and_unit(value):
    probe, maps = planted()
    maps[20, 2, 5, 5] = value
    with pytest.raises(InputError, match=r"^layer 'layer4', unit 2: an activation is NaN or infinite \(1 of 4 units\)"):
        netdissect(passes({"layer4": maps}), probe)


def test_no_image_is_an_error():
    with pytest.raises(InputError, match="got no image"):
        netdissect(lambda: iter([]), world())


def quantile_of(values: Tensor, quantile: float, batch: int) -> tuple[float, thresholds.Histogram]:
    parts = values[:, None, None, None].split(batch)
    histogram = thresholds.begin_histogram(parts[0], quantile=quantile)
    for part in parts:
        thresholds.add_values(histogram, part)
    return thresholds.find_threshold(histogram, quantile=quantile).item(), histogram


numbers = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.one_of(numbers, st.sampled_from([0.0, 1.0, -3.0])), min_size=1, max_size=300),
    quantile=st.sampled_from([0.005, 0.02, 0.3]),
    batch=st.sampled_from([1, 7, 300]),
)
@example(values=[1.9335854302680955e-36], quantile=0.005, batch=1)
def test_a_threshold_is_within_one_bin_of_the_quantile(values, quantile, batch):
    data = torch.tensor(values)
    threshold, histogram = quantile_of(data, quantile, batch)
    centre, scale = histogram.centre.item(), histogram.scale.item()
    rounding = 2e-6 * (abs(threshold) + abs(centre) + scale)
    width = 2 * (abs(threshold - centre) + scale) / 256 + rounding
    assert (data.double() > threshold + rounding).double().mean() <= quantile
    if -(2**7) < (threshold - centre) / scale < 2**23:  # the outermost bins have no end
        assert (data.double() >= threshold - width).double().mean() > quantile


@pytest.mark.parametrize("batch", [1_000, 100_000])
@pytest.mark.parametrize(
    "draw",
    [
        lambda n, g: torch.randn(n, generator=g),
        lambda n, g: torch.empty(n).exponential_(generator=g),
        lambda n, g: torch.empty(n).log_normal_(0, 2, generator=g),
        lambda n, g: torch.empty(n).cauchy_(generator=g),
        lambda n, g: torch.randn(n, generator=g).relu(),
        lambda n, g: 100 + torch.randn(n, generator=g),
        lambda n, g: torch.randn(n, generator=g) + torch.linspace(-3, 3, n),  # the first images are unlike the rest
        lambda n, g: torch.randn(n, generator=g) * (torch.arange(n) > n // 2),  # silent at first
        lambda n, g: torch.cat([torch.randn(n - 1, generator=g), torch.tensor([1e9])]),
    ],
    ids=["normal", "exponential", "log-normal", "cauchy", "relu", "shifted", "drifting", "silent", "outlier"],
)
def test_the_share_above_misses_the_quantile_by_less_than_three_per_cent_of_it(draw, batch):
    data = draw(400_000, torch.Generator().manual_seed(0))
    threshold, _ = quantile_of(data, 0.005, batch)
    share = (data > threshold).double().mean().item()
    assert 0.00485 < share <= 0.005


def test_the_share_above_is_reported():
    probe, maps = planted()
    noise = torch.randn(maps.shape, generator=torch.Generator().manual_seed(0))
    tally = netdissect(passes({"noise": noise}, 8), probe)["noise"]
    share = (noise > tally.threshold[:, None, None]).double().mean((0, 2, 3))
    torch.testing.assert_close(tally.exceeding, share.float())
    assert ((tally.exceeding > 0.0049) & (tally.exceeding <= 0.005)).all()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_images():
    """Kept maps would show: those of the larger run take 200 MB."""
    script = """
        import sys
        from pathlib import Path
        sys.path.insert(0, "tests/evaluation/baselines")
        import numpy as np, torch
        from cd_exp.evaluation.baselines.netdissect import netdissect
        from test_netdissect import Annotated, Segmentation
        torch.set_num_threads(1)
        label = np.zeros((2, 9, 9), dtype=np.int64)
        maps = torch.randn(32, 16, 56, 56)
        def run(images):
            def passes():
                for start in range(0, images, 32):
                    yield range(start, start + 32), {"layer": maps + start}
            netdissect(passes, Annotated([Segmentation(label)] * images, ("a", "b"), ("c", "c")))
            # not ru_maxrss, which a child inherits from the process that started it
            peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
            return peak.split()[1]
        print(run(128), run(1024))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    small, large = map(int, done.stdout.split())
    assert large <= 1.1 * small


def counted() -> Tally:
    random = torch.Generator().manual_seed(3)
    return netdissect(passes({"conv": torch.randn(6, 5, 4, 3, generator=random)}), world(), quantile=0.1)["conv"]


def test_a_tally_has_the_published_columns(tmp_path):
    tally = counted()
    (tmp_path / "tally.csv").write_text(format_tally(tally), encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["tally.csv"]
    with (tmp_path / "tally.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["unit"]) for row in rows] == [1, 2, 3, 4, 5]
    for unit, row in enumerate(rows):
        best = int(tally.iou[unit].argmax())
        assert (row["label"], row["category"]) == (tally.concepts[best], tally.categories[best])
        assert float(row["score"]) == pytest.approx(tally.iou[unit, best].item())
        for kind in ("color", "object", "scene", "texture"):
            truth, area, both = (int(row[f"{kind}-{column}"]) for column in ("truth", "activation", "intersect"))
            assert float(row[f"{kind}-iou"]) == pytest.approx(both / (truth + area - both) if both else 0)
            if both:
                concept = tally.concepts.index(row[f"{kind}-label"])
                assert (truth, both) == (int(tally.truth[concept]), int(tally.intersection[unit, concept]))
            else:
                assert row[f"{kind}-label"] == ""


def test_a_tally_is_read_back_as_published_ones_are(tmp_path):
    probe, maps = planted()
    maps[:, 1] = 0
    tally = netdissect(passes({"planted": maps}, 16), probe)["planted"]
    (tmp_path / "tally.csv").write_text(format_tally(tally), encoding="utf-8")
    read, made = (
        read_published_labels(tmp_path / "tally.csv", layer="planted")["planted"],
        label_from_tally(tally, "planted"),
    )
    assert read.descriptions == made.descriptions == ("cup", "", "hat", "owl")
    np.testing.assert_array_equal(read.units, made.units)
    np.testing.assert_allclose(read.similarity, made.similarity, rtol=1e-8)


def test_a_concept_of_two_categories_keeps_them_apart(tmp_path):
    probe, maps = planted()
    probe = replace(probe, concepts=("door", "car", "door", "owl"))
    tally = netdissect(passes({"planted": maps}, 16), probe)["planted"]
    (tmp_path / "tally.csv").write_text(format_tally(tally), encoding="utf-8")
    with (tmp_path / "tally.csv").open(newline="") as file:
        assert [(row["category"], row["label"]) for row in csv.DictReader(file)] == [
            ("object", "door"), ("object", "car"), ("part", "door"), ("part", "owl"),
        ]  # fmt: skip


@pytest.mark.shared
@pytest.mark.skipif(not TALLY.exists(), reason="the published tallies are not beside the checkout")
def test_the_header_is_the_published_one(tmp_path):
    tally = counted()
    categories = ("texture", "scene", "object", "part", "material", "color", "color")
    broden = replace(tally, categories=categories, activation=torch.zeros(5, 6, dtype=torch.int64))
    (tmp_path / "t.csv").write_text(format_tally(broden), encoding="utf-8")
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == TALLY.read_text().splitlines()[0]


@pytest.mark.parametrize(("name", "value"), [("quantile", 0.0), ("quantile", 1.5), ("min_iou", -0.1)])
def test_a_setting_out_of_range_is_an_error(name, value):
    with pytest.raises(
        InputError, match=rf"^baseline\.{name} is {value}; expected it between 0 and 1 \(published: 0\.0"
    ):
        NetDissect(**{name: value})


@pytest.mark.parametrize(("name", "nearest"), [("quantile_of", "upsampled"), ("anchors", "corners")])
def test_a_setting_that_is_no_choice_is_an_error(name, nearest):
    with pytest.raises(InputError, match=f"baseline.{name} '{nearest[:-1]}'.*did you mean '{nearest}'"):
        NetDissect(**{name: nearest[:-1]})


def test_the_config_binds_the_settings_as_published():
    config = dict(OmegaConf.load(ROOT / "conf/baseline/netdissect.yaml"))
    assert config.pop("_target_") == "cd_exp.evaluation.baselines.NetDissect"
    assert NetDissect(**config) == NetDissect(quantile=0.005, min_iou=0.04)
