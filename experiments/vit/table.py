"""The vision transformer: `python -m experiments.vit.table DIR...`: ours beside the published."""

from pathlib import Path

from experiments.against_published import say, table

CLAIM = Path(__file__).parent
AXES = ("model", "probe", "similarity")


def main(arguments: list[str] | None = None) -> str:
    return table(CLAIM, axes=AXES, arguments=arguments)


if __name__ == "__main__":
    say(main)
