"""How the documentation is built: `make docs` (Sphinx, warnings as errors)."""

import re
from importlib import metadata
from typing import Any

project = "StylEx"
author = "The StylEx contributors"
copyright = "The StylEx contributors, Apache-2.0"
release = version = metadata.version("stylex")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"  # one backtick in a docstring means what it means in Markdown
html_theme = "furo"
html_title = f"StylEx {release}"

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # defaults as they are written, not as they print
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False


def setup(app: Any) -> None:
    """In docstrings `|x|` is a norm, not a reference of reStructuredText."""
    app.connect("autodoc-process-docstring", _bars)


def _bars(*event: Any) -> None:
    lines = event[-1]
    lines[:] = [re.sub(r"(`+[^`]*`+)|\|", lambda m: m[1] or r"\|", line) for line in lines]
