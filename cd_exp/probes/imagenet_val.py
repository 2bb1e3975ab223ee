"""The validation images of ImageNet (ILSVRC 2012)."""

from cd_exp.errors import InputError
from cd_exp.probes.folder import image_tree
from cd_exp.probes.id_lists import Names
from cd_exp.probes.image_files import ImageFiles, existing_folder

IMAGES = 50_000


def imagenet_val(*, root: str | None = None) -> ImageFiles:
    """The user's own copy of ImageNet's validation images, all in one folder or sorted into class folders.

    They are ordered by file name, so that both ways of keeping them give the same set.

    Args:
        root: the folder.

    Raises:
        InputError: no folder is given, or it holds no images.
    """
    if root is None:
        remedy = "set probe.root=DIR to a copy of the validation images"
        raise InputError(f"probe.root is not set, and ImageNet is not for anonymous download; {remedy}")
    base = existing_folder(root)
    found = sorted(image_tree(base).images, key=lambda path: path.rpartition("/")[2])
    if not found:
        wanted = "it must hold ILSVRC2012_val_00000001.JPEG and so on, or class folders with them"
        raise InputError(f"probe.root={root} holds no image; {wanted}")
    notes = (f"{base}: {len(found)} images, where ImageNet has {IMAGES}",) if len(found) != IMAGES else ()
    return ImageFiles(name="imagenet_val", root=base, ids=Names(found), notes=notes)
