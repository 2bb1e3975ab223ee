"""Sparse autoencoders as files: what the file, its header and the JSON beside it say is what the encoder does.

`cd_exp.units.layouts` says what each tensor and each switch means to the library that wrote it. What is neither read
nor known not to matter is refused by name; what nothing says has to be set. The record says what was used and from
where.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.io.text import shorten_list
from cd_exp.units.encoder import Activation, Encoder
from cd_exp.units.files import Held, read_tensors
from cd_exp.units.layouts import (
    ALIASES,
    FINAL_BLOCK,
    FOLDED,
    GATE_ROLES,
    GEMMA_SCOPE,
    LAYOUTS,
    NORMALISATIONS,
    PLAIN_LAYOUTS,
    PRESENT,
    SCALED,
    TELLING,
    TRAINING,
    WEIGHT_NAMES,
    Layout,
)

USED_BY = {"threshold": ("batchtopk", "jumprelu"), "log_threshold": ("batchtopk", "jumprelu"), "k": ("topk",)}
"""The activations that read a number of the file."""


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """The encoder of a file, and what it was made from.

    Attributes:
        encoder: as it runs.
        library: whose layout the file has; an empty string where that is not known.
        settings: activation, k, threshold, centred, normalisation, signed and decoder_norm (pre-activations scaled by
            the decoder's norms), as plain values; thresholds of each latent are not repeated here.
        sources: where each of them comes from.
        notes: for a reader of the results.
    """

    encoder: Encoder
    library: str
    settings: Mapping[str, Any]
    sources: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Switch:
    """One setting of a file: its value, and the name and the place in the file."""

    value: Any
    name: str
    source: str

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


@dataclass(frozen=True, eq=False)
class _File:
    """The tensors of one encoder without what their names have in common, and the switches that came with them."""

    path: Path
    tensors: Mapping[str, Tensor]
    switches: Mapping[str, _Switch]

    @property
    def where(self) -> str:
        return f"units.weights={self.path}"


def read_autoencoder(
    path: Path,
    *,
    activation: Activation | None = None,
    k: int | None = None,
    threshold: float | None = None,
    centred: bool | None = None,
) -> Autoencoder:
    """The autoencoder in a file; what is set goes before what the file says.

    Args:
        path: of tensors, as `cd_exp.units.files.read_tensors` reads them, with `NAME.json`, `NAME_cfg.json`, `cfg.json`
            or `config.json` beside it where the library writes one.
        activation: which latents fire.
        k: of `topk`.
        threshold: of `batchtopk` and `jumprelu`.
        centred: whether the decoder's bias is taken from the layer's output first.

    Raises:
        InputError: there is no encoder in the file, something in it is not read, its tensors do not fit each other or
            are not finite, or what decides the latents is said nowhere.
    """
    held = read_tensors(path, setting="units.weights")
    beside, notes = _beside(path)
    tensors = _encoder_tensors(path, held)
    file = _File(path, tensors, _switches(path, [*held.settings, *beside]))
    layout = _layout(file)
    roles, values = _roles(file, layout), _values(file, layout)
    set_here = {"activation": activation, "k": k, "threshold": threshold, "centred": centred}
    chosen = _chosen(
        file, layout, roles, values, {name: value for name, value in set_here.items() if value is not None}
    )
    encoder = _encoder(file, layout, roles, values, chosen)
    _check_sizes(file, values, encoder)
    settings = {name: value for name, (value, _) in chosen.items() if not isinstance(value, Tensor)}
    sources = {name: source for name, (_, source) in chosen.items()}
    notes += _contradictions(file, layout, roles, values, chosen, set_here)
    settings |= {"signed": encoder.signed, "decoder_norm": _is_true(file, values, "decoder_norm")}
    return Autoencoder(encoder, layout.library, settings, sources, tuple(notes))


def _beside(path: Path) -> tuple[list[tuple[str, Mapping[str, Any]]], list[str]]:
    """The JSON beside a file that describes an autoencoder, and a note on one that does not."""
    names = dict.fromkeys((f"{path.stem}.json", f"{path.stem}_cfg.json", "cfg.json", "config.json"))
    settings: list[tuple[str, Mapping[str, Any]]] = []
    notes: list[str] = []
    for name in names:
        candidate = path.parent / name
        if not candidate.is_file():
            continue
        try:
            held = json.loads(candidate.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise InputError(
                f"{candidate} beside units.weights={path} is no JSON ({error}); mend it or move it away"
            ) from error
        if isinstance(held, dict) and any(_is_among(switch, TELLING) for switch in dict(_flat(_unwrap(held)))):
            settings.append((name, held))
        else:
            notes.append(f"{name} beside {path.name} does not describe an autoencoder and is not read")
    if len(settings) > 1:
        both = " and ".join(name for name, _ in settings)
        raise InputError(f"units.weights={path}: {both} beside it both describe an autoencoder; move one away")
    return settings, notes


def _encoder_tensors(path: Path, held: Held) -> dict[str, Tensor]:
    """The tensors of the one encoder of a file, without what their names have in common.

    Raises:
        InputError: there is none, there are several, or there are tensors beside it.
    """
    encoders = [
        (where, name[: -len(matrix)], f"{where}.{name}".lstrip("."))
        for where, state in held.states.items()
        for name in state
        for matrix in WEIGHT_NAMES
        if name == matrix or name.endswith(f".{matrix}")
    ]
    if not encoders:
        names = [name for state in held.states.values() for name in state]
        raise InputError(
            f"units.weights={path} has no encoder: expected one of {', '.join(WEIGHT_NAMES)}; it has "
            f"{shorten_list(names) or 'no tensors'}"
        )
    if len(encoders) > 1:
        raise InputError(
            f"units.weights={path} holds several encoders: {', '.join(name for *_, name in encoders)}; save one of "
            "them in a file of its own"
        )
    where, prefix, _ = encoders[0]
    state = held.states[where]
    outside = [name for name in state if not name.startswith(prefix)]
    outside += [f"{other}.{name}".lstrip(".") for other, more in held.states.items() if other != where for name in more]
    if outside:
        raise _unread_tensor(path, outside[0], "the encoder")
    return {name[len(prefix) :]: tensor for name, tensor in state.items()}


def _unread_tensor(path: Path, name: str, library: str) -> InputError:
    return InputError(
        f"units.weights={path}: its tensor {name} is not read, and {library or 'its maker'} may use it; where it does "
        "not matter, save the file without it, else export the latents for units=matrix"
    )


def _unwrap(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with those of `cfg` or `config` among them."""
    inner = {name: settings[name] for name in ("cfg", "config") if isinstance(settings.get(name), Mapping)}
    kept = {name: value for name, value in settings.items() if name not in inner}
    return {**kept, **{name: value for section in inner.values() for name, value in section.items()}}


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting by its path, as in `activation.params.top_k`."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _switches(path: Path, settings: list[tuple[str, Mapping[str, Any]]]) -> dict[str, _Switch]:
    switches: dict[str, _Switch] = {}
    for source, held in settings:
        for name, value in _flat(_unwrap(held)):
            canonical = "trainer.dict_class" if name == "class" and "dict_size" in held else ALIASES.get(name, name)
            earlier = switches.get(canonical)
            if earlier is not None and earlier.value != value:
                raise InputError(
                    f"units.weights={path}: {earlier.source} says {earlier}, {source} says {name}={value}; "
                    "keep the one that is right"
                )
            switches[canonical] = _Switch(value, name, source)
    return switches


def _is_among(name: str, names: Any) -> bool:
    """Whether a name, or one that it begins with before a dot, is among some."""
    parts = name.split(".")
    return any(".".join(parts[:depth]) in names for depth in range(1, len(parts) + 1))


def _role(name: str, names: Mapping[str, str]) -> str | None:
    """The role of a name; a name that is not used, or has to be off, stands for all that begin with it and a dot."""
    if name in names:
        return names[name]
    parts = name.split(".")
    begins = (".".join(parts[:depth]) for depth in range(len(parts) - 1, 0, -1))
    return next((names[begin] for begin in begins if names.get(begin) in ("unused", "off")), None)


def _layout(file: _File) -> Layout:
    """The layout of a file: that which its switches tell, else that which the names of its tensors tell."""
    matching = [layout for layout in LAYOUTS if layout.when is not None and _tells(layout.when, file.switches)]
    if matching:
        return matching[0]
    kind = next(name for name in WEIGHT_NAMES if name in file.tensors)
    plain = PLAIN_LAYOUTS[kind]
    telling = {name: switch for name, switch in file.switches.items() if _is_among(name, TELLING)}
    choosing = {name for layout in LAYOUTS for name in layout.when or ()}
    strange = [switch for name, switch in telling.items() if name in choosing and _role(name, plain.switches) is None]
    if strange:
        texts = ", ".join(map(str, strange[:3]))
        raise InputError(
            f"{file.where}: {strange[0].source} says {texts}, which is not read; if it belongs to something else, move "
            "it away, else export the latents for units=matrix"
        )
    if telling:
        return plain
    alone = [layout for layout in LAYOUTS if layout.alone and _fits_alone(layout, file)]
    if not alone and file.path.suffix == ".npz" and set(file.tensors) == set(GEMMA_SCOPE.tensors):
        return GEMMA_SCOPE
    if not alone:
        return plain
    activations = {layout.activation for layout in alone}
    return alone[0] if len(activations) == 1 else _merge_layouts(alone)


def _merge_layouts(layouts: list[Layout]) -> Layout:
    """What several layouts of the same tensors have in common: which latents fire has to be set."""
    first, *others = layouts
    tensors = dict(first.tensors.items())
    for layout in others:
        tensors |= {name: role for name, role in layout.tensors.items() if tensors[name] == "unused"}
    return replace(first, library="dictionary_learning", activation=None, tensors=tensors)


def _tells(when: Mapping[str, tuple[Any, ...]], switches: Mapping[str, _Switch]) -> bool:
    def fits(name: str, values: tuple[Any, ...]) -> bool:
        begins = [full_name for full_name in switches if full_name.startswith(f"{name}.")]
        value = switches[name].value if name in switches else (begins or None)
        present = name in switches or bool(begins)
        return (PRESENT in values and present) or any(value == wanted and wanted is not PRESENT for wanted in values)

    return all(fits(name, values) for name, values in when.items())


def _fits_alone(layout: Layout, file: _File) -> bool:
    needed = set(layout.tensors) - set(FINAL_BLOCK) - set(SCALED)
    return needed <= set(file.tensors) and all(_role(name, layout.tensors) for name in file.tensors)


def _roles(file: _File, layout: Layout) -> dict[str, str]:
    """The name of the tensor in each role.

    Raises:
        InputError: a tensor that has no role, or the role of another one, or one that is missing.
    """
    roles: dict[str, str] = {}
    for name in file.tensors:
        role = _role(name, layout.tensors)
        if role is None or role in roles:
            raise _unread_tensor(file.path, name, layout.library)
        if role != "unused":
            roles[role] = name
    if "weight" not in roles and "weight_rows" not in roles:
        wanted = next(name for name, role in layout.tensors.items() if role in ("weight", "weight_rows"))
        raise InputError(f"{file.where} has no {wanted}, which {layout.library} has; {_other_json(file)}")
    for first, other in (("norm_mean", "norm_variance"), ("norm_gain", "norm_shift")):
        if (first in roles) != (other in roles):
            raise InputError(f"{file.where} has {roles.get(first) or roles[other]} without the other half of its norm")
    return roles


def _other_json(file: _File) -> str:
    sources = sorted({switch.source for switch in file.switches.values()})
    return f"{' and '.join(sources) or 'the JSON beside it'} may belong to another file: move it away"


def _values(file: _File, layout: Layout) -> dict[str, _Switch]:
    """The switch in each role.

    Raises:
        InputError: a switch that is not read and not known not to matter.
    """
    values: dict[str, _Switch] = {}
    for name, switch in file.switches.items():
        role = _role(name, layout.switches)
        if layout.when is not None and name in layout.when and role is None:
            continue
        if role is None and _is_among(name, TRAINING):
            continue
        if role == "off" and switch.value in (None, False, 0, "", "none", [], {}):
            continue
        if role == "relu" and str(switch.value).lower() in ("relu", "none"):
            continue
        if role in values and values[role].value != switch.value:
            raise InputError(
                f"{file.where}: {values[role].source} says {values[role]}, {switch.source} says {switch}, and both "
                "mean the same; keep the one that is right"
            )
        if role in (None, "off", "relu"):
            raise InputError(
                f"{file.where}: {switch.source} says {switch}, which is not read, and {layout.library or 'its maker'} "
                "may use it; where it does not matter, take it out, else export the latents for units=matrix"
            )
        # null means that there is none, but of the two that null switches off in the libraries' own code
        if role != "unused" and (switch.value is not None or role in ("normalisation", "centred")):
            values[role] = switch
    return values


Chosen = dict[str, tuple[Any, str]]


def _chosen(
    file: _File,
    layout: Layout,
    roles: Mapping[str, str],
    values: Mapping[str, _Switch],
    set_here: Mapping[str, Any],
) -> Chosen:
    """What decides the latents, and where it comes from."""
    activation = _activation(file, layout, roles, values, set_here)
    chosen: Chosen = {"activation": activation, "normalisation": _normalisation(file, layout, values)}
    chosen["centred"] = _choose_centring(file, layout, roles, values, set_here)
    if activation[0] == "topk":
        chosen["k"] = _read_k(file, roles, values, set_here, activation[1])
    if activation[0] in ("batchtopk", "jumprelu"):
        chosen["threshold"] = _read_threshold(file, layout, roles, values, set_here, activation[1])
    return chosen


def _activation(
    file: _File, layout: Layout, roles: Mapping[str, str], values: Mapping[str, _Switch], set_here: Mapping[str, Any]
) -> tuple[str, str]:
    if "activation" in set_here:
        return set_here["activation"], "units.activation"
    if layout.activation is not None:
        return layout.activation, _library_source(file, layout)
    if "activation" in values:
        return _activation_named(file, values["activation"]), values["activation"].source
    numbers = [name for name in ("k", "threshold", "log_threshold") if name in roles]
    if len(numbers) == 1 and not layout.library:
        name = roles[numbers[0]]
        return "topk" if numbers == ["k"] else "jumprelu", f"{file.path.name}: {name}"
    if "threshold" in roles and layout.library == "overcomplete":
        return "batchtopk", f"{file.path.name}: {roles['threshold']}"
    held = f" ({', '.join(roles[name] for name in numbers)} are in it)" if numbers else ""
    raise InputError(
        f"{file.where}: nothing says which of its latents fire{held}; set units.activation="
        + ("topk or batchtopk" if len(numbers) > 1 else "relu, topk (with units.k), batchtopk, jumprelu or none")
    )


def _library_source(file: _File, layout: Layout) -> str:
    """What shows the layout: the switches that chose it, or the names of the tensors."""
    telling = [file.switches[name] for name in layout.when or () if name in file.switches]
    if not telling:
        return f"{file.path.name}: its tensors' names ({layout.library})"
    return f"{telling[0].source}: {', '.join(map(str, telling[:2]))} ({layout.library})"


def _plain_name(switch: _Switch) -> str:
    return str(switch.value).lower().replace("-", "").replace("_", "")


def _activation_named(file: _File, switch: _Switch) -> str:
    plain = _plain_name(switch)
    if plain not in get_args(Activation):
        raise InputError(
            f"{file.where}: {switch.source} says {switch}, which is not read; set units.activation="
            f"{', '.join(get_args(Activation))}"
        )
    return plain


def _normalisation(file: _File, layout: Layout, values: Mapping[str, _Switch]) -> tuple[str, str]:
    if "normalisation" not in values:
        if layout.normalisation is None:
            raise InputError(
                f"{file.where}: {_library_source(file, layout)}, and nothing says whether its input is normalised; "
                "write normalize_activations as its maker's configuration has it, or move the JSON away"
            )
        return layout.normalisation, layout.library or "nothing says otherwise"
    switch = values["normalisation"]
    kinds = {**NORMALISATIONS, "constant_norm": "constant_norm"}
    if isinstance(switch.value, (list, dict)) or switch.value not in kinds:
        raise InputError(
            f"{file.where}: {switch.source} says {switch}, which is not read; export the latents for units=matrix"
        )
    return kinds[switch.value], f"{switch.source}: {switch.name}"


def _choose_centring(
    file: _File, layout: Layout, roles: Mapping[str, str], values: Mapping[str, _Switch], set_here: Mapping[str, Any]
) -> tuple[bool, str]:
    if "centred" in set_here:
        if set_here["centred"] and "centre" not in roles:
            raise InputError(f"units.centred=true, and {file.path} has no decoder bias that its encoder could subtract")
        return set_here["centred"], "units.centred"
    if "centred" in values:
        switch = values["centred"]
        if not isinstance(switch.value, bool):
            raise InputError(f"{file.where}: {switch.source} says {switch}; expected true or false")
        chosen = switch.value, f"{switch.source}: {switch.name}"
    elif layout.centred is not None:
        chosen = layout.centred, layout.library
    elif "centre" not in roles or not file.tensors[roles["centre"]].any():
        return False, "there is no decoder bias, or only zeros"
    else:
        raise InputError(
            f"{file.where}: nothing says whether {roles['centre']} is taken from the layer's output first; set "
            "units.centred=true or units.centred=false, as its maker's encode does"
        )
    if chosen[0] and "centre" not in roles:
        raise InputError(f"{file.where} has no decoder bias, and {chosen[1]} subtracts it; set units.centred=false")
    return chosen


def _read_k(
    file: _File,
    roles: Mapping[str, str],
    values: Mapping[str, _Switch],
    set_here: Mapping[str, Any],
    activation_source: str,
) -> tuple[int, str]:
    sources = {
        f"{switch.source}: {switch.name}": switch.value for role in ("k", "k_of_tensor") if (switch := values.get(role))
    }
    if "k" in roles:
        sources = {f"{file.path.name}: {roles['k']}": _number(file, roles["k"]), **sources}
    if "k" in set_here:
        sources = {"units.k": set_here["k"]}
    elif len(set(sources.values())) > 1:
        listed = ", ".join(f"{source} = {value}" for source, value in sources.items())
        raise InputError(f"{file.where}: {listed}; set units.k to the one that is right")
    if not sources:
        raise InputError(
            f"{file.path} has no number of latents that fire, and topk ({activation_source}) needs one; set "
            "units.k=NUMBER"
        )
    source, k = next(iter(sources.items()))
    weight = file.tensors[roles.get("weight") or roles["weight_rows"]]
    latents = weight.shape[-1 if "weight" in roles else 0] if weight.ndim == 2 else 0
    if isinstance(k, bool) or not isinstance(k, (int, float)) or k not in range(1, latents + 1):
        shown = f"units.k={k}" if source == "units.k" else f"{file.path} says k = {k}"
        raise InputError(
            f"{shown}, and the encoder has {latents} latents; set units.k to a whole number from 1 to that"
        )
    return int(k), source


def _gate_threshold(
    file: _File, layout: Layout, roles: Mapping[str, str], activation_source: str
) -> tuple[Tensor, str]:
    missing = [name for name, role in layout.tensors.items() if role in GATE_ROLES and role not in roles]
    if missing:
        raise InputError(
            f"{file.where} has no {' and no '.join(missing)}, which a gated encoder ({activation_source}) has; "
            f"{_other_json(file)}"
        )
    names = [roles[role] for role in GATE_ROLES]
    magnitude, scale, bias = (file.tensors[name].float().flatten() for name in names)
    # exp(r) xW + b_mag, where xW + b_gate > 0: the same as z where z > b_mag - exp(r) b_gate.
    return magnitude - scale.exp() * bias, f"{file.path.name}: {', '.join(names)}"


def _number(file: _File, name: str) -> int | float:
    tensor = file.tensors[name]
    if tensor.numel() != 1:
        raise InputError(f"{file.where}: {name} is {_describe_shape(tensor)}; expected one number")
    number = float(tensor)
    return int(number) if number.is_integer() else number


def _read_threshold(
    file: _File,
    layout: Layout,
    roles: Mapping[str, str],
    values: Mapping[str, _Switch],
    set_here: Mapping[str, Any],
    activation_source: str,
) -> tuple[float | Tensor, str]:
    """A number for all latents, or a tensor; that of a gated encoder is the place where its gate opens."""
    if "threshold" in set_here:
        return float(set_here["threshold"]), "units.threshold"
    if any(role in layout.tensors.values() for role in GATE_ROLES):
        return _gate_threshold(file, layout, roles, activation_source)
    if "threshold" in values:
        switch = values["threshold"]
        if isinstance(switch.value, bool) or not isinstance(switch.value, (int, float)):
            raise InputError(f"{file.where}: {switch.source} says {switch}; expected a number")
        return float(switch.value), f"{switch.source}: {switch.name}"
    if "threshold" in roles and "log_threshold" in roles:
        raise _unread_tensor(file.path, roles["log_threshold"], layout.library)
    name = roles.get("threshold") or roles.get("log_threshold")
    if name is None:
        raise InputError(
            f"{file.path} has no threshold (threshold, log_threshold), and its activation ({activation_source}) "
            "needs one; set units.threshold=NUMBER"
        )
    threshold = file.tensors[name].float().flatten()
    threshold = threshold.exp() if "log_threshold" in roles else threshold
    if not bool(torch.isfinite(threshold).all()) or math.isclose(float(threshold.max()), -1.0):
        raise InputError(f"{file.where}: {name} was never set in training; set units.threshold=NUMBER")
    return threshold, f"{file.path.name}: {name}"


def _encoder(
    file: _File, layout: Layout, roles: Mapping[str, str], values: Mapping[str, _Switch], chosen: Chosen
) -> Encoder:
    weight, bias = _read_affine(file, roles)
    width, latents = weight.shape
    gain, shift = _norm(file, roles, latents)
    weight, bias, gain, shift = _fold_norm(file, roles, (weight, bias, gain, shift))
    if _is_true(file, values, "decoder_norm"):
        norms = _decoder_norms(file, roles, latents)
        weight, bias = weight * norms, bias * norms
    activation = chosen["activation"][0]
    centre = _read_vector(file, roles, "centre", width) if chosen["centred"][0] else None
    encoder = Encoder(
        weight=weight.contiguous(),
        bias=bias,
        centre=weight.new_zeros(width) if centre is None else centre,
        scale=_read_scale(file, roles),
        activation=activation,
        k=chosen["k"][0] if activation == "topk" else 0,
        threshold=_of_each_latent(file, chosen["threshold"], latents, inclusive=layout.inclusive)
        if "threshold" in chosen
        else None,
        normalisation=chosen["normalisation"][0],
        signed=layout.signed and activation == layout.activation,
        gain=gain,
        shift=shift,
    )
    for name in ("weight", "bias", "centre"):
        if not bool(torch.isfinite(getattr(encoder, name)).all()):
            raise InputError(f"{file.where}: the {name} of its encoder has numbers that are not finite")
    return encoder


def _is_true(file: _File, values: Mapping[str, _Switch], role: str) -> bool:
    if role in values and not isinstance(values[role].value, bool):
        raise InputError(f"{file.where}: {values[role].source} says {values[role]}; expected true or false")
    return role in values and values[role].value


def _read_affine(file: _File, roles: Mapping[str, str]) -> tuple[Tensor, Tensor]:
    """The encoder's matrix as [width, latents], and its bias."""
    name = roles.get("weight") or roles["weight_rows"]
    weight = file.tensors[name].float()
    if weight.ndim != 2:
        raise InputError(f"{file.where}: {name} is {_describe_shape(weight)}; expected a matrix")
    if not weight.numel():
        raise InputError(f"{file.where}: its encoder is {_describe_shape(weight)}, with nothing in it")
    weight = weight.T if "weight_rows" in roles else weight
    role = "magnitude_bias" if "magnitude_bias" in roles else "bias"
    bias_tensor = file.tensors[roles[role]] if role in roles else None
    if bias_tensor is not None and bias_tensor.numel() != weight.shape[1] and bias_tensor.numel() == weight.shape[0]:
        weight = weight.T  # stored the other way round, as the bias shows
    if "gate_scale" in roles:
        scale = _read_vector(file, roles, "gate_scale", weight.shape[1])
        weight = weight * scale.exp() if scale is not None else weight
    bias = _read_vector(file, roles, role, weight.shape[1])
    return weight, weight.new_zeros(weight.shape[1]) if bias is None else bias


def _norm(file: _File, roles: Mapping[str, str], latents: int) -> tuple[Tensor | None, Tensor | None]:
    return _read_vector(file, roles, "norm_gain", latents), _read_vector(file, roles, "norm_shift", latents)


def _fold_norm(
    file: _File, roles: Mapping[str, str], parts: tuple[Tensor, Tensor, Tensor | None, Tensor | None]
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Weight and bias with the batch norm that follows them, as it is in evaluation mode; a layer norm stays."""
    weight, bias, gain, shift = parts
    mean = _read_vector(file, roles, "norm_mean", len(bias))
    variance = _read_vector(file, roles, "norm_variance", len(bias))
    if mean is None or variance is None:
        return weight, bias, gain, shift
    factor = (variance + 1e-5).rsqrt()  # torch's default
    factor = factor if gain is None else factor * gain
    return weight * factor, (bias - mean) * factor + (0 if shift is None else shift), None, None


def _decoder_norms(file: _File, roles: Mapping[str, str], latents: int) -> Tensor:
    decoder = file.tensors[roles["decoder"]].float() if "decoder" in roles else None
    if decoder is None or decoder.ndim != 2 or len(decoder) != latents:
        raise InputError(
            f"{file.where}: its latents are scaled by the norms of W_dec, which is not there, or does not fit"
        )
    return decoder.norm(dim=1)


def _read_vector(file: _File, roles: Mapping[str, str], role: str, length: int) -> Tensor | None:
    if role not in roles:
        return None
    name = roles[role]
    if file.tensors[name].numel() != length:
        raise InputError(f"{file.where}: {name} has {file.tensors[name].numel()} numbers; its encoder needs {length}")
    return file.tensors[name].float().flatten()


def _read_scale(file: _File, roles: Mapping[str, str]) -> float:
    if "scale" not in roles:
        return 1.0
    scale = float(_number(file, roles["scale"]))
    if not math.isfinite(scale) or not scale:
        raise InputError(f"{file.where}: {roles['scale']} is {scale:g}; expected a number other than 0")
    return scale


def _of_each_latent(file: _File, chosen: tuple[Any, str], latents: int, *, inclusive: bool) -> Tensor:
    threshold, source = chosen
    values = threshold if isinstance(threshold, Tensor) else torch.tensor([threshold])
    if values.numel() not in (1, latents):
        raise InputError(f"{file.where}: {source} has {values.numel()} numbers; expected 1 or {latents}")
    if inclusive:  # z >= t is z > the next number below t
        values = torch.nextafter(values, torch.tensor(-math.inf))
    return values.expand(latents).contiguous()


def _check_sizes(file: _File, values: Mapping[str, _Switch], encoder: Encoder) -> None:
    for role, size in (("width", encoder.width), ("latents", encoder.units)):
        if role in values and values[role].value != size:
            switch = values[role]
            raise InputError(
                f"{file.where}: {switch.source} says {switch}, its encoder has {size}; {_other_json(file)}"
            )


def _contradictions(
    file: _File,
    layout: Layout,
    roles: Mapping[str, str],
    values: Mapping[str, _Switch],
    chosen: Chosen,
    set_here: Mapping[str, Any],
) -> list[str]:
    """Notes where a setting goes before what the file says.

    Raises:
        InputError: the file says two things that do not go together, and no setting decides.
    """
    notes = []
    activation, source = chosen["activation"]
    activation_said = layout.activation or ("activation" in values and _plain_name(values["activation"])) or None
    if source == "units.activation" and activation_said not in (None, activation):
        where = _library_source(file, layout) if layout.activation else values["activation"].source
        notes.append(f"units.activation={activation} is used, and {where} says {activation_said}")
    unused = [
        role for role, readers in USED_BY.items() if (role in roles or role in values) and activation not in readers
    ]
    for role in unused:
        name = roles.get(role) or values[role].name
        if source != "units.activation":
            raise _unread_tensor(file.path, name, f"{source}, which says {activation},")
        notes.append(f"units.activation={activation} does not use {name} of {file.path.name}")
    for name in ("k", "threshold"):
        if set_here.get(name) is not None and name not in chosen:
            notes.append(f"units.{name}={set_here[name]} is not used: the activation is {activation} ({source})")
    notes += _centring_contradiction(layout, values, chosen)
    notes += _number_contradictions(file, roles, values, chosen)
    if "normalisation" in values and values["normalisation"].value in FOLDED:
        notes.append(
            f"{values['normalisation'].source} says {values['normalisation']}, whose numbers are not in the file: as "
            "in the library's encode, none are applied"
        )
    return notes


def _centring_contradiction(layout: Layout, values: Mapping[str, _Switch], chosen: Chosen) -> list[str]:
    centred, source = chosen["centred"]
    switch = values.get("centred")
    theirs = switch.value if switch else layout.centred
    if source != "units.centred" or theirs in (None, centred):
        return []
    where = switch.source if switch else layout.library
    return [f"units.centred={str(centred).lower()} is used, and {where} says {str(theirs).lower()}"]


def _number_contradictions(
    file: _File, roles: Mapping[str, str], values: Mapping[str, _Switch], chosen: Chosen
) -> list[str]:
    notes = []
    for name in ("k", "threshold"):
        if name not in chosen or chosen[name][1] != f"units.{name}":
            continue
        tensor = next((roles[role] for role in (name, f"log_{name}") if role in roles), None)
        switch = values.get(name)
        if tensor is not None and (name != "k" or _number(file, tensor) != chosen[name][0]):
            notes.append(f"units.{name}={chosen[name][0]} is used in place of {tensor} of {file.path.name}")
        elif switch is not None and switch.value != chosen[name][0]:
            notes.append(f"units.{name}={chosen[name][0]} is used, and {switch.source} says {switch}")
    return notes


def _describe_shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"
