"""Functions from a user's own files: `FILE.py:function` or `package.module:function`, with all that they import.

A file's folder is importable, so it finds its neighbours. What the code is made of (the file, and every module outside
the installed packages that it imports, at any depth) has a digest, which belongs into the key of whatever it computes.
An edited file is loaded anew, in the same process too.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cd_exp.errors import InputError, unknown
from cd_exp.sources import file_of, is_installed, sources_of


@dataclass(frozen=True, eq=False)
class UserFunction:
    """A function of the user's own.

    Attributes:
        spec: as it was named, `FILE.py:function`.
        setting: the setting that named it, for errors.
        function: the function itself.
        sources: SHA-256 of each source file by module name; the file that was named is `__main__`.
        folder: where its neighbours are looked for; None for a module of an installed package.
    """

    spec: str
    setting: str
    function: Callable[..., Any]
    sources: Mapping[str, str]
    folder: Path | None = None

    @property
    def key(self) -> Mapping[str, Any]:
        """The function's name and what its code is made of, as plain JSON values."""
        return {"function": self.spec.rpartition(":")[2], "sources": dict(sorted(self.sources.items()))}

    def __call__(self, options: Mapping[str, Any]) -> Any:
        """What the function returns with these keywords; modules that it imports only now are found too.

        Raises:
            InputError: an option that the function does not take, or one that it needs and was not given.
        """
        check_options(self.function, options, setting=self.setting)
        with _importable(self.folder):
            return self.function(**options)


def load(spec: str, *, setting: str) -> UserFunction:
    """The function that a setting names.

    Args:
        spec: `FILE.py:function` or `package.module:function`.
        setting: the setting that names it, as in `model.factory`.

    Raises:
        InputError: no such file, module or function; a file that is no Python, or imports what is not installed.
    """
    place, colon, name = spec.rpartition(":")
    if not colon or not place or not name:
        raise InputError(f"{setting}={spec}: write FILE.py:function or package.module:function")
    path = _file(place, setting) if place.endswith(".py") else None
    folder = path.parent if path else None
    if path in _loaded and sources_of(_loaded[path][0], folder) != _loaded[path][1]:
        _forget(path.parent)
    with _importable(folder), _explained(spec, setting):
        module = _import_file(path) if path else importlib.import_module(place)
    function = getattr(module, name, None)
    if function is None:
        names = (key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise unknown("function", name, names, where=f"in {place} ({setting}={spec})")
    if not callable(function):
        raise InputError(f"{setting}={spec}: {name} is of type {type(function).__name__}, expected a function")
    sources = sources_of(module, folder) if path else _as_imported.setdefault(place, sources_of(module, None))
    return UserFunction(spec, setting, function, sources, folder)


def check_options(function: Callable[..., Any], options: Mapping[str, Any], *, setting: str) -> None:
    """Refuse options that a function cannot be called with.

    Args:
        function: the user's.
        options: keywords.
        setting: the setting that names the function, as in `model.factory`: the options are `model.options`.

    Raises:
        InputError: names the option, and the nearest parameter.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have no signature
        return
    where = f"{setting.rpartition('.')[0]}.options"
    takes = [given.name for given in parameters if given.kind in (given.POSITIONAL_OR_KEYWORD, given.KEYWORD_ONLY)]
    if not any(given.kind is given.VAR_KEYWORD for given in parameters):
        for key in options:
            if key not in takes:
                known = [f"{where}.{name}" for name in takes]
                raise unknown("option", f"{where}.{key}", known, where=f"a parameter of {setting}")
    for given in parameters:
        if given.name in takes and given.default is given.empty and given.name not in options:
            raise InputError(f"{where}.{given.name} must be set: {setting} cannot be called without it")


def _file(place: str, setting: str) -> Path:
    path = Path(place).expanduser()
    if not path.is_file():
        raise InputError(f"{setting}={place}: there is no such file (seen from {Path.cwd()})")
    return path.resolve()


_loaded: dict[Path, tuple[ModuleType, Mapping[str, str]]] = {}
_as_imported: dict[str, Mapping[str, str]] = {}
"""Of a package's module, which is not loaded anew: the sources when it was first asked for."""
_neighbours: dict[Path, dict[str, ModuleType]] = {}
"""Modules by the folder of the user's file that imported them: two files may each have a neighbour `layers`."""


def _import_file(path: Path) -> ModuleType:
    if path in _loaded:
        return _loaded[path][0]
    importlib.invalidate_caches()
    name = f"cd_exp_user_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # classes of the file find their module, as dataclasses and pickle want
    try:
        _execute(module, path)
    except BaseException:
        del sys.modules[name]
        raise
    _loaded[path] = (module, sources_of(module, path.parent))
    return module


def _execute(module: ModuleType, path: Path) -> None:
    """Run the source as it is now: bytecode is stored by time and size, and an edit may keep both."""
    exec(compile(path.read_bytes(), str(path), "exec"), vars(module))


def _forget(folder: Path) -> None:
    for path in [path for path in _loaded if path.parent == folder]:
        sys.modules.pop(_loaded.pop(path)[0].__name__, None)
    for name, module in _neighbours.pop(folder, {}).items():
        if sys.modules.get(name) is module:
            del sys.modules[name]


@contextmanager
def _explained(spec: str, setting: str) -> Iterator[None]:
    try:
        yield
    except SyntaxError as error:
        raise InputError(f"{setting}={spec}: {error.filename} line {error.lineno}: {error.msg}") from error
    except ImportError as error:
        remedy = "install it, or put it beside the file"
        if "relative import" in str(error):
            remedy = "name the function as package.module:function"
        raise InputError(f"{setting}={spec}: {error}; {remedy}") from error


@contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    """Let a folder's modules be imported, before those of the same name that another user's file brought along."""
    if folder is None:
        yield
        return
    hidden = {name: module for other, known in _neighbours.items() if other != folder for name, module in known.items()}
    hidden = {name: module for name, module in hidden.items() if sys.modules.get(name) is module}
    for name in hidden:
        del sys.modules[name]
    mine = _neighbours.setdefault(folder, {})
    sys.modules.update(mine)
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    # Stored bytecode is told from an edit by seconds and size: none is left that a later run could take for the edit's.
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = written
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            path = file_of(sys.modules[name])
            if path is not None and path.is_relative_to(folder) and not is_installed(path):
                mine[name] = sys.modules[name]
        for name, module in hidden.items():
            sys.modules.setdefault(name, module)
