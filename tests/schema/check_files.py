"""Files held to their schemas: JSON by `jsonschema`, tables by the fields of their Table Schema.

The schemas let readers pass over keys that they do not know. Here every key has to be in them.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from cd_exp import explorer
from cd_exp.schema import read_schema

TYPES = {"integer": int, "number": float, "string": str}
BY_NAME = [
    (r"labels(_.+)?\.csv", "labels"), (r"judged\.csv", "judged"), (r"consensus\.csv", "consensus"),
    (r"sweep\.csv", "sweep"), (r"answers\.csv", "study_answers"), (r"metrics\.json", "metrics"),
    (r"manifest\.json", "manifest"), (r"comparisons\.json", "comparisons"), (r"anova\.json", "anova"),
    (r"digests\.json", "digests"), (r"referee\.json", "referee"), (r"study\.json", "study"), (r"key\.json", "key"),
    (r"results\.json", "study_results"), (r"answers-.+\.json", "answers"),
]  # fmt: skip


def close(schema: Any) -> Any:
    """The schema without room for keys that it does not name."""
    if isinstance(schema, list):
        return [close(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: close(value) for key, value in schema.items()}
    names_keys = {"properties", "patternProperties"} & schema.keys()
    return closed | {"additionalProperties": False} if names_keys and "additionalProperties" not in schema else closed


def faults_of_json(value: Any, name: str) -> list[str]:
    """What a JSON value has that its schema does not allow."""
    validator = Draft202012Validator(close(read_schema(name)))
    return [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in validator.iter_errors(value)
    ]


def faults_of_table(path: Path, name: str) -> list[str]:
    """What a CSV file has that its Table Schema does not allow."""
    schema = read_schema(name)
    fields = {field["name"]: field for field in schema["fields"]}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        header, rows = list(reader.fieldnames or ()), list(reader)
    described = {column: fields.get(column) or family_of(column, schema) for column in header}
    faults = [f"column {column} is not in the schema" for column, field in described.items() if field is None]
    faults += [
        f"no column {field}" for field in fields if "required" in _constraints(fields[field]) and field not in header
    ]
    in_order = [column for column in header if column in fields]
    faults += [] if in_order == [field for field in fields if field in header] else ["the columns are in another order"]
    for number, row in enumerate(rows, 1):
        for column, cell in row.items():
            if described[column] and (fault := fault_of_cell(cell, described[column])):
                faults.append(f"row {number}, {column}: {cell!r} {fault}")
    key = schema.get("primaryKey", ())
    keys = [tuple(row.get(column) for column in key) for row in rows] if key else []
    return faults + ([] if len(set(keys)) == len(keys) else ["a row of the same key stands twice"])


def family_of(column: str, schema: dict) -> dict | None:
    """The description of a column whose name is free."""
    return next((family for family in schema.get("families", ()) if re.search(family["pattern"], column)), None)


def _constraints(field: dict) -> dict:
    return field.get("constraints", {})


def fault_of_cell(cell: str, field: dict) -> str:
    """Why a cell is none of its field; empty where it is one."""
    constraints = _constraints(field)
    if cell == "":
        return "is empty" if constraints.get("required") else ""
    try:
        value = TYPES[field["type"]](cell)
    except ValueError:
        return f"is no {field['type']}"
    if "minimum" in constraints and value < constraints["minimum"]:
        return f"is below {constraints['minimum']}"
    if "maximum" in constraints and value > constraints["maximum"]:
        return f"is above {constraints['maximum']}"
    if "enum" in constraints and value not in constraints["enum"]:
        return f"is none of {constraints['enum']}"
    return "" if re.search(constraints.get("pattern", ""), cell) else "does not have the form"


def check_folder(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Each file below a folder that has a schema, with the name of the schema and what is wrong."""
    for path in sorted(folder.rglob("*")):
        name = next((schema for pattern, schema in BY_NAME if re.fullmatch(pattern, path.name)), None)
        if "cache" in path.relative_to(folder).parts or "wandb" in path.parts:
            continue
        if path.as_posix().endswith("explorer/index.html"):
            yield str(path), "explorer", faults_of_json(dict(explorer.read_pages(path.parents[1]).parts), "explorer")
        elif name and path.suffix == ".csv":
            yield str(path), name, faults_of_table(path, name)
        elif name:
            yield str(path), name, faults_of_json(json.loads(path.read_text(encoding="utf-8")), name)
