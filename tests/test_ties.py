"""Images of equal activation at the edge of those that are read: their order in the set decides nothing."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from cd_exp import clips, concepts, probes, similarity
from cd_exp.activation_stats import activation_statistics, strongest_images
from cd_exp.cache import Store
from cd_exp.dissection import RunInputs, dissect_layers
from cd_exp.features import ExtractionSettings, Features
from cd_exp.features.features import count_cut_ties, read_activations
from cd_exp.features.store_activations import LayerSummary
from cd_exp.models import shapes_model
from cd_exp.units import ActivationMatrix

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("resamples", [0, 3])
def test_the_order_of_the_files_decides_no_label(tmp_path, resamples):
    drawn = np.random.default_rng(0)
    firing = np.where(drawn.random((40, 30)) < 0.05, drawn.random((40, 30)), 0).astype(np.float32)  # sparse latents
    firing[:, 0] = 0
    firing[:12, 1] = np.linspace(1, 2, 12)
    pictures = [np.asarray(picture) for picture in probes.shapes(size=40)]
    items = []
    for number, order in enumerate((range(40), drawn.permutation(40), range(39, -1, -1))):
        root = tmp_path / str(number)
        root.mkdir()
        for position, row in enumerate(order):
            Image.fromarray(pictures[row]).save(root / f"{position:02d}.png")
        np.save(root / "latents.npy", firing[list(order)])
        (root / "images.txt").write_text("".join(f"{position:02d}.png\n" for position in range(40)))
        inputs = RunInputs(
            model=shapes_model(layers=["fc"]),
            units=ActivationMatrix(path=str(root)),
            probe=probes.folder(root=str(root)),
            concepts=concepts.shapes(),
            clip=clips.shapes_clip(),
            store=Store(tmp_path / "cache"),
            settings=ExtractionSettings(workers=0, progress=False),
        )
        function = similarity.wpmi
        labels = dissect_layers(inputs, function, top=5, resamples=resamples).labels["latents"]
        items.append(labels)
        few = [index for index, flags in enumerate(labels.marks) if "few_images" in flags]
        assert few == [index for index in range(30) if (firing[:, index] > 0).sum() < 28]
    for other in items[1:]:
        assert other.top == items[0].top
        np.testing.assert_allclose(other.similarity, items[0].similarity, atol=1e-4)


@pytest.mark.parametrize("kept", [12, 21, 40])
def test_lists_go_by_content_as_far_as_they_hold_what_is_equal_and_say_how_far_they_do_not(kept):
    """8 images are read. Unit 0 has no ties; of unit 1 the images 5 to 20 are equal, of unit 2 all but three."""
    generator = torch.Generator().manual_seed(0)
    neurons = torch.stack([torch.arange(40.0), torch.full((40,), 1.0), torch.zeros(40)], dim=1)
    neurons[:4, 1], neurons[20:, 1], neurons[:3, 2] = 2.0, 0.5, torch.tensor([3.0, 2.0, 1.0])
    content = torch.randperm(40, generator=generator)  # rows by content
    wpmi = partial(similarity.wpmi, top_k=8)
    chosen = {}
    for name, order in (("as it is", torch.arange(40)), ("shuffled", torch.randperm(40, generator=generator))):
        rows = neurons[order]
        lists = strongest_images(rows, kept)
        summary = LayerSummary(lists, activation_statistics(rows, histogram=True))
        features = Features({}, torch.ones(40, 4), range(40), (), {"layer": summary})
        ranks = content.argsort()[order]  # of the images as they stand
        by_content = ranks.argsort()
        read = read_activations(
            features, "layer", wpmi, 0, torch.device("cpu"), lambda by_content=by_content: by_content
        )
        chosen[name] = [set(order[read.indices[:8, unit]].tolist()) for unit in range(3)]
        cut = {12: 2, 21: 1, 40: 0}[kept]  # the list ends among equal ones
        assert count_cut_ties(features, 8) == ({"layer": cut} if cut else {})
    equal = [unit for unit in range(3) if chosen["as it is"][unit] == chosen["shuffled"][unit]]
    assert equal == {12: [0], 21: [0, 1], 40: [0, 1, 2]}[kept]
