"""The names of ImageNet's 1,000 classes, in the order of ILSVRC."""

from collections.abc import Sequence


def published_names() -> tuple[str, ...]:
    """The lines of synonyms that CLIP-Dissect used: timm's lemmas, with a name of its own for each of the two
    cranes.
    """
    names = list(timm_lemmas())
    names[134], names[517] = "crane, bird", "crane, machine"
    return tuple(names)


def timm_lemmas() -> tuple[str, ...]:
    """The synonyms of each class as timm has them."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))


def names_by_wordnet_id() -> dict[str, str]:
    """The synonyms of each class by its number in WordNet, as `n01440764`: ImageNet's folders are called so."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return {number: info.label_name_to_description(number) for number in info.label_names()}


def openai_names() -> tuple[str, ...]:
    """The names that OpenAI chose for CLIP."""
    from open_clip import IMAGENET_CLASSNAMES

    return tuple(IMAGENET_CLASSNAMES)


NAMES = {"published": published_names, "lemmas": timm_lemmas, "openai": openai_names}


def class_synsets(names: Sequence[str]) -> list[str | None]:
    """The number in WordNet of each name, as `n01440764`, where the first 1,000 are ImageNet's classes in their order.

    A name is its class's where it is one of timm's synonyms, all of these, or OpenAI's name. Where one of the thousand
    is not, none is: a word of another list may mean something else.
    """
    if len(names) < 1000:
        return [None] * len(names)
    from timm.data import ImageNetInfo

    info, long = ImageNetInfo(), published_names()
    for index, name in enumerate(names[:1000]):
        synonyms = [word.strip() for word in long[index].split(",")]
        accepted = (info.index_to_description(index), long[index], *synonyms)
        if name.casefold() not in (word.casefold() for word in accepted) and name != openai_names()[index]:
            return [None] * len(names)
    return [*(info.index_to_label_name(index) for index in range(1000)), *[None] * (len(names) - 1000)]
