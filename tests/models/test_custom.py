import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cd_exp import dissect
from cd_exp.cache import Store
from cd_exp.clips import Precomputed
from cd_exp.errors import InputError
from cd_exp.features import ExtractionSettings, extract
from cd_exp.models import CustomModel
from cd_exp.models.custom import open_network
from cd_exp.records import Probe

FILE = """
import torch
from torch import nn

def make(units=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, units)), lambda picture: torch.ones(3, 2, 2), ["x", "y", "z"]

def wrong():
    return 1

def failing():
    return {}["weights"]

def lazy():
    return nn.Sequential(nn.LazyLinear(3))
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_a_network_of_the_users_own_file(own):
    model = CustomModel(name="mine", layers=["1"], final="1", factory=f"{own}:make")
    assert model.classes == ("x", "y", "z")
    assert isinstance(model.build().module[1], nn.Linear)
    other = CustomModel(name="mine", layers=["1"], factory=f"{own}:make", options={"units": 4})
    assert other.key != model.key


def test_a_network_whose_parameters_changed_has_another_key(own):
    first = CustomModel(name="mine", layers=["1"], factory=f"{own}:make")
    before = dict(first.key)
    changed = CustomModel(name="mine", layers=["1"], factory=f"{own}:make")
    with torch.no_grad():
        changed.build().module[1].bias += 1
    assert dict(changed.key) != before


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("{own}:mak", r"function 'mak' is not in .*did you mean 'make'"),
        ("{own}:wrong", r"returned a int; it must return .nn.Module, transform or None, class"),
        ("{own}:failing", r"model.factory=.*:failing failed: KeyError: 'weights' \(mine.py, line 13\)"),
        ("{own}:lazy", "0.bias has no size yet; show the network one image"),
        ("{own}", "write FILE.py:function"),
        ("none.py:make", "there is no such file"),
        ("no_such_package:make", "No module named 'no_such_package'"),
    ],
)
def test_a_factory_that_does_not_work_is_explained(own, factory, message):
    with pytest.raises(InputError, match=message):
        _ = CustomModel(name="mine", layers=["1"], factory=factory.format(own=own)).key


BEHAVING = """
import os
import numpy as np
import torch
from torch import nn
from neighbour import SCALE

class Layer(nn.Module):
    act = "relu"
    def forward(self, x):
        x = x.mean((2, 3)) * SCALE * float(os.environ.get("SCALE", "1"))
        return torch.relu(x) if self.act == "relu" else -x

def make(act="relu", seen=True):
    network = nn.Sequential(Layer())
    network[0].act = act
    return network, None if not seen else transform, None

def transform(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
"""


class Pictures(Probe):
    name, fingerprint, ids = "pictures", "four", [f"{index}.png" for index in range(4)]

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return Image.fromarray(np.random.default_rng(index).integers(0, 255, (8, 8, 3), dtype=np.uint8))


@pytest.fixture
def run(tmp_path):
    """The activations of the layer, and whether they were computed."""
    np.save(tmp_path / "image_embeddings.npy", np.eye(4, dtype=np.float32))
    (tmp_path / "images.txt").write_text("".join(f"{name}\n" for name in Pictures.ids))
    (tmp_path / "behaving.py").write_text(BEHAVING)
    (tmp_path / "neighbour.py").write_text("SCALE = 1.0\n")

    def extracted(**options):
        model = CustomModel(name="mine", layers=["0"], factory=f"{tmp_path / 'behaving.py'}:make", options=options)
        store = Store(tmp_path / "cache")
        settings = ExtractionSettings(device="cpu", progress=False, workers=0)
        features = extract(model, Pictures(), Precomputed(str(tmp_path)), layers=["0"], store=store, settings=settings)
        return features.activations["0"], any(name.startswith("activations") for name in store.made)

    return extracted


def test_an_option_that_sets_a_plain_attribute_is_another_network(run):
    relu, made = run(act="relu")
    assert made
    negative, made = run(act="neg")
    assert made
    assert torch.allclose(negative, -relu)
    again, made = run(act="relu")
    assert not made
    assert torch.equal(again, relu)


def test_an_edited_neighbour_is_another_network(run, tmp_path):
    before, _ = run()
    (tmp_path / "neighbour.py").write_text("SCALE = 3.0\n")
    after, made = run()
    assert made
    assert torch.allclose(after, 3 * before)


def test_a_behaviour_that_no_hash_sees_is_another_entry(run, monkeypatch):
    before, _ = run()
    monkeypatch.setenv("SCALE", "2")
    after, made = run()
    assert made
    assert torch.allclose(after, 2 * before)
    monkeypatch.setenv("SCALE", "1.0000001")  # as much as layouts and machines differ
    again, made = run()
    assert not made
    assert torch.equal(again, before)
    monkeypatch.setenv("SCALE", "2")
    assert not run()[1]  # both are kept


def test_a_network_alone_or_without_a_transform_is_enough(tmp_path):
    (tmp_path / "alone.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 2, 1))\n"
        "def named():\n    return nn.Sequential(nn.Conv2d(3, 2, 1)), None, ['a', None]\n"
    )
    network = CustomModel(name="mine", layers=["0"], factory=f"{tmp_path / 'alone.py'}:make").build()
    assert network.transform(Image.new("RGB", (300, 200))).shape == (3, 224, 224)
    assert "came without a transform; ImageNet's was used" in network.notes[0]
    assert CustomModel(name="mine", layers=["0"], factory=f"{tmp_path / 'alone.py'}:named").classes == ("a", "")


def test_weights_are_loaded_into_the_users_network(own, tmp_path):
    layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).state_dict()
    state = {f"net.{name}": torch.ones_like(value) for name, value in layers.items()}
    torch.save({"model_state_dict": state, "epoch": 3}, tmp_path / "weights.pth")
    model = CustomModel(name="mine", layers=["1"], factory=f"{own}:make", weights=str(tmp_path / "weights.pth"))
    assert torch.equal(model.build().module[1].weight, torch.ones(3, 12))


KINDS = """
import numpy as np
import torch
from torch import nn

def pixels(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255

class Viewed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, 3)
    def forward(self, x):
        return self.fc(self.conv(x).view(len(x), -1))

def seeded(make):
    torch.manual_seed(0)
    return make()

def flat():
    return seeded(lambda: nn.Sequential(nn.Linear(192, 5), nn.ReLU())), lambda picture: pixels(picture).flatten()

def viewed():
    return seeded(Viewed), pixels

def double():
    make = lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double()
    return seeded(make), lambda picture: pixels(picture).double()

def numpy():
    return seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 1))), lambda picture: np.array(picture).transpose(2, 0, 1) / 255

