"""Configuration of the documentation: ``sphinx-build -W -b html docs docs/_build/html``, no network needed."""

from __future__ import annotations

import wideangle

project = "wideangle"
author = "The wideangle developers"
copyright = "the wideangle developers"
release = version = wideangle.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = False

myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"wideangle {release}"
html_copy_source = False
