"""Write docs/refusals.md, the catalogue of refusals, from the table that tests/test_refusals.py holds the code to."""

import argparse
import sys
from pathlib import Path

from vmaf_research.measure.core import find_root

sys.path.insert(0, str(find_root(__file__) / "tests"))
from refusals import REFUSALS, REFUSED_CALLS

EVERYTHING = {**REFUSALS, "Calls of agents": REFUSED_CALLS}

HEAD = """# What is refused

<!-- Written by docs/refusals.py from tests/refusals.py. Change that table, not this page. -->

Bad input ends with a sentence on standard error, nothing half written, and earlier outputs as they were. The exit code
is 1 if a verification failed or the verdict is HOLD, 2 for bad or missing input, 3 if something is not shipped. Each
line of this page is provoked by a test; `…` stands for what differs from case to case.

{count} refusals, by what they are about: {groups}.
"""


def page() -> str:
    "The catalogue as Markdown."
    groups = ", ".join(f"{name[0].lower()}{name[1:]}" for name in EVERYTHING)
    parts = [HEAD.format(count=sum(map(len, EVERYTHING.values())), groups=groups)]
    for name, refusals in EVERYTHING.items():
        rows = [f"| {each.what} | {each.why} | {each.code} | {code(each.sentence)} |" for each in refusals]
        parts.append("\n".join([f"## {name}", "", "| what | why | code | sentence |", "|---|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def code(text: str) -> str:
    "Text of a program in a cell of a table."
    marks = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "`": "&#96;", "*": "&#42;", "_": "&#95;"}
    return f"<code>{text.translate(str.maketrans(marks))}</code>"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the catalogue of refusals from its table.")
    parser.add_argument("--check", action="store_true", help="only look whether the page is as it would be written")
    path = Path(__file__).with_suffix(".md")
    if not parser.parse_args().check:
        path.write_text(page(), encoding="utf-8")
    elif path.read_text(encoding="utf-8") != page():
        print("docs/refusals.md is not what the table says: run `python docs/refusals.py`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
