"""Several probe sets as one."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from cd_exp.errors import InputError
from cd_exp.probes.fingerprints import fingerprint
from cd_exp.probes.id_lists import Joined
from cd_exp.probes.wrapper import Wrapper
from cd_exp.records import Probe


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
        plain = Joined(parts, [""] * len(parts))
        if len(set(plain)) == len(plain):
            return plain
        return Joined(parts, [f"{number}-{probe.name}/" for number, probe in enumerate(self.probes)])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the sets' fingerprints and their order."""
        return fingerprint(probe.fingerprint for probe in self.probes)

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
