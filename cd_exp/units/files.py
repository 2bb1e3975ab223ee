"""Arrays and tensors of files from elsewhere, read without running anything that lies in them."""

import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.io.checkpoints import ARRAY_ERRORS, describe_array_error, find_states, load_plain, plain_values

CONVERT = "; ".join(
    (
        "import json, pathlib, torch, safetensors.torch",
        "loaded = torch.load({path!r}, weights_only=False)",
        "state = loaded.state_dict() if hasattr(loaded, 'state_dict') else loaded.get('state_dict', loaded)",
        "safetensors.torch.save_file({{k: v.clone().contiguous() for k, v in state.items() if torch.is_tensor(v)}}, "
        "{stem!r} + '.safetensors')",
        "cfg = loaded.get('cfg', {{}}) if isinstance(loaded, dict) else getattr(loaded, 'cfg', loaded)",
        "cfg = cfg.to_dict() if hasattr(cfg, 'to_dict') else cfg",
        "cfg = cfg if isinstance(cfg, dict) else {{'class': type(cfg).__name__, **vars(cfg)}}",
        "cfg = {{k: v.item() if torch.is_tensor(v) and v.numel() == 1 else v for k, v in cfg.items() if k[0] != '_'}}",
        "cfg = {{k: v for k, v in cfg.items() if not callable(v)}}",
        "pathlib.Path({stem!r} + '.json').write_text(json.dumps(cfg, default=str))",
    )
)
"""One line of Python that converts a file which pickles an object, for the error: a whole module, or a dictionary of
`cfg` and `state_dict`. The JSON keeps what no tensor says."""


@dataclass(frozen=True, eq=False)
class Held:
    """What a file of tensors holds.

    Attributes:
        states: its named tensors, by where in the file they lie.
        settings: the plain values that lie beside them or in a header, each with the name of its place.
    """

    states: Mapping[str, Mapping[str, Tensor]]
    settings: tuple[tuple[str, Mapping[str, Any]], ...] = ()


def check_path(path: str | Path, *, setting: str) -> Path:
    """The file or folder, which must be there."""
    expanded = Path(path).expanduser()
    if not expanded.exists():
        raise InputError(f"{setting}={path}: there is no such file (seen from {Path.cwd()})")
    return expanded


def open_array(path: Path, *, setting: str) -> np.ndarray:
    """A numeric array of a `.npy` file, memory-mapped.

    Raises:
        InputError: it is none, or holds what is no number.
    """
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except ARRAY_ERRORS as error:
        why = f"{describe_array_error(path, error)}; write it with numpy.save"
        raise InputError(f"{setting}={path} cannot be read as an array of numbers: {why}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        kind = values.dtype if isinstance(values, np.ndarray) else "several arrays"
        raise InputError(f"{setting}={path} holds {kind}; expected real numbers")
    return values


def read_tensors(path: Path, *, setting: str) -> Held:
    """The named tensors of a file, with the settings beside them or in front of them.

    `.safetensors`, `.npz`, and `.pt` or `.pth` with tensors and plain values only; also a line of JSON before a state
    dict, as saev's `sae.pt` has it.

    Raises:
        InputError: it cannot be read, pickles an object, or holds what is no plain tensor of real numbers.
    """
    held = _read_file(path, setting=setting)
    for state in held.states.values():
        for name, tensor in state.items():
            if tensor.is_complex() or tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
                kind = f"{tensor.dtype} ({tensor.layout}, {tensor.device})".replace("torch.", "")
                raise InputError(f"{setting}={path}: {name} is of {kind}; expected plain real numbers")
    return held


def _read_file(path: Path, *, setting: str) -> Held:
    try:
        if path.suffix == ".safetensors":
            return _safetensors(path)
        return _read_npz(path) if path.suffix == ".npz" else _read_pickled(path)
    except pickle.UnpicklingError as error:
        line = CONVERT.format(path=str(path), stem=str(path.with_suffix("")))
        raise InputError(
            f"{setting}={path} pickles an object, which is never loaded; where you trust it, convert it in Python: "
            f"{line}"
        ) from error
    except (SafetensorError, RuntimeError, *ARRAY_ERRORS) as error:
        why = describe_array_error(path, error) if path.suffix == ".npz" else _shorten_error(error)
        raise InputError(f"{setting}={path} cannot be read as tensors: {why}") from error


def _safetensors(path: Path) -> Held:
    with safe_open(path, framework="pt") as opened:
        header = opened.metadata() or {}
    settings = {name: _parse_value(text) for name, text in header.items()}
    return Held({"": find_states(load_file(path)).get("", {})}, ((f"the header of {path.name}", settings),))


def _parse_value(text: str) -> Any:
    """A value of a header, which holds nothing but texts."""
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def _read_npz(path: Path) -> Held:
    """The numeric arrays of a `.npz`, in this machine's byte order; single texts beside them are settings."""
    with path.open("rb") as file:  # numpy leaves it open where it is no archive
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it is a single array, as .npy is")
        arrays = {name: archive[name] for name in archive.files}
    numeric = {name: values for name, values in arrays.items() if values.dtype.kind in "fiubc"}
    texts = {name: values.item() for name, values in arrays.items() if values.dtype.kind == "U" and values.ndim == 0}
    state = {name: torch.from_numpy(values.astype(values.dtype.newbyteorder("="))) for name, values in numeric.items()}
    return Held({"": state}, ((path.name, texts),))


def _read_pickled(path: Path) -> Held:
    data = path.read_bytes()
    header: dict[str, Any] = {}
    if data[:1] == b"{":
        line, _, data = data.partition(b"\n")
        header = json.loads(line)
    if data[:1] not in (b"P", b"\x80"):  # a zip archive, or a pickle as torch wrote it before
        raise ValueError("it is no file of torch tensors; read are .safetensors, .npz, and .pt of tensors only")
    try:
        held = load_plain(io.BytesIO(data))
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # anything is raised where the bytes are no such file at all
        raise ValueError(f"it is no file of torch tensors ({_shorten_error(error)})") from error
    if torch.is_tensor(held):
        return Held({"": {"the tensor": held}})
    states = find_states(held)
    if not states:
        raise ValueError(f"it holds a {type(held).__name__}, not named tensors")
    return Held(states, ((f"the header of {path.name}", header), (path.name, plain_values(held))))


def _shorten_error(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
