"""The documentation site: `make docs` builds it from the whole repository, so links hold here and on the site alike."""

import re
import sys
from itertools import pairwise
from pathlib import Path

from docutils.nodes import Element, SkipNode
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

import cd_exp
from cd_exp.config.docs import write_settings_page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from dependencies import write_dependencies_page  # noqa: E402  a neighbour of this file

(ROOT / "docs" / "settings.md").write_text(write_settings_page())  # of the declarations as they are now
(ROOT / "docs" / "dependencies.md").write_text(write_dependencies_page())  # of what is installed here

project = "cd_exp"
project_copyright = "the authors of cd_exp, Apache-2.0"
version = release = cd_exp.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "experiments/**/README.md", "notebooks/*.ipynb", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = [".*", "outputs", "docs/_build", "**/.ipynb_checkpoints"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]  # a progress bar's widget has a text form beside it

# Notebooks are kept without outputs, so each is run; a store of outputs would not see a change of cd_exp.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_output_stderr = "remove"  # libraries say there that a notebook has no widgets; the tests read what ours says

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "cd_exp"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_extra", "llms.txt"]  # index.html leads to docs/index.html
html_math_renderer = "mathml"
html_show_sourcelink = False


def draw(self, node: Element) -> None:
    """MathML, which browsers draw by themselves: Sphinx's own renderer loads a script from the network."""
    self.body.append(tex2mathml(node.astext(), as_block=node.tagname == "math_block"))
    raise SkipNode


def as_rst(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text: `name` is code, |x| a norm, an indented block after a blank line a formula."""
    found, block = [], False
    for before, line in pairwise(["", *lines]):
        indented = line.startswith("    ")
        begins = indented and not block and not before.strip()
        block = begins or (block and (indented or not line.strip()))
        found += ["::", ""] if begins else []
        found.append(line if block or line.startswith(">>>") else marked_up(line))
    lines[:] = found


def marked_up(line: str) -> str:
    """Double backticks around code, and backslashes before what else would be markup of reStructuredText."""
    parts = line.split("`")
    parts[::2] = [re.sub(r"[|*]|_(?!\w)", r"\\\g<0>", text) for text in parts[::2]]
    return "``".join(parts)


def setup(app: Sphinx) -> None:
    """Sphinx calls it."""
    app.add_html_math_renderer("mathml", (draw, None), (draw, None))
    app.connect("autodoc-process-docstring", as_rst, priority=400)  # before napoleon, whose priority is 500
