"""Table 3, similarity functions and probe sets: `python -m experiments.table3.table DIR...`.

A row for every function that a sweep ran: the variants' rows follow the published functions' of the same probe set.
"""

from pathlib import Path

from experiments.against_published import say, table

CLAIM = Path(__file__).parent
AXES = ("model", "probe", "probe.size", "concepts", "similarity")


def main(arguments: list[str] | None = None) -> str:
    return table(CLAIM, axes=AXES, arguments=arguments)


if __name__ == "__main__":
    say(main)
