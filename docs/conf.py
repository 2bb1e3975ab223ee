"""The documentation site: `make docs` builds it, with warnings as errors."""

import shutil
import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

project = "cd_exp"
author = "the authors of cd_exp"
project_copyright = "the authors of cd_exp, Apache-2.0"
version = release = version_of("cd-exp")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Notebooks and experiments lie where they are run; the site shows copies of them, the notebooks executed.
for name, kinds in {"notebooks": "*.ipynb", "experiments": "**/*.md"}.items():
    shutil.rmtree(HERE / name, ignore_errors=True)
    for path in sorted((HERE.parent / name).glob(kinds)):
        copy = HERE / name / path.relative_to(HERE.parent / name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "executed")
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
nitpicky = False

html_theme = "furo"
html_title = "cd_exp"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_extra"]
(HERE / "_extra").mkdir(exist_ok=True)
copybutton_prompt_text = "$ "
suppress_warnings = ["myst.xref_missing", "mystnb.unknown_mime_type", "misc.highlighting_failure"]
