"""What holds for every probe set."""

import pickle
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from cd_exp.records import Probe


class ProbeTests:
    """Tests of a probe set; a subclass overrides `probe`, and `probe_again` where it can be built twice.

    The set should be small: every image is opened a few times.
    """

    @pytest.fixture
    def probe(self) -> Probe:
        """The probe set under test."""
        raise NotImplementedError("override the fixture `probe`")

    @pytest.fixture
    def probe_again(self, probe: Probe) -> Probe:
        """The same set, built once more; by default a copy of it."""
        return pickle.loads(pickle.dumps(probe))

    def test_images_are_rgb_and_the_same_each_time(self, probe: Probe) -> None:
        """An image of at least one pixel, opened twice."""
        assert len(probe) >= 1
        for index in range(len(probe)):
            image = probe[index]
            assert isinstance(image, Image.Image), index
            assert (image.mode, min(image.size) >= 1) == ("RGB", True), index
            assert image.tobytes() == probe[index].tobytes(), index

    def test_every_image_has_an_id_of_its_own(self, probe: Probe) -> None:
        """What a reader is shown instead of a number."""
        assert len(probe.ids) == len(probe)
        assert len(set(probe.ids)) == len(probe)
        assert all(isinstance(name, str) and name for name in probe.ids)

    def test_the_fingerprint_is_of_the_content(self, probe: Probe, probe_again: Probe) -> None:
        """Equal for the same set, another for some of the images: stored features go by it."""
        assert isinstance(probe.fingerprint, str)
        assert probe.fingerprint
        assert probe_again.fingerprint == probe.fingerprint
        rows = list(range(len(probe)))
        assert probe.fingerprint_of(rows) == probe_again.fingerprint_of(rows)
        if len(rows) > 1:
            assert len({probe.fingerprint_of(part) for part in (rows, rows[1:], rows[:-1])}) == 3

    def test_digests_come_in_the_order_asked(self, probe: Probe) -> None:
        """In any order and in chunks; equal for equal images only."""
        rows = list(range(len(probe)))
        digests = list(probe.digests(rows))
        assert list(probe.digests(rows[::-1])) == digests[::-1]
        assert [digest for row in rows for digest in probe.digests([row])] == digests
        pixels = [(probe[row].size, probe[row].tobytes()) for row in rows]
        assert len(set(pixels)) <= len(set(digests))
        assert len(probe.order_keys(rows)) == len(rows)

    def test_classes_and_notes_are_text(self, probe: Probe) -> None:
        """A class per image, "" for none; no classes at all is None."""
        classes = probe.image_classes
        assert classes is None or (len(classes) == len(probe) and all(isinstance(name, str) for name in classes))
        assert all(isinstance(note, str) for note in probe.notes)

    def test_masks_name_concepts_that_there_are(self, probe: Probe) -> None:
        """Concepts by number, -1 for background; a set without masks has nothing to show here."""
        if not probe.has_masks:
            return
        assert len(probe.categories) == len(probe.concepts) > 0
        for index in range(len(probe)):
            masks = probe.segmentation(index)
            numbers = {*np.unique(masks.maps).tolist(), *masks.whole}
            assert masks.maps.ndim == 3, index
            assert numbers <= {-1, *range(len(probe.concepts))}, index

    def test_what_is_shown_is_said_image_by_image(self, probe: Probe) -> None:
        """True or False for each image asked, in that order; None for what the set knows nothing of."""
        if not probe.knows_what_is_shown:
            return
        rows = list(range(len(probe)))
        for name in (*list(probe.concepts)[:5], "a name of no set"):
            shown = probe.shows(name, rows)
            assert shown is None or _is_answer(shown, probe.shows(name, rows[::-1]), rows)

    def test_values_belong_to_images(self, probe: Probe) -> None:
        """What numbers an encoded image holds can be asked of every image."""
        assert [probe.values(index) is not None for index in range(len(probe))].count(True) in (0, len(probe))


def _is_answer(shown: np.ndarray, backwards: np.ndarray | None, rows: Sequence[int]) -> bool:
    if backwards is None or shown.shape != (len(rows),) or shown.dtype != bool:
        return False
    return np.array_equal(shown[::-1], backwards)
