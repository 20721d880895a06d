"""Pages of the digests: dated notebooks whose front matter has date, tags and status."""

from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode

INTRODUCTION = """# Digests

:::{rst-class} lead
Dated research notes. Each asks one question; its numbers are outputs of its cells and are re-run by the tests
:::

<a href="archive/atom.xml">Atom feed</a>
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


@dataclass(frozen=True)
class Digest:
    "What the list says about a digest."

    name: str  # of its page
    title: str
    subtitle: str
    front_matter: dict[str, Any]  # `date`, `tags`, `status`; empty for a draft

    @property
    def status(self) -> str:
        return self.front_matter.get("status", DRAFT)

    @property
    def line(self) -> str:
        "Status and tags, as Markdown; tags lead to the digests that share them."
        badge = f"{{bdg-{COLORS.get(self.status, 'secondary')}}}`{self.status}`"
        return " ".join([badge, *(f"{{ref}}`{tag} <tag-{tag}>`" for tag in self.front_matter.get("tags", []))])


def digest_page(notebook: NotebookNode, digest: Digest) -> NotebookNode:
    "The page of a digest: front matter for the feed, and status and tags below the title."
    metadata = NotebookNode(notebook.metadata)
    if digest.front_matter:
        metadata |= {
            "blogpost": "true",
            "date": str(digest.front_matter["date"]),
            "tags": ", ".join(digest.front_matter["tags"]),
        }
    first = notebook.cells[0]
    title, _, rest = first.source.partition("\n")
    first = NotebookNode(first, source=f"{title}\n\n{digest.line}\n{rest}")
    return NotebookNode(notebook, metadata=metadata, cells=[first, *notebook.cells[1:]])


def digest_list(digests: list[Digest]) -> str:
    "The list of all digests, newest first."
    parts = [INTRODUCTION, "## All digests, newest first\n"]
    for digest in reversed(digests):
        date = digest.front_matter.get("date", "")
        about = digest.subtitle.removeprefix(f"{date} · ")
        parts.append(f"### [{digest.title}]({digest.name}.ipynb)\n\n{date} {digest.line}\n\n{about}\n")
    parts.append("The literature that they cite: [references](references.md)\n")
    entries = "\n".join([*(f"/digests/{digest.name}" for digest in reversed(digests)), "/digests/references"])
    return "\n".join([*parts, f"```{{toctree}}\n:hidden:\n\n{entries}\n```\n"])
