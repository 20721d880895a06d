"""Sphinx configuration of the static site, which `build.py` stages and builds."""

import importlib.util
import sys
import tomllib
from functools import cache
from pathlib import Path

from sphinx import addnodes

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MATHJAX_PACKAGE = importlib.util.find_spec("sphinx-mathjax-offline").submodule_search_locations[0]
MATHJAX = Path(MATHJAX_PACKAGE) / "static" / "mathjax" / "tex-svg-full.js"  # one file that needs no fonts

sys.path.insert(0, str(HERE))
import machines  # noqa: E402

project = PROJECT["name"]
author = PROJECT["authors"][0]["name"]
extensions = [
    "myst_nb",
    "docstrings",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx_design",
    "sphinx_copybutton",
    "ablog",
    "sphinxcontrib.bibtex",
]

bibtex_bibfiles = ["../digests/references.bib"]

nb_execution_mode = "off"  # committed outputs are the record; the tests keep them true
nb_merge_streams = True
nb_metadata_to_fm = True  # date, tags and status of the digests
nb_render_markdown_format = "gfm"  # tables in what cells display
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_ipywidgets_js = {}  # would be fetched from another host
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_inline", "colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]

autodoc_typehints = "description"
autodoc_preserve_defaults = True
autodoc_use_type_comments = False  # there are none
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

blog_path = "digests/archive"
blog_title = f"{project} digests"
blog_baseurl = PROJECT["urls"]["Homepage"]
blog_post_pattern = ["digests/[0-9]*"]
blog_feed_fulltext = True
post_auto_excerpt = 2  # status and subtitle, in the archive
post_auto_image = 0
post_show_prev_next = False  # the theme shows them already
post_date_format = post_date_format_short = "%Y-%m-%d"

mathjax_path = MATHJAX.name
html_theme = "sphinx_book_theme"
html_title = project
html_context = {"default_mode": "auto"}
templates_path = ["_templates"]
html_static_path = [str(HERE / "_static"), str(MATHJAX)]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "repository_url": PROJECT["urls"]["Repository"],
    "use_repository_button": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "navbar_persistent": [],  # one search field is enough
}


def tell_machines(app, name, template, context, doctree):
    "Add what `machines` knows of a page to its head."
    context["metatags"] = context.get("metatags", "") + machines.head(name, blog_baseurl)


@cache
def pages(env):
    "The chapters of the start page, what is below each page, and titles."
    toctrees = env.master_doctree.findall(addnodes.toctree)
    return {
        "chapters": [(toctree["caption"], [page for _, page in toctree["entries"]]) for toctree in toctrees],
        "children": env.toctree_includes,
        "titles": {page: title.astext() for page, title in env.titles.items()},
    }


def list_pages(app, pagename, templatename, context, doctree):
    "Give the template of the sidebar what it lists."
    context.update(pages(app.env))


def setup(app):
    app.connect("html-page-context", list_pages)
    app.connect("html-page-context", tell_machines)
