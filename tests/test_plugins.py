import os
import random
import shlex
import signal
import sys
import warnings

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from torchvision import transforms

from cd_exp import plugins
from cd_exp.errors import InputError


@pytest.fixture
def write(tmp_path):
    def make(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return make


def called(spec, **options):
    return plugins.load_function(str(spec), setting="model.factory")(options)


def sources(spec):
    return plugins.load_function(str(spec), setting="model.factory").key["sources"]


def test_a_function_of_a_file_is_called_with_its_options(write):
    path = write("own.py", "def double(*, size=2):\n    return 2 * size\n")
    assert called(f"{path}:double") == 4
    assert called(f"{path}:double", size=5) == 10


def test_a_file_imports_its_neighbours_at_any_time(write):
    write("near/layers.py", "WIDTH = 7\n")
    write("near/late.py", "WIDTH = 9\n")
    path = write("near/own.py", "import layers\ndef width():\n    import late\n    return layers.WIDTH, late.WIDTH\n")
    assert called(f"{path}:width") == (7, 9)
    assert str(path.parent) not in sys.path


def test_two_files_each_have_their_own_neighbour_of_one_name(write):
    paths = []
    for width in (3, 4):
        write(f"{width}/layers.py", f"WIDTH = {width}\n")
        code = "from layers import WIDTH\ndef width():\n    import layers\n    return WIDTH, layers.WIDTH\n"
        paths.append(write(f"{width}/own.py", code))
    functions = [plugins.load_function(f"{path}:width", setting="model.factory") for path in paths]
    assert [function({}) for function in functions] == [(3, 3), (4, 4)]


@pytest.mark.parametrize("name", ["own.py", "layers.py", "deep/inner.py", "deep/__init__.py", "late.py", "named.py"])
def test_an_edit_anywhere_is_another_key_and_is_what_runs(write, name):
    texts = {
        "own.py": "import layers, importlib\nONE = 1\ndef total():\n"
        "    import late\n    named = importlib.import_module('named')\n"
        "    return ONE + layers.TOTAL + late.ONE + named.ONE\n",
        "layers.py": "from deep import inner\nimport deep\nONE = 1\nTOTAL = ONE + inner.TOTAL + deep.ONE\n",
        "deep/__init__.py": "ONE = 1\n",
        "deep/inner.py": "from .base import ONE as BASE\nONE = 1\nTOTAL = ONE + BASE\n",
        "deep/base.py": "ONE = 1\n",
        "late.py": "ONE = 1\n",
        "named.py": "ONE = 1\n",
    }
    path = {key: write(key, text) for key, text in texts.items()}["own.py"]
    before = sources(f"{path}:total")
    assert set(before) == {"__main__", "layers", "deep", "deep.inner", "deep.base", "late", "named"}
    assert called(f"{path}:total") == 7
    assert sources(f"{path}:total") == before
    write(name, texts[name].replace("ONE = 1", "ONE = 5"))
    assert sources(f"{path}:total") != before
    assert called(f"{path}:total") == 11


def test_the_key_does_not_hold_the_folder_and_installed_packages_are_no_part_of_it(write):
    code = "import torch, json, cd_exp.records\nimport layers\ndef one():\n    return 1\n"
    keys = []
    for folder in ("a", "b"):
        write(f"{folder}/layers.py", "import numpy\n")
        keys.append(plugins.load_function(f"{write(f'{folder}/own.py', code)}:one", setting="model.factory").key)
    assert keys[0] == keys[1]
    assert set(keys[0]["sources"]) == {"__main__", "layers"}


def test_a_function_that_a_file_only_passes_on_has_the_source_of_both(write):
    write("nets.py", "def build():\n    return 1\n")
    path = write("own.py", "from nets import build\n")
    assert set(sources(f"{path}:build")) == {"__main__", "nets"}
    assert called(f"{path}:build") == 1


def test_a_function_of_a_package(write, monkeypatch, tmp_path):
    write("pack_of_mine/__init__.py", "")
    write("pack_of_mine/nets.py", "from .base import ONE\ndef build():\n    return ONE\n")
    write("pack_of_mine/base.py", "ONE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert called("pack_of_mine.nets:build") == 1
    assert set(sources("pack_of_mine.nets:build")) == {"pack_of_mine", "pack_of_mine.nets", "pack_of_mine.base"}
    assert sources("collections:OrderedDict") == {"collections": "installed"}


def test_classes_of_the_file_find_their_module(write):
    code = (
        "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1\n"
        "def make():\n    return A()\n"
    )
    assert called(f"{write('own.py', code)}:make").x == 1


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        ("def build(:\n", "build", r"own.py line 1: "),
        ("import not_there_at_all\n", "build", "No module named 'not_there_at_all'; install it, or put it beside"),
        ("from .base import x\n", "build", "name the function as package.module:function"),
        ("def build():\n    pass\n", "buld", "function 'buld' is not in .*own.py .*did you mean 'build'"),
        ("build = 3\n", "build", "build is of type int, expected a function"),
    ],
)
def test_what_cannot_be_loaded_is_said(write, code, name, message):
    path = write("own.py", code)
    with pytest.raises(InputError, match=message):
        plugins.load_function(f"{path}:{name}", setting="model.factory")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("own.py", "model.factory=own.py: write FILE.py:function or package.module:function"),
        (":build", "write FILE.py:function"),
        ("own.py:", "write FILE.py:function"),
        ("none.py:build", "model.factory=none.py: there is no such file"),
        ("no.such.module:build", "No module named 'no'"),
    ],
)
def test_what_cannot_be_found_is_said(spec, message):
    with pytest.raises(InputError, match=message):
        plugins.load_function(spec, setting="model.factory")


