"""Sphinx extension: docstrings of this project as reStructuredText, with the comments of parameters and fields."""

import ast
import inspect
import re
from functools import cached_property

from docutils.nodes import Node
from fastcore.docments import docments
from myst_parser.mocking import MockRSTParser
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.util.docutils import SphinxDirective, new_document
from symbols import resolve, sources

CODE_OR_TEXT = re.compile(r"(`[^`]+`)")
NAME = re.compile(r"\b[A-Za-z_]\w*\b")


class ApiEntries(SphinxDirective):
    """reStructuredText inside a notebook.

    What `eval-rst` does, without its padding: it puts as many empty lines before the text as the line number says, and
    myst-nb counts ten thousand lines per cell.
    """

    has_content = True

    def run(self) -> list[Node]:
        document = new_document(self.env.doc2path(self.env.docname), self.state.document.settings)
        document.reporter = self.state.document.reporter
        MockRSTParser().parse("\n".join(self.content), document)
        for node in document.findall():  # or each would keep this document, and with it all that is known of the site
            node.document = self.state.document
        return document.children


class PythonNames(PythonDomain):
    "The domain of Python; a name of elsewhere, such as `int`, is not compared with the end of every name."

    @cached_property
    def last_parts(self) -> set[str]:  # of all names; asked for when all pages are read
        return {name.rpartition(".")[2] for name in self.objects}

    def find_obj(self, env, modname, classname, name, type, searchmode=0):
        known = name.removesuffix("()").rpartition(".")[2] in self.last_parts
        return super().find_obj(env, modname, classname, name, type, searchmode) if known else []


def to_rst(text: str, module: str) -> str:
    "Plain text with code in single backticks; a public symbol becomes a link, everything else is taken literally."
    parts = CODE_OR_TEXT.split(text)
    return "".join(_code(part, module) if index % 2 else _literal(part) for index, part in enumerate(parts))


def _code(part: str, module: str) -> str:
    name = part.strip("`")
    target = resolve(name, module)
    return f":py:obj:`{name} <{target}>`" if target else f"``{name}``"


def _literal(part: str) -> str:
    return re.sub(r"([*|\\]|_(?!\w))", r"\\\1", part)


def _qualified(name: str, module: str) -> str:
    target = resolve(name, module)
    return f"~{target}" if target else name


def field_comments(kind: type) -> dict[str, tuple[str, str]]:  # annotation and comment of each field
    "The annotated fields of a class and its parents, as its source has them."
    fields = {}
    for parent in reversed(kind.__mro__):
        if parent.__module__ not in sources():
            continue
        lines = inspect.getsource(inspect.getmodule(parent)).splitlines()
        classes = (node for node in sources()[parent.__module__].body if isinstance(node, ast.ClassDef))
        for node in next(node for node in classes if node.name == parent.__name__).body:
            if isinstance(node, ast.AnnAssign) and not node.target.id.startswith("_"):
                rest = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
                annotation = ast.unparse(node.annotation).strip("'")  # quoted where a class names itself
                fields[node.target.id] = (annotation, rest.strip().removeprefix("#").strip())
    return fields


def add_comments(app: Sphinx, what: str, name: str, symbol: object, options: object, lines: list[str]) -> None:
    "Turn a docstring into reStructuredText and append what is said about parameters, fields and the result."
    module = getattr(symbol, "__module__", None) or name.rsplit(".", 1)[0]
    lines[:] = [to_rst(line, module) for line in lines]
    entries = []
    if isinstance(symbol, type) and not issubclass(symbol, BaseException):
        known = inspect.signature(symbol).parameters
        for field, (annotation, comment) in field_comments(symbol).items():
            if field in known:
                entries.append(f":param {field}: {to_rst(comment, module)}")
                entries.append(f":type {field}: {NAME.sub(lambda match: _qualified(match[0], module), annotation)}")
    elif what in ("function", "method"):
        comments = docments(symbol, returns=True)
        returned = comments.pop("return", None)
        entries += [
            f":param {parameter}: {to_rst(' '.join(comment.split()), module)}"
            for parameter, comment in comments.items()
            if comment and parameter != "self"
        ]
        if returned:
            entries.append(f":returns: {to_rst(' '.join(returned.split()), module)}")
    if entries:
        lines += ["", *entries, ""]


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    app.add_domain(PythonNames, override=True)
    app.add_directive("api-entries", ApiEntries)
    app.connect("autodoc-process-docstring", add_comments)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
