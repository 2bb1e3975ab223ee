"""The text embeddings of a concept set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp import distributed
from cd_exp.cache import Entry, Store
from cd_exp.clips import Clip
from cd_exp.features.computed_with import computed_with
from cd_exp.features.layers import behaviour_of
from cd_exp.records import Concepts


def text_embeddings(clip: Clip, concepts: Concepts, *, store: Store, device: str) -> Float[Tensor, "concepts dim"]:
    """The text embeddings of a concept set, from the cache where they are there."""

    def make() -> tuple[np.ndarray, dict[str, Any]]:
        embedded = clip.embed(concepts, device=torch.device(distributed.local_device(device)))
        notes = clip.notes(concepts)
        return embedded.numpy(), {"says": f"{clip.name}: {len(concepts.names)} concepts", "notes": list(notes)}

    return torch.from_numpy(np.array(store.obtain(_embed_texts(clip, concepts, store), make)))


def check_texts(clip: Clip, concepts: Concepts, *, store: Store) -> None:
    """Refuse before any image is opened that the texts are neither stored nor can be embedded.

    Raises:
        InputError: says what is missing, and the setting that points to a local copy.
    """
    if not store.folder(_embed_texts(clip, concepts, store)).exists():
        clip.check()


def are_texts_stored(clip: Clip, concepts: Concepts, *, store: Store) -> bool:
    """Whether the texts are embedded already."""
    return store.holds(_embed_texts(clip, concepts, store), verify=False) is not None


def note_long_prompts(clip: Clip, concepts: Concepts, *, store: Store) -> Sequence[str]:
    """What was noted when the texts were embedded, kept with them: prompts longer than CLIP reads."""
    return tuple(store.manifest(_embed_texts(clip, concepts, store)).facts.get("notes", ()))


SAMPLED = 32
"""How many of a run's own words a backbone of the user's own code is asked for each time: a file that it reads may have
changed, which no key covers."""


def _embed_texts(clip: Clip, concepts: Concepts, store: Store) -> Entry:
    content = {"clip": clip.key, "names": list(concepts.names), "templates": list(concepts.templates)}
    return Entry("texts", {**content, **computed_with(store), **_sample_versions(clip, concepts, content, store)})


def _sample_versions(clip: Clip, concepts: Concepts, content: Mapping[str, Any], store: Store) -> dict[str, str]:
    if not clip.own_code:
        return {}
    remembered = _asked.get((id(clip), id(concepts)))
    if remembered is None or remembered[0] is not clip or remembered[1] is not concepts:
        step = max(1, len(concepts.names) // SAMPLED)
        some = replace(concepts, names=concepts.names[::step][:SAMPLED])
        vectors = clip.embed(some, device=torch.device("cpu"))
        remembered = clip, concepts, behaviour_of(vectors, content={**content, "texts": list(some.names)}, store=store)
        _asked[id(clip), id(concepts)] = remembered
    return {"behaviour": remembered[2]}


_asked: dict[tuple[int, int], tuple[Clip, Concepts, str]] = {}
"""What was asked in this process: a run needs the entry several times."""
