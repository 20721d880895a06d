"""Build the site: stage notebooks, digests, cards and how-to pages as Sphinx sources, and run Sphinx on them.

Staging gives every page the address that a reader expects (`learn/metrics.html` for `nbs/learn/45_metrics.ipynb`) and
leaves the repository as it is. Nothing is executed and nothing is fetched.
"""

import argparse
import gc
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from sphinx.cmd.build import build_main

sys.path.insert(0, str(Path(__file__).parent))
import models
from notebooks import front_matter, module_name, page, title_and_subtitle, to_myst

from digests import REFERENCES, Digest, digest_list, digest_page
from vmaf_research.measure.core import find_root
from vmaf_research.ship.registry import read_registry

ROOT = find_root(Path(__file__).parent)
ROOMS = ("tutorials", "measure", "corpora", "learn", "ship", "predict", "serve")  # in reading order
LINK = re.compile(r"(?<=\]\()([^)\s:#]+)(?=[)#])")
TOCTREE = "```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


def page_name(notebook: Path) -> str:
    "Address of a notebook on the site, without suffix."
    exported_to = module_name(nbformat.read(notebook, as_version=4))
    if exported_to:
        return exported_to.replace(".", "/")
    return f"{notebook.parent.name}/{re.sub(r'^[0-9]+[a-z]?_', '', notebook.stem)}"


@dataclass
class Stage:
    "The folder of Sphinx sources, and which page each file of the repository has become."

    folder: Path
    pages: dict[Path, str] = field(default_factory=dict)  # file to address
    written: set[Path] = field(default_factory=set)

    def write(self, name: str, text: str) -> None:
        "Write a source if it changed, so that Sphinx reads only what did."
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
        self.written.add(path)

    def relink(self, text: str, source: Path) -> str:
        "Links between files of the repository as links between pages."

        def replace(match: re.Match) -> str:
            for base in (source.parent, ROOT):
                address = self.pages.get((base / match[1]).resolve())
                if address:
                    return f"/{address}{Path(match[1]).suffix}"
            return match[0]

        return LINK.sub(replace, text)

    def markdown(self, source: Path) -> None:
        "Stage a Markdown file of the repository."
        text = self.relink(source.read_text(encoding="utf-8"), source)
        self.write(f"{self.pages[source]}.md", to_myst(text))

    def notebook(self, source: Path, notebook: NotebookNode) -> None:
        "Stage a notebook, already made a page."
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = self.relink(cell.source, source)
        self.write(f"{self.pages[source]}.ipynb", nbformat.writes(notebook))

    def remove_stale(self) -> None:
        "Sources of pages that are no more."
        for path in self.folder.rglob("*"):
            if path.is_file() and path not in self.written:
                path.unlink()


def room_description(room: str) -> str:
    "What the start page says about a room."
    notebook = nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    row = re.search(rf"^\| `{room}` \| (.+?) \|$", text, re.M)
    return row[1] if row else ""


def room_page(room: str, notebooks: list[Path], pages: dict[Path, str]) -> str:
    "List of the notebooks of a room with their subtitles."
    rows = []
    for path in notebooks:
        title, subtitle = title_and_subtitle(nbformat.read(path, as_version=4))
        subtitle = subtitle.replace("|", r"\|")  # of commands in one of several words
        rows.append(f"| [{title}](/{pages[path]}.ipynb) | {subtitle} |")
    entries = "\n".join(f"/{pages[path]}" for path in notebooks)
    description = room_description(room)
    lead = f":::{{rst-class}} lead\n{description[:1].upper()}{description[1:]}\n:::\n" if description else ""
    table = "\n".join(["| notebook | what it is about |", "|---|---|", *rows])
    return f"# {room.capitalize()}\n\n{lead}\n{table}\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n"


