"""Edited numerics and other versions are not answered with older features; comments are."""

import numpy as np
import pytest
import torch

from cd_exp import clips, concepts, models, probes
from cd_exp.cache import Store
from cd_exp.features import ExtractionSettings, computed_with, extract, text_embeddings
from cd_exp.features.computed_with import NUMERICS, PACKAGE, digest_of
from cd_exp.records import Concepts

QUIET = ExtractionSettings(progress=False, workers=0)


def test_all_files_of_the_numerics_are_there():
    assert all((PACKAGE / name).is_file() for name in NUMERICS)


def test_what_can_change_no_number_changes_no_key():
    plain = b'def f(x):\n    """Twice."""\n    return 2 * x\n'
    commented = b'def f(x):\n    """Two times."""\n    # why\n    return (2 *\n            x)\n'
    assert digest_of((plain,)) == digest_of((commented,))
    assert digest_of((plain,)) != digest_of((plain.replace(b"2 *", b"3 *"),))


@pytest.mark.parametrize("changed", ["numerics", "torch", "pillow"])
def test_another_version_makes_the_features_again(tmp_path, monkeypatch, changed):
    store = Store(tmp_path / "cache")
    parts = models.shapes_model(layers=["layer4"]), probes.shapes(size=6), clips.shapes_clip()
    extract(*parts, layers=["layer4"], store=store, settings=QUIET)
    text_embeddings(parts[2], concepts.shapes(), store=store, device="cpu")
    made = len(store.made)
    extract(*parts, layers=["layer4"], store=store, settings=QUIET)
    assert len(store.made) == made
    if changed == "numerics":
        edited = (*computed_with._sources()[1:], b"x = 1\n")
        monkeypatch.setattr(computed_with, "_sources", lambda: edited)
        computed_with._text.cache_clear()
    else:
        others = {**computed_with._versions(), changed: "0.0"}
        monkeypatch.setattr(computed_with, "_versions", lambda: others)
    extract(*parts, layers=["layer4"], store=store, settings=QUIET)
    text_embeddings(parts[2], concepts.shapes(), store=store, device="cpu")
    computed_with._text.cache_clear()
    assert len(store.made) == 2 * made


CLIP = """
import json
from pathlib import Path
import torch
from torchvision import transforms

class Table:
    preprocess = transforms.Compose([transforms.Resize((2, 2)), transforms.ToTensor()])

    def encode_image(self, images):
        return images.flatten(1) * json.loads(Path({side!r}).read_text())["image"]

    def encode_text(self, texts):
        table = json.loads(Path({side!r}).read_text())
        return torch.tensor([[table.get(text, 0.5), 1.0] + [0.1] * 10 for text in texts])

def make():
    return Table()
"""


def test_a_side_file_of_a_backbone_of_ones_own_is_not_answered_with_older_embeddings(tmp_path):
    side = tmp_path / "table.json"
    (tmp_path / "mine.py").write_text(CLIP.format(side=str(side)))
    store, probe = Store(tmp_path / "cache"), probes.shapes(size=6)
    words = Concepts(("circle", "square", "star"))

    def run():
        clip = clips.CustomClip(f"{tmp_path}/mine.py:make")
        made = len(store.made)
        features = extract(
            models.shapes_model(layers=["layer4"]), probe, clip, layers=["layer4"], store=store, settings=QUIET
        )
        texts = text_embeddings(clip, words, store=store, device="cpu")
        return features.images, texts, len(store.made) - made

    side.write_text('{"image": 1.0, "circle": 0.1}')
    images, texts, _ = run()
    assert run()[2] == 0
    side.write_text('{"image": 1.0, "circle": 0.9}')  # the fixed words of its key are none of these
    _, changed, made = run()
    assert made == 1
    assert float(changed[0, 0]) == pytest.approx(0.9)
    torch.testing.assert_close(texts[1:], changed[1:])
    side.write_text('{"image": 1.0, "circle": 0.1}')
    assert run()[2] == 0  # what was made before is read again
    np.testing.assert_allclose(run()[0], images)
