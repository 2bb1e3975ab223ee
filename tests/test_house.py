"""How the code is built: short functions, packages that only re-export, no circle of imports."""

import ast
import tomllib
from pathlib import Path

import pytest

from cd_exp import __version__

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "cd_exp").rglob("*.py"))
MOST = 40  # lines of code of a function


def lines_of_code(function: ast.FunctionDef, text: list[str]) -> int:
    """Lines that are no docstring, no comment and not blank."""
    rows = range(function.lineno, (function.end_lineno or function.lineno) + 1)
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        rows = [row for row in rows if not first.lineno <= row <= (first.end_lineno or first.lineno)]
    return sum(bool(text[row - 1].strip()) and not text[row - 1].strip().startswith("#") for row in rows)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short(path):
    text = path.read_text()
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    long = {f.name: count for f in functions if (count := lines_of_code(f, text.splitlines())) > MOST}
    assert long == {}


def test_a_long_function_is_seen():
    text = 'def one():\n    """A docstring.\n\n    of three lines\n    """\n    # a comment\n\n' + "    x = 1\n" * 45
    function = ast.parse(text).body[0]
    assert lines_of_code(function, text.splitlines()) == 46


def re_exports(node: ast.stmt) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__" | "__version__")]):
            return True
        case ast.Expr() if ast.unparse(node) == "globals().update(find_by_file_name())":  # all functions of a folder
            return True
    return False


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.name == "__init__.py"], ids=lambda path: str(path.parent.name)
)
def test_packages_only_re_export(path):
    """But for the outermost, which imports torch only when something is asked for."""
    other = [ast.unparse(node) for node in ast.parse(path.read_text()).body if not re_exports(node)]
    if path.parent.name == "cd_exp":
        assert [text.splitlines()[0].partition(" = ")[0] for text in other] == [
            "if TYPE_CHECKING:",
            "os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')",
            "_OFFERED",
            "def __getattr__(name: str) -> Any:",
        ]
    else:
        assert other == []


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_at_once(path: Path, modules: set[str]) -> set[str]:
    """Modules of the package that are imported when this one is, not those that a function imports later."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names |= {name if (name := f"{base}.{alias.name}") in modules else base for alias in node.names}
    return names & modules


def test_no_module_imports_itself_by_way_of_others():
    paths = {module_of(path): path for path in SOURCES}
    graph = {name: imported_at_once(path, set(paths)) - {name} for name, path in paths.items()}
    assert sum(map(len, graph.values())) > 500
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_package_is_typed_and_can_be_cited():
    assert (ROOT / "cd_exp/py.typed").is_file()
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {__version__}\n" in citation
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    assert all(f'name: "{author["name"]}"' in citation for author in project["authors"])


def test_the_configuration_stops_where_a_run_is_built():
    """What works with a run knows plain values, not `DictConfig`: only rooms that compose or build do."""
    rooms = {path.relative_to(ROOT / "cd_exp").parts[0] for path in SOURCES if "DictConfig" in path.read_text()}
    assert rooms <= {"cli", "config", "experiment.py", "embed.py", "plan", "api"}


SHARED = {"main", "custom", "broden", "places365", "shapes"}
"""Names that stand in several modules: of commands, and of choices that several groups have."""


def test_no_class_or_public_function_has_the_name_of_another():
    modules: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                modules.setdefault(node.name, []).append(module_of(path))
    assert {name: others for name, others in modules.items() if len(others) > 1 and name not in SHARED} == {}


VAGUE = {"found", "given", "told", "place", "places", "known"}


@pytest.mark.parametrize("folder", ["cd_exp", "benchmarks", "experiments", "tests"])
def test_variables_say_what_they_hold(folder):
    names = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        functions = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))
        for node in (inner for function in functions for inner in ast.walk(function)):
            name = node.arg if isinstance(node, ast.arg) else node.id if isinstance(node, ast.Name) else ""
            if name in VAGUE and not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)):
                names.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
    assert names == []
