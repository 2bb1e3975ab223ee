"""A part of any probe set."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from cd_exp.errors import InputError
from cd_exp.probes.id_lists import Chosen
from cd_exp.probes.wrapper import Wrapper
from cd_exp.records import Probe


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
        return Chosen(self.probe.ids, self.rows)

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
