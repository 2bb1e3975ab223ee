"""How many units share their label: labels shared by many units are rarely informative.

A good score is no remedy: of 2,048 units of a ResNet-50's layer4, 154 are `dog` to Network Dissection, and 98 in 100
share their label with another unit.
"""

import numpy as np
from jaxtyping import Shaped

Names = Shaped[np.ndarray, " units"]
"""The label of each labelled unit, compared letter by letter."""


def distinct_labels(names: Names) -> float:
    """Different labels over labelled units: 1 where each unit has its own.

    >>> distinct_labels(np.array(["dog", "dog", "cat", "sea"]))
    0.75
    """
    return len(np.unique(names)) / len(names)


def shared_label(names: Names) -> float:
    """The share of units whose label another unit has too.

    >>> shared_label(np.array(["dog", "dog", "cat", "sea"]))
    0.5
    """
    counts = _counts(names)
    return float(counts[counts > 1].sum() / len(names))


def label_bits(names: Names) -> float:
    """The entropy of the label over units, in bits: log2(units) where each has its own, 0 where all have the same.

    H = -sum over labels of n/N log2(n/N), with n the units of a label and N all labelled ones.

    >>> label_bits(np.array(["dog", "dog", "cat", "sea"]))
    1.5
    """
    shares = _counts(names) / len(names)
    return float(max(0.0, -(shares * np.log2(shares)).sum()))


def commonest_label(names: Names) -> str:
    """The label that most units have; of several such ones the first by the alphabet.

    >>> commonest_label(np.array(["dog", "dog", "cat", "sea"]))
    'dog'
    """
    labels, counts = np.unique(names, return_counts=True)
    return str(labels[counts.argmax()])


def commonest_share(names: Names) -> float:
    """The share of units that have the commonest label.

    >>> commonest_share(np.array(["dog", "dog", "cat", "sea"]))
    0.5
    """
    return float(_counts(names).max() / len(names))


def _counts(names: Names) -> np.ndarray:
    return np.unique(names, return_counts=True)[1]
