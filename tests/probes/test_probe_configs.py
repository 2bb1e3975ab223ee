"""Every YAML of the probe and concept groups composes, binds to its constructor, and says no more than it does."""

import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from cd_exp import config, probes
from cd_exp import shapes as world
from cd_exp.errors import InputError

CONF = Path(__file__).parents[2] / "conf"
CHOICES = [(group, path.stem) for group in ("probe", "concepts") for path in sorted((CONF / group).glob("*.yaml"))]


def composed(*overrides: str) -> dict:
    config.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_binds_to_its_constructor(group, choice):
    node = composed(f"{group}={choice}")[group]
    node.pop("on_error", None)  # how unreadable images are treated is the run's business
    config.check(no_missing(node), where=group)
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    function = get_object(node["_target_"])
    inspect.signature(function).bind(**arguments)
    name = {"classes": "model_classes"}.get(choice, choice)
    assert node["_target_"] == f"cd_exp.{'probes' if group == 'probe' else group}.{name}"
    left_out = set(inspect.signature(function).parameters) - set(arguments)
    assert left_out <= {"url", "checksum"}  # of a mirror; nobody else needs to see them


def no_missing(node: dict) -> dict:
    given = {key: ["given"] if key == "names" else "given" for key in node}
    return {key: no_missing(v) if isinstance(v, dict) else given[key] if v == "???" else v for key, v in node.items()}


def test_every_constructor_has_a_choice():
    assert {choice for group, choice in CHOICES if group == "probe"} == set(probes.__all__)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_yaml_says_the_defaults(group, choice):
    """What a YAML says explicitly is what a caller of the library gets; paths come from the whole config."""
    node = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{choice}.yaml"))
    parameters = inspect.signature(get_object(node.pop("_target_"))).parameters
    for key, value in node.items():
        if key in ("defaults", "data_dir", "cache", "model") or value == "???":
            continue
        if (choice, key) == ("huggingface", "split"):
            continue
        assert parameters[key].default == value, key


def test_the_embedded_set_has_its_size_and_seed():
    node = composed()["probe"]
    assert (node["size"], node["seed"]) == (world.PROBE_SIZE, world.PROBE_SEED)


def test_concat_takes_sets_from_the_command_line(tmp_path):
    node = composed(
        "probe=concat", "~probe.probes.broden", "~probe.probes.imagenet_val",
        "+probe@probe.probes.mine=shapes", "probe.probes.mine.size=3", "+probe@probe.probes.more=shapes",
        "probe.probes.more.size=2", "probe.probes.more.seed=7", f"cache.dir={tmp_path}",
    )["probe"]  # fmt: skip
    node.pop("on_error")
    probe = instantiate(node, _convert_="all")
    assert (probe.name, len(probe), probe.ids[-1]) == ("shapes+shapes", 5, "7/00001")


def test_merge_takes_sets_from_the_command_line(tmp_path):
    (tmp_path / "words.txt").write_text("red\nzebra\n")
    node = composed(
        "concepts=merge", "~concepts.sets.broden", "~concepts.sets.common_words",
        "+concepts@concepts.sets.world=shapes", "+concepts@concepts.sets.mine=file",
        f"concepts.sets.mine.path={tmp_path}/words.txt",
    )["concepts"]  # fmt: skip
    concepts = instantiate(node, _convert_="all")
    assert concepts.names == (*world.CONCEPTS, "zebra")


def test_classes_come_from_the_model():
    node = composed("concepts=classes")["concepts"]
    assert instantiate(node, _convert_="all").names == world.CLASSES


def test_a_set_that_must_be_given_says_so():
    node = composed("probe=folder")["probe"]
    with pytest.raises(InputError, match=r"probe.root must be set: add probe.root=VALUE"):
        config.check({key: value for key, value in node.items() if key != "on_error"}, where="probe")
