"""The benchmark of large tables, on a small one; and that a large one is not read the long way."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from made_up import make_table

from vmaf_research.learn import table
from vmaf_research.learn.table import KEY, load_training_table

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "scale.py"


def test_the_benchmark_runs(tmp_path):
    command = [sys.executable, str(SCRIPT), "--rows", "20000", "--sources", "3", "--keep", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {line.split()[0]: line.split() for line in done.stdout.splitlines()[2:]}
    assert found.keys() == {"write", "load"}
    assert all(int(re.sub(",", "", words[1])) >= int(re.sub(",", "", words[2])) > 0 for words in found.values())
    assert len(load_training_table(tmp_path / "scale.parquet")) == 20000


def test_a_sorted_table_is_read_in_batches(tmp_path, monkeypatch):
    rows = make_table()
    rows.sort_values(list(KEY)).to_parquet(tmp_path / "t.parquet", row_group_size=70)
    expected = load_training_table(rows)

    def long_way(*arguments):
        raise AssertionError("the whole table was read into a data frame")

    monkeypatch.setattr(table, "_read_columns", long_way)
    found = load_training_table(tmp_path / "t.parquet")
    assert found.digest == expected.digest
    assert (found.pair == expected.pair).all()
    rows.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(AssertionError):
        load_training_table(tmp_path / "t.csv")
