"""Which name in backticks means which public symbol or module of the package."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

from vmaf_research.measure.core import find_root

PACKAGE = "vmaf_research"


@cache
def sources() -> dict[str, ast.Module]:
    "Every module of the package that a notebook exports, by qualified name."
    root = find_root(Path(__file__).parent)
    paths = sorted((root / PACKAGE).glob("*/[!_]*.py"))
    return {f"{PACKAGE}.{path.parent.name}.{path.stem}": ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def public_names(module: str) -> list[str]:
    "What `__all__` of a module lists."
    for node in sources()[module].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


@cache
def imported(module: str) -> dict[str, str]:
    "Names that a module imports from others of the package, with what they stand for."
    found = {}
    for node in sources().get(module, ast.Module([])).body:
        if isinstance(node, ast.ImportFrom):
            parent = {0: "", 1: module.rsplit(".", 1)[0] + ".", 2: f"{PACKAGE}."}[node.level]
            found |= {alias.asname or alias.name: f"{parent}{node.module}.{alias.name}" for alias in node.names}
    return found


@cache
def index() -> dict[str, tuple[str, ...]]:
    "Short name, such as `plcc` or `Registry.row`, to the qualified names of the public symbols called so."
    found = defaultdict(list)
    for module, tree in sources().items():
        public = set(public_names(module))
        for name in public:
            found[name].append(f"{module}.{name}")
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name in public:
                for member in node.body:
                    if isinstance(member, ast.FunctionDef) and ast.get_docstring(member) and member.name[0] != "_":
                        name = f"{node.name}.{member.name}"
                        found[name].append(f"{module}.{name}")
    return {name: tuple(qualified) for name, qualified in found.items()}


def resolve(name: str, module: str) -> str | None:
    """The qualified name that a page of `module` means by `name`, or `None`.

    A plain lower-case word may as well be a column or a file: it is a symbol if the module has it or if it is called.
    """
    short = name.removesuffix("()").removeprefix(f"{PACKAGE}.")
    if f"{PACKAGE}.{short}" in sources():
        return f"{PACKAGE}.{short}"
    room, _, rest = short.partition(".")
    if rest.count(".") and f"{PACKAGE}.{room}.{rest}".rsplit(".", 1)[0] in sources():
        candidates = index().get(rest.split(".", 1)[1], ())
        return f"{PACKAGE}.{short}" if f"{PACKAGE}.{short}" in candidates else None
    found = index().get(short, ())
    for own in (f"{module}.{short}", imported(module).get(short)):
        if own in found:
            return own
    certain = name.endswith("()") or re.fullmatch(r"[a-z]+", short) is None
    return found[0] if len(found) == 1 and certain else None
