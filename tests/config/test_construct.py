from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from cd_exp.config import construct, offered_targets
from cd_exp.config.resolved import TARGETS_OF_0_2_0
from cd_exp.errors import InputError

GROUPS = ("model", "probe", "concepts", "clip", "similarity", "baseline", "judge", "logger")
CHOICES = [
    (group, path.stem) for group in GROUPS for path in sorted((construct.config_folder() / group).glob("[a-z]*.yaml"))
]


@pytest.fixture(autouse=True)
def hydra():
    construct.register_schema()
    with initialize_config_dir(str(construct.config_folder()), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def composed(*overrides):
    return compose("config", overrides=list(overrides))


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_binds_to_the_signature_of_its_target(group, choice):
    cfg = composed(f"{group}={choice}")
    node = OmegaConf.to_container(cfg[group], resolve=True, throw_on_missing=False)
    node.pop("on_error", None)
    unset = [key for key, value in node.items() if value == "???"]
    construct.check_node({key: value for key, value in node.items() if key not in unset}, where=group)
    if group in ("clip", "similarity", "baseline", "judge") and choice != "custom":
        by_name = OmegaConf.to_container(construct.read_choice(group, choice, argument=group), resolve=True)
        assert by_name == node  # what a program gets is what Hydra composes


def test_the_papers_setting_is_what_its_model_brings_along():
    cfg = composed("model=resnet50", "similarity=soft_wpmi")
    assert cfg.model.architecture == "resnet50.tv_in1k"
    assert cfg.model.layers == ["layer4", "fc"]
    assert (cfg.clip.architecture, cfg.clip.pretrained) == ("ViT-B-16-quickgelu", "openai")
    assert cfg.probe._target_ == "cd_exp.probes.cifar100"
    assert cfg.concepts._target_ == "cd_exp.concepts.model_classes"
    assert cfg.concepts.model.architecture == "resnet50.tv_in1k"
    assert cfg.similarity._target_ == "cd_exp.similarity.soft_wpmi"
    assert (cfg.similarity.top_k, cfg.similarity.scale, cfg.similarity.prior_weight) == (100, 10, 1)


def test_what_a_model_brings_along_can_be_replaced():
    cfg = composed("model=resnet50", "probe=folder", "probe.root=x", "clip=rn50", "concepts=common_words")
    assert cfg.probe._target_ == "cd_exp.probes.folder"
    assert cfg.clip.architecture == "RN50-quickgelu"
    assert cfg.concepts._target_ == "cd_exp.concepts.common_words"


def test_an_experiment_overrides_what_its_model_brings_along_and_the_command_line_overrides_both():
    cfg = composed("experiment=real_photos")
    assert cfg.probe._target_ == "cd_exp.probes.files"
    assert cfg.clip._target_ == "cd_exp.clips.Precomputed"
    assert composed("experiment=real_photos", "clip=rn50").clip.architecture == "RN50-quickgelu"


def test_the_published_settings_are_the_defaults():
    similarity = {name: composed(f"similarity={name}").similarity for name in ("wpmi", "rank_reorder", "cos_cubed")}
    assert similarity["wpmi"].top_k == 28
    assert similarity["wpmi"].scale == 2
    assert similarity["wpmi"].prior_weight == 0.6
    assert similarity["rank_reorder"].top_fraction == 0.05


@pytest.mark.parametrize(
    "target",
    [
        "torch.load",
        "os.system",
        "cd_expx.errors.InputError",
        "builtins.eval",
        "cd_exp.io.download.shutil.copyfile",
        "cd_exp.plugins.load_function",
        "cd_exp.models.Nothing",
        "cd_exp.models.custom.CustomModel",
        "cd_exp.probes.folder",
        "",
    ],
)
def test_only_what_a_group_offers_is_called(target):
    with pytest.raises(InputError, match=r"constructor '.*' is not offered for model; .*model.factory=FILE.py:name"):
        construct.build(OmegaConf.create({"_target_": target}), group="model")


def test_what_0_2_0_called_a_constructor_is_offered_under_another_name():
    offered = {name for names in offered_targets().values() for name in names}
    assert set(TARGETS_OF_0_2_0.values()) <= offered
    assert not set(TARGETS_OF_0_2_0) & offered


@pytest.mark.parametrize("where", ["probes.0", "probes.x", "options.x"])
def test_a_target_within_is_held_to_the_same_list(where):
    inner = {"_target_": "os.system", "command": "x"}
    values = {"probes": [inner]} if where == "probes.0" else {"probes": {"x": inner}}
    with pytest.raises(InputError, match=r"constructor 'os.system' is not offered for probe.probes"):
        construct.build({"_target_": "cd_exp.probes.concat", **values}, group="probe")


@pytest.mark.parametrize(
    "key", [{"_args_": ["x"]}, {"_recursive_": False}, {"_convert_": "none"}, {"_partial_": True}, {"_other_": 1}]
)
def test_no_other_key_with_underscores_means_anything(key):
    with pytest.raises(InputError, match=r"setting 'probe._\w+_' is not known"):
        construct.build({"_target_": "cd_exp.probes.shapes", **key}, group="probe")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"top_kk": 1}, r"setting 'similarity.top_kk' is not known; did you mean 'similarity.top_k'"),
        ({"top_k": "many"}, r"similarity.top_k='many' is of type str, expected a whole number from 1"),
        ({"top_k": True}, r"similarity.top_k=True is of type bool, expected a whole number from 1"),
        ({"top_k": 0}, r"similarity.top_k=0 is out of range, expected a whole number from 1"),
        ({"top_k": None}, r"similarity.top_k=null is empty, expected a whole number from 1"),
        ({"scale": "???"}, r"similarity.scale must be set: add similarity.scale=VALUE"),
        ({"scale": float("nan")}, r"similarity.scale=nan is out of range, expected a number above 0"),
        ({"scale": float("inf")}, r"similarity.scale=inf is out of range, expected a number above 0"),
        ({"scale": -1}, r"similarity.scale=-1 is out of range, expected a number above 0"),
        ({"prior_weight": float("inf")}, r"similarity.prior_weight=inf is out of range, expected a number"),
        ({"last_membership": 1.1}, r"expected a number from 0 to 1"),
    ],
)
def test_settings_are_held_to_their_kind(node, message):
    target = {"_target_": "cd_exp.similarity.soft_wpmi", "_partial_": True}
    with pytest.raises(InputError, match=message):
        construct.build(OmegaConf.create(target | node), group="similarity")