def test_an_option_that_no_json_holds_is_refused_and_the_word_can_be_typed(write):
    path = write("mine.py", "def f(*, what):\n    return what\n")
    with pytest.raises(InputError, match=r"model\.options\.what is nan, no finite number") as refused:
        called(f"{path}:f", what=float("nan"))
    typed = shlex.split(str(refused.value).partition("type ")[2])[0]
    assert OverridesParser.create().parse_override(typed).value() == "nan"


def test_options_are_held_to_the_function(write):
    path = write(
        "own.py", "def build(width, *, act='relu'):\n    return width, act\ndef any(**more):\n    return more\n"
    )
    assert called(f"{path}:build", width=1) == (1, "relu")
    assert called(f"{path}:any", x=1) == {"x": 1}
    with pytest.raises(InputError, match=r"option 'model.options.atc' .*; did you mean 'model.options.act'"):
        called(f"{path}:build", width=1, atc="neg")
    with pytest.raises(InputError, match=r"model.options.width must be set"):
        called(f"{path}:build")


RAISED = {
    "raise TypeError('mine')": r"TypeError: mine \(own.py, line 3\)",
    "raise ValueError('two\\nlines')": r"ValueError: two \(own.py, line 3\)",
    "raise RuntimeError": r"RuntimeError: no message \(own.py, line 3\)",
    "raise Mine('base')": r"Mine: base \(own.py, line 3\)",
    "sys.exit(0)": r"SystemExit: it left the program, exit\(0\) \(own.py, line 3\)",
    "exit('bye')": r"SystemExit: it left the program, exit\('bye'\)",
    "os._exit(0)": r"SystemExit: it left the program, exit\('os._exit'\) \(own.py, line 3\)",
    "os.execlp('true', 'true')": r"SystemExit: it left the program, exit\('os.exec",
    "1 / 0": r"ZeroDivisionError: division by zero \(own.py, line 3\)",
    "build()": r"RecursionError: maximum recursion depth exceeded.* \(own.py, line 3\)",
    "raise MemoryError": r"MemoryError: no message \(own.py, line 3\)",
    "raise GeneratorExit": r"GeneratorExit: no message \(own.py, line 3\)",
    "import json; json.loads('{')": r"JSONDecodeError: .* \(own.py, line 3\)",
}


