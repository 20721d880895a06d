"""A notebook in nbdev's dialect as a page for myst-nb.

Hidden cells go, directives are obeyed and not shown, every exported definition becomes its API entry with the code
folded below it, and names in backticks become links.
"""

import ast
import base64
import io
import re
from collections.abc import Iterator
from typing import Any

import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from PIL import Image
from symbols import PACKAGE, resolve

DIRECTIVE = re.compile(r"#\s*\|\s*([\w-]+):?\s*(.*)")
TAGS = {
    ("echo", "false"): "remove-input",
    ("output", "false"): "remove-output",
    ("include", "false"): "remove-cell",
    ("code-fold", "true"): "hide-input",
}
IN_BACKTICKS = re.compile(r"(?<![`}\w])`([A-Za-z_][\w.]*(?:\(\))?)`(?!`)")
SUBTITLE = re.compile(r"^(# .+\n+)> (.+?)(\n\n|$)", re.S)
CALLOUT = re.compile(r"^(:::+) *\{\.callout-(note|tip|warning|important|caution)[^}]*\}", re.M)
LONGEST_VALUE = 60  # characters; a longer constant is only in the folded code
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def split_directives(source: str) -> tuple[dict[str, str], str]:
    "The `#|` lines at the top of a cell by name, and the rest of it; an indented one goes on with the one before."
    lines = source.splitlines()
    directives, name = {}, ""
    while lines and (match := DIRECTIVE.fullmatch(lines[0].strip())):
        if directives and lines[0].startswith("#|   "):
            directives[name] += f" {lines[0][2:].strip()}"
        else:
            name = match[1]
            directives[name] = match[2].strip()
        lines.pop(0)
    return directives, "\n".join(lines).strip("\n")


def front_matter(notebook: NotebookNode) -> dict[str, Any]:
    "The YAML between `---` lines of a raw first cell; empty if there is none."
    first = notebook.cells[0]
    if first.cell_type != "raw" or not first.source.startswith("---"):
        return {}
    return yaml.safe_load(first.source.strip().strip("-"))


def title_and_subtitle(notebook: NotebookNode) -> tuple[str, str]:
    "What the first Markdown cell has after `# ` and `> `."
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    title = re.search(r"^# (.+)$", first, re.M)[1]
    subtitle = re.search(r"^> (.+)$", first, re.M)
    return title, subtitle[1] if subtitle else ""


def module_name(notebook: NotebookNode) -> str | None:
    "The module that a notebook exports to, as `room.name`."
    for cell in notebook.cells:
        directives, _ = split_directives(cell.source)
        if cell.cell_type == "code" and "default_exp" in directives:
            return directives["default_exp"]
    return None


def to_myst(source: str, module: str = "") -> str:
    "Markdown of a notebook as MyST: the subtitle as lead, callouts, and links from names in backticks."

    def link(match: re.Match) -> str:
        target = resolve(match[1], module)
        return f"{{py:obj}}`{match[1]} <{target}>`" if target else match[0]

    source = SUBTITLE.sub(r"\1:::{rst-class} lead\n\2\n:::\3", source)
    source = CALLOUT.sub(r"\1{\2}", source)
    fenced = False
    lines = []
    for line in source.splitlines():
        if re.match(r"\s*(```|~~~)", line):
            fenced = not fenced
        code = fenced or line.startswith(("    ", "#"))
        lines.append(line if code else IN_BACKTICKS.sub(link, line))
    return "\n".join(lines)


def _is_public_method(node: ast.stmt) -> bool:
    documented = isinstance(node, DEFINITIONS[:2]) and ast.get_docstring(node) is not None
    return documented and not node.name.startswith("_")


def _constants(node: ast.Assign | ast.AnnAssign, source: str) -> Iterator[str]:
    "A `py:data` entry per name that an assignment sets: its value if that is short, and the comment beside it."
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    several = isinstance(target, ast.Tuple)
    pairs = zip(target.elts, node.value.elts, strict=True) if several else [(target, node.value)]
    comment = re.search(r"#\s*(.+)$", source.splitlines()[node.lineno - 1])
    for name, value in pairs:
        if not isinstance(name, ast.Name) or name.id.startswith("_") or value is None:
            continue
        entry = f".. py:data:: {name.id}\n"
        if len(ast.unparse(value)) <= LONGEST_VALUE:
            entry += f"   :value: {ast.unparse(value)}\n"
        yield entry + (f"\n   {comment[1]}\n" if comment else "")


def api_entries(source: str, module: str) -> Iterator[str]:
    "reStructuredText directives for the public definitions of an exported cell."
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            methods = [member.name for member in node.body if _is_public_method(member)]
            members = f"\n   :members: {', '.join(methods)}" if methods else ""
            yield f".. autoclass:: {module}.{node.name}{members}\n   :member-order: bysource"
        elif isinstance(node, DEFINITIONS) and not node.name.startswith("_"):
            yield f".. autofunction:: {module}.{node.name}"
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield from _constants(node, source)


def _only_imports(source: str) -> bool:
    return all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(source).body)


def _on_white(picture: str) -> bool:
    "Whether a PNG in base64 is drawn on white paper, as charts are and photographs are not."
    counts = Image.open(io.BytesIO(base64.b64decode(picture))).convert("L").reduce(4).histogram()
    return sum(counts[251:]) > 0.4 * sum(counts)  # pixels brighter than 250 of 255


def _image_options(cell: NotebookNode, directives: dict[str, str], heading: str) -> dict[str, Any]:
    "Width and alternative text of the pictures that a cell shows."
    if not any(kind.startswith("image/") for output in cell.outputs for kind in output.get("data", {})):
        return {}
    pictures = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    options = {"classes": "chart"} if pictures and all(map(_on_white, pictures)) else {}
    options |= {"alt": directives.get("fig-alt", f"Figure drawn by the code above, in the section “{heading}”")}
    widths = [output.metadata["image/png"]["width"] for output in cell.outputs if output.get("metadata")]
    if widths:
        options["width"] = f"{max(widths)}px"  # the pixels of the file are for screens of twice the density
    return {"mystnb": {"image": options}}


def page(notebook: NotebookNode) -> NotebookNode:
    "The notebook as it is published."
    exported_to = module_name(notebook)
    module = f"{PACKAGE}.{exported_to}"
    cells = []
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "raw":
            continue
        directives, source = split_directives(cell.source)
        if "hide" in directives or "default_exp" in directives or not source:
            continue
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#+ (.+)$", source, re.M)
            heading = headings[-1].replace("`", "") if headings else heading
            cells.append(NotebookNode(cell, source=to_myst(source, module)))
            if exported_to and len(cells) == 1:
                cells.append(new_markdown_cell(f"```{{py:module}} {module}\n```", id=f"{cell.id}-module"))
            continue
        tags = [tag for (name, value), tag in TAGS.items() if directives.get(name, "").lower() == value]
        if "export" in directives:
            if _only_imports(source):
                continue
            entries = "\n\n".join(api_entries(source, module))
            if entries:
                cells.append(new_markdown_cell(f"````{{api-entries}}\n{entries}\n````", id=f"{cell.id}-api"))
            tags.append("hide-input")
        metadata = NotebookNode(_image_options(cell, directives, heading), tags=tags)
        cells.append(NotebookNode(cell, source=source, metadata=metadata))
    return NotebookNode(notebook, cells=cells)
