"""The benchmark of large tables, on a small one; and that a large one is never in memory twice."""

import re
import subprocess
import sys
from pathlib import Path

from made_up import make_table

from vmaf_research.learn.table import KEY, load_training_table
from vmaf_research.measure import tables
from vmaf_research.measure.features import CANONICAL_6

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "scale.py"


def test_the_benchmark_runs(tmp_path):
    command = [sys.executable, str(SCRIPT), "--rows", "20000", "--sources", "5", "--keep", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {line.split()[0]: line.split() for line in done.stdout.splitlines()[2:]}
    assert found.keys() == {f"{step}{kind}" for step in ("write", "load") for kind in ("", "-several", "-csv")}
    assert all(int(re.sub(",", "", words[1])) >= int(re.sub(",", "", words[2])) > 0 for words in found.values())
    assert len(load_training_table(tmp_path / "scale.parquet")) == 20000


def test_a_parquet_table_is_read_once_and_in_blocks(tmp_path, monkeypatch):
    rows = make_table()
    rows.assign(codec="x").sort_values(list(KEY)).to_parquet(tmp_path / "t.parquet", row_group_size=70)
    expected, asked, largest, read = load_training_table(rows), [], [], tables.read_blocks

    def read_blocks(path, as_text=False, columns=None):
        asked.append(columns)
        for block in read(path, as_text, columns):
            largest.append(len(block))
            yield block

    monkeypatch.setattr("vmaf_research.learn.table.read_blocks", read_blocks)
    monkeypatch.setattr(tables, "_BLOCK_ROWS", 64)
    found = load_training_table(tmp_path / "t.parquet")
    assert asked == [(), [*CANONICAL_6, "vmaf"]]  # the columns' names, then the numbers; names of clips are coded
    assert max(largest) <= 64
    assert found.digest == expected.digest
    assert (found.pair == expected.pair).all()


def test_a_csv_table_is_read_in_blocks(tmp_path, monkeypatch):
    rows = make_table()
    rows.sample(frac=1, random_state=0).to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.setattr(tables, "_BLOCK_BYTES", 4096)
    assert len(list(tables.read_blocks(tmp_path / "t.csv", columns=["vmaf"]))) > 10
    assert load_training_table(tmp_path / "t.csv").digest == load_training_table(rows).digest


def test_a_csv_column_may_become_another_kind_of_number_later(tmp_path, monkeypatch):
    rows = make_table().astype({"motion2": object})
    rows.loc[:99, "motion2"] = 3
    rows.to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.setattr(tables, "_BLOCK_BYTES", 4096)
    found = load_training_table(tmp_path / "t.csv")
    assert found.digest == load_training_table(rows.astype({"motion2": float})).digest
