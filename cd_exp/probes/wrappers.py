"""Probe sets around probe sets: a subset, several as one, and decoding options for all of them.

Whatever the inner set declares is passed on, so a limited or joined set has its masks, classes and digests.
"""

import inspect
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int

from cd_exp import config
from cd_exp.config.construct import build_group_with
from cd_exp.errors import InputError, unknown_name_error
from cd_exp.probes.decoding import AS_PUBLISHED, DecodeOptions, Values, reaches
from cd_exp.probes.hashing import fingerprint_images
from cd_exp.probes.image_files import JoinedIds, SelectedIds
from cd_exp.records import Probe, Renderer, Segmentation, has_images

if TYPE_CHECKING:
    from PIL.Image import Image


class Wrapper(Probe):
    """A probe set of other sets' images. It knows of each image all that the image's own set knows.

    Concepts of the same name and category are one. An image of a set without masks carries no concept at all, and
    Network Dissection counts an image only for the categories of the concepts it carries.
    """

    @property
    @abstractmethod
    def members(self) -> Sequence[Probe]:
        """The sets."""

    @abstractmethod
    def member(self, index: int) -> tuple[int, int]:
        """The number of the set that holds an image, and the image's index in it; raises IndexError."""

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of the sets."""
        return tuple(note for member in self.members for note in member.notes)

    @property
    def ids_only(self) -> bool:
        """Whether images of a set cannot be opened."""
        return any(member.ids_only for member in self.members)

    @cached_property
    def image_classes(self) -> Sequence[str] | None:
        """The class of each image, where all of the sets know it."""
        each = [member.image_classes for member in self.members]
        if any(classes is None for classes in each):
            return None
        return [(each[number] or ())[inside] for number, inside in map(self.member, range(len(self)))]

    @cached_property
    def _numbers(self) -> dict[tuple[str, str], int]:
        """The number of each concept by name and category, in the order in which the sets bring them."""
        pairs = (pair for member in self.members for pair in zip(member.concepts, member.categories, strict=True))
        return {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}

    @property
    def concepts(self) -> Sequence[str]:
        """The annotated concepts, by number: all of the sets', whether or not these images show them."""
        return self.members[0].concepts if len(self.members) == 1 else tuple(name for name, _ in self._numbers)

    @property
    def categories(self) -> Sequence[str]:
        """The category of each concept."""
        return self.members[0].categories if len(self.members) == 1 else tuple(kind for _, kind in self._numbers)

    @property
    def has_masks(self) -> bool:
        """Whether a set has masks."""
        return any(member.has_masks for member in self.members)

    @cached_property
    def _renumbered(self) -> tuple[Int[np.ndarray, " own"], ...]:
        """Of each set's own concepts, the numbers here; the last entry is -1, for none."""
        return tuple(
            np.array(
                [*(self._numbers[pair] for pair in zip(member.concepts, member.categories, strict=True)), -1], np.int32
            )
            for member in self.members
        )

    def segmentation(self, index: int) -> Segmentation:
        """The masks of one image; none at all in a set without masks."""
        number, inside = self.member(index)
        masks = self.members[number].segmentation(inside)
        if len(self.members) == 1:
            return masks
        numbers = self._renumbered[number]
        return Segmentation(numbers[masks.maps], tuple(int(numbers[concept]) for concept in masks.whole))

    @property
    def knows_what_is_shown(self) -> bool:
        """Whether every set does."""
        return all(member.knows_what_is_shown for member in self.members)

    def shows(self, name: str, indices: Sequence[int]) -> Bool[np.ndarray, " images"] | None:
        """Whether each of these images shows what a name says; None where no set knows anything of the name."""
        answers = np.zeros(len(indices), dtype=bool)
        any_known = False
        for number, rows, inside in self._by_member(indices):
            of_member = self.members[number].shows(name, inside)
            if of_member is not None:
                answers[rows], any_known = of_member, True
        return answers if any_known else None

    @property
    def renderer(self) -> Renderer | None:
        """That of the sets, where they all have the same."""
        each = {member.renderer for member in self.members}
        return each.pop() if len(each) == 1 else None

    @property
    def reading(self) -> DecodeOptions | None:
        """How images become RGB, where any of the sets has encoded ones."""
        return next((member.reading for member in self.members if member.reading is not None), None)

    def values(self, index: int) -> Values | None:
        """What numbers an encoded image holds."""
        number, inside = self.member(index)
        return self.members[number].values(inside)

    def digests(self, rows: Sequence[int]) -> Iterator[str]:
        """The hash of each of these images' content, as the set of each gives it."""
        by_position: dict[int, str] = {}
        for number, positions, inside in self._by_member(rows):
            by_position |= zip(positions, self.members[number].digests(inside), strict=True)
        return (by_position[row] for row in range(len(rows)))

    def order_keys(self, rows: Sequence[int]) -> Sequence[str]:
        """Those of each image's own set."""
        by_position: dict[int, str] = {}
        for number, positions, inside in self._by_member(rows):
            by_position |= zip(positions, self.members[number].order_keys(inside), strict=True)
        return [by_position[position] for position in range(len(rows))]

    def __getitem__(self, index: int) -> "Image":
        """The image as RGB; raises OSError where it cannot be read."""
        number, inside = self.member(index)
        return self.members[number][inside]

    def _by_member(self, indices: Sequence[int]) -> Iterator[tuple[int, list[int], list[int]]]:
        """Of each set that holds some of the images: its number, their rows in `indices`, and their rows in the set."""
        split: dict[int, tuple[list[int], list[int]]] = {}
        for row, index in enumerate(indices):
            number, inside = self.member(int(index))
            rows, inner_rows = split.setdefault(number, ([], []))
            rows.append(row)
            inner_rows.append(inside)
        yield from ((number, rows, inner_rows) for number, (rows, inner_rows) in split.items())


