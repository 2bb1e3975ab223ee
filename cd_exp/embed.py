"""`python -m cd_exp.embed IMAGES --clip NAME --concepts FILE OUT`: photographs and words embedded once, for all runs.

What it leaves in OUT is what `clip=precomputed clip.folder=OUT` reads: `image_embeddings.npy`, `images.txt`, and for
each list of words `NAME_text.npy` and `NAME_names.txt`. Nobody who labels with it needs CLIP, or the photographs.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from cd_exp.clips import Clip
from cd_exp.clips.precomputed import IDS, IMAGES, NAMES, TEXTS
from cd_exp.concepts import file as listed
from cd_exp.config.compose import compose_config, make_composer, parse_arguments
from cd_exp.config.construct import build
from cd_exp.config.validate import check_values
from cd_exp.errors import InputError, OneLineParser, as_refusal
from cd_exp.features import ExtractionSettings
from cd_exp.features.dataloader import collect_outputs, to_device
from cd_exp.io.atomic import temporary_folder, write_file
from cd_exp.io.text import CONTROL, escape_for_terminal, shorten_list
from cd_exp.records import Concepts, Probe


def main(words: Sequence[str] | None = None) -> int:
    """Embed, and write the folder.

    Returns:
        The exit status: 2 for what the user can mend.
    """
    parser = OneLineParser(prog="python -m cd_exp.embed", description=__doc__)
    parser.add_argument("images", help="a folder of photographs, or a text file that lists them, one path a line")
    parser.add_argument("out", type=Path, help="the folder to make")
    parser.add_argument("--clip", required=True, help="as on the command line of a run: clip=NAME")
    parser.add_argument(
        "--concepts", required=True, action="append", help="a text file, one word a line; again for more"
    )
    parser.add_argument("--template", action="append", help="a prompt with one {}; several are averaged")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, as for a run")
    options = parser.parse_intermixed_args(words)
    try:
        sets = {Path(path).stem: listed(path=path, templates=options.template) for path in options.concepts}
        if len(sets) < len(options.concepts):
            raise InputError("two files of --concepts have the same name; the folder would hold one of them")
        if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
            raise InputError(f"{options.out} exists and is not empty; name a new folder")
        probe, clip, settings = _build_recipes(options.images, options.clip, options.set)
        notes = write_embeddings(probe, clip, sets, settings=settings, out=options.out)
    except (InputError, OSError) as error:
        print(f"error: {escape_for_terminal(as_refusal(error))}", file=sys.stderr)
        return 2
    for note in notes:
        print(f"note: {escape_for_terminal(note)}")
    print(f"{len(probe)} images and {sum(len(s.names) for s in sets.values())} words: clip.folder={options.out}")
    return 0


def write_embeddings(
    probe: Probe, clip: Clip, sets: dict[str, Concepts], *, settings: ExtractionSettings, out: Path
) -> tuple[str, ...]:
    """Embed the images of a probe set and the words of concept sets, and leave them in a folder.

    Args:
        probe: the images; their ids become the lines of `images.txt`.
        clip: the backbone.
        sets: the words, by the name that their files get.
        settings: device, precision, batches.
        out: the folder, made whole or not at all.

    Returns:
        What a reader should know: what was skipped, prompts that were cut.

    Raises:
        InputError: unreadable images, or ids that no line can hold.
    """
    wrong = [name for name in probe.ids if CONTROL.search(name) or "\n" in name]
    if wrong:
        raise InputError(
            f"{len(wrong)} images have control characters in their names: {shorten_list(list(map(repr, wrong)))}"
        )
    rows = embed_images(probe, clip, settings=settings)
    device, _ = settings.resolve_device()
    notes = [*probe.notes]
    lines = {name: row for row, name in reversed(list(enumerate(probe.ids)))}  # an image that is listed twice, once
    names = sorted(lines, key=lines.__getitem__)
    with temporary_folder(out.parent, out.name) as half:
        np.save(half / IMAGES, rows[[lines[name] for name in names]])
        write_file(half / IDS, "".join(f"{name}\n" for name in names))
        for name, concepts in sets.items():
            np.save(half / f"{name}{TEXTS}", clip.embed(concepts, device=device).numpy())
            write_file(half / f"{name}{NAMES}", "".join(f"{word}\n" for word in concepts.names))
            notes += [*concepts.notes, *clip.notes(concepts)]
        half.replace(out)
    return tuple(notes)


def embed_images(probe: Probe, clip: Clip, *, settings: ExtractionSettings) -> Float[np.ndarray, "images dim"]:
    """CLIP's embedding of each image, not normalised.

    Raises:
        InputError: images that cannot be read; all are named.
    """
    tower = clip.image_tower()
    encode = to_device(tower.module, settings.resolve_device()[0])

    def forward(inputs: Tensor) -> dict[str, Tensor]:
        return {IMAGES: encode(inputs)}

    return collect_outputs(probe, tower.transform, forward, settings, title=f"embeddings of {probe.name}")[IMAGES]


def _build_recipes(images: str, clip: str, more: Sequence[str]) -> tuple[Probe, Clip, ExtractionSettings]:
    """The probe set, the backbone and the settings, as a run with these words would have them."""
    quoted = re.sub(r"([\\'])", r"\\\1", images)
    chosen = f"probe.root='{quoted}'" if Path(images).is_dir() else f"probe.path='{quoted}'"
    probe = "probe=folder" if Path(images).is_dir() else "probe=files"
    try:
        flags, _ = parse_arguments([probe, chosen, f"clip={clip}", "logger=none", *more])
        config: DictConfig = compose_config(make_composer(flags), "config", flags.overrides, RunMode.RUN)
        check_values(config)
    finally:
        GlobalHydra.instance().clear()
    settings = ExtractionSettings(
        device=config.device,
        precision=config.features.precision,
        batch_size=config.features.batch_size,
        workers=config.features.workers,
        progress=config.features.progress,
        decode=config.features.decode,
    )
    return build(config.probe, group="probe", leave_out=("on_error",)), build(config.clip, group="clip"), settings


if __name__ == "__main__":
    raise SystemExit(main())
