"""The benchmark of large tables, on a small one; and that a large one is never in memory twice."""

import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
from made_up import make_table

from vmaf_research.learn.table import KEY, load_training_table
from vmaf_research.measure.features import CANONICAL_6

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "scale.py"


def test_the_benchmark_runs(tmp_path):
    command = [sys.executable, str(SCRIPT), "--rows", "20000", "--sources", "3", "--keep", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {line.split()[0]: line.split() for line in done.stdout.splitlines()[2:]}
    assert found.keys() == {"write", "load"}
    assert all(int(re.sub(",", "", words[1])) >= int(re.sub(",", "", words[2])) > 0 for words in found.values())
    assert len(load_training_table(tmp_path / "scale.parquet")) == 20000


def test_a_parquet_table_is_read_by_columns(tmp_path, monkeypatch):
    rows = make_table()
    rows.sort_values(list(KEY)).to_parquet(tmp_path / "t.parquet", row_group_size=70)
    expected, asked, read = load_training_table(rows), [], pq.ParquetFile.read

    def read_columns(file, columns=None, **options):
        asked.append(columns)
        return read(file, columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read", read_columns)
    found = load_training_table(tmp_path / "t.parquet")
    assert asked == [[name] for name in (*KEY, *CANONICAL_6, "vmaf")]
    assert found.digest == expected.digest
    assert (found.pair == expected.pair).all()