@dataclass(frozen=True, eq=False)
class Subset(Wrapper):
    """Some images of a set, in the order of their indices in it."""

    probe: Probe
    rows: Int[np.ndarray, " images"]

    @property
    def members(self) -> tuple[Probe]:
        """The set."""
        return (self.probe,)

    def member(self, index: int) -> tuple[int, int]:
        """The image's index in the set."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return 0, int(self.rows[index])

    @property
    def name(self) -> str:
        """The set's own name."""
        return self.probe.name

    @cached_property
    def ids(self) -> Sequence[str]:
        """Those of the set."""
        return SelectedIds(self.probe.ids, self.rows)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of these images alone where the set can tell, else of the set and of what was chosen."""
        return self.probe.fingerprint_of(self.rows.tolist())

    def __len__(self) -> int:
        return len(self.rows)


def subset(probe: Probe, *, limit: int | None, seed: int | None = None) -> Probe:
    """At most so many images of a set; the set itself where it has no more.

    Args:
        probe: the set.
        limit: how many to take at most; None takes all.
        seed: None takes the first ones, a number draws them at random.

    Raises:
        InputError: the limit leaves no image.
    """
    if limit is not None and limit < 1:
        raise InputError(f"probe.limit={limit} leaves no image; give a number of images, or null for all")
    if limit is None or limit >= len(probe):
        return probe
    if seed is None:
        rows = np.arange(limit)
    else:
        rows = np.sort(np.random.default_rng(seed).choice(len(probe), limit, replace=False))
    return Subset(probe, rows)


SAMPLED = 16  # images, spread over the set
DARK = 32  # from 0 to 255: below this lie 99 % of the values of an image that is nearly black
FLAT = 8  # from 0 to 255: the values of an image of one grey differ by no more
MOST = 0.9  # share of the sampled images


def note_pixels(probe: Probe) -> tuple[str, ...]:
    """What a reader should know of the images: nearly all dark or of one grey, of more than 8 bits, read in part.

    A 12-bit image in a 16-bit file becomes nearly black, and nothing else would tell.
    """
    if not has_images(probe):
        return ()
    rows = np.unique(np.linspace(0, len(probe) - 1, SAMPLED).astype(int)).tolist()
    files: list[Values] = []
    dull, most = 0, 0
    for row in rows:
        try:
            seen = probe.values(row)
            pixels = np.asarray(probe[row])
        except (OSError, SyntaxError, ValueError):  # reported with all others that cannot be read
            continue
        most = max(most, int(pixels.max()))
        dull += bool(np.percentile(pixels, 99) < DARK or int(pixels.max()) - int(pixels.min()) <= FLAT)
        files += [] if seen is None else [seen]
    texts = [*_depth_notes(files, probe.reading.range if probe.reading else None), *_parts_left_out(files)]
    if rows and dull >= MOST * len(rows):
        texts.append(
            f"{dull} of {{sampled}} are nearly black or of one grey, as the networks see them (up to {most} of 255); "
            "probe.range=[LOW,HIGH] sets what becomes black and white"
        )
    return tuple(f"probe {probe.name}: {text.format(sampled=f'{len(rows)} sampled images')}" for text in texts)


def _depth_notes(files: list[Values], limits: tuple[float, float] | None) -> Iterator[str]:
    """Of images of more than 8 bits that no range maps, and of those that a range does not apply to."""
    wide = [seen for seen in files if seen.wide]
    if wide and limits is None:
        low, high = min(seen.low for seen in wide), max(seen.high for seen in wide)
        white = " or ".join(f"{value:g}" for value in sorted({seen.white for seen in wide}))
        yield (
            f"{len(wide)} of {{sampled}} hold more than 8 bits a value, from {low:g} to {high:g}, read as if from 0 to "
            f"{white}; probe.range=[{low:g},{high:g}] maps these"
        )
    passed = [seen for seen in files if limits is not None and not reaches(seen.full, limits)]
    if passed:
        full = " or ".join(f"{value:g}" for value in sorted({seen.full or 0.0 for seen in passed}))
        yield (
            f"{len(passed)} of {{sampled}} hold no values above {full}: probe.range is "
            "not applied to them, they are read as without it"
        )


def _parts_left_out(files: list[Values]) -> Iterator[str]:
    """Of frames, bands and transparency that no network sees."""
    frames = [seen.frames for seen in files if seen.frames > 1]
    if frames:
        yield f"{len(frames)} of {{sampled}} hold several frames (up to {max(frames)}), of which the first is read"
    bands = {(seen.bands, seen.bands_read) for seen in files if seen.bands > seen.bands_read}
    if bands:
        count = sum(seen.bands > seen.bands_read for seen in files)
        shown = ", ".join(f"{read} of {stored}" for stored, read in sorted(bands))
        yield f"{count} of {{sampled}} hold more bands than are read ({shown}), the first ones"
    transparent = sum(seen.transparent for seen in files)
    if transparent:
        yield f"{transparent} of {{sampled}} have transparent pixels, whose colour is read as if they had none"


@dataclass(frozen=True, eq=False)
class Concat(Wrapper):
    """The images of several sets, one set after the other."""

    name: str
    probes: tuple[Probe, ...]

    @property
    def members(self) -> tuple[Probe, ...]:
        """The sets, in order."""
        return self.probes

    def member(self, index: int) -> tuple[int, int]:
        """The number of the set that holds an image, and the image's index in it."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self.ends, index)
        return number, index - (self.ends[number - 1] if number else 0)

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The number of images up to the end of each set."""
        return tuple(accumulate(len(probe) for probe in self.probes))

    @cached_property
    def ids(self) -> Sequence[str]:
        """The sets' own ids where these differ; otherwise each behind its set's number and name."""
        parts = [probe.ids for probe in self.probes]
        plain = JoinedIds(parts, [""] * len(parts))
        if len(set(plain)) == len(plain):
            return plain
        return JoinedIds(parts, [f"{number}-{probe.name}/" for number, probe in enumerate(self.probes)])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the sets' fingerprints and their order."""
        return fingerprint_images(probe.fingerprint for probe in self.probes)

    def __len__(self) -> int:
        return self.ends[-1]


