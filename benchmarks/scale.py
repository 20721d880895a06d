"""Memory of a table of the size of KoNViD-150k: written in row groups, and loaded for leave-one-source-out evaluation.

    python benchmarks/scale.py [--rows N] [--sources N] [--keep FOLDER]

Writes a made-up FULL_FEATURES table with the canonical six (20 million rows by default) as extraction writes it, pair
by pair, and loads it as evaluation does: `load_training_table` and `source_folds`. The same rows are loaded once more
from four tables whose rows are in disorder, and from a csv file. Each is done in a process of its own, whose peak of
resident memory is printed beside what it needed before it did anything, and rows per second. Exits with 1 if a peak is
above the limit of 2 GiB. The scores are noise: this is about memory, not about quality.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from vmaf_research.corpora.pairs import table_schema, write_tables
from vmaf_research.measure.features import CANONICAL_6

LIMIT = 2 << 30  # bytes
FRAMES = 240  # of a clip: eight seconds at 30 frames per second
TABLES = 4  # in disorder


def made_up_pairs(rows: int, sources: int, part: int | None = None) -> Iterator[pa.Table]:
    "Tables of one pair each, sorted, `rows` in all; or those of one of the `TABLES`, in disorder."
    random = np.random.default_rng(0)
    schema = table_schema()
    pairs = -(-rows // FRAMES)
    numbers = np.arange(pairs)
    if part is not None:
        numbers = np.random.default_rng(part).permutation(numbers[numbers * sources // pairs % TABLES == part])
    for pair in numbers.tolist():
        count = min(FRAMES, rows - pair * FRAMES)
        source = pair * sources // pairs
        clip = f"source{source:06}_{pair:09}.mp4"
        known = {"source": [f"source{source:06}"] * count, "dis_basename": [clip] * count, "codec": ["libx264"] * count}
        frames = np.arange(count, dtype=np.int32)
        values = {name: random.uniform(0, 1, count) for name in CANONICAL_6} | {"vmaf": random.uniform(0, 100, count)}
        known |= {"frame_index": frames if part is None else frames[::-1], **values}
        columns = [pa.array(known[name], type_) if name in known else pa.nulls(count, type_)
                   for name, type_ in zip(schema.names, schema.types, strict=True)]  # fmt: skip
        yield pa.Table.from_arrays(columns, schema=schema)


def write(folder: Path, rows: int, sources: int) -> None:
    "Write the table as extraction does."
    write_tables(folder / "scale.parquet", made_up_pairs(rows, sources), table_schema())


def write_several(folder: Path, rows: int, sources: int) -> None:
    "Write the same rows into several tables, in disorder."
    for part in range(TABLES):
        write_tables(folder / f"scale{part}.parquet", made_up_pairs(rows, sources, part), table_schema())


def write_csv(folder: Path, rows: int, sources: int) -> None:
    "Write the same rows as csv."
    with pyarrow.csv.CSVWriter(folder / "scale.csv", table_schema()) as writer:
        for table in made_up_pairs(rows, sources):
            writer.write_table(table)


def load(paths: Sequence[Path], rows: int, sources: int) -> None:
    "Load tables as evaluation does, and look at every row once through the folds."
    from vmaf_research.learn.folds import source_folds
    from vmaf_research.learn.table import load_training_table

    table = load_training_table(paths)
    folds = source_folds(table)
    found = sum(table.target[first:end].size for fold in folds for first, end in fold.judged)
    if (len(table), found, len(folds)) != (rows, rows, sources):
        raise SystemExit(f"{paths}: {len(table)} rows in {len(folds)} folds, expected {rows} in {sources}")


STEPS: dict[str, Callable[[Path, int, int], None]] = {
    "write": write,
    "load": lambda folder, *counts: load([folder / "scale.parquet"], *counts),
    "write-several": write_several,
    "load-several": lambda folder, *counts: load([folder / f"scale{k}.parquet" for k in range(TABLES)], *counts),
    "write-csv": write_csv,
    "load-csv": lambda folder, *counts: load([folder / "scale.csv"], *counts),
}


def peak() -> int:
    "Greatest resident memory of this process so far, bytes."
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def run_step(step: str, folder: Path, rows: int, sources: int) -> None:
    "Do one step in this process and print what it needed."
    import vmaf_research.learn.table  # noqa: F401 — its imports are not part of what is measured

    idle, started = peak(), time.perf_counter()
    STEPS[step](folder, rows, sources)
    print(json.dumps({"idle": idle, "peak": peak(), "seconds": time.perf_counter() - started}))


def measure_step(step: str, folder: Path, rows: int, sources: int) -> dict[str, float]:
    "The same in a process of its own."
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    command += ["--rows", str(rows), "--sources", str(sources)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{step}: ended with exit code {done.returncode}")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000, help="of the table (default 20,000,000)")
    parser.add_argument("--sources", type=int, default=100, help="of the table (default 100)")
    parser.add_argument("--keep", type=Path, help="put the tables into this folder and leave them there")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not 2 <= options.sources * FRAMES <= options.rows:
        parser.error(f"give at least {FRAMES} rows for each source, and at least one source")
    if options.step:
        run_step(options.step, options.folder, options.rows, options.sources)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = options.keep or Path(folder)
        found = {step: measure_step(step, place, options.rows, options.sources) for step in STEPS}
        sizes = [f"{path.name} {path.stat().st_size / 2**20:,.0f} MiB" for path in sorted(place.glob("scale*"))]
    print(f"{options.rows:,} rows of {options.sources} sources: {', '.join(sizes)} on the disk")
    print(f"{'':14}{'peak MiB':>10}{'idle MiB':>10}{'seconds':>10}{'rows/s':>14}")
    for step, each in found.items():
        speed = options.rows / each["seconds"]
        print(
            f"{step:14}{each['peak'] / 2**20:10,.0f}{each['idle'] / 2**20:10,.0f}{each['seconds']:10.1f}{speed:14,.0f}"
        )
    greedy = [step for step, each in found.items() if each["peak"] > LIMIT]
    if greedy:
        raise SystemExit(f"more than {LIMIT / 2**30:g} GiB: {', '.join(greedy)}")


if __name__ == "__main__":
    main()