def start_page(how_to: list[str], rooms: list[str]) -> NotebookNode:
    "The notebook that is also the README, with a picture, ways into the site, and its table of contents."
    notebook = page(nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4))
    head, _, rest = notebook.cells[1].source.partition("\n## ")
    errors = models.shipped_errors()
    text = models.figure_text(errors)
    picture = "\n\n".join(
        f"```{{image}} /_pictures/{models.FIGURE}-{theme}.svg\n:alt: {text}\n:class: only-{theme}\n:width: 100%\n```"
        for theme in ("light", "dark")
    )
    ways = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    notebook.cells[1].source = f"{head}\n\n{picture}\n\n{ways}\n\n## {rest}"
    chapters = {
        "Read": [*how_to, "/digests/index", "/models/index"],
        "Package": [f"/{room}/index" for room in rooms],
    }
    toctrees = [TOCTREE.format(caption=name, entries="\n".join(entries)) for name, entries in chapters.items()]
    notebook.cells.append(new_markdown_cell("\n".join(toctrees), id="contents"))
    return notebook


def stage(folder: Path) -> None:
    "Write all sources of the site to a folder."
    target = Stage(folder)
    found = {room: sorted((ROOT / "nbs" / room).glob("*.ipynb")) for room in ROOMS}
    rooms = {room: notebooks for room, notebooks in found.items() if notebooks}
    digest_paths = sorted((ROOT / "digests").glob("[0-9]*.ipynb"))
    how_to = [*sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "start.md")]
    how_to += [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    registry = read_registry()

    start = ROOT / "nbs" / "index.ipynb"
    target.pages[start] = "index"
    target.pages |= {path: f"how-to/{path.stem.lower()}" for path in how_to}
    target.pages |= {path: page_name(path) for notebooks in rooms.values() for path in notebooks}
    target.pages |= {path: f"digests/{path.stem}" for path in digest_paths}
    target.pages |= {ROOT / "model" / row.card: f"models/{row.id}" for row in registry.models}

    for room, notebooks in rooms.items():
        target.write(f"{room}/index.md", room_page(room, notebooks, target.pages))
        for path in notebooks:
            target.notebook(path, page(nbformat.read(path, as_version=4)))
    digests = []
    for path in digest_paths:
        notebook = nbformat.read(path, as_version=4)
        digests.append(Digest(path.stem, *title_and_subtitle(notebook), front_matter(notebook)))
        target.notebook(path, digest_page(page(notebook), digests[-1]))
    target.write("digests/index.md", digest_list(digests))
    target.write("digests/references.md", REFERENCES)
    target.write("digests/references.bib", (ROOT / "digests" / "references.bib").read_text(encoding="utf-8"))
    for path in how_to:
        target.markdown(path)
    target.write("how-to/map.svg", (ROOT / "docs" / "map.svg").read_text(encoding="utf-8"))
    entries = "\n".join(f"/models/{row.id}" for row in registry.models)
    target.write("models/index.md", f"{models.overview(registry)}\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n")
    for row in registry.models:
        source = ROOT / "model" / row.card
        target.write(f"models/{row.id}.md", target.relink(to_myst(models.model_page(registry, row)), source))

    pictures = folder / "_pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    models.draw_errors(models.shipped_errors(), pictures)
    target.written |= set(pictures.iterdir())
    target.notebook(start, start_page([f"/{target.pages[path]}" for path in how_to], list(rooms)))
    target.remove_stale()


def write_redirects(out: Path) -> None:
    "Pages at old addresses that lead to where their content is now."
    for line in (ROOT / "docs" / "redirects.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        old, new = (out / f"{name}.html" for name in line.split())
        if not new.is_file():
            raise SystemExit(f"docs/redirects.txt: {line}: there is no page {new.relative_to(out)}")
        target = Path(os.path.relpath(new, old.parent)).as_posix()
        old.parent.mkdir(parents=True, exist_ok=True)
        old.write_text(
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Moved</title>'
            f'<meta http-equiv="refresh" content="0; url={target}"></head>'
            f'<body><a href="{target}">Moved</a></body></html>',
            encoding="utf-8",
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the site; warnings are errors.")
    parser.add_argument("out", type=Path, help="folder for the HTML")
    out = parser.parse_args().out.resolve()
    work = out.parent
    gc.disable()  # almost all that is made is kept to the end
    stage(work / "source")
    os.environ["MPLBACKEND"] = "agg"
    options = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(ROOT / "docs")]
    failed = build_main([*options, "-d", str(work / "doctrees"), str(work / "source"), str(out)])
    if not failed:
        write_redirects(out)
    return failed


if __name__ == "__main__":
    sys.exit(main())
