import io

import numpy as np
import pytest
import torch

from cd_exp.clips import Precomputed
from cd_exp.errors import InputError, MissingTexts
from cd_exp.records import Concepts

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "image_embeddings.npy", np.arange(12, dtype=np.float16).reshape(3, 4))
    (tmp_path / "images.txt").write_text("a.png\nb.png\nc.png\n")
    np.save(tmp_path / "animals_text.npy", np.eye(4, dtype=np.float16)[:2])
    (tmp_path / "animals_names.txt").write_text("dog\ncat\n")
    np.save(tmp_path / "more_text.npy", np.eye(4, dtype=np.float16)[2:])
    (tmp_path / "more_names.txt").write_text("tree\nrock\n")
    return tmp_path


def test_finished_embeddings_are_found_by_id_and_by_text(folder):
    clip = Precomputed(str(folder))
    assert clip.stored_images(["c.png", "a.png"])[:, 0].tolist() == [8, 0]
    assert torch.equal(clip.embed(Concepts(("dog", "cat")), device=CPU), torch.eye(4)[:2])
    assert torch.equal(clip.embed(Concepts(("rock", "dog")), device=CPU), torch.eye(4)[[3, 0]])


def test_the_key_of_finished_embeddings_is_their_content(folder):
    before = Precomputed(str(folder)).key
    np.save(folder / "image_embeddings.npy", np.zeros((3, 4)))
    assert Precomputed(str(folder)).key != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "images.txt").unlink(), r"has no images.txt"),
        (lambda f: (f / "images.txt").write_text("a.png\n"), r"1 lines in images.txt, 3 embeddings"),
        (
            lambda f: (f / "images.txt").write_text("a.png\nb.png\nc.png\n\n"),
            r"4 lines in images.txt \(line 4 is blank\)",
        ),
        (lambda f: (f / "images.txt").write_text("a.png\nb.png\nd.png\n"), r"has no line for 1 of 1 probe images"),
        (
            lambda f: (f / "images.txt").write_text("a.png\nb.png\nc.png \n"),
            r"its line 'c.png ' differs from 'c.png' in",
        ),
    ],
)
def test_what_does_not_fit_is_named(folder, change, message):
    change(folder)
    with pytest.raises(InputError, match=message):
        Precomputed(str(folder)).stored_images(["c.png"])


def test_rows_that_are_not_finite_are_called_by_name_not_by_their_place_in_the_run(folder):
    values = np.ones((4, 4))
    values[1, 0] = np.nan
    np.save(folder / "image_embeddings.npy", values[:3])
    with pytest.raises(InputError, match=r"1 rows are .* the first is that of 'b.png'"):
        Precomputed(str(folder)).stored_images(["b.png", "a.png"])
    np.save(folder / "animals_text.npy", values[:2])
    for asked in (("dog", "cat"), ("tree", "cat")):
        with pytest.raises(InputError, match=r"1 rows are .* the first is that of 'cat'"):
            Precomputed(str(folder)).embed(Concepts(asked), device=CPU)


def test_texts_that_are_not_there_are_named(folder):
    clip = Precomputed(str(folder))
    with pytest.raises(InputError, match=r"no text embedding of 1 of 2 concepts, the first 'bird'"):
        clip.embed(Concepts(("dog", "bird")), device=CPU)
    with pytest.raises(InputError, match="drop the templates"):
        clip.embed(Concepts(("dog",), ("a {}",)), device=CPU)
    with pytest.raises(InputError, match="has no image tower"):
        clip.image_tower()
    (folder / "more_names.txt").write_text("tree\n")
    with pytest.raises(InputError, match="1 names for 2 embeddings"):
        clip.embed(Concepts(("rock",)), device=CPU)


def test_an_edited_names_file_is_another_key(folder):
    before = Precomputed(str(folder)).key
    (folder / "animals_names.txt").write_text("cat\ndog\n")
    after = Precomputed(str(folder))
    assert after.key != before
    assert torch.equal(after.embed(Concepts(("dog", "cat")), device=CPU), torch.eye(4)[[1, 0]])


def test_names_files_that_do_not_fit_are_refused_wherever_the_concept_is(folder):
    (folder / "animals_names.txt").write_text("dog\n")
    with pytest.raises(InputError, match=r"animals_names.txt: 1 names for 2 embeddings"):
        Precomputed(str(folder)).embed(Concepts(("tree", "rock")), device=CPU)
    (folder / "animals_names.txt").write_text("dog\ncat\n")
    np.save(folder / "animals_text.npy", np.ones((2, 3)))
    with pytest.raises(InputError, match=r"animals_text.npy has 3 columns, image_embeddings.npy has 4; both must"):
        Precomputed(str(folder)).embed(Concepts(("tree", "rock")), device=CPU)
    (folder / "animals_text.npy").unlink()
    with pytest.raises(InputError, match=r"has no animals_text.npy"):
        _ = Precomputed(str(folder)).key