def batch():
    return seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 1))), lambda picture: pixels(picture)[None]

def dictionary():
    class Named(nn.Module):
        def forward(self, x):
            return {"maps": x, "pooled": x.mean((2, 3))}
    return nn.Sequential(Named()), pixels

def one_by_one():
    class Squeezed(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)).squeeze()
    return nn.Sequential(Squeezed()), pixels
"""


@pytest.mark.parametrize(
    ("factory", "layer", "units"),
    [
        ("flat", "1", 5),
        ("viewed", "fc", 3),
        ("double", "1", 3),
        ("numpy", "0", 4),
        ("batch", "0", 4),
        ("dictionary", "0/pooled", 3),
        ("one_by_one", "0", 3),
    ],
)
def test_what_users_bring_is_read(tmp_path, factory, layer, units):
    np.save(tmp_path / "image_embeddings.npy", np.eye(4, dtype=np.float32))
    (tmp_path / "images.txt").write_text("".join(f"{name}\n" for name in Pictures.ids))
    (tmp_path / "kinds.py").write_text(KINDS)
    model = CustomModel(name="mine", layers=[layer], factory=f"{tmp_path / 'kinds.py'}:{factory}")
    settings = ExtractionSettings(
        device="cpu", progress=False, workers=0, batch_size=3
    )  # the last batch is one picture
    clip, store = Precomputed(str(tmp_path)), Store(tmp_path / "cache")
    activations = extract(model, Pictures(), clip, layers=[layer], store=store, settings=settings).activations[layer]
    assert activations.shape == (4, units)
    network = model.build()
    with torch.inference_mode():
        outputs = network.module(torch.stack([network.transform(Pictures()[index]) for index in range(4)]))
    outputs = outputs["pooled"] if isinstance(outputs, dict) else outputs
    assert torch.allclose(activations, outputs.mean((2, 3)) if outputs.ndim == 4 else outputs, atol=1e-5)


def plain():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()


class Strange(torch.Tensor):
    """A tensor of another library, as torchao's quantised ones are."""


def strange():
    network = plain()
    network[0].weight = nn.Parameter(network[0].weight.data.as_subclass(Strange))
    return network


@pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated, and still what many networks are shipped as
@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (lambda: torch.jit.script(plain()), "a TorchScript network"),
        (lambda: torch.jit.trace(plain(), torch.randn(1, 3, 8, 8)), "a TorchScript network"),
        (lambda: torch.export.export(plain(), (torch.randn(2, 3, 8, 8),)), "an exported program"),
        (lambda: torch.export.export(plain(), (torch.randn(2, 3, 8, 8),)).module(), "an exported program"),
        (strange, r"a network of Strange \(quantised\?\)"),
    ],
)
def test_a_network_whose_layers_cannot_be_read_is_one_line_with_the_way_out(made, kind):
    way = "give the nn.Module that it was made from, or record its activations for units=matrix"
    with pytest.raises(InputError, match=f"net is {kind}, whose layers cannot be read from outside; {way}"):
        dissect(made(), images=[Image.new("RGB", (8, 8))] * 3, words=["a", "b"], clip="shapes", layers=["0"])


def test_a_compiled_network_is_read_as_the_one_within():
    network = plain()
    assert open_network(torch.compile(network), setting="net") is network
    assert open_network(torch.fx.symbolic_trace(network), setting="net") is not None
