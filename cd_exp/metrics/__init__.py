"""How right labels are: every figure declared once with its interval and test, and the comparison of two methods.

Pure functions on arrays of judged units. Accuracies are per cent, ranks count from 1.
"""

from cd_exp.metrics.metrics import (
    BY_KEY,
    METRICS,
    Metric,
    adjust_p_values,
    compare_methods,
    describe_ranking,
    label_agreement,
    summarise,
)
from cd_exp.metrics.name_matching import (
    NameMatcher,
    accepted_columns,
    are_same_as_published,
    are_same_name,
    find_in_names,
    plain_name,
    read_places_classes,
)

__all__ = [
    "BY_KEY",
    "METRICS",
    "Metric",
    "NameMatcher",
    "accepted_columns",
    "adjust_p_values",
    "are_same_as_published",
    "are_same_name",
    "compare_methods",
    "describe_ranking",
    "find_in_names",
    "label_agreement",
    "plain_name",
    "read_places_classes",
    "summarise",
]
