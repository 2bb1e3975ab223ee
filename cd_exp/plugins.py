"""Functions from a user's own files, `FILE.py:function` or `package.module:function`, and a hash of their code.

A file's folder is importable, so it finds its neighbours. The hash covers the file and every module outside the
installed packages that it imports, at any depth, so that an edit gives another cache key. What this module does not
know: what a function is for; its caller checks what it returns.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import math
import os
import random
import signal
import site
import sys
import sysconfig
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np

from cd_exp.errors import EndsWithOther, InputError, Interrupted, unknown_name_error

INSTALLED = tuple(
    Path(folder).resolve()
    for folder in (*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages())
    if Path(folder).name not in ("bin", "Scripts", "include") and Path(folder).resolve() != Path(sys.prefix).resolve()
)
OURS = "cd_exp"


def hash_code(things: Iterable[object]) -> Mapping[str, str]:
    """SHA-256 of the code of classes and functions that were not loaded by name, by module.

    A module outside the installed packages counts with all that it imports from there. Of a script or a notebook
    (`__main__`), whose other lines change all the time, only the classes and functions themselves count; where they
    have no source, as those typed at a prompt, nothing does.

    Args:
        things: classes and functions.
    """
    digests: dict[str, str] = {}
    for thing in things:
        name = getattr(thing, "__module__", None) or ""
        module = sys.modules.get(name)
        if name == "__main__":
            label = f"{name}.{getattr(thing, '__qualname__', thing)}"
            digests[label] = hashlib.sha256(_source_of(thing).encode()).hexdigest()
        elif name not in digests and name.partition(".")[0] != OURS and module is not None:
            path = module_file(module)
            if path is not None and not is_installed(path):
                digests |= _as_imported.setdefault(name, hash_sources(module, None))
    return digests


_as_imported: dict[str, Mapping[str, str]] = {}
"""The sources of a module when they were first asked for: an edit changes no code that was imported before."""


def _source_of(thing: object) -> str:
    """The text of a function, or of what a class defines itself: a class in a notebook has no source of its own."""
    functions = vars(thing).values() if isinstance(thing, type) else [thing]
    texts = []
    for function in functions:
        try:
            texts.append(inspect.getsource(function))  # type: ignore[arg-type]
        except (OSError, TypeError):
            continue
    return "\n".join(texts)


def module_file(module: ModuleType | None) -> Path | None:
    """The file that a module was read from."""
    name = getattr(module, "__file__", None)
    return Path(name).resolve() if name else None


def is_installed(path: Path) -> bool:
    """Whether a file belongs to an installed package, or to Python itself."""
    return any(path.is_relative_to(folder) for folder in INSTALLED)


def hash_sources(module: ModuleType, folder: Path | None) -> Mapping[str, str]:
    """SHA-256 of the module's file and of all that it imports from outside the installed packages, by module name."""
    main_file, digests = module_file(module), dict[str, str]()
    if main_file is None or (is_installed(main_file) and folder is None):
        return {module.__name__: _installed_version(module.__name__)}
    search = [str(folder), *sys.path] if folder else list(sys.path)
    waiting = [("__main__", main_file, "")]
    if folder is None:
        waiting = [(name, path, name) for name, path in _locate_import(module.__name__, search)]
    while waiting:
        name, path, package = waiting.pop()
        if name in digests:
            continue
        source = path.read_bytes()
        digests[name] = hashlib.sha256(source).hexdigest()
        if path.suffix == ".py":
            for imported in _list_imports(source, package, is_package=path.name == "__init__.py"):
                for imported_name, imported_path in _locate_import(imported, search):
                    waiting.append((imported_name, imported_path, imported_name))
    return digests


def _installed_version(module: str) -> str:
    """The distributions that bring a module, with their versions, as `my-package 1.2.0`; Python's own have none."""
    packages = dict.fromkeys(packages_distributions().get(module.partition(".")[0], ()))
    return ", ".join(f"{name} {version(name)}" for name in packages) or "installed"


def _list_imports(source: bytes, name: str, *, is_package: bool) -> Iterator[str]:
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
                args=[ast.Constant(value=str(argument)), *_],
            ):
                yield argument


