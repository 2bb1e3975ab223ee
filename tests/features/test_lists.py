"""A layer kept as its units' strongest images and statistics: the same as from all activations, whatever happens."""

import multiprocessing
import os
import signal
from dataclasses import replace
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from test_kill import NETWORK

from cd_exp.activation_stats import activation_statistics, strongest_images
from cd_exp.cache import Entry, Store
from cd_exp.clips import Precomputed
from cd_exp.errors import InputError
from cd_exp.features import ExtractionSettings, extract, store_activations
from cd_exp.features.store_activations import Accumulator, TopKWriter, merge_summaries
from cd_exp.models import CustomModel
from cd_exp.records import Probe

pytestmark = pytest.mark.slow

shards = import_module("cd_exp.features.extract")  # `cd_exp.features.extract` is also the function

COUNT, SMALL, LAYERS = 43, 8, ("1", "3")
LOOKED = 3  # images that a network is looked at with before the first pass
DENSE = ExtractionSettings(device="cpu", progress=False, workers=0, batch_size=4, keep="dense")
LISTS = replace(DENSE, keep="lists")


class Noise(Probe):
    """Pictures of noise; those in `broken` cannot be read; after `last` the process is killed."""

    name = "noise"
    ids = tuple(f"{index}.png" for index in range(COUNT))
    fingerprint = ""

    def __init__(self, broken=(), last=COUNT):
        self.broken, self.last, self.shown = broken, last, []
        self.fingerprint = f"noise {broken}"

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        from PIL import Image

        if index > self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.shown.append(index)
        if index in self.broken:
            raise OSError("cannot identify image file")
        # Few different pictures, so that many activations are equal.
        return Image.fromarray(np.random.default_rng(index % 5).integers(0, 255, (8, 8, 3), dtype=np.uint8))


@pytest.fixture
def take(tmp_path):
    """`take_images(store, settings, k)`: the features of a small network."""
    (tmp_path / "network.py").write_text(NETWORK)
    np.save(tmp_path / "image_embeddings.npy", np.random.default_rng(0).normal(size=(COUNT, 6)).astype(np.float32))
    (tmp_path / "images.txt").write_text("\n".join(Noise.ids))
    return partial(taken, tmp_path)


def taken(folder, store, settings, k=7, probe=None, layers=LAYERS):
    model = CustomModel(name="tiny", factory=f"{folder / 'network.py'}:tiny", layers=list(LAYERS))
    clip = Precomputed(str(folder))
    how = {"settings": settings, "strongest": k, "shard": SMALL}
    return extract(model, probe or Noise(), clip, layers=layers, store=store, **how)


def killed(folder, cache, last, checkpoint):
    """A job that is killed when it opens an image after `last`."""
    torch.set_num_threads(1)
    store_activations.CHECKPOINT = checkpoint
    taken(folder, Store(cache), LISTS, probe=Noise(last=last))


