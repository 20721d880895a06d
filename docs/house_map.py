"""Write docs/map.md, .svg and .html: the rooms, their modules and how they import each other, from the code itself."""

import argparse
import io
import sys
from collections import Counter
from html import escape
from pathlib import Path

import matplotlib
import nbformat
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

sys.path.insert(0, str(Path(__file__).parent))
from notebooks import title_and_subtitle
from symbols import PACKAGE, imported, sources

from vmaf_research.measure.core import find_root

ROOT = find_root(Path(__file__).parent)
ROOMS = {  # from the ground up: question, place of the box (left edge, level), what goes in and comes out
    "measure": ("What is in these pixels?", (1.5, 0), "A pair of clips in, features and scores of every frame out."),
    "corpora": ("Which pairs, from where?", (0.0, 1), "Many clips in, a table with its pairs table and manifest out."),
    "learn": ("What can be learned from a table?", (3.0, 1), "A table in, fitted models and their reports out."),
    "ship": ("May it be used, and what is it?", (1.5, 2), "A report in; gate, graph, sidecar, card and scores out."),
    "predict": ("Which setting reaches the target?", (1.5, 3), "A clip in, quality values proved by encodes out."),
    "serve": ("Who asks?", (1.5, 4), "Words, tools and pages in, calls of the rooms below out."),
}
FLOWS = {  # what a room hands to the next
    ("measure", "corpora"): "frames, features,\nscores",
    ("measure", "learn"): "the teacher\nas a function",
    ("corpora", "ship"): "tables, pairs,\nmanifests",
    ("learn", "ship"): "fitted models,\nreports",
    ("ship", "predict"): "registered models, intervals",
    ("predict", "serve"): "choices and their proofs",
}
WIDTH, HEIGHT, STEP = 2.8, 0.95, 1.5
START, END = "<!-- rooms: written by docs/house_map.py -->", "<!-- end of rooms -->"


def modules(room: str) -> list[str]:
    "Names of the modules of a room, in the order of their notebooks."
    return [path.stem[3:] for path in sorted((ROOT / "nbs" / room).glob("[0-9]*.ipynb"))]


def room_imports() -> Counter:
    "How many modules of a room (first) import something from another one (second)."
    found = Counter()
    for module in sources():
        room = module.split(".")[1]
        below = {target.split(".")[1] for target in imported(module).values() if target.startswith(f"{PACKAGE}.")}
        found.update((room, other) for other in below - {room} if other in ROOMS)
    return found


def draw() -> str:
    "The picture as SVG; the same code gives the same bytes."
    matplotlib.rcParams["svg.hashsalt"] = PACKAGE
    figure = Figure(figsize=(8.5, 8))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.15, 5.95), ylim=(-0.15, 4 * STEP + HEIGHT + 0.15))
    axes.axis("off")
    middle = {room: (left + WIDTH / 2, level * STEP) for room, (_, (left, level), _) in ROOMS.items()}
    imports = room_imports()
    for (room, above), text in FLOWS.items():
        (x, y), (x_above, y_above) = middle[room], middle[above]
        start, end = (x + 0.5 * (x_above - x), y + HEIGHT + 0.05), (x_above + 0.25 * (x - x_above), y_above - 0.05)
        width = 0.8 + 0.25 * imports[above, room]
        look = {"arrowstyle": "-|>", "mutation_scale": 14, "linewidth": width, "color": "#7a8ca3"}
        axes.add_patch(FancyArrowPatch(start, end, **look))
        left_side = "corpora" in (room, above)
        place = ((start[0] + end[0]) / 2 + (-0.2 if left_side else 0.2), (start[1] + end[1]) / 2)
        axes.text(*place, text, fontsize=9, ha="right" if left_side else "left", va="center", color="#12263a")
    for room, (question, (left, level), _) in ROOMS.items():
        box = FancyBboxPatch((left, level * STEP), WIDTH, HEIGHT, boxstyle="round,pad=0.04", facecolor="#eef3f8",
                             edgecolor="#33506e", linewidth=1)  # fmt: skip
        axes.add_patch(box)
        axes.text(left + 0.08, level * STEP + HEIGHT - 0.17, room, fontsize=13, weight="bold", color="#12263a")
        axes.text(left + WIDTH - 0.06, level * STEP + HEIGHT - 0.16, question, fontsize=8.5, ha="right", style="italic",
                  color="#33506e")  # fmt: skip
        names, lines = modules(room), [""]
        for name in names:
            if len(lines[-1]) + len(name) > 46:
                lines.append("")
            lines[-1] += f"{name}   "
        axes.text(left + 0.08, level * STEP + HEIGHT - 0.36, "\n".join(lines), fontsize=8.5, va="top", color="#12263a",
                  linespacing=1.5)  # fmt: skip
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


