"""The version of the package, as `pyproject.toml` has it: stored features say which one made them."""

VERSION = "0.2.0"
