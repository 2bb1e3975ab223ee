import pytest
import torch

from cd_exp.evaluation.judges import list_concepts, predict_values

TOLD = {
    "red": torch.tensor([1.0, 1.0, 0.0, 0.0]),
    "circle": torch.tensor([1.0, 0.0, 1.0, 0.0]),
    "rock AND roll": torch.tensor([0.0, 0.0, 0.0, 1.0]),
    "3 dogs": torch.tensor([0.0, 1.0, 0.0, 0.0]),
    "soft": torch.tensor([0.2, 0.9, 0.5, 0.0]),
}


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("red", [1, 1, 0, 0]),
        ("NOT red", [0, 0, 1, 1]),
        ("red AND circle", [1, 0, 0, 0]),
        ("red OR circle", [1, 1, 1, 0]),
        ("red AND NOT circle", [0, 1, 0, 0]),
        ("red OR NOT circle", [1, 1, 0, 1]),
        ("NOT red AND circle", [0, 0, 1, 0]),
        ("red AND circle OR NOT red", [1, 0, 1, 1]),  # from left to right
        ("rock AND roll", [0, 0, 0, 1]),  # a concept of its own, not a formula
        ("3 dogs", [0, 1, 0, 0]),
        ("soft AND red", [0.2, 0.9, 0, 0]),
        ("0.50 red + -0.25 circle", [0.25, 0.5, -0.25, 0]),
        ("0.50 red + 0.25 octagon", [0.5, 0.5, 0, 0]),  # what nothing is known of is left out of a sum
    ],
)
def test_what_a_label_predicts(label, values):
    torch.testing.assert_close(predict_values(label, TOLD.get), torch.tensor(values, dtype=torch.float32))


@pytest.mark.parametrize("label", ["octagon", "", "red AND octagon", "octagon OR red", "NOT octagon", "1.00 octagon"])
def test_nothing_is_known_of_a_label(label):
    assert predict_values(label, TOLD.get) is None


def test_the_concepts_in_a_label():
    assert list_concepts("red AND NOT circle OR big ring") == ("red", "circle", "big ring")
    assert list_concepts("1.00 red + -0.30 big ring") == ("red", "big ring")
    assert list_concepts("3 dogs") == ("3 dogs",)
