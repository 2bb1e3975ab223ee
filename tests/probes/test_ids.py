import pytest

from cd_exp import probes
from cd_exp.errors import InputError
from cd_exp.records import has_images


def test_ids_without_pictures(tmp_path):
    (tmp_path / "images.txt").write_text("a.png\n\nb.png\n")
    probe = probes.ids(path=str(tmp_path / "images.txt"))
    assert probe.ids == ("a.png", "b.png")
    assert not has_images(probe)
    assert has_images(probes.shapes(size=2))
    assert probe.notes == (f"{tmp_path}/images.txt: blank lines left out: 1 (2)",)
    assert probes.note_pixels(probe) == ()
    with pytest.raises(InputError, match=r"probe=ids has no images, and this needs them: use units and a clip"):
        probe[0]
    with pytest.raises(IndexError):
        probe[2]
    (tmp_path / "other.txt").write_text("b.png\na.png\n")
    assert probes.ids(path=str(tmp_path / "other.txt")).fingerprint != probe.fingerprint
    part = probes.subset(probe, limit=1)
    assert (part.ids, part.fingerprint != probe.fingerprint) == (("a.png",), True)
    assert not has_images(part)
