"""What features are computed with: this package's own numerics, and the libraries that decode, resize and multiply.

Both are part of the key of everything that is stored, so that an edit or another version is never answered with older
numbers. Comments, docstrings and the layout of the code are not: only what can change a number changes a key.
"""

import ast
import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cd_exp.cache import Store

LIBRARIES = ("torch", "torchvision", "pillow")
NUMERICS = (
    "activation_stats.py",
    "clips/open_clip_model.py",
    "clips/preprocessing.py",
    "clips/tokenizers.py",
    "clips/transformers_model.py",
    "features/dataloader.py",
    "features/extract.py",
    "features/store_activations.py",
    "hooks/hooks.py",
    "hooks/pooling.py",
    "models/transforms.py",
    "probes/decoding.py",
    "probes/wrappers.py",
    "units/encoder.py",
)
"""The files through which an image, a text or an activation passes on its way to the cache."""
KIND = "numerics"
PACKAGE = Path(__file__).parents[1]


def computed_with(store: Store) -> dict[str, Any]:
    """The numerics and the versions, as plain JSON values."""
    code = store.recall(KIND, _text(), str)
    return {"numerics": digest_of(_sources()) if code is None else code, **_versions()}


def keep_numerics(store: Store) -> None:
    """Note what the text of the numerics means: 1,900 lines take 50 ms to parse and 1 ms to read."""
    if store.recall(KIND, _text(), str) is None:
        store.note(KIND, _text(), digest_of(_sources()))


@cache
def digest_of(sources: tuple[bytes, ...]) -> str:
    """SHA-256 of what some sources do: of their syntax trees without docstrings.

    >>> digest_of((b"x = 1  # one",)) == digest_of((b"x = (1)",)), digest_of((b"x = 1",)) == digest_of((b"x = 2",))
    (True, False)
    """
    seen = hashlib.sha256()
    for source in sources:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            if documented and ast.get_docstring(node, clean=False) is not None:  # type: ignore[arg-type]
                node.body = node.body[1:]  # type: ignore[attr-defined]
        seen.update(ast.dump(tree).encode())
    return seen.hexdigest()[:16]


@cache
def _text() -> dict[str, str]:
    return {"text": hashlib.sha256(b"\0".join(_sources())).hexdigest()}


@cache
def _sources() -> tuple[bytes, ...]:
    """As they were imported, or nearly so: an edit while the process runs changes no code of it."""
    return tuple((PACKAGE / name).read_bytes() for name in NUMERICS)


@cache
def _versions() -> dict[str, str]:
    """Without what follows a plus sign, which tells builds of the same version apart."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name).partition("+")[0]
        except PackageNotFoundError:  # Pillow has been replaced by a build of another name
            versions[name] = "unknown"
    return versions
