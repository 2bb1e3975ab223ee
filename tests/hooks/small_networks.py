"""Small networks whose layers are hard to read, each with what is known of it."""

import torch
from torch import nn


class Small(nn.Module):
    """A convolution whose output an in-place ReLU overwrites, blocks, a layer of two outputs, and a head."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()) for _ in range(2))
        self.unused = nn.Linear(2, 2)
        self.pair = Pair()
        self.fc = nn.Linear(4, 5)
        self.alias = self.fc

    def forward(self, x):
        x = self.act(self.conv(x))
        for block in self.blocks:
            x = block(x)
        x, _ = self.pair(x)
        return self.fc(x.mean((2, 3)))


class Pair(nn.Module):
    def forward(self, x):
        return x, {"more": 1}


class Patches(nn.Module):
    """A picture as tokens [images, tokens, dim], with `prefix` learnt tokens before them."""

    def __init__(self, dim=12, patch=8, prefix=("cls_token",)):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, patch)
        self.names = prefix
        for name in prefix:
            self.register_parameter(name, nn.Parameter(torch.randn(1, 1, dim)))

    def forward(self, x):
        x = self.proj(x).flatten(2).transpose(1, 2)
        prefix = [getattr(self, name).expand(len(x), -1, -1) for name in self.names]
        return torch.cat([*prefix, x], 1)


class SequenceFirst(nn.Module):
    """`nn.TransformerEncoderLayer` in its default layout, [tokens, images, dim]."""

    def __init__(self):
        super().__init__()
        self.patches = Patches()
        self.layer = nn.TransformerEncoderLayer(12, 2, 24, dropout=0.0)
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        return self.fc(self.layer(self.patches(x).transpose(0, 1)).mean(0))


class Windows(nn.Module):
    """An inner layer that sees the four quarters of each image as images of their own."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 6, 1)
        self.outer = nn.Conv2d(6, 7, 1)

    def forward(self, x):
        height, width = x.shape[2] // 2, x.shape[3] // 2
        x = x.unfold(2, height, height).unfold(3, width, width).permute(0, 2, 3, 1, 4, 5)
        x = self.inner(x.flatten(0, 2).contiguous())
        return self.outer(x.unflatten(0, (-1, 4)).mean(1))


class Positions(nn.Module):
    """Layers over [images, channels, positions]."""

    def __init__(self):
        super().__init__()
        self.patches = Patches(dim=12, prefix=())
        self.conv = nn.Conv1d(12, 6, 1)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x):
        return self.norm(self.conv(self.patches(x).transpose(1, 2))).mean(2)


class Repeated(nn.Module):
    """One block called three times, and a layer that gives two tensors and a dictionary."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.block = nn.Conv2d(4, 4, 1)
        self.split = Split()
        self.named = Named()
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = self.conv(x)
        for _ in range(3):
            x = self.block(x)
        first, (second, _) = self.split(x)
        return self.fc(self.named(first, second)["pooled"])


class Split(nn.Module):
    def forward(self, x):
        return x[:, :1], (x, None)


class Named(nn.Module):
    def forward(self, first, second):
        return {"first": first, "pooled": second.mean((2, 3))}


class Square(nn.Module):
    """Maps of 8 channels and 8 x 8 positions, channels first and last; only another input size tells them apart."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.first = Doubled()
        self.last = Doubled()

    def forward(self, x):
        x = self.first(self.conv(x))
        return self.last(x.permute(0, 2, 3, 1) + 1).mean((1, 2))


class Doubled(nn.Module):
    """A block that is no layer of known structure."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x):
        return 2 * x.clone()


class Made(nn.Module):
    """A network whose one layer gives what a function makes of the image."""

    def __init__(self, function):
        super().__init__()
        self.layer = Function(function)

    def forward(self, x):
        return self.layer(x)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)
