"""What lies in files that torch saved: the one finder of `model.weights`, `clip.weights` and `units.weights`."""

import tokenize
import zipfile
import zlib
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

State = Mapping[str, Tensor]

ARRAY_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    OSError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What `numpy.load` raises on a file that is cut off, damaged or none of its own."""


def describe_array_error(path: Path, error: BaseException) -> str:
    """Why numpy cannot read a file, on one line; its advice to allow pickles, which would run code, is left out."""
    if "pickle" in str(error) or "Python objects" in str(error):
        begins = path.read_bytes()[:1] if path.is_file() else b""
        return "it holds Python objects" if begins in (b"\x93", b"P") else "it is no file of numpy's"
    return " ".join(str(error).split())[:200] or type(error).__name__


def load_plain(source: Any) -> Any:
    """What torch saved: tensors and plain values, among which paths and namespaces, as Lightning keeps them, count."""
    plain = [
        (PurePosixPath, f"pathlib.{name}") for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    ]
    plain += [(PurePosixPath, f"pathlib._local.{name}") for name in ("PosixPath", "WindowsPath")]  # Python 3.13
    with torch.serialization.safe_globals([*plain, Namespace]):
        return torch.load(source, map_location="cpu", weights_only=True)


NOT_WEIGHTS = ("optimizer", "optimizer_state_dict", "optimizer_states", "optimizers", "lr_schedulers", "scheduler")
"""What lies beside weights in a checkpoint and holds tensors of its own."""


def find_states(held: Any) -> dict[str, State]:
    """Every mapping of names to tensors in a checkpoint, by where it lies, as in `model` or `ema.state_dict`.

    The one finder of `model.weights`, `clip.weights` and `units.weights`. torch.compile's `_orig_mod.` is taken out of
    the names, wherever it stands; plain values are skipped.
    """
    return dict(_find_state_dicts(held))


def _find_state_dicts(held: Any, name: str = "", depth: int = 4) -> Iterator[tuple[str, State]]:
    if not isinstance(held, Mapping) or not depth:
        return
    tensors = {str(key).replace("_orig_mod.", ""): value for key, value in held.items() if isinstance(value, Tensor)}
    if tensors:
        yield name, tensors
    for key, value in held.items():
        if str(key) not in NOT_WEIGHTS:
            yield from _find_state_dicts(value, f"{name}.{key}" if name else str(key), depth - 1)


def plain_values(held: Any, depth: int = 4) -> dict[str, Any]:
    """What a checkpoint holds beside its tensors: numbers, texts, lists, and mappings of them."""
    if not isinstance(held, Mapping) or not depth:
        return {}
    inner = {str(key): plain_values(value, depth - 1) for key, value in held.items() if isinstance(value, Mapping)}
    values = {
        str(key): value
        for key, value in held.items()
        if not isinstance(value, (Tensor, Mapping)) and key not in NOT_WEIGHTS
    }
    return {**values, **{key: more for key, more in inner.items() if more and key not in NOT_WEIGHTS}}
