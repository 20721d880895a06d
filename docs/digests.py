"""Pages of the digests: the answer and its figure first, then the notebook, then data, checks and how to cite it."""

import base64
import html
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from notebooks import front_matter, split_directives, title_and_subtitle

from vmaf_research.measure.core import settings
from vmaf_research.measure.provenance import sha256_file
from vmaf_research.serve.claims import REFERENCE, ClaimFile, read_claims, restate

INTRODUCTION = """# Digests

:::{rst-class} lead
Dated research notes. Each asks one question and answers it first; its numbers are outputs of its cells, and the tests
compute them anew
:::

<a href="archive/atom.xml">Atom feed</a> · [every claim with its value](claims.md) · [references](references.md)
"""
CLAIMS = """# Claims

:::{rst-class} lead
Every number that a digest claims, with its interval and date. `make claims` runs all digests and compares
:::
"""
DRAFT = "draft"  # of a digest that has no front matter yet; it is listed, but not in the feed
REFERENCES = """# References

:::{rst-class} lead
What the digests cite; every entry has a DOI or an arXiv number that was looked up
:::

```{bibliography}
:all:
:style: plain
```
"""
COLORS = {"answered": "success", "open": "warning"}  # of other statuses: grey


def _find(document: Any, key: str) -> Any:
    "The first value of a key, however deep it lies."
    if isinstance(document, dict):
        if document.get(key):
            return document[key]
        found = (_find(value, key) for value in document.values())
        return next((value for value in found if value), None)
    return None


@dataclass(frozen=True)
class Digest:
    "A digest notebook, as the site shows it."

    path: Path
    notebook: NotebookNode  # as it lies in the repository

    @property
    def name(self) -> str:  # of its page
        return self.path.stem

    @property
    def number(self) -> str:
        return self.name[:4]

    @cached_property
    def front_matter(self) -> dict[str, Any]:  # `date`, `tags`, `status`, `superseded_by`; empty for a draft
        return front_matter(self.notebook)

    @property
    def title(self) -> str:
        return title_and_subtitle(self.notebook)[0]

    @property
    def date(self) -> str:
        return str(self.front_matter.get("date", ""))

    @cached_property
    def answer(self) -> str:
        "The text of its section *Answer*, as Markdown."
        text = "\n".join(cell.source for cell in self.notebook.cells if cell.cell_type == "markdown")
        found = re.search(r"^## Answer\n+(.+?)(?=\n+## )", text, re.M | re.S)
        return " ".join(found[1].split()) if found else title_and_subtitle(self.notebook)[1]

    @property
    def plain_answer(self) -> str:
        "The answer without links and marks."
        return re.sub(r"\[([^\]]+)\]\([^)]*\)|[`*]", r"\1", self.answer)

    @cached_property
    def claims(self) -> ClaimFile | None:
        kept = settings().digest_path / "data" / self.number / "claims.json"
        return read_claims(self.number) if kept.is_file() else None

    @cached_property
    def figure(self) -> tuple[bytes, str] | None:  # PNG, and what it shows
        "The figure of the cell that says `#| headline: true`."
        for cell in self.notebook.cells:
            directives, _ = split_directives(cell.source)
            if directives.get("headline") == "true":
                pictures = [
                    output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})
                ]
                return base64.b64decode(pictures[-1]), directives["fig-alt"]
        return None

    @property
    def picture(self) -> str:
        "Where the figure lies on the site."
        return f"_pictures/digest-{self.number}.png"

    @property
    def line(self) -> str:
        "Status and tags, as Markdown; tags lead to the digests that share them."
        status = self.front_matter.get("status", DRAFT)
        badge = f"{{bdg-{COLORS.get(status, 'secondary')}}}`{status}`"
        return " ".join([badge, *(f"{{ref}}`{tag} <tag-{tag}>`" for tag in self.front_matter.get("tags", []))])

    @cached_property
    def files(self) -> list[Path]:
        "Its data, and the points of its figures."
        return sorted((settings().digest_path / "data" / self.number).glob("*"))

    def facts(self) -> str:
        "When, with what and how it was run, and what checks it, as a line of Markdown."
        provenance = next((json.loads(path.read_text()) for path in self.files if path.name == "provenance.json"), {})
        said = [f"published {self.date}"]
        if commit := _find(provenance, "git_commit"):
            said.append(f"data made at commit `{commit[:10]}`")
        if engine := _find(provenance, "libvmaf") or _find(provenance, "vmaf_binary_version"):
            said.append(f"libvmaf `{engine}`")
        if self.claims:
            said.append(f"runs in {self.claims.seconds:.0f} s with version {self.claims.version}")
            said.append(f"run again by the tests, which derive its [{len(self.claims.claims)} claims](claims.md) anew")
        return " · ".join(said)


def linked(text: str, digest: Digest) -> str:
    "References to claims as links to the page of all claims; what is written there is the value of the claim."
    if not digest.claims:
        return text
    known = {claim.name: claim for claim in digest.claims.claims}

    def link(match: re.Match) -> str:
        claim, shown = known[match[5]], match[0].partition("]")[0][1:]
        about = html.escape(f"{claim.unit}; 95 % {claim.span}" if claim.interval else claim.unit)
        return f'<a class="claim" href="claims.html#{digest.number}-{claim.name}" title="{about}">{shown}</a>'

    return REFERENCE.sub(link, restate(text, known))