def test_a_bug_in_a_constructor_keeps_its_traceback(monkeypatch):
    def broken(*, size, seed):
        raise TypeError("ours")

    monkeypatch.setattr("cd_exp.probes.shapes", broken)
    with pytest.raises(TypeError, match=r"^ours$"):
        construct.build({"_target_": "cd_exp.probes.shapes", "size": 3, "seed": 0}, group="probe")


def test_a_class_without_a_constructor_of_its_own_is_built(monkeypatch):
    class Bare:
        pass

    monkeypatch.setattr("cd_exp.evaluation.judges.WhitenedJudge", Bare)
    assert isinstance(construct.build({"_target_": "cd_exp.evaluation.judges.WhitenedJudge"}, group="judge"), Bare)


def test_an_error_of_a_constructor_arrives_as_it_was_raised(tmp_path: Path):
    node = OmegaConf.create({"_target_": "cd_exp.concepts.file", "path": str(tmp_path / "none.txt")})
    with pytest.raises(InputError, match="there is no such file"):
        construct.build(node, group="concepts")


def test_a_built_similarity_carries_its_settings():
    function = construct.build(composed("similarity=wpmi", "similarity.top_k=7").similarity, group="similarity")
    assert function.func.__name__ == "wpmi"
    assert function.keywords["top_k"] == 7
