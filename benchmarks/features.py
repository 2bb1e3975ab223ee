"""Extraction from an empty cache against the bare networks: what decoding, pooling and storing cost beside the forward.

The two are timed in turn, so that what else the machine does falls on both; medians are compared. `bare` is the forward
of both built networks over ready-made tensors: same images, batches, memory format and threads, nothing else.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from cd_exp.cache import Store
from cd_exp.clips import OpenClip
from cd_exp.features import ExtractionSettings, extract
from cd_exp.features.dataloader import BATCH, iterate_batches, make_loader, to_device
from cd_exp.models import Network, TimmModel
from cd_exp.probes import files
from cd_exp.records import Probe

REAL = Path(__file__).parents[1] / "../shared/real"
LAYERS = ("layer1", "layer2", "layer3", "layer4", "fc")
AT_MOST = 1.10


@dataclass(frozen=True)
class Kept(TimmModel):
    """A model that is built once: `bare` has its network at hand too."""

    def build(self) -> Network:
        return _built(self)


_networks: dict[str, Network] = {}


def _built(model: TimmModel) -> Network:
    if model.name not in _networks:
        _networks[model.name] = TimmModel.build(model)
    return _networks[model.name]


def run(quick: bool = False, only: Sequence[str] = (), runs: int = 5) -> dict[str, Any]:
    """Measure, print a line as soon as it is known, and return what belongs into the record."""
    if not REAL.is_dir():
        print(f"skipped: no real photos at {REAL}", flush=True)
        return {"skipped": f"no {REAL.name} photos"}
    with tempfile.TemporaryDirectory() as name:
        return _measured(Path(name), quick, runs, ExtractionSettings(device="cpu", progress=False))


def _measured(folder: Path, quick: bool, runs: int, settings: ExtractionSettings) -> dict[str, Any]:
    began = time.perf_counter()
    model, clip = networks(folder)
    cpu = torch.device("cpu")
    modules = [to_device(network.module, cpu) for network in (_built(model), clip.image_tower())]
    built = time.perf_counter() - began
    probe = photos(folder, 8 if quick else 1)
    transforms = [_built(model).transform, clip.image_tower().transform]
    batches = iterate_batches(list(range(len(probe))), settings.batch_size or BATCH)
    ready = [inputs for _, inputs, _ in make_loader(probe, transforms, batches, settings, cpu)]

    def ours(number: int) -> None:
        extract(model, probe, clip, layers=LAYERS, store=Store(folder / f"cache{number}"), settings=settings)

    def decode(how: str) -> None:
        alone = ExtractionSettings(device="cpu", progress=False, workers=0, decode=how)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for _ in make_loader(probe, transforms, batches, alone, cpu):
            pass
        torch.set_num_threads(threads)

    ours(-1)
    bare(modules, ready[:2])
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": [], "decode": [], "decode fast": []}
    for number in range(runs):
        times["ours"].append(_seconds(lambda number=number: ours(number)))  # type: ignore[misc]
        times["bare"].append(_seconds(lambda: bare(modules, ready)))
        times["decode"].append(_seconds(lambda: decode("exact")))
        times["decode fast"].append(_seconds(lambda: decode("fast")))
    return _found(times, images=len(probe), built=built, batch=len(batches[0]), runs=runs)


def _found(times: dict[str, list[tuple[float, float]]], **facts: Any) -> dict[str, Any]:
    wall = {name: median(wall for wall, _ in runs_of) for name, runs_of in times.items()}
    cpu = {name: median(cpu for _, cpu in runs_of) for name, runs_of in times.items()}
    # Decoding is measured in one thread; shared out over the cores it would take this much longer than the forward.
    floor = wall["bare"] + cpu["decode"] / torch.get_num_threads()
    ratio = wall["ours"] / wall["bare"]
    print(
        f"{facts['images']} images: ours {wall['ours']:.2f} s, bare {wall['bare']:.2f} s, ratio {ratio:.3f} "
        f"(at most {AT_MOST}); to bare + decoding {wall['ours'] / floor:.3f}; in CPU seconds "
        f"{cpu['ours'] / cpu['bare']:.3f} ({cpu['ours']:.1f} and {cpu['bare']:.1f}, decoding {cpu['decode']:.1f}, "
        f"fast {cpu['decode fast']:.1f}); "
        f"median of {facts['runs']}; building the networks before {facts['built']:.1f} s",
        flush=True,
    )
    return {**facts, "ratio": ratio, "ratio_to_bare_and_decoding": wall["ours"] / floor, "wall_and_cpu_s": times}


@torch.inference_mode()
def bare(modules: Sequence[torch.nn.Module], ready: Sequence[Sequence[Tensor]]) -> None:
    for inputs in ready:
        for module, images in zip(modules, inputs, strict=True):
            module(images)


def networks(folder: Path) -> tuple[Kept, OpenClip]:
    """ResNet-18 with its weights, and a ViT-B-32 whose random weights go through a file as real ones do."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    weights = folder / "vit_b_32.safetensors"
    state = open_clip.create_model("ViT-B-32").state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, weights)
    resnet = str(REAL / "resnet18_imagenet1k.safetensors")
    model = Kept(name="resnet18", architecture="resnet18.tv_in1k", layers=LAYERS, final="fc", weights=resnet)
    return model, OpenClip("ViT-B-32", weights=str(weights))


def photos(folder: Path, step: int) -> Probe:
    """Every `step`-th of the real photos."""
    names = (REAL / "clip_vit_b_32/images.txt").read_text().split()
    (folder / "images.txt").write_text("\n".join(names[::step]))
    return files(root=str(REAL), path=str(folder / "images.txt"))


def _seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds, the latter with those of worker processes that ended meanwhile."""
    began = time.perf_counter(), _cpu()
    call()
    return time.perf_counter() - began[0], _cpu() - began[1]


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--step", type=int, default=8)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--workers", type=int)
    chosen = parser.parse_args()
    settings = ExtractionSettings(device="cpu", progress=False, batch_size=chosen.batch, workers=chosen.workers)
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(_measured(Path(name), chosen.step > 1, chosen.runs, settings)))
