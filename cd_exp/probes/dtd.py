"""The Describable Textures Dataset."""

from cd_exp.errors import unknown
from cd_exp.io.download import Archive, locate
from cd_exp.io.text import read_lines
from cd_exp.probes.folder import image_tree
from cd_exp.probes.id_lists import Names
from cd_exp.probes.image_files import ImageFiles, require

ARCHIVE = Archive(
    "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
    "md5:fff73e5086ae6bdbea199a49dfb8a4c1",
    "images",
)
SPLITS = ("train", "val", "test")


def dtd(
    *,
    root: str | None = None,
    data_dir: str = "data",
    split: str | None = None,
    partition: int = 1,
    archive: Archive = ARCHIVE,
) -> ImageFiles:
    """5,640 photographs of 47 textures, about 600 MB to download.

    Source: Cimpoi et al., Describing Textures in the Wild, CVPR 2014.

    Args:
        root: the unpacked archive, the folder with `images/`; by default it is downloaded.
        data_dir: directory to download into.
        split: train, val or test; None takes all images.
        partition: which of the ten published divisions, when a split is named.
        archive: what is downloaded, for a copy elsewhere.

    Raises:
        InputError: it is not found locally and cannot be downloaded, or there is no such split.
    """
    base = locate(archive, root=root, data_dir=data_dir, setting="probe.root")
    if split is None:
        listed = image_tree(base / "images").images
    elif split in SPLITS:
        listed = read_lines(base / "labels" / f"{split}{partition}.txt", setting="probe.partition")
    else:
        raise unknown("split", split, SPLITS, where="in dtd")
    require(base / "images", listed, listed_in="dtd")
    return ImageFiles(name="dtd", root=base / "images", ids=Names(listed))
