"""A run end to end against a hub and an archive served on this machine: what downloads, what is kept, what fails how.

The layouts are the real ones (timm's and open_clip's repositories, CIFAR's binary archive), files have the true shapes
and random numbers, so labels mean nothing here. The full size is `model=resnet50 similarity=soft_wpmi` with 2,000
images; the quick one has small networks and is part of the tests.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # the server of the tests

ARCHIVE = "cifar-100-binary.tar.gz"
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def run(quick: bool, only: Sequence[str], runs: int) -> dict[str, Any]:
    """Every step with its seconds, what was asked of the servers, and the last line that it left."""
    from helpers.serving import serving, serving_hub

    del runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = small(folder) if quick else full(folder)
        (folder / "site").mkdir()
        checksum = archive(folder / "site" / ARCHIVE, images=40 if quick else 2000)
        with serving(folder / "site") as site, serving_hub(made["repositories"]) as hub:
            words = [*made["words"], f"probe.url={site.url}{ARCHIVE}", f"data_dir={folder}/data"]
            words += [f"cache.dir={folder}/cache", "similarity=soft_wpmi", "logger=none", "features.progress=false"]
            asked = _Asked(folder, hub, site, words, checksum)
            return {
                "step": {name: asked.step(name, **how) for name, how in STEPS.items() if not only or name in only},
                "words": words,
            }


STEPS: Mapping[str, Mapping[str, Any]] = {
    "first run": {},
    "again": {},
    "again, offline": {"environment": {"HF_HUB_OFFLINE": "1"}, "url": "http://127.0.0.1:9/"},
    "no repository": {"more": ["model.architecture=resnet10t.c3_in1k"], "home": "other"},
    "cut off": {"hub": "cut", "home": "other"},
    "no hub": {"environment": {"HF_ENDPOINT": "http://127.0.0.1:9"}, "home": "other"},
    "wrong checksum": {"checksum": "md5:" + "0" * 32, "data": "other"},
    "no archive": {"archive": "absent.tar.gz", "data": "third"},
}


class _Asked:
    """Runs of the command line against the servers."""

    def __init__(self, folder: Path, hub: Any, site: Any, words: Sequence[str], checksum: str) -> None:
        self.folder, self.hub, self.site, self.words, self.checksum = folder, hub, site, words, checksum

    def step(
        self,
        name: str,
        *,
        environment: Mapping[str, str] | None = None,
        more: Sequence[str] = (),
        home: str = "home",
        data: str = "data",
        url: str | None = None,
        archive: str = ARCHIVE,
        checksum: str | None = None,
        hub: str = "",
    ) -> dict[str, Any]:
        """One run; what it asked for and how it ended."""
        self.hub.asked.clear(), self.site.asked.clear()
        self.hub.cut = bool(hub)
        settings = {"HF_ENDPOINT": self.hub.url, "HF_HOME": f"{self.folder}/{home}", "WANDB_MODE": "disabled"}
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "CD_EXP"))}
        results = self.folder / "results" / name.replace(" ", "_").replace(",", "")
        words = [*self.words, f"probe.checksum={checksum or self.checksum}", f"hydra.run.dir={results}", *more]
        words += [f"data_dir={self.folder}/{data}", f"probe.url={url or self.site.url}{archive}"]
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "run.py", *words],
            cwd=ROOT,
            env={**clean, **settings, **(environment or {})},
            capture_output=True,
            text=True,
        )
        labels = results / "labels.csv"
        return {
            "seconds": round(time.perf_counter() - began, 1),
            "status": done.returncode,
            "downloaded": [
                line.removeprefix("GET ") for line in self.hub.asked if "GET" in line and "/resolve/" in line
            ]
            + list(self.site.asked),
            "errors": done.stderr.strip().replace(str(self.folder), "DIR").splitlines(),
            "labels": hashlib.sha256(labels.read_bytes()).hexdigest()[:12] if labels.exists() else None,
        }


def small(folder: Path) -> dict[str, Any]:
    """Small networks: one of timm's own test architectures, and a CLIP in open_clip's layout."""
    import open_clip
    import timm
    import torch

    torch.manual_seed(0)
    (folder / "tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny.json")
    described = json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}).encode()
    clip = {
        "open_clip_model.safetensors": saved(open_clip.create_model("tiny"), folder / "clip.safetensors"),
        "open_clip_config.json": described,
    }
    network = saved(timm.create_model("test_resnet.r160_in1k"), folder / "network.safetensors")
    words = ["model=timm", "model.architecture=test_resnet.r160_in1k", "model.layers=[layer3,fc]", "model.final=fc"]
    words += ["clip=open_clip", "clip.architecture=hf-hub:somebody/tiny", "similarity.top_k=10", "features.workers=0"]
    repositories = {"timm/test_resnet.r160_in1k": {"model.safetensors": network}, "somebody/tiny": clip}
    return {"words": words, "repositories": repositories}


def full(folder: Path) -> dict[str, Any]:
    """The paper's setting: a ResNet-50 and OpenAI's ViT-B/16."""
    import open_clip
    import timm
    import torch

    torch.manual_seed(0)
    network = saved(timm.create_model("resnet50.tv_in1k"), folder / "network.safetensors")
    clip = saved(open_clip.create_model("ViT-B-16-quickgelu"), folder / "clip.safetensors")
    repositories = {
        "timm/resnet50.tv_in1k": {"model.safetensors": network},
        "timm/vit_base_patch16_clip_224.openai": {"open_clip_model.safetensors": clip},
    }
    return {"words": ["model=resnet50"], "repositories": repositories}


def saved(network: Any, path: Path) -> Path:
    """The weights of a network as a file."""
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return path


def archive(path: Path, *, images: int) -> str:
    """CIFAR-100 as it is published, of random images; its checksum."""
    records = np.random.default_rng(0).integers(0, 256, (images, 2 + 3072), dtype=np.uint8)
    with tarfile.open(path, "w:gz") as tar:
        for file, rows in (("train.bin", records), ("test.bin", records[:10])):
            member = tarfile.TarInfo(f"cifar-100-binary/{file}")
            member.size = rows.nbytes
            tar.addfile(member, io.BytesIO(rows.tobytes()))
    return "md5:" + hashlib.md5(path.read_bytes()).hexdigest()
