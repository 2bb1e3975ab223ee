"""The labels of a layer as a table of pandas."""

from typing import TYPE_CHECKING, Any

from cd_exp.errors import InputError
from cd_exp.records import Labels
from cd_exp.report.labels_csv import FAITHFULNESS, columns, unit_rows

if TYPE_CHECKING:
    import pandas as pd


def as_frame(labels: Labels) -> "pd.DataFrame":
    """The columns of `labels.csv`, a row a unit: numbers as they are, several names in one cell as the file has them.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise InputError("to_frame() needs the extra: pip install 'cd-exp[pandas]'") from error
    header = columns({labels.layer: labels})
    texts = dict(zip(header, zip(*unit_rows(labels, header), strict=True), strict=True))
    numbers: dict[str, Any] = {"unit": labels.units, "similarity": labels.similarity, "rank_of_truth": labels.ranks}
    numbers |= {"margin": labels.margin, "stability": labels.stability}
    numbers |= {FAITHFULNESS + name: values for name, values in labels.faithfulness.items()}
    given = {name: values for name, values in numbers.items() if values is not None}
    empty = {name: [float("nan")] * len(labels.units) for name in numbers if name not in given}
    return pd.DataFrame({**texts, **empty, **given}, columns=list(header))
