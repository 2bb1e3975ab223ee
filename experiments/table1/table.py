"""Table 1, concept sets and probe sets: `python -m experiments.table1.table DIR...`: ours beside the published."""

from pathlib import Path

from experiments.against_published import say, table

CLAIM = Path(__file__).parent
AXES = ("model", "probe", "probe.size", "concepts", "concepts.count", "concepts.path")


def main(arguments: list[str] | None = None) -> str:
    return table(CLAIM, axes=AXES, arguments=arguments)


if __name__ == "__main__":
    say(main)
