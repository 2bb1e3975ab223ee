"""The validation images of Places365."""

from cd_exp.errors import InputError
from cd_exp.io.download import Archive, locate
from cd_exp.probes.folder import image_tree
from cd_exp.probes.id_lists import Names
from cd_exp.probes.image_files import ImageFiles

ARCHIVE = Archive("http://data.csail.mit.edu/places/places365/val_256.tar", "md5:e27b17d8d44f4af9a78502beb927f808", ".")


def places365(*, root: str | None = None, data_dir: str = "data", archive: Archive = ARCHIVE) -> ImageFiles:
    """36,500 photographs of places, 256 pixels wide and high, about 500 MB to download.

    Source: Zhou et al., Places: A 10 Million Image Database for Scene Recognition, TPAMI 2017.

    Args:
        root: the user's copy, flat or in folders; by default it is downloaded.
        data_dir: directory to download into.
        archive: what is downloaded, for a copy elsewhere.

    Raises:
        InputError: they are not found locally and cannot be downloaded.
    """
    base = locate(archive, root=root, data_dir=data_dir, setting="probe.root")
    listed = sorted(image_tree(base).images, key=lambda path: path.rpartition("/")[2])
    if not listed:
        raise InputError(f"{base} holds no image; probe.root must be the folder with the validation images")
    return ImageFiles(name="places365", root=base, ids=Names(listed))
