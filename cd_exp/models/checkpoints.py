"""Weights from files, which may hold tensors and nothing else, and the part of a checkpoint that fits a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cd_exp.errors import InputError, describe_error
from cd_exp.io.checkpoints import State, find_states, load_plain
from cd_exp.io.text import shorten_list

_STARTS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`",
    b"<": "a web page, not weights; download the file itself",
    b"\x89HDF": "an HDF5 (Keras) file; convert it to .safetensors",
    b"\x93NUMPY": "a NumPy array; convert it to .safetensors",
    b"\x1f\x8b": "a gzip archive; unpack it",
    b"BZh": "a bzip2 archive; unpack it",
    b"7z": "a 7z archive; unpack it",
    b"\x08": "an ONNX file; convert it to .safetensors",
    b"{": "a JSON file (the index of weights in several files?); join the tensors into one .safetensors file",
}
"""What files begin with that are often named .pth and are none."""


def load_weights(
    module: nn.Module, path: Path, *, key: str | None = None, prefix: str | None = None
) -> tuple[str, ...]:
    """Load a .safetensors or .pth file, never unpickling anything but tensors and plain values.

    Every parameter of the network has to be in the file. What is in the file and not in the network (SwAV's prototypes,
    MAE's decoder, counters of operations) is left out.

    Args:
        module: the network.
        path: a state dict, or a checkpoint that holds one under a name.
        key: under which name, `a.b` for one within another; None finds the one that fits.
        prefix: what the wanted names begin with; None finds the one that fits.

    Returns:
        A note on what was left out.

    Raises:
        InputError: the file is no weights file, does not fit the network, or fits it in several ways.
    """
    states = find_states(read_checkpoint(path))
    if key is not None:
        if key not in states:
            raise InputError(f"model.checkpoint_key={key}: {path} holds {_format_names(states)}")
        states = {key: states[key]}
    if not states:
        raise InputError(f"{path} holds no tensors by name; expected a state dict, or a checkpoint that holds one")
    wanted = module.state_dict()
    unsized = next((name for name, value in wanted.items() if is_lazy(value)), None)
    if unsized is not None:
        raise InputError(f"{path}: {unsized} has no size yet; show the network one image in model.factory")
    if not all(isinstance(value, Tensor) for value in wanted.values()):
        raise InputError(f"{path}: a quantised network is not loaded from a file; load its weights in model.factory")
    parts = [(name, start) for name, state in states.items() for start in _list_prefixes(state, wanted, prefix)]
    faults = {part: _describe_misfit(_cut_prefix(states[part[0]], part[1]), wanted) for part in parts}
    whole = [part for part, wrong in faults.items() if not wrong]
    exact = [part for part in whole if not _unused_names(_cut_prefix(states[part[0]], part[1]), wanted, module)]
    fitting = _differing_shapes(exact or whole, states, wanted)
    if len(fitting) > 1:
        raise InputError(
            f"{path} holds several parts that fit the network: {', '.join(map(_name_state, fitting))}; "
            f"choose one, as in {_name_state(fitting[0])}"
        )
    if not fitting:
        raise InputError(f"the weights {path} do not fit the network: {_nearest_state(faults, states)}")
    name, start = fitting[0]
    state = _cut_prefix(states[name], start)
    module.load_state_dict({parameter: state.get(parameter, value) for parameter, value in wanted.items()})
    more = _unused_names(state, wanted, module)
    if not more:
        return ()
    return (f"{path.name}: {len(more)} entries that are not in the network were left out: {shorten_list(more)}",)


def read_checkpoint(path: Path) -> Any:
    """What a weights file holds: tensors in mappings, and plain values beside them.

    Raises:
        InputError: names what the file is where it is no weights file.
    """
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise InputError(f"{path} is empty (0 bytes); download it again")
    # A .safetensors file begins with the length of its header, whose first bytes can be those of any other kind.
    tensors = start[8:9] == b"{" and start[6:8] == b"\0\0"
    for begins, what in _STARTS.items():
        if not tensors and start.lstrip().startswith(begins):
            raise InputError(f"{path} is {what}")
    if tensors or path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, ValueError) as error:
            raise InputError(
                f"{path} is no whole .safetensors file ({describe_error(error)}); download it again"
            ) from error
    return _read_torch(path, zipped=start.startswith(b"PK"))


def _read_torch(path: Path, *, zipped: bool) -> Any:
    try:
        return load_plain(path)
    except Exception as error:  # pickle, zip and torch each raise their own for what is cut off or no tensor
        text = str(error)
        if "TorchScript" in text or "torch.jit.load" in text:
            raise InputError(f"{path} is a TorchScript archive; save its state_dict() instead") from error
        if "weights_only" in text.lower() or "Unsupported" in text:
            named = text.partition("GLOBAL ")[2].partition(" ")[0]
            what = f"more than tensors ({named})" if named else "more than tensors"
            raise InputError(f"{path} holds {what} and is not loaded; convert it to .safetensors") from error
        cut = "cut off or damaged" if zipped or isinstance(error, EOFError) else "no file of torch weights"
        raise InputError(f"{path} is {cut} ({describe_error(error)}); download it again") from error


def _list_prefixes(state: State, wanted: State, chosen: str | None) -> list[str]:
    """What the names of a part of the state may begin with before the network's own names."""
    if chosen is not None:
        chosen = chosen.replace("_orig_mod.", "")  # as in the names of the file
        if not any(name.startswith(chosen) for name in state):
            first = ", ".join(sorted({name.partition(".")[0] for name in state})[:5])
            raise InputError(f"model.checkpoint_prefix={chosen}: no name begins with it; they begin with {first}")
        return [chosen]
    if not wanted:
        return [""]
    ends = [name for name in wanted if not name.endswith("num_batches_tracked")][:1] or list(wanted)[:1]
    prefixes = {name[: -len(ends[0])] for name in state if name == ends[0] or name.endswith("." + ends[0])}
    # MoCo keeps a slowly following copy of its encoder; the encoder itself is the one that is used.
    momentum = {
        start for start in prefixes if "encoder_k." in start and start.replace("encoder_k.", "encoder_q.") in prefixes
    }
    return sorted(prefixes - momentum) or [""]


def _cut_prefix(state: State, prefix: str) -> State:
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


_HEADS = ("fc", "head", "heads", "head_dist", "classifier", "classif", "last_linear", "projector", "projection_head")


def _describe_misfit(state: State, wanted: State) -> str:
    """The first thing that the network lacks in a part of the file, or that does not fit; or an empty string."""
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    if missing:
        return f"{missing[0]} is missing" + (f", and {len(missing) - 1} more" if len(missing) > 1 else "")
    for name, value in wanted.items():
        if name in state and state[name].shape != value.shape:
            came, expected = _format_size(state[name]), _format_size(value)
            return f"size mismatch for {name}: {came} in the file, {expected} in the network"
        if name in state and value.is_floating_point() and not _copy_states(state[name]):
            return (
                f"{name} holds {_file_kind(state[name])} in the file; floating-point numbers are expected (quantised?)"
            )
    return ""


def _unused_names(state: State, wanted: State, module: nn.Module) -> list[str]:
    """What the network has no place for; a network that was built without a head leaves that of the file unsaid."""
    return [name for name in state if name not in wanted and not _is_headless(name, module)]


def _copy_states(tensor: Tensor) -> bool:
    """Whether its numbers can be taken as they are: whole numbers of quantised weights lack their scale."""
    return tensor.is_floating_point() and not tensor.is_meta


def _file_kind(tensor: Tensor) -> str:
    return "no numbers (the meta device)" if tensor.is_meta else str(tensor.dtype).removeprefix("torch.")


def _is_headless(name: str, module: nn.Module) -> bool:
    """Whether the name belongs to a head that the network was built without."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        inner = module
        for part in parts[:depth]:
            inner = getattr(inner, part, nn.Identity())
        if parts[depth - 1] in _HEADS and not any(True for _ in inner.parameters()):
            return True
    return False


def _differing_shapes(
    parts: list[tuple[str, str]], states: Mapping[str, State], wanted: State
) -> list[tuple[str, str]]:
    """The parts that differ from the first in any number."""
    if not parts:
        return []
    first, *others = parts
    state = _cut_prefix(states[first[0]], first[1])

    def differs(part: tuple[str, str]) -> bool:
        other = _cut_prefix(states[part[0]], part[1])
        return any(name in state and not torch.equal(state[name], other[name]) for name in wanted if name in other)

    return [first, *(part for part in others if differs(part))]


def _nearest_state(faults: Mapping[tuple[str, str], str], states: Mapping[str, State]) -> str:
    """What is wrong with the largest part, and the parts that can be named where there are several."""
    best = max(faults, key=lambda part: len(_cut_prefix(states[part[0]], part[1])))
    where = f" of {_name_state(best)}" if any(best) else ""
    others = f"; of what the file holds, {_format_names(states)}, none fits" if len(states) > 1 else ""
    return f"{faults[best]}{where}{others}"


def _name_state(part: tuple[str, str]) -> str:
    settings = ("model.checkpoint_key", part[0]), ("model.checkpoint_prefix", part[1])
    return " ".join(f"{setting}={value}" for setting, value in settings if value) or "the names as they are"


def _format_names(states: Mapping[str, State]) -> str:
    return shorten_list([name or "names at the top" for name in states]) or "nothing by name"


def _format_size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


def check_weights_file(path: str, setting: str) -> Path:
    """The path, which must be a file."""
    if not Path(path).is_file():
        raise InputError(f"{setting}={path}: there is no such file (seen from {Path.cwd()})")
    return Path(path)
