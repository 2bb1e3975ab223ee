"""A look at some pictures of a probe set, for a note where they are not what a network expects."""

import numpy as np

from cd_exp.probes.pictures import Values
from cd_exp.records import Probe, has_pictures

SAMPLED = 16  # pictures, spread over the set
DARK = 32  # of 255: below this lie 99 % of the values of a picture that is nearly black
FLAT = 8  # of 255: the values of a picture of one grey differ by no more
MOST = 0.9  # of the sampled pictures


def pixel_notes(probe: Probe) -> tuple[str, ...]:
    """What a reader should know of the pictures: nearly all dark or of one grey, or of more than 8 bits.

    A 12-bit picture in a 16-bit file becomes nearly black, and nothing else would tell.
    """
    if not has_pictures(probe):
        return ()
    rows = np.unique(np.linspace(0, len(probe) - 1, SAMPLED).astype(int)).tolist()
    wide, dull, most = [], 0, 0
    for row in rows:
        try:
            seen = probe.values(row)
            pixels = np.asarray(probe[row])
        except (OSError, SyntaxError, ValueError):  # reported with all others that cannot be read
            continue
        most = max(most, int(pixels.max()))
        dull += bool(np.percentile(pixels, 99) < DARK or int(pixels.max()) - int(pixels.min()) <= FLAT)
        if seen is not None and seen.wide:
            wide.append(seen)
    notes = []
    if wide and (probe.reading is None or probe.reading.range is None):
        low, high = min(seen.low for seen in wide), max(seen.high for seen in wide)
        notes.append(
            f"probe {probe.name}: {len(wide)} of {len(rows)} sampled pictures hold more than 8 bits a value, "
            f"from {low:g} to {high:g}, read as if {_full(wide)}; probe.range=[{low:g},{high:g}] maps these"
        )
    if rows and dull >= MOST * len(rows):
        notes.append(
            f"probe {probe.name}: {dull} of {len(rows)} sampled pictures are nearly black or of one grey, as the "
            f"networks see them (up to {most} of 255); probe.range=[LOW,HIGH] sets what becomes black and white"
        )
    return tuple(notes)


def _full(wide: list[Values]) -> str:
    return "from 0 to 255" if any(seen.mode.startswith("F") for seen in wide) else "from 0 to 65535"
