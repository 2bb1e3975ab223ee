import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from cd_exp.errors import InputError
from cd_exp.models.checkpoints import load_weights


class Network(nn.Module):
    def __init__(self, classes=4, head=True):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1)
        self.norm = nn.BatchNorm2d(5)
        self.fc = nn.Linear(5, classes) if head else nn.Identity()


def state(value, **settings):
    return {name: torch.full_like(tensor, value) for name, tensor in Network(**settings).state_dict().items()}


def prefixed(prefix, value, **settings):
    return {prefix + name: tensor for name, tensor in state(value, **settings).items()}


def loaded(held, folder, network=None, **settings):
    path = folder / "weights.pth"
    torch.save(held, path)
    network = network or Network()
    load_weights(network, path, **settings)
    return {float(tensor.flatten()[0]) for tensor in network.state_dict().values()}


@pytest.mark.parametrize(
    "held",
    [
        state(2),
        {"state_dict": state(2), "epoch": 7, "best": torch.tensor(0.5), "optimizer": {"state": {}}},
        {"model_state_dict": state(2)},
        {"net": state(2)},
        {"model": {"weights": state(2)}},
        {"state_dict": prefixed("module.", 2)},
        {"state_dict": prefixed("model.", 2) | {"criterion.weight": torch.ones(3)}, "hyper_parameters": {"lr": 0.1}},
        {"state_dict": prefixed("model._orig_mod.", 2)},
        {
            "state_dict": prefixed("module.encoder_q.", 2)
            | prefixed("module.encoder_k.", 3)
            | {"module.queue": torch.ones(2)}
        },
        {"state_dict": state(2), "state_dict_ema": state(2)},  # twice the same
        {name: tensor for name, tensor in state(2).items() if not name.endswith("tracked")}
        | {"norm.num_batches_tracked": torch.tensor(2)},
    ],
)
def test_the_part_of_a_checkpoint_that_fits_is_found(tmp_path, held):
    assert loaded(held, tmp_path) == {2}


def test_old_checkpoints_do_not_count_batches(tmp_path):
    held = {name: tensor for name, tensor in state(2).items() if not name.endswith("num_batches_tracked")}
    assert loaded(held, tmp_path) == {2, 0}


def test_a_network_without_a_head_leaves_the_head_of_the_file(tmp_path):
    held = {"state_dict": prefixed("module.encoder_q.", 2) | {"module.encoder_q.fc.2.weight": torch.zeros(1)}}
    held["state_dict"] = {name: value for name, value in held["state_dict"].items() if not name.endswith("q.fc.weight")}
    assert loaded(held, tmp_path, Network(head=False)) == {2}


def test_several_parts_that_fit_have_to_be_told_apart(tmp_path):
    held = {"teacher": prefixed("backbone.", 2), "student": prefixed("backbone.", 3)}
    with pytest.raises(
        InputError,
        match=r"holds several parts that fit the network: model.checkpoint_key=teacher model.checkpoint_prefix=backbone"
        r"., model.checkpoint_key=student .*; choose one, as in model.checkpoint_key=teacher",
    ):
        loaded(held, tmp_path)
    assert loaded(held, tmp_path, key="student") == {3}
    assert loaded(held, tmp_path, key="teacher", prefix="backbone.") == {2}
    two = {"state_dict": prefixed("a.", 2) | prefixed("b.", 3)}
    with pytest.raises(InputError, match=r"model.checkpoint_prefix=a., model.checkpoint_key=state_dict .*prefix=b\."):
        loaded(two, tmp_path)
    assert loaded(two, tmp_path, prefix="b.") == {3}
    moco = {"state_dict": prefixed("module.encoder_q.", 2) | prefixed("module.encoder_k.", 3)}
    assert loaded(moco, tmp_path, prefix="module.encoder_k.") == {3}
    nested = {"model": {"ema": state(3), "raw": state(2)}}
    assert loaded(nested, tmp_path, key="model.ema") == {3}


