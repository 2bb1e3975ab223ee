"""What is used of Hydra's private parts: each import says why, and is there with the arguments that we pass.

A failure names Hydra's version: these parts may change with any, and the lock file holds the version that has them.
"""

import ast
import inspect
from importlib import import_module
from pathlib import Path

import hydra
import pytest

from cd_exp import config

SOURCES = sorted(Path(config.__file__).parents[1].rglob("*.py"))
VERSION = f"with hydra-core {hydra.__version__}"


def private_imports():
    """Every import of `hydra._internal`: its file and line, the module, the name, and the text of the line."""
    for path in SOURCES:
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hydra._internal"):
                for alias in node.names:
                    yield f"{path.name}:{node.lineno}", node.module, alias.name, lines[node.lineno - 1]


IMPORTS = list(private_imports())


@pytest.mark.parametrize(
    ("where", "module", "name", "line"), IMPORTS, ids=[f"{entry[0]}-{entry[2]}" for entry in IMPORTS]
)
def test_each_says_why_and_is_there(where, module, name, line):
    assert "  # " in line, f"{where} does not say why it needs {module}.{name}"
    assert hasattr(import_module(module), name), f"{where}: {VERSION} {module} has no {name}"


def test_they_are_few():
    assert {name for _, _, name, _ in IMPORTS} == {
        "BasicSweeper",
        "Callbacks",
        "ConfigLoaderImpl",
        "Hydra",
        "create_config_search_path",
        "get_args_parser",
    }


@pytest.mark.parametrize(
    ("module", "function", "parameters"),
    [
        ("hydra", "Hydra.__init__", ("self", "task_name", "config_loader")),
        ("hydra", "Hydra.compose_config", ("config_name", "overrides", "run_mode", "with_log_configuration")),
        ("hydra", "Hydra.multirun", ("config_name", "task_function", "overrides")),
        ("hydra", "Hydra.app_help", ("config_name", "args_parser", "args")),
        ("hydra", "Hydra.show_cfg", ("config_name", "overrides", "cfg_type", "package", "resolve")),
        ("hydra", "Hydra.show_info", ("info", "config_name", "overrides")),
        ("callbacks", "Callbacks.__init__", ("self", "config")),
        ("config_loader_impl", "ConfigLoaderImpl.load_configuration", ("config_name", "overrides", "run_mode")),
        ("config_loader_impl", "ConfigLoaderImpl.get_group_options", ("group_name", "results_filter")),
        ("core_plugins.basic_sweeper", "BasicSweeper.split_arguments", ("overrides", "max_batch_size")),
        ("utils", "create_config_search_path", ("search_path_dir",)),
    ],
)
def test_they_take_what_we_pass(module, function, parameters):
    part = import_module(f"hydra._internal.{module}")
    for name in function.split("."):
        part = getattr(part, name)
    taken = inspect.signature(part).parameters
    missing = [parameter for parameter in parameters if parameter not in taken]
    assert missing == [], f"{VERSION} {function} takes {', '.join(taken)}"
