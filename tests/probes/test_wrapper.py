"""A part of a set, several sets as one, and both at once know of each image all that its own set knows of it."""

import numpy as np
import pytest
from PIL import Image

from cd_exp import probes
from cd_exp.evaluation.judges import AnnotationsJudge, concept_presence, content_digests
from cd_exp.probes.custom import probe_of_images
from cd_exp.records import Probe

WORDS = ("red", "circle", "red circle", "striped", "dog", "grey wolf", "octagon")


class Masked(list):
    """Pictures with masks, as a user's code gives them."""

    annotations = probes.shapes(size=24)


def folder(tmp_path, *, listed=False):
    for number in range(24):
        path = tmp_path / "pictures" / ("dog", "grey wolf", "red")[number % 3] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 5, 3), number * 10, np.uint8)).save(path)
    if not listed:
        return probes.folder(root=str(tmp_path / "pictures"))
    (tmp_path / "images.txt").write_text("\n".join(f"{kind}/{n}" for n in range(12) for kind in ("dog", "red")) + "\n")
    return probes.ids(path=str(tmp_path / "images.txt"))


SETS = {
    "shapes": lambda _: probes.shapes(size=24),
    "two objects": lambda _: probes.shapes(size=24, objects=2),
    "masks": lambda _: probe_of_images(Masked(Masked.annotations[i] for i in range(24)), source="test", name="masks"),
    "folder": folder,
    "ids": lambda tmp_path: folder(tmp_path, listed=True),
}
SEVERAL = {
    "itself": (lambda probe: probe, list(range(24))),
    "first": (lambda probe: probes.subset(probe, limit=10), list(range(10))),
    "drawn": (
        lambda probe: probes.subset(probe, limit=10, seed=1),
        np.sort(np.random.default_rng(1).choice(24, 10, replace=False)).tolist(),
    ),
    "part of a part": (lambda probe: probes.subset(probes.subset(probe, limit=20), limit=5), list(range(5))),
    "joined": (lambda probe: probes.concat(probes=[probe, probes.subset(probe, limit=8)]), [*range(24), *range(8)]),
    "part of joined": (
        lambda probe: probes.subset(probes.concat(probes=[probe, probe]), limit=30),
        [*range(24), *range(6)],
    ),
    "joined parts": (
        lambda probe: probes.concat(probes=[probes.subset(probe, limit=4), probes.subset(probe, limit=6)]),
        [*range(4), *range(6)],
    ),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("made", SEVERAL)
def test_a_judge_knows_the_same_of_the_same_images(tmp_path, name, made):
    probe = SETS[name](tmp_path)
    wrap, rows = SEVERAL[made]
    wrapped = wrap(probe)
    AnnotationsJudge().check(wrapped)
    expected, values = concept_presence(probe, rows), concept_presence(wrapped, range(len(rows)))
    for word in WORDS:
        presence = [function(word) for function in (expected, values)]
        if not probe.has_masks:  # of a class that none of these images has, the images alone do not tell
            presence = [None if one is None or not one.any() else one for one in presence]
        first, second = (None if one is None else one.tolist() for one in presence)
        assert first == second, word
    assert content_digests(wrapped, range(len(rows))) == content_digests(probe, rows)
    assert content_digests(wrapped, [3, 1, 2]) == content_digests(probe, [rows[3], rows[1], rows[2]])
    for member in ("notes", "concepts", "categories", "has_masks", "ids_only", "renderer", "reading"):
        if member != "notes" or "joined" not in made:  # joined ones have those of each set
            assert getattr(wrapped, member) == getattr(probe, member), member
    own = probe.image_classes
    assert wrapped.image_classes == (None if own is None else [own[row] for row in rows])


def test_sets_that_answer_and_sets_that_do_not_go_by_their_annotations(tmp_path):
    joined = probes.concat(probes=[probes.shapes(size=4), folder(tmp_path)])
    assert not joined.knows_what_is_shown
    assert joined.has_masks
    assert joined.renderer is None


def test_every_member_that_a_probe_may_know_is_passed_on():
    """A member that is added to the base class has to be passed on too."""
    from cd_exp.probes.wrappers import Wrapper

    kept = {"name", "ids", "fingerprint", "fingerprint_of", "_pixels", "__len__"}  # a wrapper's own
    declared = {key for key, value in vars(Probe).items() if callable(value) or isinstance(value, property)}
    declared = {key for key in declared if not key.startswith("__") or key == "__getitem__"}
    assert declared - kept - set(vars(Wrapper)) == set()
