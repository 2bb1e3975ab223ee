"""`python -m cd_exp.schema [NAME] [--json]`: the schemas of the files that cd_exp writes."""

import json
import sys

from cd_exp.errors import InputError, OneLineParser
from cd_exp.io.text import escape_for_terminal
from cd_exp.schema.catalog import list_schemas, read_schema


def main(arguments: list[str] | None = None) -> int:
    """Print one schema, or the names of all.

    Returns:
        The exit status: 0, or 2 for a name that there is not.
    """
    parser = OneLineParser(
        prog="python -m cd_exp.schema",
        description="Print the schema of a file that cd_exp writes: a JSON Schema, of a CSV file a Table Schema.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the schema; without it, all are listed")
    parser.add_argument("--json", action="store_true", help="list as JSON; a schema always is JSON")
    options = parser.parse_args(arguments)
    try:
        if options.name:
            print(json.dumps(read_schema(options.name), indent=1, ensure_ascii=False))
            return 0
    except InputError as error:
        if options.json:
            print(json.dumps({"error": str(error)}))
        else:
            print(f"error: {escape_for_terminal(error)}", file=sys.stderr)
        return 2
    schemas = {
        name: {key: schema[key] for key in ("version", "files", "description")}
        for name, schema in list_schemas().items()
    }
    if options.json:
        print(json.dumps(schemas, indent=1, ensure_ascii=False))
    else:
        for name, about in schemas.items():
            print(f"{name:<16} {about['version']}  {', '.join(about['files'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
