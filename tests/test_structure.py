"""Rooms and what may be where: imports go downwards, numbers give the order, what is public is used or shown."""

import ast
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vmaf_research import _FRONT_DOOR
from vmaf_research.measure.core import find_root

ROOT = find_root(__file__)
PACKAGE = "vmaf_research"
MAY_IMPORT = {  # a room: the rooms that it may know
    "measure": set(),
    "corpora": {"measure"},
    "learn": {"measure"},
    "ship": {"measure", "corpora", "learn"},
    "predict": {"measure", "corpora", "learn", "ship"},
    "serve": {"measure", "corpora", "learn", "ship", "predict"},
}
DIRECTIVE = re.compile(r"^#\s*\|\s*(\w+)", re.M)


@dataclass
class Chapter:
    "A notebook that exports a module."

    path: Path
    module: str  # such as measure.core
    exported: list[ast.Module] = field(default_factory=list)
    lessons: list[ast.Module] = field(default_factory=list)
    displayed: list[ast.Module] = field(default_factory=list)  # lessons that have an output
    outputs: str = ""  # text of all outputs

    @property
    def number(self):
        return int(self.path.name[:2])

    @property
    def room(self):
        return self.path.parent.name

    def imports(self):
        "Modules of the package that any cell imports, with the names."
        return imports_of([*self.exported, *self.lessons])

    def public(self):
        "Names that the notebook exports and that do not begin with an underscore."
        for tree in self.exported:
            for node in tree.body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    names = [node.name]
                elif isinstance(node, ast.Assign | ast.AnnAssign):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    names = [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
                else:
                    names = []
                yield from (name for name in names if not name.startswith("_"))


def imports_of(trees):
    "Modules of the package that code imports, or looks up in their room, with the names."
    nodes = [node for tree in trees for node in ast.walk(tree)]
    rooms = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) and node.module == PACKAGE
             for alias in node.names if alias.name in MAY_IMPORT}  # fmt: skip
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(inner := node.value, ast.Attribute):
            if isinstance(inner.value, ast.Name) and inner.value.id in rooms:  # ship.registry.load
                yield f"{inner.value.id}.{inner.attr}", node.attr
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(PACKAGE):
            continue
        module = node.module.removeprefix(PACKAGE).removeprefix(".")
        for alias in node.names:
            if "." in module:
                yield module, alias.name
            elif module:  # from vmaf_research.room import module
                yield f"{module}.{alias.name}", None
            elif alias.name in _FRONT_DOOR and alias.name != "measure":
                yield _FRONT_DOOR[alias.name], alias.name


