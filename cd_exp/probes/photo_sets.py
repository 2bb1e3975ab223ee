"""Published photograph sets: Describable Textures, and the validation images of Places365 and ImageNet."""

from cd_exp.errors import InputError, unknown_name_error
from cd_exp.io.download import Archive, locate_archive
from cd_exp.io.text import read_lines
from cd_exp.probes.folder import list_image_tree
from cd_exp.probes.image_files import ImageFiles, NamedIds, check_folder_exists, require_files

DTD = Archive(
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
    archive: Archive = DTD,
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
        InputError: it is not on this disk and cannot be downloaded, or there is no such split.
    """
    base = locate_archive(archive, root=root, data_dir=data_dir, setting="probe.root")
    if split is None:
        listed = list_image_tree(base / "images").images
    elif split in SPLITS:
        listed = read_lines(base / "labels" / f"{split}{partition}.txt", setting="probe.partition")
    else:
        raise unknown_name_error("split", split, SPLITS, where="in dtd")
    require_files(base / "images", listed, listed_in="dtd")
    return ImageFiles(name="dtd", root=base / "images", ids=NamedIds(listed))


PLACES365 = Archive(
    "http://data.csail.mit.edu/places/places365/val_256.tar", "md5:e27b17d8d44f4af9a78502beb927f808", "."
)


def places365(*, root: str | None = None, data_dir: str = "data", archive: Archive = PLACES365) -> ImageFiles:
    """36,500 photographs of places, 256 pixels wide and high, about 500 MB to download.

    Source: Zhou et al., Places: A 10 Million Image Database for Scene Recognition, TPAMI 2017.

    Args:
        root: the user's copy, flat or in folders; by default it is downloaded.
        data_dir: directory to download into.
        archive: what is downloaded, for a copy elsewhere.

    Raises:
        InputError: they are not on this disk and cannot be downloaded.
    """
    base = locate_archive(archive, root=root, data_dir=data_dir, setting="probe.root")
    listed = sorted(list_image_tree(base).images, key=lambda path: path.rpartition("/")[2])
    if not listed:
        raise InputError(f"{base} holds no image; probe.root must be the folder with the validation images")
    return ImageFiles(name="places365", root=base, ids=NamedIds(listed))


IMAGES = 50_000


def imagenet_val(*, root: str | None = None) -> ImageFiles:
    """The user's own copy of ImageNet's validation images, all in one folder or sorted into class folders.

    They are ordered by file name, so that both ways of keeping them give the same set.

    Args:
        root: the folder.

    Raises:
        InputError: there is no folder, or it holds no images.
    """
    if root is None:
        remedy = "set probe.root=DIR to a copy of the validation images"
        raise InputError(f"probe.root is not set, and ImageNet is not for anonymous download; {remedy}")
    base = check_folder_exists(root)
    paths = sorted(list_image_tree(base).images, key=lambda path: path.rpartition("/")[2])
    if not paths:
        wanted = "it must hold ILSVRC2012_val_00000001.JPEG and so on, or class folders with them"
        raise InputError(f"probe.root={root} holds no image; {wanted}")
    notes = (f"{base}: {len(paths)} images, where ImageNet has {IMAGES}",) if len(paths) != IMAGES else ()
    return ImageFiles(name="imagenet_val", root=base, ids=NamedIds(paths), notes=notes)
