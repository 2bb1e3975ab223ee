"""Any image dataset of the Hugging Face hub."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cd_exp.cache import hash_file
from cd_exp.errors import InputError, unknown_name_error
from cd_exp.io.download import is_reachable, refuse_download, show_progress
from cd_exp.probes.image_files import DecodedImages, NumberedIds

HUB = "https://huggingface.co"
"""Where data sets come from, unless `HF_ENDPOINT` names a mirror."""


@dataclass(frozen=True, eq=False, kw_only=True)
class HuggingFace(DecodedImages):
    """One image column of a dataset, decoded here and not by `datasets`, so that all sets treat images alike."""

    dataset: Any  # datasets.Dataset of one column, left undecoded
    column: str
    labels: Any = None  # the column with the classes, as a Dataset of its own

    @cached_property
    def image_classes(self) -> Sequence[str] | None:
        """The class of each image, where a column has them; an empty cell is no class."""
        if self.labels is None:
            return None
        (column,) = self.labels.features
        names = getattr(self.labels.features[column], "names", None)
        values = self.labels[:][column]
        if names is None:
            return ["" if label is None else str(label) for label in values]
        return ["" if label is None or label < 0 else names[label] for label in values]

    def digests(self, rows: Sequence[int]) -> Iterator[str]:
        """The hash of each of these images. Nothing is remembered here: every run reads every image once."""
        with show_progress("reading the probe images", len(rows)) as advance:
            for row in rows:
                source = self.source(row)
                yield hash_file(source) if isinstance(source, Path) else hashlib.sha256(source).hexdigest()
                advance(1)

    def source(self, index: int) -> Path | bytes:
        """The encoded image, or its file."""
        cell = self.dataset[index][self.column]
        return Path(cell["path"]) if cell["bytes"] is None else cell["bytes"]


def huggingface(
    *,
    path: str,
    split: str,
    column: str = "image",
    label: str | None = None,
    config: str | None = None,
    revision: str | None = None,
) -> HuggingFace:
    """A dataset of the hub, or a local folder or file that `datasets` reads; needs the extra `huggingface`.

    Args:
        path: a name on the hub, as in `uoft-cs/cifar10`, a folder of images or Parquet files, one that `save_to_disk`
            wrote, or a single Parquet, Arrow or JSON file.
        split: which of its splits.
        column: the column with the images.
        label: the column with their classes, numbers with names or texts; by default the only one with names.
        config: which of its configurations, where it has several.
        revision: the commit on the hub, to be sure of the same images later.

    Raises:
        InputError: `datasets` is not installed, the dataset cannot be had, or has no such split or column.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError("probe=huggingface needs the extra: pip install 'cd-exp[huggingface]'") from error
    if not Path(path).exists() and not os.environ.get("HF_HUB_OFFLINE"):
        _check_hub(path)
    try:
        table = _load_table(path, split, column, config, revision)
    except InputError:
        raise
    except (OSError, ValueError, KeyError) as error:  # the hub's own errors are OSErrors
        first = (str(error).splitlines() or [repr(error)])[0]
        raise InputError(f"probe.path={path} probe.split={split} cannot be loaded: {first}") from error
    if column not in table.features:
        raise unknown_name_error("column", column, table.features, where=f"in {path}")
    if not isinstance(table.features[column], datasets.Image):
        raise InputError(f"probe.column={column} of {path} holds {type(table.features[column]).__name__}, not images")
    if not len(table):
        raise InputError(f"probe.path={path} probe.split={split} holds no image")
    classes = _read_labels(table, label, path)
    undecoded = table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    ids = NumberedIds(f"{split}/", len(table))
    return HuggingFace(name=path, ids=ids, dataset=undecoded, column=column, labels=classes)


def _check_hub(path: str) -> None:
    """Refuse a data set that has to be downloaded, where that is withheld or cannot work."""
    hub = os.environ.get("HF_ENDPOINT") or HUB
    refuse_download(f"dataset {path}", f"{hub}/datasets/{path}")  # it may be in the hub's cache all the same
    if not is_reachable(hub):
        raise InputError(
            f"probe.path={path} is no folder here and {hub} cannot be reached; "
            "set probe.path=DIR to a local copy, or HF_HUB_OFFLINE=1 to use what the hub's cache holds"
        )


def _load_table(path: str, split: str, column: str, config: str | None, revision: str | None) -> Any:
    """The rows of a file, of a folder that `save_to_disk` wrote, or of a data set of the hub."""
    import datasets

    if Path(path).is_file():
        return _of_file(Path(path), split, column)
    if (Path(path) / "dataset_dict.json").exists():
        return datasets.load_from_disk(path)[split]
    if (Path(path) / "dataset_info.json").exists():
        return datasets.load_from_disk(path)
    return datasets.load_dataset(path, config, split=split, revision=revision)


FILES = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}


def _of_file(path: Path, split: str, column: str) -> Any:
    """The rows of one file; a column of texts holds paths, seen from the file."""
    import datasets

    if path.suffix == ".arrow":
        table = datasets.Dataset.from_file(str(path))
    elif path.suffix in FILES:
        table = datasets.load_dataset(FILES[path.suffix], data_files={split: str(path)}, split=split)
    else:
        raise InputError(f"probe.path={path} is a file; read are .arrow, {', '.join(FILES)}, or a folder")
    kind = table.features.get(column)
    if isinstance(kind, datasets.Image) or kind is None:
        return table
    if getattr(kind, "dtype", None) in ("string", "large_string"):
        rows = [str(path.parent / name) for name in table[column]]
        return table.remove_columns(column).add_column(column, rows).cast_column(column, datasets.Image())
    return table.cast_column(column, datasets.Image()) if isinstance(kind, dict) and "bytes" in kind else table


def _read_labels(table: Any, label: str | None, path: str) -> Any:
    """The column with the classes alone; None where none is named and not exactly one has named numbers."""
    import datasets

    named = [name for name, kind in table.features.items() if isinstance(kind, datasets.ClassLabel)]
    if label is None:
        return table.select_columns(named) if len(named) == 1 else None
    if label not in table.features:
        raise unknown_name_error("column", label, table.features, where=f"in {path}")
    kind = table.features[label]
    if label not in named and getattr(kind, "dtype", None) not in ("string", "large_string"):
        raise InputError(f"probe.label={label} of {path} holds {type(kind).__name__}, not the names of classes")
    return table.select_columns([label])
