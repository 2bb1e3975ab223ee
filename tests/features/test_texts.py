import pytest
import torch

from cd_exp.cache import Store
from cd_exp.clips import shapes_clip
from cd_exp.features import note_long_prompts, text_embeddings
from cd_exp.records import Concepts

NAMES = ("red", "circle")


@pytest.mark.parametrize(
    "changed",
    [
        Concepts(NAMES, ("a {}",)),
        Concepts(NAMES, ("{}", "a {}")),
        Concepts(("circle", "red")),
        Concepts(("red", "dot")),
    ],
)
def test_templates_names_and_their_order_are_part_of_the_key(changed, tmp_path):
    store = Store(tmp_path)
    first = text_embeddings(shapes_clip(), Concepts(NAMES), store=store, device="cpu")
    then = text_embeddings(shapes_clip(), changed, store=store, device="cpu")
    assert torch.equal(then, shapes_clip().embed(changed, device=torch.device("cpu")))
    assert not torch.equal(first, then)
    assert len(store.made) == 2
    again = text_embeddings(shapes_clip(), Concepts(NAMES, name="other"), store=store, device="cpu")
    assert torch.equal(again, first)  # how a set is called changes nothing
    assert len(store.made) == 2


def test_notes_are_kept_with_the_embeddings(tmp_path):
    long = Concepts(("red", " ".join(["circle"] * 100)))
    for _ in range(2):
        store = Store(tmp_path)
        text_embeddings(shapes_clip(), long, store=store, device="cpu")
        (note,) = note_long_prompts(shapes_clip(), long, store=store)
        assert note.startswith("shapes: prompts longer than its context of ")
        assert note.endswith("tokens, cut there: 1 ('circle circle circle circle circle circle circle circle c...')")
    assert not store.made
