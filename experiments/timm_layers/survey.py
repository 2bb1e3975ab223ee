"""Every module of many timm architectures with random weights: are its units on the axis that is pooled to?

For each module that is called, the number of units is compared with a width that is known without looking at shapes:
the module's own weights, `feature_info` of the stages, or the weights that the module applies last. A module is right,
refused (with the reason), wrong, or of unknown width.

python -m experiments.timm_layers.survey FILE [--out TABLE.md] [--only NAME ...]
"""

import argparse
import re
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from cd_exp.errors import InputError
from cd_exp.hooks import Layer, LayerRequest
from cd_exp.hooks.hooks import list_tensors
from cd_exp.hooks.inspect_layers import IMAGES, decide_layers
from cd_exp.io.text import read_lines

PLAIN = re.compile(
    r"(test_)?(resnet\d|convnext|efficientnet|tf_efficientnet|swin_|swinv2_(?!cr)|vit_|deit|eva02|vgg|densenet|dinov)"
)
"""Families none of whose stages, blocks and heads may be refused."""

BLOCK = re.compile(
    r"(layer\d|layers\.\d+|stages\.\d+|blocks\.\d+|features\.\w+|denseblock\d)(\.(blocks\.)?\d+)*|head|fc|classifier|head\.fc"
)


@dataclass
class Found:
    """What became of the modules of one architecture."""

    architecture: str
    modules: int = 0
    labelled: int = 0
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    other_axis: int = 0
    seconds: float = 0.0

    @property
    def refused_blocks(self) -> list[str]:
        """Stages, blocks and heads that were refused."""
        return [name for name in self.refused if BLOCK.fullmatch(name.partition("/")[0].partition("@")[0])]


def survey(architecture: str, **options: object) -> Found:
    """Look at every module of an architecture with random weights."""
    began = time.perf_counter()
    torch.manual_seed(0)
    network = timm.create_model(architecture, pretrained=False, **options).eval()
    images = torch.randn(IMAGES, *network.pretrained_cfg["input_size"])
    wanted, last = _called(network, images)
    decided = decide_layers(network, wanted, images, name=architecture)
    result, stages = Found(architecture, modules=len(decided)), _stages(network)
    for name, layer in decided.items():
        if isinstance(layer, InputError):
            if "first axis is not the images" in str(layer):
                result.other_axis += 1
            else:
                result.refused[name] = str(layer)
            continue
        result.labelled += 1
        width = known_width(network, layer, stages, last)
        if width is not None and width != layer.units:
            result.wrong.append(f"{name}: {layer.units} for {width}")
        result.right += width == layer.units
    result.seconds = time.perf_counter() - began
    return result


def known_width(network: nn.Module, layer: Layer, stages: Mapping[str, int], last: Mapping[str, str]) -> int | None:
    """How many units a module has, by its weights, by timm's `feature_info`, or by the weights it applies last."""
    module = network.get_submodule(layer.module)
    own = _width(module)
    if own is not None:
        return own
    if layer.element:  # one of several tensors, of which the module's width says nothing
        return None
    if layer.module in stages:
        return stages[layer.module]
    inner = last.get(layer.module)
    return _width(network.get_submodule(inner)) if inner else None


def _width(module: nn.Module) -> int | None:
    for attribute in ("out_features", "out_channels", "num_features", "num_channels"):
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)):
            value = getattr(module, attribute, None)
            if isinstance(value, int):
                return value
    shape = getattr(module, "normalized_shape", None)
    return shape[0] if isinstance(shape, (tuple, list)) and len(shape) == 1 else None


def _stages(network: nn.Module) -> dict[str, int]:
    info = getattr(network, "feature_info", None)
    return {item["module"]: item["num_chs"] for item in info if "module" in item} if isinstance(info, list) else {}


def _called(network: nn.Module, images: Tensor) -> tuple[list[LayerRequest], dict[str, str]]:
    """Every module that is called (its first call, each tensor it gives), and the module with weights it calls last.

    Only where the output of that module is the output of the one around it, or is added to something of its shape, is
    its width the width of both; so the two must have one shape.
    """
    outputs: dict[str, dict[str, tuple[int, ...]]] = {}
    last: dict[str, str] = {}

    def hook_for(name: str):
        def hook(module: nn.Module, _inputs: object, output: object) -> None:
            shapes = {key: tuple(tensor.shape) for key, tensor in list_tensors(output).items()}
            outputs.setdefault(name, shapes)
            if _width(module) is None or len(shapes) != 1:
                return
            parts = name.split(".")
            for depth in range(1, len(parts)):
                last[".".join(parts[:depth])] = name

        return hook

    handles = [module.register_forward_hook(hook_for(name)) for name, module in network.named_modules() if name]
    with torch.inference_mode():
        network(images[:1])
    for handle in handles:
        handle.remove()
    wanted = [
        LayerRequest(name + (f"/{key}" if key else ""), name, call=1, element=key)
        for name, shapes in outputs.items()
        for key in shapes
    ]
    same = {name: inner for name, inner in last.items() if outputs.get(name) == outputs.get(inner)}
    return wanted, same


def row(result: Found) -> str:
    """One line of the table."""
    images = result.modules - result.other_axis
    share = 100 * len(result.refused) / max(images, 1)
    blocks = ", ".join(result.refused_blocks[:3]) if PLAIN.match(result.architecture) else ""
    cells = (
        result.architecture,
        result.modules,
        result.other_axis,
        result.labelled,
        result.right,
        len(result.wrong),
        f"{len(result.refused)} ({share:.1f} %)",
        blocks or "-",
        f"{result.seconds:.0f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


COLUMNS = (
    "architecture",
    "tensors",
    "first axis not the images",
    "labelled",
    "width known, right",
    "wrong",
    "refused",
    "stages, blocks, heads refused",
    "s",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Which axis of every module of many architectures is pooled to.")
    parser.add_argument("file", type=Path, help="architectures, one a line")
    parser.add_argument("--only", nargs="*", default=(), help="some of them")
    parser.add_argument("--out", type=Path, help="where the table is written, line by line")
    asked = parser.parse_args(arguments)
    names = [name for name in read_lines(asked.file, setting="FILE") if name and (not asked.only or name in asked.only)]
    lines = [HEAD]
    print(HEAD, flush=True)
    reasons: Counter[str] = Counter()
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                result = survey(name)
            except Exception as error:  # one architecture that fails must not end the survey
                print(f"| {name} | {type(error).__name__}: {str(error)[:200]} |", flush=True)
                continue
        lines.append(row(result))
        print(lines[-1], flush=True)
        for wrong in result.wrong[:5]:
            print(f"  wrong {wrong}", flush=True)
        for reason in list(result.refused.values())[:6]:
            print(f"  refused {reason[:160]}", flush=True)
        reasons.update(re.sub(r"'.*?'|\d+( x \d+)*", "_", reason)[:70] for reason in result.refused.values())
        if asked.out:
            asked.out.write_text("\n".join(lines) + "\n")
    print(reasons.most_common(), flush=True)


if __name__ == "__main__":
    main()
