"""The schemas of this package: one JSON file each, beside this module.

A new key that readers may pass over, or a new column, changes no version. A key that is removed, renamed or means
something else does.
"""

import json
from importlib.resources import files
from typing import Any

from cd_exp.errors import unknown_name_error


def list_schemas() -> dict[str, dict[str, Any]]:
    """All schemas by name.

    >>> sorted(list_schemas())[:4]
    ['anova', 'answers', 'comparisons', 'consensus']
    """
    paths = sorted(files("cd_exp.schema").iterdir(), key=lambda path: path.name)
    return {
        path.name.removesuffix(".json"): json.loads(path.read_text(encoding="utf-8"))
        for path in paths
        if path.name.endswith(".json")
    }


def read_schema(name: str) -> dict[str, Any]:
    """One schema: a JSON Schema (draft 2020-12), or of a CSV file a Frictionless Table Schema.

    >>> read_schema("judged")["files"]
    ['judged.csv']

    Raises:
        InputError: there is none of this name.
    """
    schemas = list_schemas()
    if name not in schemas:
        raise unknown_name_error("schema", name, schemas)
    return schemas[name]
