"""Every experiment composes, and says what a sweep of it runs."""

import math
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cd_exp.config import construct

pytestmark = pytest.mark.slow

CONF = Path(__file__).parents[2] / "conf"
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
JOBS = {
    "table1": 12,
    "table1_real": 2,
    "table1_shapes": 6,
    "table3": 16,
    "table3_real": 5,
    "table3_shapes": 15,
}


def composed(*overrides):
    construct.register_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=True)


def params(config):
    return {key: str(value).split(",") for key, value in (config.hydra.sweeper.params or {}).items()}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_composes_and_its_settings_fit_their_constructors(name):
    config = composed(f"experiment={name}")
    for group in ("model", "probe", "concepts", "clip", "similarity", "baseline"):
        node = OmegaConf.to_container(config[group], resolve=True) if config[group] is not None else {}
        node.pop("on_error", None)
        construct.check_node(fill_missing(node), where=group)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_sweeps_the_jobs_that_it_says(name):
    assert math.prod(map(len, params(composed(f"experiment={name}")).values())) == JOBS.get(name, 1)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_value_of_every_axis_composes(name):
    for key, values in params(composed(f"experiment={name}")).items():
        if "." in key:  # a setting, not a choice: any value composes
            continue
        for value in values:
            composed(f"experiment={name}", f"{key}={value}")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_says_how_it_is_run(name):
    header = (CONF / "experiment" / f"{name}.yaml").read_text()
    assert header.startswith("# @package _global_\n")
    assert f"experiment={name}" in header


@pytest.mark.parametrize(
    ("name", "choices"),
    {
        "table2": {"model": "resnet18_places", "probe": "broden", "concepts": "broden", "baseline": "netdissect"},
        "table3": {"model": "resnet50", "clip": "vit_b_16", "concepts": "imagenet"},
        "vit": {"model": "vit_base_patch16_224", "clip": "vit_b_16"},
        "runtime": {"model": "resnet50", "probe": "broden", "concepts": "common_words"},
    }.items(),
)
def test_the_real_ones_are_the_papers(name, choices):
    chosen = composed(f"experiment={name}").hydra.runtime.choices
    assert {group: chosen[group] for group in choices} == choices


def test_imagenet_lies_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("IMAGENET_VAL", "/data/val")
    alone = composed("experiment=table3", "+experiment/probe_set=imagenet_val")
    joined = composed("experiment=table3", "+experiment/probe_set=imagenet_val_broden")
    assert alone.probe.root == joined.probe.probes.imagenet_val.root == "/data/val"


def fill_missing(node):
    """The node with what a user must still set filled in."""
    return {key: fill_missing(v) if isinstance(v, dict) else "given" if v == "???" else v for key, v in node.items()}
