"""The CLIP: an open_clip model with a convolutional image tower, trained on images and their captions."""

import argparse
import gzip
import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from renders import (
    HELD_OUT_SEED,
    TRAIN_SEED,
    Renders,
    batches,
    flipped,
    normalised,
    optimiser,
    print_share,
    render,
    save,
)
from torch import Tensor, nn

from cd_exp import shapes
from cd_exp.shapes.descriptions import FILLERS

# open_clip's defaults, so that its own transform fits the shipped weights without being told.
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
CAPTIONS = 4  # captions of each image; a step draws one of them
TOWER, DIM, WIDTH, LAYERS, CONTEXT = "test_resnet", 128, 96, 1, 20


def train(args: argparse.Namespace) -> None:
    vocabulary = write_merges(args.out / shapes.tokenizer_merges().name)
    config = args.out / shapes.clip_config().name
    config.write_text(json.dumps(model_config(vocabulary), indent=2) + "\n")
    open_clip.add_model_config(config)
    tokenizer = open_clip.get_tokenizer(shapes.CLIP, bpe_path=str(args.out / shapes.tokenizer_merges().name))
    model = open_clip.create_model(shapes.CLIP)
    model.visual.to(memory_format=torch.channels_last)
    seen = render(args.images, seed=TRAIN_SEED + args.seed, texts=CAPTIONS)
    held_out = render(args.held_out, seed=HELD_OUT_SEED + args.seed)
    fit(model, tokenizer, seen, held_out, args)
    report(model.eval(), tokenizer, held_out)
    save(model, args.out / shapes.clip_weights().name)


def fit(model: nn.Module, tokenizer: Any, seen: Renders, held_out: Renders, args: argparse.Namespace) -> None:
    texts = sorted({text for several in seen.captions for text in several})
    index_of = {text: index for index, text in enumerate(texts)}
    said = np.array([[index_of[text] for text in several] for several in seen.captions])
    tokens = tokenizer(texts)
    words = nn.Linear(DIM, tokenizer.vocab_size)  # predicts the caption's words while training, then thrown away
    steps = args.images // args.batch * args.epochs
    adam, schedule = optimiser([*model.parameters(), *words.parameters()], rate=args.rate, steps=steps)
    random = np.random.default_rng(args.seed)
    plan = batches(args.images, size=args.batch, epochs=args.epochs, seed=args.seed)
    for step, (epoch, chosen) in enumerate(plan):
        model.train()
        distinct, which = np.unique(said[chosen, random.integers(CAPTIONS, size=len(chosen))], return_inverse=True)
        which = torch.from_numpy(which)
        images = model.encode_image(flipped(normalised(seen.pixels[chosen], MEAN, STD)))
        loss = contrast(images, model.encode_text(tokens[distinct]), which, model.logit_scale.exp())
        loss_words = naming(words(images), tokens[distinct][which])
        adam.zero_grad()
        (loss + loss_words).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(50))
        if step % 50 == 49:
            print(epoch, step + 1, f"contrast {loss:.3f} words {loss_words:.3f} {args.clock()}", flush=True)
        if step % 300 == 299:
            report(model.eval(), tokenizer, held_out, few=1000)


def contrast(images: Tensor, texts: Tensor, which: Tensor, scale: Tensor) -> Tensor:
    """The contrastive loss of a batch whose captions may repeat: `which` gives each image's row of `texts`.

    Equal captions are one text that counts as often as it occurs, and has all of its images as positives.
    """
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    counts = torch.bincount(which, minlength=len(texts)).float()
    to_text = F.cross_entropy(logits + counts.log(), which)
    to_image = -logits.log_softmax(0)[torch.arange(len(which)), which].mean()
    return (to_text + to_image) / 2


def naming(predicted: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy to the words of the caption, each weighing the same, as SuperClass (arXiv:2411.03313) trains on.

    It sees nothing but captions, and teaches outlines far sooner than the contrast within small batches does.
    """
    target = torch.zeros_like(predicted).scatter_(1, tokens, 1.0)
    target[:, 0] = 0  # padding
    target[:, -2:] = 0  # start and end of text
    return F.cross_entropy(predicted, target / target.sum(1, keepdim=True))


@torch.inference_mode()
def report(model: nn.Module, tokenizer: Any, held_out: Renders, few: int | None = None) -> None:
    """Zero-shot accuracy on held-out renders: of the classes, and of each kind of attribute by its bare names."""
    images = normalised(held_out.pixels[:few], MEAN, STD).split(500)
    embedded = torch.cat([model.encode_image(batch, normalize=True) for batch in images])

    def hits(names: tuple[str, ...], truth: np.ndarray) -> np.ndarray:
        return (embedded @ model.encode_text(tokenizer(list(names)), normalize=True).T).argmax(1).numpy() == truth

    classes = hits(shapes.CLASSES, held_out.labels[:few])
    print_share("zero-shot classes", classes)
    for kind, names in enumerate((shapes.COLOURS, shapes.SHAPES, shapes.TEXTURES, shapes.BACKGROUNDS)):
        first = shapes.ATTRIBUTES.index(names[0])
        print_share(f"  {', '.join(names[:2])}, ...", hits(names, held_out.attributes[:few, kind] - first))
    if few is None:
        shares = {name: classes[held_out.labels == index].mean() for index, name in enumerate(shapes.CLASSES)}
        worst_first = sorted(shares, key=lambda name: shares[name])
        print("by class:", ", ".join(f"{name} {shares[name]:.2f}" for name in worst_first))


def model_config(vocabulary: int) -> dict[str, Any]:
    return {
        "embed_dim": DIM,
        "vision_cfg": {
            "timm_model_name": TOWER,
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": shapes.IMAGE_SIZE,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": vocabulary,
            "width": WIDTH,
            "heads": WIDTH // 32,
            "layers": LAYERS,
        },
    }


def write_merges(path: Path) -> int:
    """Learns byte-pair merges until each word that captions use is one token; returns the size of the vocabulary."""
    lexicon = {*shapes.ATTRIBUTES, *FILLERS, *shapes.EVERYDAY}
    words = [(*word[:-1], word[-1] + "</w>") for word in sorted(lexicon) if len(word) > 1]
    merges: list[tuple[str, str]] = []
    while any(len(word) > 1 for word in words):
        pairs = Counter(pair for word in words for pair in pairwise(word))
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        words = [_merged(word, merges[-1]) for word in words]
    # No newline at the end: the tokenizer would make a token of the empty line.
    text = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)])
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return 512 + len(merges) + 2  # bytes, bytes that end a word, start and end of text


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for piece in word:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return tuple(out)
