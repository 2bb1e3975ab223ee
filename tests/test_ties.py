"""Images of equal activation at the edge of those that are read: their order in the set decides nothing."""

import numpy as np
import pytest
from PIL import Image

from cd_exp import clips, concepts, probes, similarity
from cd_exp.cache import Store
from cd_exp.dissection import RunInputs, dissect_layers
from cd_exp.features import ExtractionSettings
from cd_exp.models import shapes_model
from cd_exp.units import ActivationMatrix


@pytest.mark.parametrize("resamples", [0, 3])
def test_the_order_of_the_files_decides_no_label(tmp_path, resamples):
    drawn = np.random.default_rng(0)
    firing = np.where(drawn.random((40, 30)) < 0.05, drawn.random((40, 30)), 0).astype(np.float32)  # sparse latents
    firing[:, 0] = 0
    firing[:12, 1] = np.linspace(1, 2, 12)
    pictures = [np.asarray(picture) for picture in probes.shapes(size=40)]
    found = []
    for number, order in enumerate((range(40), drawn.permutation(40), range(39, -1, -1))):
        root = tmp_path / str(number)
        root.mkdir()
        for place, row in enumerate(order):
            Image.fromarray(pictures[row]).save(root / f"{place:02d}.png")
        np.save(root / "latents.npy", firing[list(order)])
        (root / "images.txt").write_text("".join(f"{place:02d}.png\n" for place in range(40)))
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
        found.append(labels)
        few = [index for index, flags in enumerate(labels.marks) if "few_images" in flags]
        assert few == [index for index in range(30) if (firing[:, index] > 0).sum() < 28]
    for other in found[1:]:
        assert other.top == found[0].top
        np.testing.assert_allclose(other.similarity, found[0].similarity, atol=1e-4)
