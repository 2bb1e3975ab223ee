"""Where in its strongest images a unit is active: small maps for the unit page.

They were kept while the features were computed (`cd_exp.features.strongest_maps`). Where they were not, because the
features are older, the units are latents, or the layers are too many, one more pass makes them when it is asked for.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from cd_exp.cache import Entry
from cd_exp.dissection import RunData
from cd_exp.errors import ReadOnlyFolder
from cd_exp.features import find_layers, read_maps
from cd_exp.features.strongest_maps import Region, crop_region, shrink_maps

LEVELS = 100  # from the least to the greatest activation in the maps of a unit
MISSING = 255  # everywhere in the map of an image that there is none of


def make_heat_maps(
    run: RunData, strongest: Mapping[str, Int[np.ndarray, "neurons shown"]], *, again: bool
) -> tuple[dict[str, UInt8[np.ndarray, "neurons shown height width"]], Region | None]:
    """The activation maps of each unit for its strongest images, from the cache where they are there.

    Maps are averaged to 12 rows and columns at most and scaled to 0 ... `LEVELS` for each unit.

    Args:
        run: what the run has.
        strongest: by layer the images of each unit, as indices into the probe.
        again: whether the network sees these images once more where their maps were not kept.

    Returns:
        The maps of the layers that have an extent (tokens count where they are the patches of the image), and what the
        network sees; without maps where its transform cuts images of different shapes differently.
    """
    maps, region = _find_kept_maps(run, strongest)
    missing = {layer: images for layer, images in strongest.items() if layer not in maps}
    if not (again and missing):
        return maps, region
    more, seen = _make_heat_maps(run, missing)
    return {**maps, **more}, region or seen


def _find_kept_maps(
    run: RunData, strongest: Mapping[str, Int[np.ndarray, "neurons shown"]]
) -> tuple[dict[str, np.ndarray], Region | None]:
    maps, region = {}, None
    for layer, images in strongest.items():
        arrays = run.store.find_arrays(run.features.maps[layer]) if layer in run.features.maps else None
        if arrays is not None:
            maps[layer] = select_maps(arrays["maps"], arrays["images"], images)
            region = Region(*arrays["region"].tolist())
    return maps, region


def select_maps(
    maps: np.ndarray, kept: Int[np.ndarray, "neurons kept"], shown: Int[np.ndarray, "neurons shown"]
) -> UInt8[np.ndarray, "neurons shown height width"]:
    """The maps of the images shown, scaled over them; `MISSING` where an image has none.

    Args:
        maps: of the images that were kept for each unit.
        kept: these images.
        shown: those that a page shows.
    """
    same = shown[:, :, None] == kept[:, None, :]
    chosen = np.take_along_axis(maps, same.argmax(axis=2)[:, :, None, None], axis=1)
    return _scale_levels(chosen, same.any(axis=2))


def _make_heat_maps(
    run: RunData, strongest: Mapping[str, Int[np.ndarray, "neurons shown"]]
) -> tuple[dict[str, UInt8[np.ndarray, "neurons shown height width"]], Region | None]:
    layers = find_layers(run.model, run.probe, list(strongest), run.store)
    wide = {layer.name: layer.grid for layer in layers if layer.grid is not None and max(layer.grid) > 1}
    region = crop_region(run.model.build().transform) if wide else None
    if region is None:
        return {}, None
    shown = {layer: strongest[layer] for layer in wide}
    digest = sha256(b"".join(np.ascontiguousarray(images).tobytes() for images in shown.values())).hexdigest()
    content = {
        "model": run.model.key,
        "layers": list(wide),
        "probe": run.probe.fingerprint,
        "images": digest,
        **run.settings.describe_numbers(),
    }
    entry = Entry("heat_maps", content)
    arrays = run.store.find_arrays(entry)
    if arrays is None:
        made = _pass_again(run, shown)
        try:
            with run.store.lock([entry]):
                run.store.save_arrays(entry, {str(number): part for number, part in enumerate(made.values())})
        except ReadOnlyFolder:
            run.store.note_unsaved(entry)
        return made, region
    return {layer: arrays[str(number)] for number, layer in enumerate(wide)}, region


def _pass_again(
    run: RunData, shown: Mapping[str, Int[np.ndarray, "neurons shown"]]
) -> dict[str, UInt8[np.ndarray, "neurons shown height width"]]:
    """One pass over the images that some unit is shown with."""
    images = np.unique(np.concatenate([part.ravel() for part in shown.values()]))
    one_pass = read_maps(
        run.model, run.probe, layers=list(shown), kept=images.tolist(), store=run.store, settings=run.settings
    )
    kept: dict[str, np.ndarray] = {}
    for indices, by_layer in one_pass():
        for layer, values in by_layer.items():
            small = shrink_maps(values).cpu().numpy()
            if layer not in kept:
                kept[layer] = np.zeros((*shown[layer].shape, *small.shape[2:]), dtype=np.float32)
            for row, image in enumerate(indices):
                units, columns = np.nonzero(shown[layer] == image)
                kept[layer][units, columns] = small[row, units]
    return {layer: _scale_levels(kept[layer], np.ones(shown[layer].shape, dtype=bool)) for layer in shown}


def _scale_levels(
    values: np.ndarray, present: Bool[np.ndarray, "neurons shown"]
) -> UInt8[np.ndarray, "neurons shown height width"]:
    counted = np.where(present[:, :, None, None], values.astype(np.float32), np.nan)
    counted[~present.any(axis=1)] = 0  # a unit without any
    low, high = (reduce(counted, axis=(1, 2, 3), keepdims=True) for reduce in (np.nanmin, np.nanmax))
    levels = (counted - low) / np.where(high > low, high - low, 1) * LEVELS
    return np.where(present[:, :, None, None], np.rint(np.nan_to_num(levels)), MISSING).astype(np.uint8)


def find_rows(strongest: Mapping[str, Tensor], kept: Sequence[int]) -> dict[str, Int[np.ndarray, "neurons shown"]]:
    """Rows of the features, `[shown, neurons]`, as indices into the probe, `[neurons, shown]`."""
    indices = np.asarray(kept)
    return {layer: indices[rows.T.numpy()] for layer, rows in strongest.items()}