def test_a_missing_text_is_told_apart_from_files_that_are_wrong(folder):
    with pytest.raises(MissingTexts):
        Precomputed(str(folder)).embed(Concepts(("bird",)), device=CPU)


def test_two_lines_of_one_image_are_refused(folder):
    (folder / "images.txt").write_text("a.png\nb.png\na.png\n")
    with pytest.raises(InputError, match=r"images.txt has 1 lines more than once: a.png"):
        Precomputed(str(folder)).stored_images(["b.png"])


def archive() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.ones((3, 4)), b=np.ones(2))
    return stream.getvalue()


def array(values: np.ndarray, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no array of numbers"),
        (b"<!doctype html><html>", "is no array of numbers"),
        (b"\x93NUMPY\x01\x00garbage", "is no array of numbers"),
        (array(np.ones((3, 4)))[:-8], "is no array of numbers"),
        (array(np.array([[1, None]], dtype=object), allow_pickle=True), "is no array of numbers"),
        (array(np.ones(12)), r"has the shape \(12,\); a row of numbers for each line"),
        (array(np.ones((3, 2, 2))), r"has the shape \(3, 2, 2\)"),
        (array(np.float32(1)), r"has the shape \(\)"),
        (array(np.ones((0, 4))), r"has the shape \(0, 4\)"),
        (array(np.array([["a", "b"]] * 3)), "holds <U1; real numbers are expected"),
        (array(np.ones((3, 4), complex)), "holds complex128; real numbers are expected"),
        (
            array(np.array([[1, 2, 3, 4], [1, np.nan, 3, 4], [0, 1, 1, 1.0]])),
            "1 rows are zero, infinite or not a number",
        ),
        (array(np.array([[1, 2, 3, 4], [1, np.inf, 3, 4], [0, 0, 0, 0.0]])), "the first is that of 'b.png'"),
        (archive()[:60], "is an archive of several arrays"),
        (archive(), "is an archive of several arrays"),
    ],
)
def test_what_is_no_table_of_numbers_is_one_line(folder, content, message):
    (folder / "image_embeddings.npy").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        Precomputed(str(folder)).stored_images(["a.png", "b.png", "c.png"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda values: values.astype(">f4"), lambda v: v.astype(np.int16)]
)
def test_any_layout_of_real_numbers_is_read_right(folder, layout):
    (folder / "image_embeddings.npy").write_bytes(array(layout(np.arange(1, 13).reshape(3, 4))))
    np.testing.assert_array_equal(Precomputed(str(folder)).stored_images(["b.png"]), [[5, 6, 7, 8]])


@pytest.mark.parametrize(
    ("names", "asked"),
    [("dog\ntree\n", ("dog", "rock")), ("dog\ndog\n", ("dog", "rock")), ("dog\ncat\n", ("dog", "cat"))],
)
def test_rows_of_one_name_that_differ_are_refused(folder, names, asked):
    """The last name, and the first file by its name, were taken without a word."""
    np.save(folder / "other_text.npy", np.eye(4, dtype=np.float32)[1:3])
    (folder / "other_names.txt").write_text(names)
    with pytest.raises(
        InputError, match=r"several text embeddings of 'dog' that differ \(the last in other_text.npy\)"
    ):
        Precomputed(str(folder)).embed(Concepts(asked), device=CPU)


def test_rows_of_one_name_that_agree_but_for_their_length_are_one(folder):
    np.save(folder / "other_text.npy", 3 * np.eye(4, dtype=np.float32)[:2])
    (folder / "other_names.txt").write_text("dog\ncat\n")
    embedded = Precomputed(str(folder)).embed(Concepts(("rock", "dog")), device=CPU)
    assert torch.equal(embedded, torch.eye(4)[[3, 0]])


def test_the_one_file_of_these_names_goes_before_any_other(folder):
    np.save(folder / "a_text.npy", np.eye(4, dtype=np.float32)[2:])
    (folder / "a_names.txt").write_text("cat\nox\n")
    assert torch.equal(Precomputed(str(folder)).embed(Concepts(("dog", "cat")), device=CPU), torch.eye(4)[:2])


def test_a_file_that_has_all_of_these_names_goes_before_those_that_have_some(folder):
    np.save(folder / "a_text.npy", np.eye(4, dtype=np.float32)[2:])
    (folder / "a_names.txt").write_text("cat\nox\n")
    assert torch.equal(Precomputed(str(folder)).embed(Concepts(("cat", "dog")), device=CPU), torch.eye(4)[[1, 0]])