@pytest.mark.parametrize(
    ("held", "settings", "message"),
    [
        ({"a": state(1)}, {"key": "b"}, r"model.checkpoint_key=b: .* holds a$"),
        (
            state(1),
            {"prefix": "model."},
            r"model.checkpoint_prefix=model.: no name begins with it; they begin with conv",
        ),
        (state(1, classes=9), {}, r"do not fit the network: size mismatch for fc.weight: 9 x 5 in the file, 4 x 5 in"),
        (state(1, head=False), {}, r"do not fit the network: fc.weight is missing, and 1 more"),
        ({"epoch": 3}, {}, "holds no tensors by name"),
        ([torch.ones(1)], {}, "holds no tensors by name"),
        ({"a": state(1, classes=9), "b": state(1, classes=8)}, {}, r"of what the file holds, a, b, none fits"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, held, settings, message):
    with pytest.raises(InputError, match=message) as error:
        loaded(held, tmp_path, **settings)
    assert "\n" not in str(error.value)


class Payload:
    """Something that a safe loader must not unpickle."""


def test_a_checkpoint_that_holds_more_than_tensors_is_not_unpickled(tmp_path):
    with pytest.raises(
        InputError, match=r"holds more than tensors .*Payload.* is not loaded; convert it to .safetensors"
    ):
        loaded({"state_dict": Payload()}, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty \\(0 bytes\\); download it again"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page, not weights"),
        (b"\n  <html>", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer, not the file itself"),
        (b"\x89HDF\r\n", "is an HDF5"),
        (b"hello", "is no file of torch weights"),
        (b'{"metadata": {}, "weight_map": {"fc.weight": "model-1-of-2.safetensors"}}', "is a JSON file .the index of"),
    ],
)
def test_a_file_that_is_no_weights_says_what_it_is(tmp_path, content, message):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        load_weights(Network(), tmp_path / "weights.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_that_was_cut_off_is_one_line(tmp_path, legacy, share):
    path = tmp_path / "weights.pth"
    torch.save(state(1), path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=r"cut off or damaged|no file of torch weights") as error:
        load_weights(Network(), path)
    assert "\n" not in str(error.value)


def test_a_legacy_file_is_read(tmp_path):
    torch.save(state(2), tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    network = Network()
    load_weights(network, tmp_path / "weights.pth")
    assert float(network.fc.bias.detach()[0]) == 2


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin"])
def test_safetensors_are_known_by_name_and_content(tmp_path, name):
    save_file(state(2), tmp_path / name)
    network = Network()
    load_weights(network, tmp_path / name)
    assert float(network.fc.bias.detach()[0]) == 2
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-8])
    with pytest.raises(InputError, match=r"is no whole .safetensors file .* download it again"):
        load_weights(network, tmp_path / name)


@pytest.mark.parametrize("length", range(0, 256, 8))
def test_the_length_of_a_header_is_not_taken_for_another_kind_of_file(tmp_path, length):
    """Its lowest byte runs through all values, those that ONNX files, web pages and JSON begin with among them."""
    plain = len(save(state(2), {"x": ""})) - sum(4 * value.numel() for value in state(2).values()) - 8
    path = tmp_path / "weights.safetensors"
    save_file(state(2), path, {"x": "a" * ((length - plain) % 256)})
    assert path.read_bytes()[0] == length
    network = Network()
    load_weights(network, path)
    assert float(network.fc.bias.detach()[0]) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.to(torch.int8), "conv.weight holds int8 in the file; floating-point numbers are expected"),
        (lambda value: value.to(torch.complex64), "conv.weight holds complex64 in the file"),
        (lambda value: value.to("meta"), "conv.weight holds no numbers"),
    ],
)
def test_tensors_whose_numbers_are_no_weights_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        loaded({name: change(value) for name, value in state(1).items()}, tmp_path)


def test_a_layer_without_a_size_takes_no_weights(tmp_path):
    save_file(state(1), tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="weight has no size yet; show the network one image in"):
        load_weights(nn.Sequential(nn.LazyLinear(3)), tmp_path / "weights.safetensors")


def test_a_compiled_archive_is_named(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated, and its files are still about
        torch.jit.save(torch.jit.script(Network().fc), tmp_path / "weights.pt")
    with pytest.raises(InputError, match="is a TorchScript archive; save its state_dict"):
        load_weights(Network(), tmp_path / "weights.pt")


def test_an_array_of_numpy_is_named(tmp_path):
    np.save(tmp_path / "weights.npy", np.zeros(3))
    with pytest.raises(InputError, match="is a NumPy array"):
        load_weights(Network(), tmp_path / "weights.npy")


EXTRAS = {
    "SwAV's prototypes": {"prototypes.weight": torch.ones(3, 5)},
    "MAE's decoder": {"decoder_embed.weight": torch.ones(2, 5), "mask_token": torch.ones(1, 1, 5)},
    "operations counted": {"total_ops": torch.ones(1), "conv.total_ops": torch.ones(1)},
}


@pytest.mark.parametrize("name", EXTRAS)
def test_what_the_network_does_not_want_is_left_out_and_said(tmp_path, name):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in (state(2) | EXTRAS[name]).items()}}, path)
    network = Network()
    first, *_ = EXTRAS[name]
    (note,) = load_weights(network, path)
    assert note.startswith(
        f"weights.pth: {len(EXTRAS[name])} entries that are not in the network were left out: {first}"
    )
    assert float(network.fc.weight.detach()[0, 0]) == 2


def test_a_part_that_fits_exactly_goes_before_one_with_more(tmp_path):
    held = {"teacher": state(2) | {"prototypes.weight": torch.ones(3)}, "student": state(3)}
    assert loaded(held, tmp_path) == {3}


def test_names_of_torch_compile_are_read_wherever_it_stands(tmp_path):
    held = {f"model.{name.replace('conv.', 'conv._orig_mod.')}": tensor for name, tensor in state(2).items()}
    assert loaded(held, tmp_path) == {2}
    assert loaded(prefixed("_orig_mod.", 2), tmp_path, prefix="_orig_mod.") == {2}


def test_paths_among_the_hyperparameters_of_lightning_are_read(tmp_path):
    from argparse import Namespace
    from pathlib import Path

    held = {"state_dict": prefixed("model.", 2), "hyper_parameters": {"data": Path("/data"), "args": Namespace(lr=0.1)}}
    assert loaded(held, tmp_path) == {2}
