"""Plug-ins: functions of an installed package as choices of a group. This file is the whole contract.

A package names its functions in its `pyproject.toml`, and has a YAML file of their settings beside its code:

    [project.entry-points."cd_exp.similarity"]
    sharpened = "my_package.functions:sharpened"

    my_package/conf/similarity/sharpened.yaml:    power: 3.0    # exponent of the activations

Once it is installed, `python run.py similarity=sharpened similarity.power=2` works, and `--help` lists the name. The
YAML has all settings of the function that a user may change, with their defaults; `???` is a value that must be given.
Every probe has `limit`, `seed`, `range`, `orient`, `cache`, `url`, `checksum` and `on_error` already.
What the function takes and gives is what `GROUP=custom` asks of a function in a file (docs/bring_your_own.md):

    entry point          group        the function
    cd_exp.similarity    similarity   (match, neurons, *, SETTINGS) -> scores [neurons, concepts]
    cd_exp.probes        probe        (SETTINGS) -> sequence of PIL images or torch Dataset; .ids, .annotations if any
    cd_exp.concepts      concepts     (SETTINGS) -> list of names
    cd_exp.clips         clip         (SETTINGS) -> object with preprocess, encode_image, encode_text
    cd_exp.models        model        (SETTINGS) -> (nn.Module, transform or None, class names or None)
    cd_exp.baselines     baseline     (SETTINGS) -> method: method(run) -> {layer: cd_exp.records.Labels}
    cd_exp.judges        judge        (SETTINGS) -> object of a subclass of cd_exp.evaluation.judges.Judge

A YAML of a model has `layers` too, and may have what else `conf/model/custom.yaml` takes (`final`, `class_names`).
`cd_exp.testing` has classes to subclass that test such a function. The version of the package is part of the cache keys
of what it makes. `examples/cd_exp_example` has one plug-in of each kind. What this file does not know: what a group is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

from cd_exp.config.schema import config_folder
from cd_exp.errors import InputError

GROUP_OF: Mapping[str, str] = {
    "cd_exp.similarity": "similarity",
    "cd_exp.probes": "probe",
    "cd_exp.concepts": "concepts",
    "cd_exp.clips": "clip",
    "cd_exp.models": "model",
    "cd_exp.baselines": "baseline",
    "cd_exp.judges": "judge",
}


@dataclass(frozen=True)
class InstalledPlugin:
    """A choice of a group: `function` is `package.module:name`, `package` the distribution that brings it."""

    group: str
    name: str
    function: str
    package: str
    settings: Path


@cache
def read_installed_plugins() -> Mapping[str, InstalledPlugin]:
    """What the installed packages offer, by what `_target_` says; nothing of theirs is imported."""
    plugins: dict[str, InstalledPlugin] = {}
    taken = {(path.parent.name, path.stem): "cd-exp" for path in config_folder().glob("*/*.yaml")}
    points = {point: package for package in distributions() for point in package.entry_points}
    for point, package in points.items():
        if not (group := GROUP_OF.get(point.group)):
            continue
        spec = find_spec(point.module.partition(".")[0])
        folder = next(iter((spec and spec.submodule_search_locations) or ["."]))
        settings = Path(folder, "conf", group, f"{point.name}.yaml")
        other = taken.get((group, point.name))
        if other or not settings.is_file():
            what = f"{other} has that name already" if other else f"there is no {settings}"
            raise InputError(f"{package.name} offers {group}={point.name}, but {what}; pip uninstall {package.name}")
        taken[group, point.name] = package.name
        target = point.value.replace(":", ".")
        plugins[target] = InstalledPlugin(group, point.name, point.value, package.name, settings)
    return plugins
