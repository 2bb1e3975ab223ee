"""What code is made of: the source of a module, and of all that it imports from outside the installed packages."""

import ast
import hashlib
import inspect
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

INSTALLED = tuple(
    Path(folder).resolve()
    for folder in (*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages())
    if Path(folder).name not in ("bin", "Scripts", "include") and Path(folder).resolve() != Path(sys.prefix).resolve()
)
OURS = "cd_exp"


def code_of(things: Iterable[object]) -> Mapping[str, str]:
    """SHA-256 of the code of classes and functions that were not loaded by name, by module.

    A module outside the installed packages counts with all that it imports from there. Of a script or a notebook
    (`__main__`), whose other lines change all the time, only the classes and functions themselves count; where they
    have no source, as those typed at a prompt, nothing does.

    Args:
        things: classes and functions.
    """
    found: dict[str, str] = {}
    for thing in things:
        name = getattr(thing, "__module__", None) or ""
        module = sys.modules.get(name)
        if name == "__main__":
            known = f"{name}.{getattr(thing, '__qualname__', thing)}"
            found[known] = hashlib.sha256(_source(thing).encode()).hexdigest()
        elif name not in found and name.partition(".")[0] != OURS and module is not None:
            path = file_of(module)
            if path is not None and not is_installed(path):
                found |= _as_imported.setdefault(name, sources_of(module, None))
    return found


_as_imported: dict[str, Mapping[str, str]] = {}
"""The sources of a module when they were first asked for: an edit changes no code that was imported before."""


def _source(thing: object) -> str:
    """The text of a function, or of what a class defines itself: a class in a notebook has no source of its own."""
    functions = vars(thing).values() if isinstance(thing, type) else [thing]
    texts = []
    for function in functions:
        try:
            texts.append(inspect.getsource(function))  # type: ignore[arg-type]
        except (OSError, TypeError):
            continue
    return "\n".join(texts)


def file_of(module: ModuleType | None) -> Path | None:
    """The file that a module was read from."""
    name = getattr(module, "__file__", None)
    return Path(name).resolve() if name else None


def is_installed(path: Path) -> bool:
    """Whether a file belongs to an installed package, or to Python itself."""
    return any(path.is_relative_to(folder) for folder in INSTALLED)


def sources_of(module: ModuleType, folder: Path | None) -> Mapping[str, str]:
    """SHA-256 of the module's file and of all that it imports from outside the installed packages, by module name."""
    own, found = file_of(module), dict[str, str]()
    if own is None or (is_installed(own) and folder is None):
        return {module.__name__: "installed"}
    search = [str(folder), *sys.path] if folder else list(sys.path)
    waiting = [("__main__", own, "")]
    if folder is None:
        waiting = [(name, path, name) for name, path in _located(module.__name__, search)]
    while waiting:
        name, path, package = waiting.pop()
        if name in found:
            continue
        source = path.read_bytes()
        found[name] = hashlib.sha256(source).hexdigest()
        if path.suffix == ".py":
            for imported in _imports(source, package, is_package=path.name == "__init__.py"):
                for known, place in _located(imported, search):
                    waiting.append((known, place, known))
    return found


def _imports(source: bytes, name: str, *, is_package: bool) -> Iterator[str]:
    """The dotted names that a source imports anywhere; of `from a import b`, both `a` and `a.b`."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a module that cannot be imported either
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                parts = name.split(".") if name else []
                above = parts[: len(parts) - level + is_package] if level else []
                base = ".".join([*above, *([module] if module else [])])
                if base:
                    yield base
                yield from (f"{base}.{alias.name}".lstrip(".") for alias in names)
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(given)), *_],
            ):
                yield given


def _located(name: str, search: list[str]) -> Iterator[tuple[str, Path]]:
    """The module and its packages, each with its file, as far as they lie outside the installed packages and ours."""
    parts, places = name.split("."), search
    if parts[0] == OURS or parts[0] in sys.builtin_module_names:
        return
    for depth in range(1, len(parts) + 1):
        known = ".".join(parts[:depth])
        spec = PathFinder.find_spec(known, places) or _spec(known)
        if spec is None:
            return
        if spec.origin and Path(spec.origin).is_file():
            path = Path(spec.origin).resolve()
            if is_installed(path):
                return
            yield known, path
        if spec.submodule_search_locations is None:
            return
        places = list(spec.submodule_search_locations)


def _spec(name: str) -> ModuleSpec | None:
    """Of a module that was imported in another way than by path, as editable installations are."""
    return getattr(sys.modules.get(name), "__spec__", None)
