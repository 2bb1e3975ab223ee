"""What a package index shows: the README with its images and links, and the addresses of the project.

Hatch runs this when a wheel or sdist is built. An index shows neither images nor pages by relative paths. With
`CD_EXP_ADDRESS=https://HOST/OWNER/NAME` in the environment they become addresses of that repository; without it an
image is left out, its description stays, and a link becomes its text: no host is known to this checkout.
"""

import os
import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

PAPER = "https://arxiv.org/abs/2204.10965"
RELATIVE = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?://|#)(?P<path>[^)]+)\)")


class PackageIndex(MetadataHookInterface):
    """The dynamic fields of `[project]`."""

    def update(self, metadata: dict) -> None:
        """Set `readme` and `urls`."""
        address = os.environ.get("CD_EXP_ADDRESS", "").rstrip("/")
        text = write_readme((Path(self.root) / "README.md").read_text(encoding="utf-8"), address=address)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = {"Paper": PAPER}
        if address:
            pages = {"Documentation": "docs/index.md", "Changelog": "CHANGELOG.md"}
            metadata["urls"] |= {"Repository": address, "Issues": f"{address}/issues"}
            metadata["urls"] |= {name: f"{address}/blob/main/{path}" for name, path in pages.items()}


def write_readme(text: str, *, address: str) -> str:
    """The README for a place where relative paths lead nowhere."""

    def replace(match: re.Match[str]) -> str:
        if not address:
            return f"*{match['text']}*" if match["picture"] else match["text"]
        kind = "raw" if match["picture"] else "blob"
        return f"{match['picture']}[{match['text']}]({address}/{kind}/main/{match['path']})"

    text = RELATIVE.sub(replace, text)
    return text.replace("git clone ADDRESS", f"git clone {address}") if address else text