@pytest.mark.parametrize("body", RAISED)
def test_whatever_the_users_code_raises_is_one_line_with_its_own_line(write, body):
    path = write("own.py", f"import os, sys\ndef build():\n    {body}\nclass Mine(BaseException): pass\n")
    with pytest.raises(InputError, match=r"model.factory=.*own.py:build failed: " + RAISED[body]) as refused:
        called(f"{path}:build")
    assert "\n" not in str(refused.value)


CHANGES = {
    "os.chdir('/')": os.getcwd,
    "os.environ.clear()": lambda: dict(os.environ),
    "os.umask(0o777)": lambda: [mask := os.umask(0o022), os.umask(mask)][0],
    "torch.set_default_dtype(torch.float64)": torch.get_default_dtype,
    "torch.set_num_threads(torch.get_num_threads() + 1)": torch.get_num_threads,
    "torch.manual_seed(7)": lambda: torch.get_rng_state().tolist(),
    "np.random.seed(7)": lambda: np.random.get_state()[1].tolist(),  # noqa: NPY002
    "random.seed(7)": lambda: random.getstate() == random.Random(7).getstate(),
    "torch.set_grad_enabled(False)": torch.is_grad_enabled,
    "torch.use_deterministic_algorithms(True)": torch.are_deterministic_algorithms_enabled,
    "warnings.simplefilter('error')": lambda: list(warnings.filters),
    "np.seterr(all='raise')": np.geterr,
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)": lambda: signal.getsignal(signal.SIGTERM),
    "setattr(sys, 'stdout', None)": lambda: sys.stdout,
}


@pytest.mark.parametrize("body", CHANGES)
def test_what_the_users_code_changes_for_the_whole_process_is_put_back(write, body):
    heading = "import os, random, signal, sys, warnings\nimport numpy as np\nimport torch\n"
    path = write("own.py", f"{heading}def build():\n    {body}\n    return 3\n")
    before = CHANGES[body]()
    assert called(f"{path}:build") == 3
    assert CHANGES[body]() == before


def test_what_may_only_be_changed_before_torch_is_asked_is_put_back_too(write):
    path = write("own.py", "import torch\ndef build():\n    torch.set_default_device('meta')\n    return 3\n")
    assert called(f"{path}:build") == 3
    assert torch.zeros(1).device.type == "cpu"


@pytest.mark.parametrize("leave", ["posix._exit(0)", "os.abort()", "raise KeyboardInterrupt"])
def test_no_way_out_of_the_process_is_left_to_the_users_code(write, leave, monkeypatch):
    path = write("own.py", f"import os, posix\ndef build():\n    {leave}\n")
    handler = signal.signal(signal.SIGINT, lambda number, frame: None)  # as in a run, which answers Ctrl-C itself
    try:
        with pytest.raises(InputError, match=r"build failed: .* \(own.py, line 3\)"):
            called(f"{path}:build")
    finally:
        signal.signal(signal.SIGINT, handler)


def test_ctrl_c_ends_a_call_from_python(write):
    path = write("own.py", "def build():\n    raise KeyboardInterrupt\n")
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            called(f"{path}:build")
    finally:
        signal.signal(signal.SIGINT, handler)


def test_what_code_changes_anywhere_in_a_run_is_put_back_after_it():
    before = torch.get_rng_state().tolist(), torch.get_default_dtype(), dict(os.environ)
    with plugins.explain_errors():
        torch.manual_seed(7)
        torch.set_default_dtype(torch.float64)
        os.environ["MINE"] = "1"
    assert (torch.get_rng_state().tolist(), torch.get_default_dtype(), dict(os.environ)) == before


class Darkened(transforms.Resize):
    """A step of a user's own, made from a library's."""


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (transforms.Compose([transforms.Resize(8), transforms.ToTensor()]), True),
        (transforms.ToTensor(), True),
        (transforms.Compose([transforms.Resize(8), lambda picture: picture]), False),
        (transforms.Compose([Darkened(8)]), False),
        (Darkened(8), False),
        (len, False),
    ],
)
def test_only_transforms_made_of_libraries_steps_are_not_watched(transform, expected):
    assert plugins.is_of_library(transform) is expected
