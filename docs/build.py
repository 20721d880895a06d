"""Build the site: stage notebooks, digests, cards and how-to pages as Sphinx sources, and run Sphinx on them.

Staging gives every page the address that a reader expects (`learn/metrics.html` for `nbs/learn/44_metrics.ipynb`) and
leaves the repository as it is. Nothing is executed and nothing is fetched.
"""

import argparse
import gc
import os
import re
import shutil
import sys
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from sphinx.cmd.build import build_main

sys.path.insert(0, str(Path(__file__).parent))
import machines
import models
from calculator import PAGE, write_calculator
from notebooks import module_name, page, title_and_subtitle, to_myst

from digests import REFERENCES, Digest, claims_page, digest_list, digest_page, linked
from vmaf_research.measure.core import find_root
from vmaf_research.serve.croissant import data_set
from vmaf_research.ship.registry import read_registry

ROOT = find_root(Path(__file__).parent)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE = PROJECT["urls"]["Homepage"]  # where the site is published
AUTHOR = PROJECT["authors"][0]["name"]
LICENCE = PROJECT["license"]
ROOMS = ("tutorials", "measure", "corpora", "learn", "ship", "predict", "serve")  # in reading order
LINK = re.compile(r"(?<=\]\()([^)\s:#]+)(?=[)#])")
ICONS = "scripts/fontawesome"  # 1.5 MB that draw the icons of the fonts anew
SEARCH = "searchtools|language_data|searchindex"  # the index of all words
TOCTREE = "```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


@cache
def read(path: Path) -> NotebookNode:
    "A notebook of the repository, which several pages are made from."
    return nbformat.read(path, as_version=4)


def page_name(notebook: Path) -> str:
    "Address of a notebook on the site, without suffix."
    exported_to = module_name(read(notebook))
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

    def describe(self, name: str, title: str, about: str, source: str, **more: object) -> None:
        "Remember what machines are told about a page."
        machines.PAGES[name] = machines.Page(title, re.sub(r"[`*]", "", about), source, **more)

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
        title, _, rest = text.lstrip("# ").partition("\n")
        self.describe(self.pages[source], title, rest.strip().partition("\n\n")[0], text)

    def notebook(self, source: Path, notebook: NotebookNode, about: str = "", **more: object) -> None:
        "Stage a notebook, already made a page."
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = self.relink(cell.source, source)
        self.write(f"{self.pages[source]}.ipynb", nbformat.v4.writes(notebook))
        title, subtitle = title_and_subtitle(read(source))
        self.describe(self.pages[source], title, about or subtitle, machines.notebook_source(notebook), **more)

    def page(self, name: str, text: str) -> None:
        "Stage a page that stands in no file of the repository."
        self.write(f"{name}.md", text)
        title, _, rest = text.lstrip("# ").partition("\n")
        self.describe(name, title, machines.plain(rest).lstrip("> ").partition("\n\n")[0], text)

    def remove_stale(self) -> None:
        "Sources of pages that are no more."
        for path in self.folder.rglob("*"):
            if path.is_file() and path not in self.written:
                path.unlink()


def room_description(room: str) -> str:
    "What the start page says about a room."
    notebook = read(ROOT / "nbs" / "index.ipynb")
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    row = re.search(rf"^\| `{room}` \| (.+?) \|$", text, re.M)
    return row[1] if row else ""


def room_page(room: str, notebooks: list[Path], pages: dict[Path, str]) -> str:
    "List of the notebooks of a room with their subtitles."
    rows = []
    for path in notebooks:
        title, subtitle = title_and_subtitle(read(path))
        subtitle = subtitle.replace("|", r"\|")  # of commands in one of several words
        rows.append(f"| [{title}](/{pages[path]}.ipynb) | {subtitle} |")
    entries = "\n".join(f"/{pages[path]}" for path in notebooks)
    description = room_description(room)
    lead = f":::{{rst-class}} lead\n{description[:1].upper()}{description[1:]}\n:::\n" if description else ""
    table = "\n".join(["| notebook | what it is about |", "|---|---|", *rows])
    return f"# {room.capitalize()}\n\n{lead}\n{table}\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n"


FINDINGS = ("0011", "0008", "0002")  # digests that the start page quotes


def findings(digests: list[Digest]) -> str:
    "The first sentence of some answers, with links to the rest."
    chosen = [digest for number in FINDINGS for digest in digests if digest.number == number]
    sentences = [re.split(r"(?<=[.!?]) (?=[A-Z])", linked(digest.answer, digest))[0] for digest in chosen]
    texts = [text.replace("claims.html#", "digests/claims.html#") for text in sentences]
    pairs = zip(texts, chosen, strict=True)
    return "\n".join(f"- {text} [Digest {each.number}](/digests/{each.name}.ipynb)" for text, each in pairs)


