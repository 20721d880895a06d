"""Write README.md from nbs/index.ipynb; with --check, fail if README.md is not what would be written."""

import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

ROOT = Path(__file__).parent.parent
NOTICE = "<!-- Generated from nbs/index.ipynb by `make readme`: edit the notebook. -->\n\n"


def readme() -> str:
    notebook = nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4)
    notebook.metadata["language_info"] = {"name": "python"}  # names the code fences
    cells = [cell for cell in notebook.cells if cell.source and not cell.source.startswith("#| hide")]
    notebook.cells = [output_only(cell) if cell.source.startswith("#| echo: false") else cell for cell in cells]
    markdown, _ = MarkdownExporter().from_notebook_node(notebook)
    return NOTICE + markdown.strip() + "\n"


def output_only(cell: NotebookNode) -> NotebookNode:
    "The Markdown that a code cell displays, without its code."
    return new_markdown_cell("\n\n".join(output["data"]["text/markdown"] for output in cell.outputs))


def main() -> int:
    target = ROOT / "README.md"
    text = readme()
    if "--check" in sys.argv:
        if target.read_text(encoding="utf-8") != text:
            print("README.md differs from nbs/index.ipynb: run make readme", file=sys.stderr)
            return 1
        return 0
    target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
