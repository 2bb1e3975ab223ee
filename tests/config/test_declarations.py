"""Every setting is declared once, stands in the YAML files, and is on the page of settings."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cd_exp import config
from cd_exp.config.docs import read_comments, read_docstring_arguments, write_settings_page
from cd_exp.config.schema import setting_meanings
from cd_exp.config.types import matches_type
from cd_exp.config.validate import REMOVED

ROOT = Path(__file__).parents[2]


def test_every_setting_of_the_page_has_a_kind_and_a_meaning():
    rows = [line for line in write_settings_page().splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert not [row for row in rows if row.endswith("|  |")]


@pytest.mark.parametrize("name", config.setting_types())
def test_the_main_yaml_has_every_setting_with_the_default_of_the_schema(name, monkeypatch):
    monkeypatch.delenv("CD_EXP_CACHE", raising=False)
    written = OmegaConf.select(OmegaConf.load(ROOT / "conf" / "config.yaml"), name)
    default = OmegaConf.select(OmegaConf.structured(config.Config), name)
    assert written == default or name == "cache.dir"  # which the environment may give
    assert matches_type(written, config.setting_types()[name])
    assert setting_meanings()[name]


@pytest.mark.parametrize("group", config.GROUPS)
def test_what_is_offered_exists_and_is_the_groups_own(group):
    assert config.offered_targets()[group]
    for name in config.offered_targets()[group]:
        assert callable(config.resolve_target(name, group=group, where=group))


def test_every_declared_setting_of_a_group_is_one_of_its_constructors_or_of_every_choice():
    from cd_exp.config.schema import DECLARED

    takes: dict[str, set[str]] = {}
    for group in config.GROUPS:
        takes[group] = set(config.OF_EVERY.get(group, ())) | set(config.OF_THE_RUN.get(group, ()))
        for name in config.offered_targets()[group]:
            takes[group] |= set(inspect.signature(config.resolve_target(name, group=group, where=group)).parameters)
    assert not [name for name in DECLARED if name.rpartition(".")[2] not in takes[name.partition(".")[0]]]


def test_comments_and_docstrings_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("# head\nx: 1   # one\ny: '#2'\nz:\n  w: 3  # three\n")
    assert read_comments(tmp_path / "a.yaml") == {"x": "one", "y": "", "z": "", "z.w": "three"}

    def function(a, b):
        """Does.

        Args:
            a: first,
                and more.
            b: second.

        Raises:
            ValueError: never.
        """

    assert read_docstring_arguments(function) == {"a": "first, and more.", "b": "second."}


def test_the_schema_costs_no_torch():
    code = "import sys, cd_exp.config.validate; assert not {'torch', 'pydantic', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_what_was_removed_is_gone():
    assert not set(REMOVED) & {name.partition(".")[0] for name in config.setting_types()}
