"""The files that runs, sweeps, studies and referees leave, described for programs that read them.

python -m cd_exp.schema            # the names
python -m cd_exp.schema metrics    # JSON Schema of metrics.json; of tables a Frictionless Table Schema
"""

from cd_exp.schema.catalog import list_schemas, read_schema

__all__ = ["list_schemas", "read_schema"]
