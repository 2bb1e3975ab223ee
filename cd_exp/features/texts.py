"""The text embeddings of a concept set."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp import distributed
from cd_exp.cache import Entry, Store
from cd_exp.clips import Clip
from cd_exp.records import Concepts


def text_embeddings(clip: Clip, concepts: Concepts, *, store: Store, device: str) -> Float[Tensor, "concepts dim"]:
    """The text embeddings of a concept set, from the cache where they are there."""

    def make() -> tuple[np.ndarray, dict[str, Any]]:
        embedded = clip.embed(concepts, device=torch.device(distributed.local_device(device)))
        said = clip.notes(concepts)
        return embedded.numpy(), {"says": f"{clip.name}: {len(concepts.names)} concepts", "notes": list(said)}

    return torch.from_numpy(np.array(store.obtain(_embed_texts(clip, concepts), make)))


def check_texts(clip: Clip, concepts: Concepts, *, store: Store) -> None:
    """Refuse before any picture is opened that the texts are neither stored nor can be embedded.

    Raises:
        InputError: says what is missing, and the setting that points to a local copy.
    """
    if not store.folder(_embed_texts(clip, concepts)).exists():
        clip.check()


def are_texts_stored(clip: Clip, concepts: Concepts, *, store: Store) -> bool:
    """Whether the texts are embedded already."""
    return store.holds(_embed_texts(clip, concepts), verify=False) is not None


def note_long_prompts(clip: Clip, concepts: Concepts, *, store: Store) -> Sequence[str]:
    """What was noted when the texts were embedded, kept with them: prompts longer than CLIP reads."""
    return tuple(store.manifest(_embed_texts(clip, concepts)).facts.get("notes", ()))


def _embed_texts(clip: Clip, concepts: Concepts) -> Entry:
    content = {"clip": clip.key, "names": list(concepts.names), "templates": list(concepts.templates)}
    return Entry("texts", content)
