"""The licences of what cd_exp installs, as the packages state them: `python docs/dependencies.py` prints them.

`make docs` writes the page `docs/dependencies.md`. Direct and indirect dependencies without extras count, as far as
this machine's platform and Python need them.
"""

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, requires

from packaging.requirements import Requirement

HEADING = """# Licences of dependencies

What `pip install cd-exp` brings on this platform, without extras, as each package states it. Extras are in
`pyproject.toml`; those of weights and data are on [another page](platforms.md).

| package | version | licence |
| --- | --- | --- |
"""


def list_dependencies(name: str = "cd-exp") -> Iterator[Distribution]:
    """All that a package needs at run time, once each, in alphabetical order."""
    found: dict[str, Distribution] = {}
    waiting = [(name, frozenset[str]())]
    while waiting:
        package, extras = waiting.pop()
        for text in requires(package) or ():
            needed = Requirement(text)
            if needed.marker and not any(needed.marker.evaluate({"extra": extra}) for extra in extras or {""}):
                continue
            key = re.sub(r"[-_.]+", "-", needed.name).lower()
            if key not in found:
                try:
                    found[key] = distribution(needed.name)
                except PackageNotFoundError:  # optional on this platform
                    continue
                waiting.append((needed.name, frozenset(needed.extras)))
    yield from (found[key] for key in sorted(found))


def read_licence(package: Distribution) -> str:
    """The licence as the package states it: an SPDX expression, else a short text, else its classifiers."""
    metadata = package.metadata
    stated = metadata.get("License-Expression") or ""
    text = (metadata.get("License") or "").strip()
    if not stated and text and len(text) < 60 and "\n" not in text and text != "UNKNOWN":
        stated = text
    classifiers = [value for value in metadata.get_all("Classifier") or () if value.startswith("License ::")]
    first = text.partition("\n")[0]
    return stated or ", ".join(value.rpartition(" :: ")[2] for value in classifiers) or first or "not stated"


def write_dependencies_page() -> str:
    """The page of licences, in Markdown."""
    rows = (f"| {p.metadata['Name']} | {p.version} | {read_licence(p)} |\n" for p in list_dependencies())
    return HEADING + "".join(rows)


if __name__ == "__main__":
    print(write_dependencies_page(), end="")
