"""Write docs/ensemble-runbook.md: every command in it is run, and what it prints is copied.

    python docs/ensemble_runbook.py [--work FOLDER]

Takes some minutes: it builds the embedded corpus with three encoders, trains on it, promotes the members in a registry
of its own, and rolls back. With --work the corpus and the table are kept and used again.
"""

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from vmaf_research.ship.verdict import _ADVICE

PAGE = Path(__file__).with_name("ensemble-runbook.md")

HEAD = """# From a corpus to a promoted ensemble

<!-- Written by docs/ensemble_runbook.py. Change that script, not this page. -->

`fr_regressor_v2` is an ensemble of five small networks that take six libvmaf features of a frame and the *codec block*:
which encoder made the clip, with which preset and which quality value. Five commands lead from a table to members in
use, and each of them can say no. What stands below was printed by a run on the embedded corpus.

| step | command | no |
|---|---|---|
| 1 | `extract` | exit code 2: a clip cannot be measured |
| 2 | `ensemble run` | exit code 2: the table cannot be used, or the folder has a finished run with other settings |
| 3 | `ensemble validate` | exit code 1: HOLD |
| 4 | `ensemble export` | exit code 3: no PROMOTE that belongs to this run and this table |
| 5 | `registry promote` | exit code 3: the verdict is not about the registered members; 1: the registry is damaged |

"""

STEPS = (
    (
        "## 1. Measure the corpus",
        """Several encoders, or nothing can be learned about codecs; at least nine sources. The pairs table that is
written beside the table holds the encode parameters, and the manifest says which files were measured.""",
        "extract embedded --out embedded.parquet --workdir corpus --codecs libx264,libx265,libsvtav1 -q",
    ),
    (
        "## 2. Train every seed without every source",
        """Five seeds times all sources, in one stack. Several tables are one data set. `--folds` leaves out something
else: `corpus`, or so many groups of sources (as many as there are sources: each on its own); beyond 100 sources ten
groups are the default. `--judge-on` trains on the tables and judges on other corpora, instead of leaving anything out.
`--corpus-root` looks at the files again: a folder for each table, in their order. A run that is started again
trains only the seeds that are not finished: a seed is finished when its `loso_seed{N}.json` is whole and was made
from the same table, corpus, recipe and version. A run that was killed while it trained goes on from its last
checkpoint (`training.part`, written every few seconds), and ends with the bytes of an undisturbed one. The recipe is
`adr0303` unless another one
is named; `tuned` is more exact and takes a quarter of the time.""",
        "ensemble run embedded.parquet --out run --recipe tuned --folds 12 --corpus-root corpus -q",
    ),
    (
        "## 3. Ask for the verdict",
        """Judges what is in the folder and writes PROMOTE.json or HOLD.json; the opposite one of an earlier time goes.
The table is looked for where the run found it (`--table` says where it is now). With `--corpus-root` the
names and sizes of the files are compared with those that were measured.""",
        "ensemble validate run --corpus-root corpus",
    ),
    (
        "## 4. Export the members",
        """Trains five networks on all rows and registers them as placeholders (`smoke: true`) in `run/model`;
`--install` copies them to `model/`, or to the folder that `--models` names.""",
        "ensemble export run --install --models model -q",
    ),
    (
        "## 5. Promote",
        """Nothing else turns `smoke` off. The verdict must follow from its own numbers, and the registered members must
be those that it allowed: same table, same results per seed, same verdict. The rows before and after are
shown, and the verdict goes into the registry.""",
        "registry promote --verdict run/PROMOTE.json --models model",
    ),
    (
        "",
        "The registry is whole:",
        "registry verify --models model",
    ),
    (
        "## 6. Score with it",
        """The five members are one model under the id without `_seedN`: `score` is their mean, `spread` their standard
deviation, `low` and `high` the interval of the mean, calibrated on the sources that each fold left out. The codec
block is made from the columns codec, preset and crf of the table or of the pairs table beside it. With
`--quality-confidence` and `--target` the answer is the cheapest encode of every source and encoder whose lower
bound reaches the target. A set with a member that is missing, damaged or from another export is refused.""",
        "score fr_regressor_v2_ensemble_v1 embedded.parquet --out scored.parquet --interval 0.9 --models model",
    ),
    (
        "",
        "",
        "score fr_regressor_v2_ensemble_v1 embedded.parquet --out chosen.csv --quality-confidence 0.9 --target 93 "
        "--models model",
    ),
    (
        "## How to roll back",
        "The rows become what they were before the last promotion, to the byte.",
        "registry rollback --models model",
    ),
    (
        "## How to read a HOLD",
        """A trial with one epoch (`--dry-run`) is never promoted, so it shows what a HOLD looks like. Every line that
says FAILED has its reasons below, and the last line says what to do.""",
        "ensemble run embedded.parquet --out trial --recipe tuned --dry-run -q",
    ),
    (
        "",
        "",
        "ensemble validate trial",
    ),
)


def run(words: str, folder: Path) -> str:
    "What a command prints, with its exit code if that is not 0."
    code = f"import sys; from vmaf_research.serve.cli import main; sys.exit(main({shlex.split(words)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    lines = [line for line in (done.stdout + done.stderr).strip().splitlines() if not line.startswith("warning: ")]
    text = "\n".join(lines[:60]).replace(f"{folder}/", "")
    text = re.sub(r" in \d+\.\d s", " in … s", text)
    return text + (f"\n(exit code {done.returncode})" if done.returncode else "")


def shortened(text: str, lines: int = 24) -> str:
    "A long output, cut off after some lines."
    parts = text.splitlines()
    return "\n".join(parts[:lines] + ([f"… ({len(parts) - lines} more lines)"] if len(parts) > lines else []))


def page(folder: Path) -> str:
    "The whole page."
    parts = [HEAD]
    for title, text, words in STEPS:
        parts += [f"{title}\n\n"] if title else []
        parts += [f"{text}\n\n"] if text else []
        parts.append(f"```text\n$ vmaf-research {words}\n{shortened(run(words, folder))}\n```\n\n")
    parts.append(
        "What the checks of the verdict mean, and what helps:\n\n| check that failed | what to do |\n|---|---|\n"
    )
    parts += [f"| {name} | {advice} |\n" for name, advice in _ADVICE.items()]
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = (options.work or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        taken = [name for name in ("run", "trial", "model") if (folder / name).exists()]
        if taken:
            parser.error(f"{folder} already has {', '.join(taken)}; the page must show a fresh run")
        PAGE.write_text(page(folder), encoding="utf-8")


if __name__ == "__main__":
    main()
