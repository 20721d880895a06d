"""What programs read of the site: the head of every page, Markdown twins, `llms.txt`, and a map of all addresses."""

import html
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

PLAIN = (  # directives and roles of MyST, and what stands for them in plain Markdown
    (r"(?s)^(````*|```)\{(?:api-entries|py:module|toctree|bibliography)\}.*?^\1$", ""),
    (r"(?s)^```\{image\} (\S+)\n:alt: (.*?)\n.*?^```$", r"![\2](\1)"),
    (r"(?s)^:::+\{rst-class\} [a-z]+\n(.*?)\n:::+$", r"> \1"),
    (r"(?m)^:{3,}.*$|^:[a-z-]+:.*$", ""),
    (r"\{py:obj\}`([^`<]+?) <[^`]*>`", r"`\1`"),
    (r"\{[a-z:-]+\}`([^`<]+?)(?: <[^`]*>)?`", r"\1"),
    (r'<a class="claim"[^>]*>([^<]*)</a>', r"\1"),
    (r"(\]\(/[^)\s]+?)\.(?:ipynb|md)\b", r"\1.html"),
    (r"\n{3,}", "\n\n"),
)
LONGEST_OUTPUT = 4000  # characters


@dataclass(frozen=True)
class Page:
    "What is said about a page, without showing it."

    title: str
    about: str  # one or a few sentences
    source: str  # Markdown
    picture: str = ""  # address on the site
    data: dict[str, Any] | None = None  # JSON-LD


PAGES: dict[str, Page] = {}  # by address without suffix, in reading order; what build.py stages


def plain(source: str) -> str:
    "MyST as Markdown that needs no Sphinx."
    for pattern, replacement in PLAIN:
        source = re.sub(pattern, replacement, source, flags=re.M)
    return source.strip()


def notebook_source(notebook: NotebookNode) -> str:
    "A notebook as Markdown: prose, code and what it printed."
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            if text.strip() and "image/png" not in output.get("data", {}):
                parts.append(f"```text\n{text.rstrip()[:LONGEST_OUTPUT]}\n```")
    return "\n\n".join(parts)


def head(name: str, base: str) -> str:
    "Tags for previews, catalogues and language models."
    page = PAGES.get(name)
    if page is None:
        return ""
    about = " ".join(page.about.split())
    tags = {"title": page.title, "description": about[:300], "type": "article", "url": f"{base}{name}.html"}
    if page.picture:
        tags["image"] = f"{base}{page.picture}"
    lines = [f'<meta property="og:{key}" content="{html.escape(value)}">' for key, value in tags.items()]
    lines.append(f'<meta name="description" content="{html.escape(about[:300])}">')
    lines.append(f'<link rel="canonical" href="{base}{name}.html">')
    lines.append(f'<link rel="alternate" type="text/markdown" href="{base}{name}.html.md">')
    if page.data:
        text = json.dumps(page.data, ensure_ascii=False).replace("<", "\\u003c")
        lines.append(f'<script type="application/ld+json">{text}</script>')
    return "\n".join(lines)


def article(
    title: str, about: str, date: str, author: str, address: str, data: dict[str, Any] | None
) -> dict[str, Any]:
    "A digest in the words of schema.org, with its data in those of Croissant."
    known = {"@context": "https://schema.org", "@type": "Report", "headline": title, "abstract": about, "url": address}
    known |= {"datePublished": date, "author": {"@type": "Organization", "name": author}}
    return known | {"isBasedOn": data} if data else known


def write(out: Path, name: str, lead: str, base: str) -> None:
    "Twins, `llms.txt` and `sitemap.xml` beside the pages."
    groups: dict[str, list[str]] = {}
    for address, page in PAGES.items():
        path = out / f"{address}.html.md"
        path.write_text(f"{plain(page.source)}\n", encoding="utf-8")
        group = address.split("/")[0] if "/" in address else "start"
        about = " ".join(page.about.split())[:200]
        groups.setdefault(group, []).append(f"- [{page.title}]({base}{address}.html.md): {about}")
    lines = [f"# {name}", f"> {lead}"]
    lines += [f"## {group}\n\n" + "\n".join(entries) for group, entries in groups.items()]
    (out / "llms.txt").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    places = "".join(f"<url><loc>{html.escape(f'{base}{address}.html')}</loc></url>" for address in PAGES)
    schema = "http://www.sitemaps.org/schemas/sitemap/0.9"
    text = f'<?xml version="1.0" encoding="utf-8"?><urlset xmlns="{schema}">{places}</urlset>'
    (out / "sitemap.xml").write_text(text, encoding="utf-8")