def _locate_import(name: str, search: list[str]) -> Iterator[tuple[str, Path]]:
    """The module and its packages, each with its file, as far as they lie outside the installed packages and ours."""
    parts, search_path = name.split("."), search
    if parts[0] == OURS or parts[0] in sys.builtin_module_names:
        return
    for depth in range(1, len(parts) + 1):
        prefix = ".".join(parts[:depth])
        spec = PathFinder.find_spec(prefix, search_path) or _find_spec(prefix)
        if spec is None:
            return
        if spec.origin and Path(spec.origin).is_file():
            path = Path(spec.origin).resolve()
            if is_installed(path):
                return
            yield prefix, path
        if spec.submodule_search_locations is None:
            return
        search_path = list(spec.submodule_search_locations)


def _find_spec(name: str) -> ModuleSpec | None:
    """Of a module that was imported in another way than by path, as editable installations are."""
    return getattr(sys.modules.get(name), "__spec__", None)


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
        """What the function returns with these keywords; modules that it imports only now can be imported too.

        Raises:
            InputError: an option that the function does not take, or one that it needs and is missing.
        """
        check_options(self.function, options, setting=self.setting)
        with _with_import_path(self.folder), door(f"{self.setting}={self.spec} failed", seeds=True):
            return self.function(**options)


