"""Activations from files: rows find their images, sparse equals dense, and what does not fit is one line."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array, csc_array, csr_array, save_npz

from cd_exp.activation_stats import activation_statistics, strongest_images
from cd_exp.errors import InputError
from cd_exp.features import Features
from cd_exp.features.features import reduce_matrix
from cd_exp.units.activation_matrix import ActivationMatrix

IDS = ["a/1.png", "b/2.png", "c 3.png", "d.png"]


def values(rows=4, units=5, seed=0):
    numbers = np.random.default_rng(seed).normal(size=(rows, units)).astype(np.float32)
    return np.where(numbers > 0, numbers, 0)


def folder(tmp_path, ids=IDS, **files):
    (tmp_path / "images.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    for name, content in files.items():
        if isinstance(content, np.ndarray):
            np.save(tmp_path / f"{name}.npy", content)
        else:
            save_npz(tmp_path / f"{name}.npz", content)
    return tmp_path


def test_rows_find_their_images_by_id_and_others_are_passed_over_and_counted(tmp_path):
    dense = values()
    units = ActivationMatrix(str(folder(tmp_path, layer4=dense)))
    positions, notes = units.select_rows(["d.png", "a/1.png"])
    np.testing.assert_array_equal(units.activations("layer4", positions), dense[[3, 0]])
    assert notes == (f"{tmp_path}: rows of images that are not in the probe, skipped: 2",)
    assert units.select_rows(IDS)[1] == ()


def test_one_file_is_one_layer(tmp_path):
    path = folder(tmp_path, **{"blocks.3": values()})
    assert list(ActivationMatrix(str(path / "blocks.3.npy")).files) == ["blocks.3"]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), tokens=st.integers(1, 4), pool=st.sampled_from(["max", "mean", "cls", "fraction"]))
@example(seed=0, tokens=1, pool="fraction")
def test_sparse_and_dense_are_the_same_with_tokens_too(tmp_path_factory, seed, tokens, pool):
    dense = values(rows=4 * tokens, seed=seed)
    path = folder(tmp_path_factory.mktemp("m"), dense=dense, sparse=csr_array(dense))
    units = ActivationMatrix(str(path), tokens_per_image=tokens, pool=pool)
    where, _ = units.select_rows(IDS[::-1])
    activations = units.activations("dense", where)
    torch.testing.assert_close(units.activations("sparse", where), activations, rtol=0, atol=0)
    by_image = dense.reshape(4, tokens, -1)[::-1]
    literal = {
        "max": by_image.max(1),
        "mean": by_image.mean(1),
        "cls": by_image[:, 0],
        "fraction": (by_image > 0).mean(1),
    }
    np.testing.assert_allclose(activations, literal[pool], rtol=1e-6)


@pytest.mark.parametrize(
    ("files", "asked", "message"),
    [
        ({"a": values()}, [*IDS, "e.png"], r"has no line for 1 of 5 probe images \(e\.png\)"),
        (
            {"a": values(rows=3)},
            IDS,
            r"a\.npy has 3 rows for 4 images of images\.txt; give images\.txt one line per row",
        ),
        ({"a": values(rows=8)}, IDS, r"a\.npy has 8 rows for 4 images of images\.txt; set units\.tokens_per_image=2 "),
        (
            {"a": values().T},
            IDS,
            r"a\.npy has 5 rows for 4 images of images\.txt; it is transposed: save its transpose",
        ),
        (
            {"a": values().astype(float) * 1e300 + 1e300},
            IDS,
            "unit 0 has a value that is not finite in single precision",
        ),
        ({"a": values()[:, 0]}, IDS, r"a\.npy has 1 axes; expected \[images, units\]"),
        ({"a": values().astype(complex)}, IDS, "holds complex128; expected real numbers"),
        ({"a": np.array([["x"] * 5] * 4)}, IDS, "holds <U1; expected real numbers"),
        ({"a": values() * np.nan}, IDS, "unit 0 has a value that is not finite in single precision, as have 5 units"),
        ({"a": csc_array(values())}, IDS, r"of format csc; save it as CSR: matrix\.tocsr\(\)"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, files, asked, message):
    units = ActivationMatrix(str(folder(tmp_path, **files)))
    with pytest.raises(InputError, match=message):
        units.activations("a", units.select_rows(asked)[0])


def test_a_sparse_matrix_without_shape_or_with_broken_parts_is_one_line(tmp_path):
    folder(tmp_path)
    parts = csr_array(values())
    np.savez(tmp_path / "a.npz", data=parts.data, indices=parts.indices, indptr=parts.indptr)
    with pytest.raises(InputError, match=r"a\.npz has no 'shape'; a sparse matrix has data, indices, indptr, shape"):
        ActivationMatrix(str(tmp_path)).activations("a", np.arange(4))
    np.savez(tmp_path / "a.npz", data=parts.data, indices=parts.indices + 99, indptr=parts.indptr, shape=(4, 5))
    with pytest.raises(InputError, match=r"a\.npz cannot be read as a matrix"):
        ActivationMatrix(str(tmp_path)).activations("a", np.arange(4))


@pytest.mark.parametrize("kind", ["float16", ">f4", ">f2", "int8", "uint64", "bool"])
def test_numbers_of_any_kind_are_the_same_dense_and_sparse(tmp_path, kind):
    dense = np.maximum(10 * values(), 0).astype(kind)
    rows, columns = np.nonzero(dense)
    parts = {"data": dense[rows, columns], "indices": columns.astype(">i8"), "shape": dense.shape, "format": "csr"}
    parts["indptr"] = np.concatenate([[0], np.cumsum((dense != 0).sum(1))]).astype("u1")
    path = folder(tmp_path, dense=np.asfortranarray(dense))
    np.savez(path / "sparse.npz", **parts)
    np.savez(path / "single.npz", dense)
    for activations in ActivationMatrix(str(path)).file_activations(IDS)[0].values():
        np.testing.assert_array_equal(activations, dense.astype(np.float32))


def test_a_cell_given_twice_is_the_sum(tmp_path):
    np.savez(
        folder(tmp_path) / "a.npz", data=np.int8([100] * 3), indices=[1, 0, 1], indptr=[0, 3, 3, 3, 3], shape=(4, 2)
    )
    assert ActivationMatrix(str(tmp_path)).activations("a", np.arange(2)).tolist() == [[100.0, 200.0], [0.0, 0.0]]


@pytest.mark.parametrize("wrong", [values().astype(complex), values().astype(str), np.zeros((4, 5), "M8[s]")])
def test_a_single_array_of_no_real_numbers_is_one_line(tmp_path, wrong):
    np.savez(folder(tmp_path) / "a.npz", wrong)
    with pytest.raises(InputError, match=r"a\.npz holds .*; expected real numbers"):
        ActivationMatrix(str(tmp_path)).activations("a", np.arange(4))


def test_columns_that_are_no_whole_numbers_and_no_columns_at_all_are_one_line(tmp_path):
    parts = csr_array(values())
    folder(tmp_path)
    np.savez(tmp_path / "a.npz", data=parts.data, indices=parts.indices + 0.7, indptr=parts.indptr, shape=(4, 5))
    with pytest.raises(InputError, match=r"a\.npz: indices holds float64; expected whole numbers"):
        ActivationMatrix(str(tmp_path)).activations("a", np.arange(4))
    np.save(tmp_path / "b.npy", np.zeros((4, 0)))
    with pytest.raises(InputError, match=r"b\.npy has no columns; expected \[images, units\]"):
        ActivationMatrix(str(tmp_path)).activations("b", np.arange(4))


def test_two_files_of_one_layer_are_one_line_and_hidden_ones_are_no_layers(tmp_path):
    path = folder(tmp_path, a=values())
    (path / "._a.npy").write_bytes(b"what some systems leave beside a file")
    assert list(ActivationMatrix(str(path)).files) == ["a"]
    save_npz(path / "a.npz", csr_array(2 * values()))
    with pytest.raises(InputError, match=r"a\.npy and a\.npz beside it are both layer 'a'; keep one"):
        _ = ActivationMatrix(str(path)).files


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({"b": ["red"] * 5}, r"units\.truth names layer 'b', which is none of these units: a"),
        ({"a": ["red"] * 4}, r"units\.truth\.a has 4 names for 5 units"),
    ],
)
def test_names_of_a_layer_that_there_is_not_are_one_line(tmp_path, truth, message):
    with pytest.raises(InputError, match=message):
        ActivationMatrix(str(folder(tmp_path, a=values())), truth=truth).file_activations(IDS)


def test_an_image_of_no_rows_is_one_line():
    with pytest.raises(InputError, match=r"units\.tokens_per_image=0; expected a whole number from 1 on"):
        ActivationMatrix("folder", tokens_per_image=0)


def test_a_folder_without_what_is_needed_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"units\.path=.*nowhere: there is no such file"):
        _ = ActivationMatrix(str(tmp_path / "nowhere")).files
    with pytest.raises(InputError, match=r"holds no LAYER\.npy or LAYER\.npz"):
        _ = ActivationMatrix(str(tmp_path)).files
    np.save(tmp_path / "a.npy", values())
    with pytest.raises(InputError, match=r"images\.txt is not there; it names the image of each row"):
        ActivationMatrix(str(tmp_path)).select_rows(IDS)
    (tmp_path / "images.txt").write_text("a\na\n")
    with pytest.raises(InputError, match="names 'a' twice"):
        ActivationMatrix(str(tmp_path)).select_rows(["a"])


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 99), kind=st.sampled_from(["dense", "sparse", "tokens"]))
def test_lists_of_a_matrix_some_units_at_a_time_are_those_of_the_whole(tmp_path_factory, seed, kind):
    """1,000,000 units of 10,000 images are 40 GB: the whole is never made."""
    tokens = 2 if kind == "tokens" else 1
    dense = np.maximum(values(rows=4 * tokens, units=23, seed=seed), 0)
    path = folder(tmp_path_factory.mktemp("m"), layer=csr_array(dense) if kind == "sparse" else dense)
    units = ActivationMatrix(str(path), tokens_per_image=tokens)
    whole = units.activations("layer", units.select_rows(IDS[::-1])[0])
    bare = Features({}, torch.ones(4, 2), range(4), ())
    reduced = reduce_matrix(units, bare, IDS[::-1], 3, width=5)
    expected, counted = strongest_images(whole, 3), activation_statistics(whole, histogram=True)
    lists = reduced.strongest("layer", 3)
    assert lists.indices.tolist() == expected.indices.tolist()
    assert lists.values.tolist() == expected.values.tolist()
    for name in ("least", "greatest", "total", "squares", "firing", "counts"):
        assert getattr(reduced.statistics("layer"), name).tolist() == getattr(counted, name).tolist()


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 99), k=st.sampled_from([1, 3, 20]))
def test_lists_of_a_sparse_matrix_are_those_of_all_its_zeros(tmp_path_factory, seed, k):
    """Negative values, zeros that are stored, rows in another order, and a value in two halves."""
    names = [f"{number}.png" for number in range(200)]
    random = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("m")
    (folder / "images.txt").write_text("\n".join(names) + "\n")
    rows, columns = random.integers(0, 200, 60), random.integers(0, 9, 60)
    numbers = random.integers(-1, 4, 60).astype(np.float32)
    matrix = coo_array((np.r_[numbers, numbers], (np.r_[rows, rows], np.r_[columns, columns])), shape=(200, 9))
    parts = matrix.tocsr()
    np.savez(folder / "a.npz", data=parts.data, indices=parts.indices, indptr=parts.indptr, shape=parts.shape)
    units = ActivationMatrix(str(folder))
    bare, ids = Features({}, torch.ones(200, 2), range(200), ()), names[::-1]
    whole = units.activations("a", units.select_rows(ids)[0])
    reduced, expected = reduce_matrix(units, bare, ids, k, width=4), strongest_images(whole, k)
    lists, counted = reduced.strongest("a", k), activation_statistics(whole, histogram=True)
    assert lists.indices.tolist() == expected.indices.tolist()
    assert lists.values.tolist() == expected.values.tolist()
    for name in ("images", "least", "greatest", "total", "squares", "firing", "counts"):
        assert np.array_equal(getattr(reduced.statistics("a"), name), getattr(counted, name)), name


def test_a_sparse_value_that_is_not_finite_is_named(tmp_path):
    broken = np.zeros((200, 6), np.float32)
    broken[7, 5] = np.nan
    (tmp_path / "images.txt").write_text("\n".join(map(str, range(200))) + "\n")
    save_npz(tmp_path / "a.npz", csr_array(broken))
    units = ActivationMatrix(str(tmp_path))
    with pytest.raises(InputError, match="unit 5 has a value that is not finite"):
        list(units.iterate_summaries("a", [str(number) for number in range(200)], 3, width=2))


def test_a_value_that_is_not_finite_is_named_by_its_number_in_the_layer(tmp_path):
    broken = values()
    broken[1, 4] = np.inf
    with pytest.raises(InputError, match="unit 4 has a value that is not finite"):
        list(ActivationMatrix(str(folder(tmp_path, a=broken))).iterate_blocks("a", IDS, width=2))


def cut_off(path):
    np.savez(path.with_suffix(".npz"), values())
    path.with_suffix(".npz").write_bytes(path.with_suffix(".npz").read_bytes()[:-30])


def single_array(path):
    with path.with_suffix(".npz").open("wb") as file:
        np.save(file, values())


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (cut_off, r"a\.npz cannot be read as a matrix: File is not a zip file"),
        (single_array, r"a\.npz holds a single array, as \.npy does; rename it to a\.npy"),
        (lambda path: path.write_text("1,2\n3,4\n"), "it is no file of numpy's; write it with numpy.save"),
        (lambda path: np.save(path, np.array([[None]])), "it holds Python objects; write it with numpy.save"),
        (
            lambda path: (np.save(path, values()), path.write_bytes(path.read_bytes().replace(b"(4, 5)", b"(4,(5)"))),
            "cannot be read as an array of numbers",
        ),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, write, message):
    write(folder(tmp_path) / "a.npy")
    with pytest.raises(InputError, match=message) as error:
        ActivationMatrix(str(tmp_path)).file_activations(IDS)
    assert "allow_pickle" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a", "b", "c", ""], r"line 4 of .*images\.txt is blank; a row has the id of an image: remove the line"),
        (["", "b", "c", "a"], "line 1 of .* is blank"),
        (["cafe\u0301", "b", "c", "d"], r"its line 'cafe\\u0301' differs from 'caf\\xe9' in blanks or in how accents"),
        (["caf\u00e9 ", "b", "c", "d"], r"its line 'caf\\xe9 ' differs from 'caf\\xe9' in blanks"),
    ],
)
def test_what_is_wrong_with_a_line_of_the_images_is_said(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        ActivationMatrix(str(folder(tmp_path, ids=lines, a=values()))).file_activations(["caf\u00e9"])