@pytest.fixture(scope="module")
def server():
    """Processes fork from one that has imported torch and started no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cd_exp.clips", "cd_exp.features", "cd_exp.models"])
    return context


def assert_same(lists, dense, k=7):
    for layer in LAYERS:
        assert lists.units(layer) == dense.units(layer)
        one, other = lists.strongest(layer, k), dense.strongest(layer, k)
        assert torch.equal(one.values, other.values)
        assert torch.equal(one.indices, other.indices)
        assert one.images == other.images
        some, all_ = lists.statistics(layer, histogram=True), dense.statistics(layer, histogram=True)
        for field in ("least", "greatest", "firing", "counts", "dead"):
            assert torch.equal(getattr(some, field), getattr(all_, field)), field
        assert torch.allclose(some.mean, all_.mean)
        assert torch.allclose(some.deviation, all_.deviation, atol=1e-5)
    assert list(lists.kept) == list(dense.kept)
    assert torch.equal(lists.images, dense.images)


def test_lists_are_those_of_all_activations(take, tmp_path):
    assert_same(take(Store(tmp_path / "lists"), LISTS), take(Store(tmp_path / "dense"), DENSE))
    assert not (tmp_path / "lists" / "activations").exists()
    assert not list((tmp_path / "lists" / "partial").iterdir())


def test_unreadable_images_are_in_no_list_and_in_no_row(take, tmp_path):
    settings = [replace(one, on_error="skip") for one in (LISTS, DENSE)]
    probe = Noise(broken=(0, 9, 10, 42))
    lists, dense = (take(Store(tmp_path / one.keep), one, probe=probe) for one in settings)
    assert lists.skipped == dense.skipped == ["0.png", "9.png", "10.png", "42.png"]
    assert len(dense.activations["3"]) == len(lists.images) == COUNT - 4
    assert_same(lists, dense)
    own = np.load(next((tmp_path / "dense").glob("activations/*/values.npy")), mmap_mode="r")
    assert len(own) == COUNT - 4, "the unreadable rows are not stored, so nothing is copied to leave them out"


def test_a_longer_list_serves_a_shorter_one_and_a_shorter_one_is_made_longer(take, tmp_path):
    cache = tmp_path / "cache"
    take(Store(cache), LISTS, k=9)
    again = Store(cache)
    short = take(again, LISTS, k=3)
    assert (len(again.read), again.made) == (2, [])
    longer = Store(cache)
    features = take(longer, LISTS, k=20)
    assert len(longer.made) == 2
    assert torch.equal(features.strongest("3", 3).indices, short.strongest("3", 3).indices)
    assert take(Store(cache), LISTS, k=1000).strongest("3", 1000).values.shape[0] == COUNT
    with pytest.raises(InputError, match=r"9 of the strongest images .* were kept, and 12 are needed; .*keep=dense"):
        take(Store(tmp_path / "other"), LISTS, k=9).strongest("3", 12)


@pytest.mark.parametrize(
    "checkpoint",
    [-1.0, pytest.param(1e9, marks=pytest.mark.slow)],
    ids=["every shard written", "written at the end alone"],
)
def test_a_run_killed_in_between_continues_and_gives_the_same(server, take, tmp_path, checkpoint):
    cache = tmp_path / "cache"
    for last in (6, 20, 30):
        job = server.Process(target=killed, args=(tmp_path, cache, last, checkpoint))
        job.start()
        job.join()
        assert job.exitcode == -signal.SIGKILL
    left = list(cache.glob("partial/*/*.npz"))
    assert len(left) == (4 if checkpoint < 0 else 0), "one piece for each layer and job that came as far as a shard"
    probe = Noise()
    features = take(Store(cache), LISTS, probe=probe)
    assert probe.shown[LOOKED:] == list(range(24 if checkpoint < 0 else 0, COUNT))
    assert_same(features, take(Store(tmp_path / "dense"), DENSE))
    assert not list((cache / "partial").iterdir())
    assert not list(cache.rglob(".tmp-*"))


def test_a_run_that_is_stopped_by_an_exception_keeps_its_shards(take, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        take(Store(tmp_path / "cache"), LISTS, probe=Stopped())
    probe = Noise()
    features = take(Store(tmp_path / "cache"), LISTS, probe=probe)
    assert probe.shown[LOOKED:] == list(range(16, COUNT))
    assert_same(features, take(Store(tmp_path / "dense"), DENSE))


class Stopped(Noise):
    """Stops the run when it comes to image 21."""

    def __getitem__(self, index):
        if index > 20:
            raise KeyboardInterrupt
        return super().__getitem__(index)


@pytest.mark.parametrize("settings", [DENSE, LISTS], ids=["dense", "lists"])
def test_a_layer_that_is_further_than_another_does_not_stand_for_it(take, tmp_path, settings):
    store = Store(tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        take(store, settings, probe=Stopped(), layers=("1",))
    assert_same(take(store, settings), take(Store(tmp_path / "dense"), DENSE))


@pytest.mark.parametrize("settings", [DENSE, LISTS], ids=["dense", "lists"])
def test_precision_is_part_of_the_key(take, tmp_path, settings):
    first = take(Store(tmp_path / "cache"), settings, layers=("1",)).strongest("1", 3)
    again = Store(tmp_path / "cache")
    activations = take(again, replace(settings, precision="bfloat16"), layers=("1",)).strongest("1", 3)
    assert len(again.made) == 1
    assert not torch.equal(activations.values, first.values)


def test_a_piece_beside_the_one_that_took_its_place_counts_once(take, tmp_path, monkeypatch):
    store, entry = Store(tmp_path / "cache"), Entry("lists", {"of": "a test"})
    rows, images = torch.randn(COUNT, 4), np.arange(COUNT)
    lists = TopKWriter(store, entry, images=COUNT, kept=5, shard=SMALL)
    for number in range(3):
        lists.add(
            number, rows[number * SMALL : (number + 1) * SMALL], images[number * SMALL : (number + 1) * SMALL], []
        )
        lists.written = None  # as if the process was killed before it removed the smaller piece
        lists.close()
    assert len(list(lists.pieces.folder.glob("*.npz"))) == 3
    other = TopKWriter(store, entry, images=COUNT, kept=5, shard=SMALL)
    assert other.finished_shards() == {0, 1, 2}
    for number in range(3, 6):
        other.add(
            number, rows[number * SMALL : (number + 1) * SMALL], images[number * SMALL : (number + 1) * SMALL], []
        )
    other.close()
    other.publish("a test")
    arrays = store.find_arrays(entry)
    assert np.array_equal(arrays["indices"], strongest_images(rows, 5).indices)
    assert int(arrays["images"]) == COUNT


def test_a_damaged_piece_and_one_of_shorter_lists_are_made_again(tmp_path):
    store, entry = Store(tmp_path / "cache"), Entry("lists", {"of": "a test"})
    short = TopKWriter(store, entry, images=COUNT, kept=2, shard=SMALL)
    short.add(0, torch.randn(SMALL, 4), np.arange(SMALL), [])
    short.close()
    longer = TopKWriter(store, entry, images=COUNT, kept=5, shard=SMALL)
    assert longer.mend() == []
    assert longer.finished_shards() == set()
    longer.add(0, torch.randn(SMALL, 4), np.arange(SMALL), [])
    longer.close()
    path = next(longer.pieces.folder.glob("*.npz"))
    path.write_bytes(path.read_bytes()[:-1])
    assert "was damaged; it is made again" in longer.mend()[0]
    assert longer.finished_shards() == set()


def test_auto_keeps_all_below_the_limit_and_what_is_needed_above(take, tmp_path):
    whole = 4 * COUNT * sum(take(Store(tmp_path / "a"), DENSE).units(layer) for layer in LAYERS) / 1e9
    below = replace(DENSE, keep="auto", dense_limit=whole)
    assert set(take(Store(tmp_path / "b"), below, k=None).activations) == set(LAYERS)
    above = replace(below, dense_limit=whole / 1.01)
    assert set(take(Store(tmp_path / "c"), above).reduced) == set(LAYERS)
    stored = take(Store(tmp_path / "a"), above, k=None)
    assert set(stored.activations) == set(LAYERS), "what is stored already is read"


def test_what_reads_everything_is_refused_with_size_and_setting_before_the_first_image(take, tmp_path):
    probe = Noise()
    with pytest.raises(
        InputError, match=r"reads all activations of 43 images x \d+ units, .* GB .*features.keep=dense"
    ):
        take(Store(tmp_path / "cache"), LISTS, k=None, probe=probe)
    assert len(probe.shown) == LOOKED, "only what a layer's shape is found with"


def test_asking_for_all_activations_of_lists_names_the_setting(take, tmp_path):
    features = take(Store(tmp_path / "cache"), LISTS)
    with pytest.raises(InputError, match=r"only the strongest images of each unit of 3 were kept.*features.keep=dense"):
        features.activations["3"]
    with pytest.raises(KeyError):
        features.activations["none"]


def test_an_unknown_way_to_keep_is_refused(take, tmp_path):
    with pytest.raises(InputError, match=r"features.keep 'list' is not known; did you mean 'lists'"):
        take(Store(tmp_path / "cache"), replace(LISTS, keep="list"))


def test_a_disk_that_is_too_small_is_said_before_the_first_image(take, tmp_path, monkeypatch):
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 100))
    with pytest.raises(InputError, match=r"need 0.0 GB below .*set cache.dir .*features.keep=lists"):
        take(Store(tmp_path / "cache"), DENSE)


VALUES = st.sampled_from([0.0, 1.0, 2.0, 0.5, -1.0])


@examples(deadline=None)
@given(
    st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=30), st.integers(1, 6), st.integers(1, 7)
)
def test_an_accumulator_gives_what_all_rows_give(rows, k, size):
    neurons = torch.tensor(rows)
    running = Accumulator(k)
    for start in range(0, len(rows), size):
        running.add(neurons[start : start + size], torch.arange(start, min(start + size, len(rows))))
    summary, expected = running.reduced, strongest_images(neurons, k)
    assert torch.equal(summary.strongest.values, expected.values)
    assert torch.equal(summary.strongest.indices, expected.indices)
    assert torch.equal(summary.statistics.counts, activation_statistics(neurons, histogram=True).counts)
    assert merge_summaries([summary], k).strongest.images == len(rows)


def test_images_that_do_not_come_in_ascending_order_are_a_bug():
    running = Accumulator(2)
    running.add(torch.zeros(2, 1), torch.tensor([4, 5]))
    with pytest.raises(AssertionError, match="ascending"):
        running.add(torch.zeros(1, 1), torch.tensor([3]))
    assert store_activations.Accumulator(2).reduced is None