def load_function(spec: str, *, setting: str) -> UserFunction:
    """The function that a setting names.

    Args:
        spec: `FILE.py:function` or `package.module:function`.
        setting: the setting that names it, as in `model.factory`.

    Raises:
        InputError: no such file, module or function; a file that is no Python, or imports what is not installed.
    """
    module_or_file, colon, name = spec.rpartition(":")
    if not colon or not module_or_file or not name:
        raise InputError(f"{setting}={spec}: write FILE.py:function or package.module:function")
    path = _check_file(module_or_file, setting) if module_or_file.endswith(".py") else None
    folder = path.parent if path else None
    if path in _loaded and hash_sources(_loaded[path][0], folder) != _loaded[path][1]:
        _forget_modules(path.parent)
    with _with_import_path(folder), door(f"{setting}={spec} failed", seeds=True), _explain_error(spec, setting):
        module = _import_file(path) if path else importlib.import_module(module_or_file)
    function = getattr(module, name, None)
    if function is None:
        names = (key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise unknown_name_error("function", name, names, where=f"in {module_or_file} ({setting}={spec})")
    if not callable(function):
        raise InputError(f"{setting}={spec}: {name} is of type {type(function).__name__}, expected a function")
    sources = (
        hash_sources(module, folder)
        if path
        else _sources_when_loaded.setdefault(module_or_file, hash_sources(module, None))
    )
    return UserFunction(spec, setting, function, sources, folder)


@contextmanager
def door(
    what: str, *, seeds: bool = False, passed: tuple[type[BaseException], ...] = (), watched: bool = True
) -> Iterator[None]:
    """The only function through which a user's code is called: what it raises is a line, what it changes is put back.

    `SystemExit` and every other exception count as raised, and so does leaving the process by `os._exit` or `os.exec`,
    which would end a run without results and with status 0.

    Args:
        what: failed, for the error: `model.factory=FILE.py:name failed`.
        seeds: whether the states of the random generators are put back too. Of code that is called for every image
            they are not: each call would draw the same numbers.
        passed: exceptions that the caller has an answer to.
        watched: whether what is changed is put back; False for code of a library, as `is_of_library` tells it.

    Raises:
        InputError: what was raised, with the file and line of the user's own code.
    """
    before = _globals(seeds) if watched else {}
    try:
        with _keep_process() if watched else nullcontext():
            yield
    except BaseException as error:
        if isinstance(error, (InputError, Interrupted, EndsWithOther, *passed)) or _is_ctrl_c(error):
            raise
        if type(error).__name__ == "OutOfMemoryError":  # torch's, of CUDA: batches are halved then
            raise
        raise InputError(f"{what}: {blame(error)}") from error
    finally:
        if watched:
            _put_back(before)


LIBRARIES = ("torchvision", "timm", "open_clip", "cd_exp")


def is_of_library(transform: object) -> bool:
    """Whether every step of a transform is of a library that changes nothing of the process.

    Watching costs 0.05 ms a call: 1 of the 36 CPU seconds of a run of 10,000 images and two networks.
    """
    steps = getattr(transform, "transforms", None) or ()
    modules = [str(getattr(step, "__module__", "")) for step in (transform, *steps)]
    return all(module.partition(".")[0] in LIBRARIES for module in modules)


def blame(error: BaseException) -> str:
    """What was raised, on one line, with the last line of the user's own code that it came through."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[0][:300] if lines else "no message"
    if isinstance(error, SystemExit):
        message = f"it left the program, exit({error.code!r})"
    steps = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    users_frames = [(frame, number) for frame, number in traceback.walk_tb(error.__traceback__) if is_users(frame)]
    if isinstance(error, SyntaxError) and not users_frames:
        return f"{type(error).__name__}: {message}"
    frame, number = users_frames[-1] if users_frames else (steps[-1], steps[-1].f_lineno) if steps else (None, 0)
    location = f" ({Path(frame.f_code.co_filename).name}, line {number})" if frame else ""
    return f"{type(error).__name__}: {message}{location}"


def is_users(frame: FrameType) -> bool:
    """Whether a line of code is the user's: neither of an installed package, nor of Python, nor of this one."""
    name = frame.f_code.co_filename
    path = Path(name)
    return not name.startswith("<") and not path.is_relative_to(PACKAGE) and not is_installed(path)


@contextmanager
def explain_errors() -> Iterator[None]:
    """Turn what is raised in a user's code into one line, wherever it was called from; bugs keep their traceback.

    Methods, judges and trackers are objects with methods of their own, which the run calls from many functions.
    """
    before = _globals(seeds=True)
    try:
        with _keep_process():
            yield
    except (InputError, Interrupted, EndsWithOther):
        raise
    except BaseException as error:
        if _is_ctrl_c(error):
            raise
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        names = {frame.f_code.co_filename for frame in frames if is_users(frame)}
        if not names & _files() and not isinstance(error, SystemExit):
            raise
        raise InputError(f"code of your own failed: {blame(error)}") from error
    finally:
        _put_back(before)


def _is_ctrl_c(error: BaseException) -> bool:
    """Whether the user wants to end; a run has its own answer to Ctrl-C, so there it is something that code raised."""
    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _files() -> set[str]:
    """The files that were loaded for a setting, and those of their neighbours."""
    modules = [module for module, _ in _loaded.values()]
    modules += [module for loaded in _neighbours.values() for module in loaded.values()]
    modules += [sys.modules[name] for name in _sources_when_loaded if name in sys.modules]
    return {str(path) for path in map(module_file, modules) if path is not None}


PACKAGE = Path(__file__).resolve().parent
LEAVING = ("_exit", "execv", "execve", "abort")


@contextmanager
def _keep_process() -> Iterator[None]:
    """Let no code leave the process past its end: a run without results would have status 0."""
    process = os.getpid()
    modules = [os, *(sys.modules[name] for name in ("posix",) if name in sys.modules)]  # where os has them from
    leave = [(module, name, getattr(module, name)) for module in modules for name in LEAVING]
    for module, name, original in leave:
        setattr(module, name, _refuse_exit(name, original, process))
    try:
        yield
    finally:
        for module, name, original in leave:
            setattr(module, name, original)


def _refuse_exit(name: str, original: Callable[..., Any], process: int) -> Callable[..., Any]:
    """In this process an exit like any other; a process that the code forked leaves as it wants to."""

    def leave(*arguments: Any) -> Any:
        if os.getpid() != process:
            return original(*arguments)
        raise SystemExit(f"os.{name}")

    return leave


def _globals(seeds: bool) -> dict[str, Any]:
    """What code may change for the whole process."""
    torch = sys.modules.get("torch")
    state: dict[str, Any] = {"folder": os.getcwd(), "environment": _environment().copy(), "umask": _umask()}  # noqa: PTH109  a third of Path.cwd()
    state["streams"] = sys.stdout, sys.stderr, sys.excepthook
    if torch is not None:
        state["dtype"], state["threads"] = torch.get_default_dtype(), torch.get_num_threads()
        state["gradients"] = torch.is_grad_enabled()
        state["deterministic"] = torch.are_deterministic_algorithms_enabled()
    if seeds:
        state["random"] = random.getstate()
        state["numpy"] = np.random.get_state()  # noqa: NPY002  what legacy code draws from
        state["warnings"] = list(warnings.filters)
        state["errors"] = np.geterr()
        state["signals"] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        if torch is not None:
            state["torch"], state["device"] = torch.get_rng_state(), torch.get_default_device()
    return state


def _environment() -> dict[bytes, bytes]:
    """The environment as it is stored: decoding it would take .2 of the .25 ms that each call of user code costs."""
    return os.environ._data  # type: ignore[attr-defined]


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _put_back(state: Mapping[str, Any]) -> None:
    torch = sys.modules.get("torch")
    with suppress(OSError):  # the folder itself is gone: whatever comes next says so
        os.chdir(state["folder"])
    if _environment() != state["environment"]:
        os.environ.clear()
        os.environ.update({os.fsdecode(name): os.fsdecode(value) for name, value in state["environment"].items()})
    os.umask(state["umask"])
    sys.stdout, sys.stderr, sys.excepthook = state["streams"]
    if torch is not None and "dtype" in state:
        if torch.get_default_dtype() != state["dtype"]:
            torch.set_default_dtype(state["dtype"])
        if torch.is_grad_enabled() != state["gradients"]:
            torch.set_grad_enabled(state["gradients"])
        if torch.get_num_threads() != state["threads"]:
            torch.set_num_threads(state["threads"])
        if torch.are_deterministic_algorithms_enabled() != state["deterministic"]:
            torch.use_deterministic_algorithms(state["deterministic"])
    if "random" in state:
        random.setstate(state["random"])
        np.random.set_state(state["numpy"])  # noqa: NPY002
        warnings.filters[:] = state["warnings"]  # type: ignore[index]
        np.seterr(**state["errors"])
        if threading.current_thread() is threading.main_thread():
            for number, handler in state["signals"].items():
                signal.signal(number, handler)
        if torch is not None and "torch" in state:
            torch.set_rng_state(state["torch"])
            if torch.get_default_device() != state["device"]:
                torch.set_default_device(state["device"])


def check_options(function: Callable[..., Any], options: Mapping[str, Any], *, setting: str) -> None:
    """Refuse options that a function cannot be called with.

    Args:
        function: the user's.
        options: keywords.
        setting: the setting that names the function, as in `model.factory`: the options are `model.options`.

    Raises:
        InputError: names the option, and the nearest parameter.
    """
    where = f"{setting.rpartition('.')[0]}.options"
    for key, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):  # nan typed as a word; JSON has no such number
            raise InputError(f"{where}.{key} is {value}, no finite number; for text type {where}.{key}='\"{value}\"'")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have no signature
        return
    takes = [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        for key in options:
            if key not in takes:
                accepted = [f"{where}.{name}" for name in takes]
                raise unknown_name_error("option", f"{where}.{key}", accepted, where=f"a parameter of {setting}")
    for parameter in parameters:
        if parameter.name in takes and parameter.default is parameter.empty and parameter.name not in options:
            raise InputError(f"{where}.{parameter.name} must be set: {setting} cannot be called without it")


def _check_file(file: str, setting: str) -> Path:
    path = Path(file).expanduser()
    if not path.is_file():
        raise InputError(f"{setting}={file}: there is no such file (seen from {Path.cwd()})")
    return path.resolve()


_loaded: dict[Path, tuple[ModuleType, Mapping[str, str]]] = {}
_sources_when_loaded: dict[str, Mapping[str, str]] = {}
"""The sources of a package's module when it was first asked for; such a module is not loaded again."""
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
        _execute_module(module, path)
    except BaseException:
        del sys.modules[name]
        raise
    _loaded[path] = (module, hash_sources(module, path.parent))
    return module


def _execute_module(module: ModuleType, path: Path) -> None:
    """Run the source as it is now: bytecode is stored by time and size, and an edit may keep both."""
    exec(compile(path.read_bytes(), str(path), "exec"), vars(module))


def _forget_modules(folder: Path) -> None:
    for path in [path for path in _loaded if path.parent == folder]:
        sys.modules.pop(_loaded.pop(path)[0].__name__, None)
    for name, module in _neighbours.pop(folder, {}).items():
        if sys.modules.get(name) is module:
            del sys.modules[name]


@contextmanager
def _explain_error(spec: str, setting: str) -> Iterator[None]:
    try:
        yield
    except SyntaxError as error:
        where = f"{error.filename} line {error.lineno}: " if error.lineno is not None else ""  # null bytes have no line
        raise InputError(f"{setting}={spec}: {where}{error.msg}; it is no Python file") from error
    except ImportError as error:
        remedy = "install it, or put it beside the file"
        if "relative import" in str(error):
            remedy = "name the function as package.module:function"
        raise InputError(f"{setting}={spec}: {error}; {remedy}") from error


@contextmanager
def _with_import_path(folder: Path | None) -> Iterator[None]:
    """Let a folder's modules be imported, before those of the same name that another user's file brought along."""
    if folder is None:
        yield
        return
    hidden = {
        name: module for other, modules in _neighbours.items() if other != folder for name, module in modules.items()
    }
    hidden = {name: module for name, module in hidden.items() if sys.modules.get(name) is module}
    for name in hidden:
        del sys.modules[name]
    mine = _neighbours.setdefault(folder, {})
    sys.modules.update(mine)
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    # Python compares stored bytecode with its file by seconds and size: none is left that could be taken for an edit.
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = written
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            path = module_file(sys.modules[name])
            if path is not None and path.is_relative_to(folder) and not is_installed(path):
                mine[name] = sys.modules[name]
        for name, module in hidden.items():
            sys.modules.setdefault(name, module)


def find_code(config: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """The user's own code that a configuration names, by setting: `{"model.factory": "my_net.py:build"}`.

    >>> find_code({"model": {"factory": "net.py:build"}, "similarity": {"function": None}})
    {'model.factory': 'net.py:build'}
    """
    named: dict[str, str] = {}
    for key, value in config.items():
        setting = f"{above}{key}"
        if isinstance(value, Mapping):
            named |= find_code(value, f"{setting}.")
        elif key in ("factory", "function") and isinstance(value, str) and ":" in value:
            named[setting] = value
    return named


def hash_named_code(named: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Each setting's code with the SHA-256 of its file as it is now; without a hash where there is no such file."""
    hashes = {}
    for setting, spec in named.items():
        path = Path(spec.rpartition(":")[0]).expanduser()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        hashes[setting] = {"code": spec, "sha256": digest}
    return hashes


def refuse_untrusted(named: Mapping[str, str], *, folder: Path, trust: bool, stored: Mapping[str, Any]) -> list[str]:
    """Refuse to run code that a folder of results names, which is data and may be anybody's; `--trust` allows it.

    Args:
        named: the code by setting, as from `find_code`.
        folder: what names it.
        trust: whether the user vouches for it.
        stored: what the manifest says of it: `{setting: {"code": ..., "sha256": ...}}`.

    Returns:
        A note for each file that is another than the manifest says.

    Raises:
        InputError: there is code, and no `--trust`.
    """
    if named and not trust:
        listed = ", ".join(f"{spec} ({setting})" for setting, spec in named.items())
        raise InputError(f"{folder} names code that would run: {listed}; read it, and add --trust to run it")
    notes = []
    for setting, now in hash_named_code(named).items():
        before = stored.get(setting, {}).get("sha256") if isinstance(stored.get(setting), Mapping) else None
        if before and before != now["sha256"]:
            notes.append(f"{setting}: {now['code']} is not the file that the manifest of {folder} has the hash of")
    return notes