STYLE = """
.house-map { max-width: 60em; display: flex; flex-direction: column-reverse; text-align: center; font-size: 13px; }
.house-map .level { display: flex; gap: 12px; justify-content: center; }
.house-map .flows { display: flex; gap: 12px; justify-content: center; margin: 3px 0; opacity: 0.8; }
.house-map .flows span { flex: 1; max-width: 36em; }
.house-map .room { flex: 1; max-width: 36em; padding: 6px 10px 9px; line-height: 1.7;
  border: 1px solid var(--jp-border-color0, #33506e); border-radius: 8px;
  background: var(--jp-layout-color2, #eef3f8); }
.house-map .room b { font-size: 15px; }
.house-map .room a { white-space: nowrap; margin: 0 4px; }
"""


def linked_map() -> str:
    "The rooms as boxes whose modules lead to their notebooks; addresses are those from a folder of the repository."
    levels = []
    for level in range(1 + max(level for _, (_, level), _ in ROOMS.values())):
        rooms = sorted((left, room) for room, (_, (left, on), _) in ROOMS.items() if on == level)
        boxes, flows = [], []
        for _, room in rooms:
            links = []
            for path in sorted((ROOT / "nbs" / room).glob("[0-9]*.ipynb")):
                subtitle = title_and_subtitle(nbformat.read(path, as_version=4))[1].replace("`", "")
                place = f"../nbs/{room}/{path.name}"
                links.append(f'<a href="{place}" title="{escape(subtitle)}">{path.stem[3:]}</a>')
            head = f"<b>{room}</b> <i>{ROOMS[room][0]}</i>"
            boxes.append(f'<div class="room">{head}<br>\n' + "\n".join(links) + "</div>")
            said = [flow for (below, _), flow in FLOWS.items() if below == room]
            flows += [f"<span>↑ {' '.join(flow.split())}</span>" for flow in said]
        levels.append(f'<div class="level">{"".join(boxes)}</div>')
        if flows:
            levels.append(f'<div class="flows">{"".join(flows)}</div>')
    return f'<style>{STYLE}</style>\n<div class="house-map">\n' + "\n".join(levels) + "\n</div>\n"


def room_lists() -> str:
    "Per room its question, what flows through it, what it imports, and its notebooks."
    imports, parts = room_imports(), []
    for room, (question, _, flow) in ROOMS.items():
        below = [f"{other} ({imports[room, other]})" for other in ROOMS if imports[room, other]]
        known = f"Imports {', '.join(below)}; in brackets the modules that do." if below else "Imports no other room."
        lines = [f"### {room}", "", f"*{question}* {flow} {known}", ""]
        for path in sorted((ROOT / "nbs" / room).glob("[0-9]*.ipynb")):
            title, subtitle = title_and_subtitle(nbformat.read(path, as_version=4))
            lines.append(f"- [{path.stem.replace('_', ' ', 1)}](../nbs/{room}/{path.name}): {title}. {subtitle}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def written() -> dict[Path, str]:
    "All files as they should be."
    page = ROOT / "docs" / "map.md"
    head, _, rest = page.read_text(encoding="utf-8").partition(START)
    tail = rest.partition(END)[2]
    lists = f"{head}{START}\n\n{room_lists()}\n\n{END}{tail}"
    return {page: lists, page.with_suffix(".html"): linked_map(), page.with_suffix(".svg"): draw()}


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the map of the rooms from the imports of the code.")
    parser.add_argument("--check", action="store_true", help="only look whether the page is as it would be written")
    check = parser.parse_args().check
    for path, text in written().items():
        if not check:
            path.write_text(text, encoding="utf-8")
        elif path.suffix != ".svg" and path.read_text(encoding="utf-8") != text:
            print(f"{path.relative_to(ROOT)} is not what the code says: run `make map`")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