def bibtex(digest: Digest, author: str, address: str) -> str:
    "The entry of a digest."
    fields = {"author": f"{{{author}}}", "title": digest.title, "year": digest.date[:4], "howpublished": address}
    lines = "\n".join(f"  {name} = {{{value}}}," for name, value in fields.items())
    return f"@misc{{vmaf-research-{digest.number},\n{lines}\n}}"


def _folded(cell: NotebookNode) -> NotebookNode:
    "A code cell whose code is shown when asked for; what it printed and drew is shown."
    tags = sorted({*cell.metadata.get("tags", []), "hide-input"})
    return NotebookNode(cell, metadata=NotebookNode(cell.metadata, tags=tags))


def _downloads(digest: Digest) -> str:
    "A table of the files behind a digest, in HTML, since they are no sources of pages."
    rows = [
        f'<tr><td><a href="{digest.name}.ipynb" download>{digest.name}.ipynb</a></td><td>notebook</td><td></td></tr>'
    ]
    for path in digest.files:
        what = {".parquet": "table", ".csv": "points of a figure", ".json": "record"}[path.suffix]
        address = f"data/{digest.number}/{path.name}"
        size = f"{what}, {path.stat().st_size:,} bytes"
        digits = f"<code>{sha256_file(path)}</code>"
        rows.append(f'<tr><td><a href="{address}" download>{path.name}</a></td><td>{size}</td><td>{digits}</td></tr>')
    head = "<tr><th>file</th><th>what</th><th>SHA-256</th></tr>"
    table = f'<table class="table"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="pst-scrollable-table-container">{table}</div>'


def digest_page(notebook: NotebookNode, digest: Digest, titles: dict[str, str], author: str, base: str) -> NotebookNode:
    "The page of a digest, from the notebook that `notebooks.page` made; `titles` of all digests by name of the page."
    metadata = NotebookNode(notebook.metadata)
    if digest.front_matter:
        tags = ", ".join(digest.front_matter["tags"])
        metadata |= {"blogpost": "true", "date": digest.date, "tags": tags}
    title, _, rest = notebook.cells[0].source.partition("\n")
    above = [title, digest.line]
    if number := digest.front_matter.get("superseded_by"):
        newer = next(name for name in titles if name.startswith(str(number)))
        above.append(f":::{{warning}}\nSuperseded by [{titles[newer]}]({newer}.ipynb): read that one first.\n:::")
    lead, separator, question = rest.partition("\n## Question")
    if digest.figure:
        lead += f"\n```{{image}} /{digest.picture}\n:alt: {digest.figure[1]}\n:class: chart\n:width: 100%\n```\n"
    first = "\n\n".join(
        [*above, lead.strip(), f":::{{rst-class}} facts\n{digest.facts()}\n:::", f"{separator}{question}"]
    )
    cells = [NotebookNode(notebook.cells[0], source=first), *notebook.cells[1:]]
    cells = [_folded(c) if c.cell_type == "code" else NotebookNode(c, source=linked(c.source, digest)) for c in cells]
    entry = bibtex(digest, author, f"{base}digests/{digest.name}.html")
    cite = f"## Data and citation\n\n{_downloads(digest)}\n\n```bibtex\n{entry}\n```\n"
    return NotebookNode(notebook, metadata=metadata, cells=[*cells, new_markdown_cell(cite, id="data-and-citation")])


def read_digest(path: Path) -> Digest:
    return Digest(path, nbformat.read(path, as_version=4))


def digest_list(digests: list[Digest]) -> str:
    "The list of all digests, newest first: what each found, and its figure."
    parts = [INTRODUCTION, "## All digests, newest first\n"]
    for digest in sorted(digests, key=lambda each: (each.date, each.number), reverse=True):
        picture = ""
        if digest.figure:
            options = f":alt: {digest.figure[1]}\n:class: chart thumbnail\n:target: {digest.name}.html"
            picture = f"```{{image}} /{digest.picture}\n{options}\n```\n"
        old = " {bdg-secondary}`superseded`" if digest.front_matter.get("superseded_by") else ""
        title = f"### [{digest.title}]({digest.name}.ipynb)"
        parts.append(f"{title}\n\n{digest.date} {digest.line}{old}\n\n{picture}\n{linked(digest.answer, digest)}\n")
    entries = "\n".join(f"/digests/{name}" for name in (*(d.name for d in reversed(digests)), "claims", "references"))
    return "\n".join([*parts, f"```{{toctree}}\n:hidden:\n\n{entries}\n```\n"])


def claims_page(digests: list[Digest]) -> str:
    "Every claim of the project."
    rows = []
    for digest in digests:
        for claim in digest.claims.claims if digest.claims else ():
            cells = [f'<a href="{digest.name}.html">{digest.number}</a>', claim.name, f"{claim.value:g}", claim.span]
            line = "".join(f"<td>{cell}</td>" for cell in (*cells, html.escape(claim.unit), digest.date))
            rows.append(f'<tr id="{digest.number}-{claim.name}">{line}</tr>')
    head = "".join(f"<th>{name}</th>" for name in ("digest", "claim", "value", "95 %", "of what", "date"))
    table = f'<table class="table claims"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'{CLAIMS}\n<div class="pst-scrollable-table-container">{table}</div>\n'
