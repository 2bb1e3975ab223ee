"""Every YAML of the probe and concept groups composes, binds to its constructor, and says no more than it does."""

import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from cd_exp import probes
from cd_exp import shapes as world
from cd_exp.config import construct
from cd_exp.errors import InputError
from cd_exp.probes.wrappers import SETTINGS

CONF = Path(__file__).parents[2] / "conf"
CHOICES = [(group, path.stem) for group in ("probe", "concepts") for path in sorted((CONF / group).glob("*.yaml"))]


def composed(*overrides: str) -> dict:
    construct.register_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_binds_to_its_constructor(group, choice):
    node = composed(f"{group}={choice}")[group]
    node.pop("on_error", None)  # how unreadable images are treated is the run's business
    construct.check_node(no_missing(node), where=group)
    function = get_object(node["_target_"])
    parameters = inspect.signature(function).parameters
    general = SETTINGS if group == "probe" else ()  # of every set, and taken by one view
    arguments = {
        key: value for key, value in node.items() if key != "_target_" and key not in set(general) - set(parameters)
    }
    inspect.signature(function).bind(**arguments)
    name, home = {"classes": "model_classes"}.get(choice, choice), "probes" if group == "probe" else group
    assert node["_target_"] in (f"cd_exp.{home}.{name}", f"cd_exp.{home}.{name}.{name}")  # exported, or in its file
    left_out = set(parameters) - set(arguments)
    assert left_out <= ({"archive"} if group == "probe" else {"url", "checksum"})  # of a mirror


def no_missing(node: dict) -> dict:
    arguments = {key: ["given"] if key == "names" else "given" for key in node}
    return {
        key: no_missing(v) if isinstance(v, dict) else arguments[key] if v == "???" else v for key, v in node.items()
    }


def test_every_constructor_has_a_choice():
    constructors = set(probes.__all__) - {"note_pixels", "subset", "with_common_settings"}
    assert constructors <= {choice for group, choice in CHOICES if group == "probe"}


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
        assert parameters[key].default == (value if value != {} else None), key


def test_the_embedded_set_has_its_size_and_seed():
    node = composed()["probe"]
    assert (node["size"], node["seed"]) == (world.PROBE_SIZE, world.PROBE_SEED)


def test_concat_takes_sets_from_the_command_line(tmp_path):
    node = composed(
        "probe=concat", "~probe.probes.broden", "~probe.probes.imagenet_val",
        "+probe@probe.probes.mine=shapes", "probe.probes.mine.size=3", "+probe@probe.probes.more=shapes",
        "probe.probes.more.size=2", "probe.probes.more.seed=7", f"cache.dir={tmp_path}",
    )["probe"]  # fmt: skip
    probe = construct.build(OmegaConf.create(node), group="probe", leave_out=("on_error",))
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
        construct.check_node({key: value for key, value in node.items() if key != "on_error"}, where="probe")


def test_the_settings_of_every_set_reach_it_and_the_sets_within(tmp_path):
    def built(*overrides):
        node = composed(*overrides, f"cache.dir={tmp_path}")["probe"]
        return construct.build(OmegaConf.create(node), group="probe", leave_out=("on_error",))

    assert len(built("probe.limit=7")) == 7
    assert built("probe.limit=3", "probe.seed=5").ids == ("5/00000", "5/00001", "5/00002")
    joined = built(
        "probe=concat", "~probe.probes.broden", "~probe.probes.imagenet_val", "probe.limit=5",
        "+probe@probe.probes.mine=shapes", "+probe.probes.mine.limit=2", "+probe@probe.probes.more=shapes",
    )  # fmt: skip
    assert len(joined) == 5
    assert len(joined.probe.probes[0]) == 2
    with pytest.raises(InputError, match=r"probe.url cannot be used with probe=shapes, which downloads no archive"):
        built("probe.url=http://127.0.0.1:9/x.zip")
    with pytest.raises(InputError, match=r"http://127.0.0.1:9/x.zip cannot be had"):
        built("probe=cifar100", "probe.url=http://127.0.0.1:9/x.zip", f"data_dir={tmp_path}")
