"""What a name says of a scene: the attributes it names, and whether a scene shows them."""

from collections.abc import Mapping, Sequence

from cd_exp.shapes.render import KINDS

_SAYS_NOTHING = frozenset({"a", "an", "the", "on"})
_ATTRIBUTES = {name: (kind, number) for kind, names in KINDS.items() for number, name in enumerate(names)}


def named(name: str) -> dict[str, int] | None:
    """The attributes that a name consists of (keys of `KINDS`); None where a word is none, or two are of one kind.

    >>> named("striped circle on waves")
    {'texture': 1, 'shape': 0, 'background': 1}
    >>> named("red octagon") is None
    True
    """
    found: dict[str, int] = {}
    words = [word for word in name.lower().split() if word not in _SAYS_NOTHING]
    for word in words:
        kind, number = _ATTRIBUTES.get(word, ("", -1))
        if not kind or kind in found:
            return None
        found[kind] = number
    return found or None


def shows(figures: Sequence[Mapping[str, int]], attributes: Mapping[str, int]) -> bool:
    """Whether one figure of a scene (`cd_exp.shapes.drawn`) has all of these attributes."""
    return any(all(figure[kind] == number for kind, number in attributes.items()) for figure in figures)
