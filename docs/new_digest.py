"""Write the next digest from `digest-template.ipynb`: new_digest.py NAME, where NAME is words with hyphens."""

import re
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEMPLATE = Path(__file__).parent / "digest-template.ipynb"


def new_digest(name: str, folder: Path, today: date) -> Path:
    "Copy the template to `NNNN-NAME.ipynb`, with the next number and the date filled in; raises `ValueError`."
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"{name!r}: expected lower-case words with hyphens, as in make digest NAME=what-it-asks")
    numbers = [int(path.name[:4]) for path in folder.glob("[0-9][0-9][0-9][0-9]-*.ipynb")]
    number = f"{max(numbers, default=0) + 1:04d}"
    path = folder / f"{number}-{name}.ipynb"
    text = TEMPLATE.read_text(encoding="utf-8").replace("NNNN", number).replace("YYYY-MM-DD", today.isoformat())
    path.write_text(text, encoding="utf-8")
    return path


def main() -> int:
    try:
        path = new_digest(sys.argv[1] if len(sys.argv) > 1 else "", ROOT / "digests", date.today())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
