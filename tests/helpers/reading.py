"""What runs wrote, read back."""

import csv
import json
from pathlib import Path
from typing import Any


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_metrics(folder: Path) -> dict[str, Any]:
    """`metrics.json` of a run."""
    return json.loads((folder / "metrics.json").read_text())


def file_states(folder: Path) -> dict[Path, tuple[int, bytes | bool]]:
    """When each file below a folder was changed, and what it holds."""
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}