def start_page(how_to: list[str], rooms: list[str], digests: list[Digest]) -> NotebookNode:
    "The notebook that is also the README, with a picture, ways into the site, and its table of contents."
    notebook = page(read(ROOT / "nbs" / "index.ipynb"))
    head, _, rest = notebook.cells[1].source.partition("\n## ")
    errors = models.shipped_errors()
    text = models.figure_text(errors)
    picture = "\n\n".join(
        f"```{{image}} /_pictures/{models.FIGURE}-{theme}.svg\n:alt: {text}\n:class: only-{theme}\n:width: 100%\n```"
        for theme in ("light", "dark")
    )
    ways = (ROOT / "docs" / "start.md").read_text(encoding="utf-8").replace("FINDINGS", findings(digests))
    notebook.cells[1].source = f"{head}\n\n{picture}\n\n{ways}\n\n## {rest}"
    chapters = {
        "Read": ["/digests/index", "/models/index", "/calculator", *how_to],
        "Package": [f"/{room}/index" for room in rooms],
    }
    toctrees = [TOCTREE.format(caption=name, entries="\n".join(entries)) for name, entries in chapters.items()]
    notebook.cells.append(new_markdown_cell("\n".join(toctrees), id="contents"))
    return notebook


def stage_digests(target: Stage, digests: list[Digest]) -> None:
    "Pages, list, claims and figures of the digests."
    titles = {digest.name: digest.title for digest in digests}
    for digest in digests:
        address = f"{BASE}digests/{digest.name}.html"
        files = {path.name: (path, f"{BASE}digests/data/{digest.number}/{path.name}") for path in digest.files}
        known = {"url": address, "date_published": digest.date, "license": LICENCE}
        data = data_set(files, f"Data of digest {digest.number}", digest.plain_answer, **known) if files else None
        data = machines.article(digest.title, digest.plain_answer, digest.date, AUTHOR, address, data)
        if digest.figure:
            place = target.folder / digest.picture
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(digest.figure[0])
            target.written.add(place)
        notebook = digest_page(page(digest.notebook), digest, titles, AUTHOR, BASE)
        picture = digest.picture if digest.figure else ""
        target.notebook(digest.path, notebook, about=digest.plain_answer, picture=picture, data=data)
    target.page("digests/index", digest_list(digests))
    target.page("digests/claims", claims_page(digests))
    target.page("digests/references", REFERENCES)
    target.write("digests/references.bib", (ROOT / "digests" / "references.bib").read_text(encoding="utf-8"))


def copy_downloads(out: Path, digests: list[Digest]) -> None:
    "What the pages of the digests offer, as it lies in the repository."
    for digest in digests:
        shutil.copy(digest.path, out / "digests")
        for path in digest.files:
            place = out / "digests" / "data" / digest.number / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)


def stage(folder: Path) -> list[Digest]:
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
        target.page(f"{room}/index", room_page(room, notebooks, target.pages))
        for path in notebooks:
            target.notebook(path, page(read(path)))
    digests = [Digest(path, read(path)) for path in digest_paths]
    stage_digests(target, digests)
    target.page("calculator", PAGE)
    for path in how_to:
        target.markdown(path)
    for path in (ROOT / "docs" / "schemas").iterdir():
        target.write(f"how-to/schemas/{path.name}", path.read_text(encoding="utf-8"))
    target.write("how-to/map.svg", (ROOT / "docs" / "map.svg").read_text(encoding="utf-8"))
    entries = "\n".join(f"/models/{row.id}" for row in registry.models)
    target.page("models/index", f"{models.overview(registry)}\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n")
    for row in registry.models:
        source = ROOT / "model" / row.card
        target.page(f"models/{row.id}", target.relink(to_myst(models.model_page(registry, row)), source))

    pictures = folder / "_pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    models.draw_errors(models.shipped_errors(), pictures)
    target.written |= {pictures / f"{models.FIGURE}-{theme}.svg" for theme in ("light", "dark")}
    target.notebook(start, start_page([f"/{target.pages[path]}" for path in how_to], list(rooms), digests))
    target.remove_stale()
    return digests


def drop_scripts(out: Path) -> None:
    "Take what no page uses out of all: icons of one's own, and, but for the page of the search, a search as one types."
    for path in out.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        scripts = ICONS if path == out / "search.html" else f"{ICONS}|{SEARCH}"
        lighter = re.sub(rf'\n *<script[^>]* src="[^"]*({scripts})\.js[^"]*"></script>', "", text)
        if lighter != text:
            path.write_text(lighter, encoding="utf-8")


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
    digests = stage(work / "source")
    os.environ["MPLBACKEND"] = "agg"
    options = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(ROOT / "docs")]
    failed = build_main([*options, "-d", str(work / "doctrees"), str(work / "source"), str(out)])
    if not failed:
        drop_scripts(out)
        write_redirects(out)
        shutil.copytree(ROOT / "docs" / "schemas", out / "schemas", dirs_exist_ok=True)  # where their ids say
        copy_downloads(out, digests)
        write_calculator(read_registry(), out / "_static")
        machines.write(out, PROJECT["name"], PROJECT["description"], BASE)
    return failed


if __name__ == "__main__":
    sys.exit(main())
