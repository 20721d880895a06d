"""Print every claim of the digests; --derive runs all digests and compares what they claim with what is kept, and
--restate writes what is kept into their prose."""

import os
import sys
from pathlib import Path

import matplotlib
import nbdev.test
import nbformat
from nbdev.config import get_config

sys.path.insert(0, str(Path(__file__).parent))
from digests import Digest, read_digest
from vmaf_research.measure.core import find_root, settings
from vmaf_research.measure.provenance import write_bytes
from vmaf_research.serve.claims import Claims, restate


def derive(digest: Digest) -> bool:
    "Run a digest and compare; what differs is printed."
    kept, Claims.write = Claims.write, Claims.check
    try:
        passed, _ = nbdev.test.test_nb(digest.path, skip_flags=get_config(find_root(__file__)).tst_flags)
    finally:
        Claims.write = kept
    return passed


def restate_prose(digest: Digest) -> None:
    "Write the values of the claims into the prose of a digest."
    known = {claim.name: claim for claim in digest.claims.claims}
    before = nbformat.writes(digest.notebook)
    for cell in digest.notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = restate(cell.source, known)
    after = nbformat.writes(digest.notebook)
    if after != before:
        write_bytes(digest.path, f"{after}\n".encode())


def main() -> int:
    matplotlib.use("agg")
    os.environ["TQDM_DISABLE"] = "1"
    failed = []
    for path in sorted(settings().digest_path.glob("[0-9]*.ipynb")):
        digest = read_digest(path)
        if "--derive" in sys.argv and not derive(digest):
            failed.append(digest.number)
        if "--restate" in sys.argv and digest.claims:
            restate_prose(digest)
        for claim in digest.claims.claims if digest.claims else ():
            line = f"{digest.number}  {digest.date}  {claim.name:24} {claim.value:>10g}  {claim.span:16} {claim.unit}"
            print(line.rstrip(), flush=True)
    if failed:
        print(f"not derived: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
