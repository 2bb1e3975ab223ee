import numpy as np
import pytest
import torch
from PIL import Image

from cd_exp import probes
from cd_exp.errors import InputError
from cd_exp.evaluation.judges import AnnotationsJudge, concept_presence, read_concept_values, score_labels
from cd_exp.records import Probe


def test_shapes_tell_every_word_that_is_drawn():
    probe = probes.shapes(size=60)
    values = concept_presence(probe, range(60))
    scenes = [probe.scene(index) for index in range(60)]
    assert values("red").tolist() == [scene.colour == 0 for scene in scenes]
    assert values("red circle").tolist() == [scene.label == 0 for scene in scenes]
    assert values("striped circle").tolist() == [scene.texture == 1 and scene.shape == 0 for scene in scenes]
    assert values("octagon") is None


def test_masks_of_any_annotated_probe():
    shapes = probes.shapes(size=20)
    values = concept_presence(_Masks(shapes), range(20))
    assert values("Red").tolist() == concept_presence(shapes, range(20))("red").tolist()
    assert values("octagon") is None


class _Masks(Probe):
    """The masks alone."""

    fingerprint, concepts, categories, has_masks = "masks", (), (), True

    def __init__(self, probe):
        self.name, self.ids, self.probe = probe.name, probe.ids, probe
        self.concepts, self.categories = probe.concepts, probe.categories

    def __len__(self):
        return len(self.probe)

    def __getitem__(self, index):
        return self.probe[index]

    def segmentation(self, index):
        return self.probe.segmentation(index)


def test_the_folders_of_a_tree_are_classes(tmp_path):
    for folder in ("dog/a", "dog/b", "grey_wolf/c"):
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / f"{folder}.png")
    probe = probes.folder(root=str(tmp_path))
    AnnotationsJudge().check(probe)
    values = concept_presence(probe, [0, 1, 2])
    assert values("dog").tolist() == [1, 1, 0]
    assert values("Grey wolf").tolist() == [0, 0, 1]
    assert values("cat") is None


def test_a_probe_without_masks_or_classes_is_refused_at_once(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="probe 'folder' has neither; use probe=shapes, probe=broden, a probe=folder"):
        AnnotationsJudge().check(probes.folder(root=str(tmp_path)))


def test_scores_by_unit_with_nothing_where_nothing_is_known():
    presence = {"a": torch.tensor([1.0, 0, 0, 1]), "b": torch.tensor([0.0, 1, 0, 0])}
    activations = torch.tensor([[5.0, 0, 1], [0, 4, 2], [0, 0, 3], [4, 0, 4]])
    scores = score_labels(activations, ["a", "b", "octagon"], presence.get)
    assert set(scores) == {"pearson", "cosine", "auprc", "f1", "iou"}
    for name, values in scores.items():
        assert np.isnan(values[2])
        if name not in ("pearson", "cosine"):
            assert values[:2].tolist() == [1, 1]
    assert scores["pearson"][0] == pytest.approx(np.corrcoef(activations[:, 0], [1, 0, 0, 1])[0, 1])


def test_weighted_sums_are_put_between_0_and_1_where_presence_counts():
    presence = {"a": torch.tensor([1.0, 0, 0, 1]), "b": torch.tensor([0.0, 1, 0, 0])}
    activations = torch.tensor([[5.0], [1.0], [0.0], [5.0]])
    scores = score_labels(activations, ["2.00 a + 0.40 b"], presence.get)
    assert scores["f1"].item() == 1
    assert scores["pearson"].item() == pytest.approx(np.corrcoef([5, 1, 0, 5], [2, 0.4, 0, 2])[0, 1])


def test_the_share_of_active_images_is_a_setting():
    presence = {"a": torch.tensor([1.0, 1, 0, 0])}
    activations = torch.tensor([[4.0], [3.0], [2.0], [1.0]])
    assert score_labels(activations, ["a"], presence.get)["f1"].item() == 1
    assert score_labels(activations, ["a"], presence.get, share=0.25)["f1"].item() == pytest.approx(2 / 3)


def test_concept_values_of_a_backbone():
    generator = torch.Generator().manual_seed(0)
    images, texts, others = (torch.randn(count, 8, generator=generator) for count in (5, 3, 20))
    unit = torch.nn.functional.normalize
    cosine = (unit(images, dim=1) @ unit(texts, dim=1).T).double()
    own = read_concept_values(images, texts, scale=10.0, bias=-2.0, calibration=others)
    torch.testing.assert_close(own, 1 / (1 + torch.exp(-(10 * cosine - 2))), rtol=1e-5, atol=1e-6)
    without = read_concept_values(images, texts, scale=10.0, bias=None, calibration=others)
    likelihood = torch.exp(10 * (unit(others, dim=1) @ unit(texts, dim=1).T)).mean(dim=0)
    expected = torch.exp(10 * cosine) / (torch.exp(10 * cosine) + likelihood)
    torch.testing.assert_close(without, expected.double(), rtol=1e-4, atol=1e-5)
