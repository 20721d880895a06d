"""Sphinx configuration of the static site: notebooks and digests with their committed outputs, nothing executed."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = PROJECT["name"]
author = PROJECT["authors"][0]["name"]
extensions = ["myst_nb"]
include_patterns = ["nbs/**", "digests/**", "model/**"]
exclude_patterns = ["**/.ipynb_checkpoints"]
root_doc = "nbs/index"
html_theme = "sphinx_book_theme"
html_title = project
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]
nb_execution_mode = "off"  # committed outputs are the record; the tests keep them true
nb_merge_streams = True
nb_render_markdown_format = "gfm"  # tables in what cells display
myst_enable_extensions = ["dollarmath", "colon_fence"]
suppress_warnings = ["mystnb.unknown_mime_type", "toc.not_included"]
