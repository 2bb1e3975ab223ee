"""A reader's folder: the checkout as it is seen from a shell, and the files of theirs that the pages speak of."""

from pathlib import Path

import numpy as np
import torch
from pages import ROOT
from safetensors.torch import save_file
from torchvision.models import resnet18

from cd_exp import probes

CHECKOUT = ("run.py", "cd_exp", "conf", "experiments", "notebooks", "benchmarks", ".venv")
WORDS = ("red", "green", "blue", "yellow", "circle", "square", "star", "striped", "dotted", "bricks")
CLASSES = ("cat", "dog", "horse", "ship", "truck", "frog", "bird", "deer", "plane", "car")


def furnish(folder: Path) -> Path:
    """Links to the checkout, forty pictures, lists of words, weights, labels of others, an autoencoder, embeddings."""
    for name in CHECKOUT:
        (folder / name).symlink_to(ROOT / name)
    _pictures(folder)
    for name, lines in (("my_words.txt", WORDS), ("my_classes.txt", CLASSES)):
        (folder / name).write_text("\n".join(lines) + "\n")
    torch.manual_seed(0)
    torch.save(resnet18(num_classes=len(CLASSES)).state_dict(), folder / "my.pth")
    rows = "\n".join(f"fc,{unit},red circle,0.5" for unit in range(100))
    (folder / "labels_of_others.csv").write_text(f"layer,unit,description,similarity\n{rows}\n")
    _autoencoder(folder / "sae.safetensors")
    _matrix(folder)
    return folder


def _pictures(folder: Path) -> None:
    for path in ("my_images", "photos"):
        (folder / path).mkdir()
        for number, picture in enumerate(probes.shapes(size=40, seed=5)):
            picture.save(folder / path / f"{number:02d}.png")


def _autoencoder(path: Path, width: int = 192, latents: int = 64) -> None:
    weight = torch.randn(width, latents, generator=torch.Generator().manual_seed(1))
    decoder = weight.T.contiguous()
    tensors = {"W_enc": weight, "b_enc": torch.zeros(latents), "W_dec": decoder, "b_dec": torch.zeros(width)}
    save_file(tensors, path, {"activation": "topk", "k": "32"})


def _matrix(folder: Path, images: int = 40, dim: int = 16) -> None:
    """Activations and embeddings made elsewhere, of the same images."""
    draw, lines = np.random.default_rng(0), "".join(f"{number:02d}.png\n" for number in range(images))
    (folder / "acts").mkdir()
    (folder / "embeddings").mkdir()
    np.save(folder / "acts" / "layer4.npy", draw.random((images, 12), dtype=np.float32))
    np.save(folder / "embeddings" / "image_embeddings.npy", draw.normal(size=(images, dim)).astype(np.float32))
    np.save(folder / "embeddings" / "words_text.npy", draw.normal(size=(len(WORDS), dim)).astype(np.float32))
    (folder / "embeddings" / "words_names.txt").write_text("\n".join(WORDS) + "\n")
    for path in ("acts", "embeddings"):
        (folder / path / "images.txt").write_text(lines)