def readers(root):
    "What digests, tutorials and benchmarks import: they are lessons, too."
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (root / "benchmarks").glob("*.py")]
    for path in [*(root / "digests").glob("*.ipynb"), *(root / "nbs" / "tutorials").glob("*.ipynb")]:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        trees += [ast.parse("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    return set(imports_of(trees))


def types_named(tree):
    "Public definition -> names in its annotations and bases: what its callers are handed."
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            parts = [getattr(each, "annotation", None) for each in ast.walk(node)]
            parts += [getattr(each, "returns", None) for each in ast.walk(node)] + getattr(node, "bases", [])
            found[node.name] = {word for part in parts if isinstance(part, ast.AST) for word in words(part)}
    return found


def words(tree):
    "Every name that code mentions."
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def output_text(output):
    "What an output says in plain text."
    text = output.get("text", output.get("data", {}).get("text/plain", ""))
    return "".join(text)


def chapters(root):
    "All notebooks that export something, by number."
    found = []
    for path in sorted((root / "nbs").glob("*/[0-9]*.ipynb")):
        chapter = None
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if match := re.search(r"^#\| default_exp (\S+)", source, re.M):
                chapter = Chapter(path, match[1])
            if chapter is None or cell["cell_type"] != "code" or source.startswith("%"):
                continue
            tree = ast.parse(source)
            if "export" in DIRECTIVE.findall(source):
                chapter.exported.append(tree)
            else:
                chapter.lessons.append(tree)
                if cell.get("outputs"):
                    chapter.displayed.append(tree)
                    chapter.outputs += "\n".join(output_text(each) for each in cell["outputs"])
        if chapter:
            found.append(chapter)
    return sorted(found, key=lambda each: each.number)


def order_problems(found):
    "Numbers that repeat, imports of a higher number, and imports of a room that a room must not know."
    numbers = {each.module: each.number for each in found}
    problems = [f"{each.path.name}: exports {each.module}" for each in found
                if each.module != f"{each.room}.{each.path.stem[3:]}"]  # fmt: skip
    by_number = defaultdict(list)
    for each in found:
        by_number[each.number].append(each.path.name)
    problems += [f"{' and '.join(names)} have one number" for names in by_number.values() if len(names) > 1]
    for each in found:
        for module, _ in each.imports():
            room = module.split(".")[0]
            if module not in numbers:
                problems.append(f"{each.path.name}: imports {module}, which no notebook exports")
            elif numbers[module] > each.number:
                problems.append(f"{each.path.name}: imports {module}, which has a higher number")
            if room != each.room and room not in MAY_IMPORT[each.room]:
                problems.append(f"{each.path.name}: {each.room} must not import {room}")
    return problems


def twice_problems(found):
    "Names that a module defines a second time, so that the first definition is lost."
    problems = []
    for each in found:
        nodes = [node for tree in each.exported for node in tree.body]
        names = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        problems += [f"{each.module}.{name}: defined twice" for name in sorted(set(names)) if names.count(name) > 1]
    return problems


def public_name_problems(found, readers=frozenset()):
    """Public names that nobody uses or shows, and names that two modules give to different things.

    A class counts as used where something that is used takes or returns it.
    """
    used = set(readers) | {(module, name) for each in found for module, name in each.imports() if module != each.module}
    used |= {(module, name) for name, module in _FRONT_DOOR.items()} | {("serve.cli", "main")}
    used.add(("measure.libvmaf", "measure"))
    owners, problems = defaultdict(list), []
    for each in found:
        shown = {word for tree in each.displayed for word in words(tree)}
        shown |= set(re.findall(r"\w+", each.outputs))
        public = list(dict.fromkeys(each.public()))
        known = shown | {name for module, name in used if module == each.module}
        types = {name: named for tree in each.exported for name, named in types_named(tree).items()}
        while more := {word for name in known for word in types.get(name, ())} - known:
            known |= more
        for name in public:
            owners[name].append(each.module)
            if name not in known:
                problems.append(f"{each.module}.{name}: no other module imports it, and no displayed lesson shows it")
    return problems + [f"{name}: public in {' and '.join(modules)}" for name, modules in owners.items() if modules[1:]]


@pytest.fixture(scope="module")
def house():
    return chapters(ROOT)


def test_numbers_and_imports_go_one_way(house):
    assert order_problems(house) == []


def test_nothing_is_defined_twice_in_a_module(house):
    assert twice_problems(house) == []


def test_public_names_are_used_or_shown_and_unique(house):
    assert public_name_problems(house, readers(ROOT)) == []


def test_every_module_has_its_notebook(house):
    modules = {f"{path.parent.name}.{path.stem}" for path in (ROOT / PACKAGE).glob("*/[!_]*.py")}
    assert modules == {each.module for each in house}


def plant(root, name, *cells):
    "A notebook with exported cells, and lessons that have an output."
    module = f"{Path(name).parent}.{Path(name).stem[3:]}"
    sources = [("code", f"#| default_exp {module}", []), *cells]
    path = root / "nbs" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = [{"cell_type": kind, "source": source, "outputs": outputs} for kind, source, outputs in sources]
    path.write_text(json.dumps({"cells": document}))


EXPORTED, SHOWN = "#| export\n", [{"output_type": "stream"}]


def test_what_the_tests_of_structure_find(tmp_path):
    low = ("code", f"{EXPORTED}def low():\n    return 1", [])
    plant(tmp_path, "measure/10_low", low, ("code", "low()", SHOWN))
    assert order_problems(chapters(tmp_path)) == public_name_problems(chapters(tmp_path)) == []

    again = ("code", f"{EXPORTED}def low():\n    return 2", [])
    plant(tmp_path, "measure/10_low", low, again, ("code", "low()", SHOWN))
    assert twice_problems(chapters(tmp_path)) == ["measure.low.low: defined twice"]
    plant(tmp_path, "measure/10_low", low, ("code", "low()", SHOWN))

    high = f"{EXPORTED}def high():\n    from vmaf_research.measure.low import low"
    plant(tmp_path, "learn/11_high", ("code", high, []))
    assert "learn.high.high: no other module imports it" in public_name_problems(chapters(tmp_path))[0]
    plant(tmp_path, "serve/12_top", ("code", "from vmaf_research import learn\n\nlearn.high.high()", []))
    assert public_name_problems(chapters(tmp_path)) == []  # found in its room
    plant(tmp_path, "measure/10_low", low, ("code", "from vmaf_research.learn.high import high", []))
    assert order_problems(chapters(tmp_path)) == [
        "10_low.ipynb: imports learn.high, which has a higher number",
        "10_low.ipynb: measure must not import learn",
    ]
    assert "measure.low.low" not in str(public_name_problems(chapters(tmp_path)))  # high imports it

    plant(tmp_path, "corpora/11_other", ("code", f"{EXPORTED}def low():\n    return 2", []), ("code", "low()", SHOWN))
    assert "10_low" not in str(order_problems(chapters(tmp_path))[0])
    assert order_problems(chapters(tmp_path))[0].endswith("have one number")
    assert "low: public in measure.low and corpora.other" in public_name_problems(chapters(tmp_path))
