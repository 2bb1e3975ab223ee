"""One plug-in of each kind, in a world of plain colours: unit u of the network responds to colour channel u."""

import numpy as np
import torch
from PIL import Image
from torch import nn

from cd_exp.evaluation.judges import Judge
from cd_exp.records import Labels
from cd_exp.similarity import similarity_function

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}


@similarity_function()
def sharpened(match, neurons, *, power: float = 3.0):
    """Cosine of the activations to a power with the matches: scores of neurons x concepts."""
    images = nn.functional.normalize(neurons.double().clamp(min=0) ** power, dim=0)
    scores = (images.T @ match.images.double()) @ match.texts.double().T
    norms = match.texts.double() @ (match.images.double().T @ match.images.double()) @ match.texts.double().T
    return scores / norms.diagonal().clamp(min=1e-12).sqrt()


def colour_patches(*, count: int = 120):
    """Images of one colour each, in random brightness: the probe set."""
    generator = np.random.default_rng(0)
    chosen = generator.integers(len(COLOURS), size=count)
    bright = generator.uniform(80, 255, size=(count, 1)) * np.array(list(COLOURS.values()))[chosen]
    noise = generator.integers(0, 40, size=(count, 3))
    return [Image.new("RGB", (32, 32), tuple(int(v) for v in row)) for row in np.clip(bright + noise, 0, 255)]


def colour_names(*, more: list[str] = ()):
    """The concept set."""
    return [*COLOURS, *more]


class MeanColour:
    """A CLIP whose space is colour: an image is its mean colour, a text the colour of its name."""

    def preprocess(self, image):
        """From a PIL image to a tensor [3, 32, 32]."""
        return torch.from_numpy(np.asarray(image.convert("RGB").resize((32, 32)), dtype=np.float32) / 255).permute(
            2, 0, 1
        )

    def encode_image(self, batch):
        """Embeddings [images, 3]."""
        return batch.mean(dim=(2, 3)) + 0.01

    def encode_text(self, texts):
        """Embeddings [texts, 3]; grey for what is no colour."""
        return torch.tensor([COLOURS.get(text, (0.5, 0.5, 0.5)) for text in texts])


def mean_colour():
    """The CLIP."""
    return MeanColour()


def colour_channels(*, gain: float = 1.0):
    """A network whose three units are the mean red, green and blue, its transform, and its classes."""
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU())
    network[0].weight.data = gain * torch.eye(3)[:, :, None, None]
    return network, MeanColour().preprocess, list(COLOURS)


def brightest():
    """Another method: it calls unit u of every layer the u-th concept."""

    def method(run):
        names = run.concepts.names
        return {
            layer: Labels(
                layer,
                ours.units,
                top=tuple((names[unit % len(names)],) for unit in ours.units.tolist()),
                similarity=np.ones(len(ours.units)),
                truth=ours.truth,
            )
            for layer, ours in run.labels.items()
        }

    return method


class Correlation(Judge):
    """Correlates the activations on held-out images with the images' match to the label."""

    held_out = 0.3

    def __call__(self, held, asked):
        """By metric, one number per unit; NaN for a label that is no concept of the run."""
        images = held.features.images[held.scored_on].float()
        scores = []
        for labels in asked:
            activations = held.activations(labels.layer)[:, labels.units].float()
            texts = [held.concepts.names.index(label) for label in labels.labels]
            pairs = torch.stack([activations.T, (images @ held.texts[texts].float().T).T], dim=1)
            scores.append({"pearson": np.array([torch.corrcoef(pair)[0, 1].item() for pair in pairs])})
        return scores

    def known(self, held, labels):
        """Of each label whether it is a concept of the run."""
        return {label: label in held.concepts.names for label in labels}


def correlation():
    """The judge."""
    return Correlation()
