"""Arrays and tensors of files from elsewhere, read without running anything that lies in them."""

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cd_exp.errors import InputError

CONVERT = (
    "state = torch.load({path!r}, weights_only=False)  # only where you trust the file; keep what is a tensor",
    "safetensors.torch.save_file({{k: v.contiguous() for k, v in state.items() if torch.is_tensor(v)}}, "
    "'sae.safetensors')",
)
"""What converts a file that pickles an object, for the error."""


def check_path(path: str | Path, *, setting: str) -> Path:
    """The file or folder, which must be there."""
    place = Path(path).expanduser()
    if not place.exists():
        raise InputError(f"{setting}={path}: there is no such file (seen from {Path.cwd()})")
    return place


def open_array(path: Path, *, setting: str) -> np.ndarray:
    """A numeric array of a `.npy` file, memory-mapped.

    Raises:
        InputError: it is none, or holds what is no number.
    """
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError) as error:
        raise InputError(f"{setting}={path} cannot be read as an array of numbers: {_shorten_error(error)}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        kind = values.dtype if isinstance(values, np.ndarray) else "several arrays"
        raise InputError(f"{setting}={path} holds {kind}; expected real numbers")
    return values


def read_tensors(path: Path, *, setting: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The named tensors of a file, with the settings that lie in front of them where there are some.

    `.safetensors`, `.npz`, and `.pt` or `.pth` with tensors only; also a line of JSON before a state dict, as saev's
    `sae.pt` has it.

    Raises:
        InputError: it cannot be read, pickles an object, or holds what is no plain tensor of real numbers.
    """
    found, settings = _read_file(path, setting=setting)
    for name, tensor in found.items():
        if tensor.is_complex() or tensor.layout != torch.strided or tensor.is_meta:
            kind = f"{tensor.dtype} ({tensor.layout}, {tensor.device})".replace("torch.", "")
            raise InputError(f"{setting}={path}: {name} is of {kind}; expected plain real numbers")
    return found, settings


def _read_file(path: Path, *, setting: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path), {}
        return (_read_npz(path), {}) if path.suffix == ".npz" else _read_pickled(path)
    except pickle.UnpicklingError as error:
        first, second = (line.format(path=str(path)) for line in CONVERT)
        raise InputError(
            f"{setting}={path} pickles an object, which is never loaded; convert it: {first} ; {second}"
        ) from error
    except (
        SafetensorError,
        RuntimeError,
        ValueError,
        TypeError,
        OSError,
        EOFError,
        KeyError,
        zipfile.BadZipFile,
    ) as error:
        raise InputError(f"{setting}={path} cannot be read as tensors: {_shorten_error(error)}") from error


def _read_npz(path: Path) -> dict[str, Tensor]:
    """The numeric arrays of a `.npz`, in this machine's byte order; names and texts beside them are skipped."""
    opened = np.load(path, allow_pickle=False)
    if isinstance(opened, np.ndarray):
        raise ValueError("it is a single array, as .npy is")
    with opened as found:
        arrays = {name: found[name] for name in found.files}
    numeric = {name: values for name, values in arrays.items() if values.dtype.kind in "fiubc"}
    return {name: torch.from_numpy(values.astype(values.dtype.newbyteorder("="))) for name, values in numeric.items()}


def _read_pickled(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    data = path.read_bytes()
    settings: dict[str, Any] = {}
    if data[:1] == b"{":
        line, _, data = data.partition(b"\n")
        settings = json.loads(line)
    if data[:1] not in (b"P", b"\x80"):  # a zip archive, or a pickle as torch wrote it before
        raise ValueError("it is no file of torch tensors; read are .safetensors, .npz, and .pt of tensors only")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # of any kind where the bytes are no such file at all
        raise ValueError(f"it is no file of torch tensors ({_shorten_error(error)})") from error
    if torch.is_tensor(state):
        return {"the tensor": state}, settings
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not any(torch.is_tensor(value) for value in state.values()):
        raise ValueError(f"it holds a {type(state).__name__}, not named tensors")
    plain = {str(key): value for key, value in state.items() if isinstance(value, (int, float, str, bool))}
    return {str(key): value for key, value in state.items() if torch.is_tensor(value)}, {**plain, **settings}


def _shorten_error(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
