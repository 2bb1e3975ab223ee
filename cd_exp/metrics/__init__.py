"""How right labels are: every figure declared once with its interval and test, and the comparison of two methods.

Pure functions on arrays of judged units. Accuracies are per cent, ranks count from 1.
"""

from cd_exp.metrics.metrics import BY_KEY, FIGURES, Figure, adjusted, agreement, compare_methods, summarise
from cd_exp.metrics.name_matching import (
    Naming,
    accepted_columns,
    named_in,
    places_classes,
    plain,
    same,
    same_as_published,
)

__all__ = [
    "BY_KEY",
    "FIGURES",
    "Figure",
    "Naming",
    "accepted_columns",
    "adjusted",
    "agreement",
    "compare_methods",
    "named_in",
    "places_classes",
    "plain",
    "same",
    "same_as_published",
    "summarise",
]
