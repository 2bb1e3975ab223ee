"""Table 2, CLIP-Dissect and Network Dissection: `python -m experiments.table2.table DIR...`."""

from pathlib import Path

from experiments.against_published import say, table

CLAIM = Path(__file__).parent
AXES = ("model", "probe")


def main(arguments: list[str] | None = None) -> str:
    return table(CLAIM, axes=AXES, arguments=arguments)


if __name__ == "__main__":
    say(main)
