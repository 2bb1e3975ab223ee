"""What errors and YAML comments advise can be typed, and works."""

import ast
import re
from pathlib import Path

import pytest
from helpers.composing_lines import composes, known_settings

from cd_exp import config
from cd_exp.errors import InputError

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path.relative_to(ROOT / "conf") for path in (ROOT / "conf").glob("*/*.yaml") if path.parent.name != "hydra"
)
WORD = re.compile(r"(?<![\w./@{])[+~]?[a-z][\w./@]*=(?:\[[^\]\s]*\]|\{[^}\s]*\}|[^\s,;)\]]+)|(?<!\S)~[a-z][\w.]+")
SECTIONS = {name.partition(".")[0] for name in config.setting_types() if "." in name}
NAMED = rf"(?<![\w./'-])(?:{'|'.join([*config.GROUPS, *SECTIONS])})\.[a-z_]+(?:\.[a-z_]+)*"
SETTING = re.compile(
    rf"{NAMED}(?==)|(?<=set ){NAMED}|(?<=add ){NAMED}|(?<=use ){NAMED}|(?<=lower ){NAMED}|(?<=or ){NAMED}"
)


def advised(path: Path) -> list[list[str]]:
    """The settings that each comment line of a YAML file shows, as they would be typed."""
    lines = []
    for line in (ROOT / "conf" / path).read_text().splitlines():
        _, mark, comment = line.partition("#")
        words = [word.rstrip(".:)") for word in WORD.findall(comment)] if mark else []
        if words:
            lines.append(words)
    return lines


ADVISED = [(path, words) for path in FILES for words in advised(path)]


def refusal(*words) -> str:
    try:
        composes(*words)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("path", "words"), ADVISED, ids=[f"{path}: {' '.join(words)}" for path, words in ADVISED])
def test_what_a_yaml_comment_shows_can_be_typed(path, words):
    group, choice = path.parent.name, path.stem
    words = [word for word in words if not word.startswith("-")]
    chosen = [] if any(word.startswith(f"{group}=") for word in words) else [f"{group}={choice}"]
    said = refusal(*chosen, *words)
    assert not said or " must be set: add " in said  # what must be given besides is another matter


def test_no_yaml_comment_shows_a_mapping_with_spaces():
    shown = [line for path in FILES for line in (ROOT / "conf" / path).read_text().splitlines() if "#" in line]
    assert not [line for line in shown if re.search(r"#.*\{\w+: ", line)]


REMEDIES = [
    ("model.layers=fc", "model.layers=[fc]"),
    ("concepts=words concepts.names=red", "concepts=words concepts.names=[red]"),
    ("logger.tags=x", "logger.tags=[x]"),
    ("similarty=cos", "similarity=cos"),
    ("+similarity.topk=3", "similarity.top_k=3"),
    ("features.workerss=2", "features.workers=2"),
    ("hydra.run.dirr=x", "hydra.run.dir=x"),
    ("+seed=3", "seed=3"),
    ("+similarity=cos", "similarity=cos"),
    ("logger.mode=onlin", "logger.mode=online"),
    ("~seed", "seed=3"),
    ("similarity=[cos]", "similarity=cos"),
    ("a=[", "seed=3"),
    ("model=resnet5", "model=resnet50"),
]


@pytest.mark.parametrize(("wrong", "right"), REMEDIES)
def test_the_remedy_that_an_error_names_works(wrong, right):
    said = refusal(*wrong.split())
    key, _, value = right.split()[-1].partition("=")
    assert key in said or "KEY=VALUE" in said or f"did you mean {value!r}" in said
    assert not refusal(*(right if value else f"{right}=skip").split())


def strings() -> list[str]:
    """Every piece of text in the package."""
    items = []
    for path in sorted((ROOT / "cd_exp").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                items.append(node.value)
    return items


NO_SETTINGS = {"report.html", "features.images", "units.npy", "judge.json"}
"""Names of files and of attributes that look like settings."""


def test_whatever_the_package_calls_a_setting_is_one():
    names, wrong = known_settings(), set()
    for text in strings():
        for name in SETTING.findall(text):
            first = ".".join(name.split(".")[:2])
            if first not in names and first not in NO_SETTINGS:
                wrong.add(name)
    assert not wrong