def concat(*, probes: Mapping[str, Probe] | Sequence[Probe]) -> Concat:
    """Joins probe sets; the result has masks where one of them has.

    Args:
        probes: the sets, as a list or by any names; a mapping lets the command line reach into one of them.

    Raises:
        InputError: there is none.
    """
    members = tuple(probes.values() if isinstance(probes, Mapping) else probes)
    if not members:
        raise InputError("probe.probes names no probe set; concat needs at least one")
    return Concat("+".join(member.name for member in members), members)


SETTINGS = config.OF_EVERY["probe"]
"""Settings of every probe set, which no constructor repeats. One that takes a `seed` of its own keeps it."""

ORIENTATIONS = ("exif",)


def with_common_settings(constructor: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """The probe set that a constructor makes of its own arguments, as the settings of every set want it.

    Args:
        constructor: of `cd_exp.probes`.
        arguments: its own, and any of SETTINGS: `limit` and `seed` take a part of the set, `range` and `orient` say how
            images become 8-bit RGB, `cache` is where digests of unchanged files are remembered, `url` and `checksum`
            are those of another copy of the archive it downloads.

    Raises:
        InputError: a setting that is of no use to this set, or out of range.
    """
    parameters = inspect.signature(constructor).parameters
    taken = {key: value for key, value in arguments.items() if key not in SETTINGS or key in parameters}
    general = {key: arguments.get(key) for key in SETTINGS if key not in taken}
    mirror = {key: general[key] for key in ("url", "checksum") if general.get(key)}
    if mirror:
        if "archive" not in parameters:
            key = next(iter(mirror))
            raise InputError(
                f"probe.{key} cannot be used with probe={constructor.__name__}, which downloads no archive"
            )
        taken["archive"] = replace(parameters["archive"].default, **mirror)
    probe = with_decoding(constructor(**taken), read_options(general["range"], general["orient"]))
    if general.get("cache"):
        probe = _replace_options(probe, "cache", general["cache"])
    return subset(probe, limit=general["limit"], seed=general.get("seed"))


def read_options(values: Sequence[Any] | None, orient: str | None) -> DecodeOptions:
    """The settings `probe.range` and `probe.orient`, checked."""
    if orient is not None and orient not in ORIENTATIONS:
        raise unknown_name_error("probe.orient", orient, ORIENTATIONS, where="a way to turn images")
    if values is None:
        return DecodeOptions(None, orient)
    numbers = [float(value) for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(values) != 2 or len(numbers) != 2 or not -1e300 < numbers[0] < numbers[1] < 1e300:
        shown = ",".join(map(str, values))
        raise InputError(
            f"probe.range=[{shown}] must be two numbers, black and white: probe.range=[0,4095] for 12 bits"
        )
    return DecodeOptions((numbers[0], numbers[1]), orient)


def with_decoding(probe: Any, wanted: DecodeOptions) -> Any:
    """The same set with its images read in another way."""
    if wanted == AS_PUBLISHED:
        return probe
    changed = _replace_options(probe, "reading", wanted)
    if changed is probe:
        raise InputError(f"probe.range and probe.orient need a set of image files; {probe.name} has none")
    return changed


def _replace_options(probe: Any, field: str, value: Any) -> Any:
    """The set with a field of its record changed, or of the sets that it is made of."""
    if not is_dataclass(probe) or isinstance(probe, type):
        return probe
    names = {declared.name for declared in fields(probe)}
    if field in names:
        return replace(probe, **{field: value})
    if "probe" in names:
        inner = _replace_options(probe.probe, field, value)  # type: ignore[attr-defined]
        return probe if inner is probe.probe else replace(probe, probe=inner)  # type: ignore[attr-defined]
    if "probes" in names:
        several = tuple(_replace_options(member, field, value) for member in probe.probes)  # type: ignore[attr-defined]
        same = all(a is b for a, b in zip(several, probe.probes, strict=True))  # type: ignore[attr-defined]
        return probe if same else replace(probe, probes=several)
    return probe


build_group_with("probe", with_common_settings)
