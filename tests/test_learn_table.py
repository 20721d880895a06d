"""A training table is read the same way from everywhere, or refused with the rows that are wrong."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import make_table

from vmaf_research.learn.folds import source_folds
from vmaf_research.learn.table import KEY, load_training_table
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.features import CANONICAL_6, FULL_FEATURES

ROWS = make_table(n_sources=3, n_clips=2, n_frames=5)
DIGEST = load_training_table(ROWS).digest


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_and_columns_does_not_matter(random):
    order, columns = list(range(len(ROWS))), list(ROWS.columns)
    random.shuffle(order)
    random.shuffle(columns)
    assert load_training_table(ROWS.iloc[order][columns]).digest == DIGEST


@settings(deadline=None)
@given(st.integers(0, len(ROWS) - 1), st.sampled_from([*CANONICAL_6, "vmaf"]), st.booleans())
def test_the_digest_sees_the_smallest_change(row, column, up):
    changed = ROWS.copy()
    value = changed.loc[row, column]
    changed.loc[row, column] = np.nextafter(value, -1.0 if value >= 100 or not up else 200.0)
    assert load_training_table(changed).digest != DIGEST


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_files_and_frames_give_the_same_table(tmp_path, suffix):
    full = ROWS.assign(codec="libx264", **{name: np.nan for name in FULL_FEATURES if name not in CANONICAL_6})
    path = tmp_path / f"table{suffix}"
    full.to_parquet(path) if suffix == ".parquet" else full.to_csv(path, index=False)
    found = load_training_table(path)
    assert found.digest == DIGEST
    assert found.features.dtype == np.float64 and found.frame.dtype == np.int64


@pytest.mark.parametrize("change", ["Int32", "category", "string", "float32"])
def test_other_column_types_hold_the_same_rows(change):
    frame = ROWS.copy()
    if change == "Int32":
        frame["frame_index"] = frame.frame_index.astype("Int32")
    elif change == "float32":
        frame["vmaf"] = frame.vmaf.astype("float32")
    else:
        frame["source"] = frame.source.astype(change)
    found = load_training_table(frame)
    assert found.sources == ("source0", "source1", "source2")
    assert (found.digest == DIGEST) == (change != "float32")


def test_names_that_look_like_numbers_or_nothing_stay_names(tmp_path):
    names = {"source0": "007", "source1": "NA", "source2": "null"}
    frame = ROWS.assign(source=ROWS.source.map(names))
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert load_training_table(tmp_path / "t.csv").sources == ("007", "NA", "null")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [*CANONICAL_6, "vmaf"])
def test_values_that_are_not_finite_are_named(column, value):
    frame = ROWS.copy()
    frame.loc[7, column] = value
    with pytest.raises(BadInput, match=rf"{column}: 1 of 30 rows, first \(source0, clip1.mkv, 2\)"):
        load_training_table(frame)


@pytest.mark.parametrize("column", [*KEY, *CANONICAL_6, "vmaf"])
def test_a_missing_column_is_named(tmp_path, column):
    path = tmp_path / "t.parquet"
    ROWS.drop(columns=column).to_parquet(path)
    with pytest.raises(BadInput, match=rf"t.parquet: has no column {column};"):
        load_training_table(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: rows.assign(adm2=None), "adm2 is empty in all 30 rows"),
        (lambda rows: pd.concat([rows, rows.tail(2)]), "the same frame twice: 2 of 32 rows"),
        (lambda rows: rows.assign(vmaf=100.0), "constant target"),
        (lambda rows: rows[rows["source"] == "source1"], "only the source source1"),
        (lambda rows: rows.assign(vmaf=rows["vmaf"] + 10), r"outside \[0.0, 100.0\]"),
        (lambda rows: rows.assign(motion2="still"), "motion2 holds str, expected numbers"),
        (lambda rows: rows.assign(motion2=True), "motion2 holds bool, expected numbers"),
        (lambda rows: rows.assign(frame_index=0.5), "frame_index holds float64, expected whole numbers"),
        (lambda rows: rows.assign(source=None), "no source in 30 of 30 rows"),
        (lambda rows: rows.assign(dis_basename=[*rows["dis_basename"][:-1], ""]), "no dis_basename in 1 of 30 rows"),
        (lambda rows: rows.iloc[:0], "no rows"),
        (lambda rows: rows.assign(src="x"), "src and source, which mean the same"),
    ],
)
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_what_is_refused(tmp_path, suffix, change, sentence):
    path, rows = tmp_path / f"t{suffix}", change(ROWS)
    if suffix == ".parquet":
        rows.to_parquet(path, index=False)
    elif suffix == ".csv":
        rows.to_csv(path, index=False)
    else:
        rows.to_json(path, orient="records", lines=True, double_precision=15)
    text = ".jsonl: has no column source" if suffix == ".jsonl" and not len(rows) else sentence
    with pytest.raises(BadInput, match=text):
        load_training_table(path)


def test_features_are_not_the_target_and_other_targets_have_other_ends():
    with pytest.raises(BadInput, match="different columns"):
        load_training_table(ROWS, ["adm2", "vmaf"])
    assert load_training_table(ROWS.assign(unclipped=ROWS["vmaf"] + 20), target="unclipped").target.max() > 100


def test_a_torn_file_is_no_table(tmp_path):
    path = tmp_path / "torn.parquet"
    ROWS.to_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="was it written completely"):
        load_training_table(path)
    lines = tmp_path / "torn.jsonl"
    ROWS.to_json(lines, orient="records", lines=True)
    lines.write_text(lines.read_text()[:-20])
    with pytest.raises(BadInput, match="torn.jsonl, line 30: not valid JSON"):
        load_training_table(lines)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"\x00" * 100, b"source,vmaf\n\xff\xfe"])
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_files_that_are_no_tables_are_refused(tmp_path, suffix, data):
    path = tmp_path / f"t{suffix}"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=path.name):
        load_training_table(path)


def test_folders_are_no_tables(tmp_path):
    with pytest.raises(BadInput, match="a folder without .parquet files"):
        load_training_table(tmp_path)


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=7))
def test_folds_partition_the_rows_by_source(sizes):
    source = np.repeat([f"s{k}" for k in range(len(sizes))], sizes)
    frame = pd.DataFrame({"source": source, "dis_basename": "a.mkv", "frame_index": range(len(source))})
    frame = frame.assign(**{name: np.arange(len(source)) / 7 for name in CANONICAL_6}, vmaf=np.arange(len(source)))
    table = load_training_table(frame)
    folds = source_folds(table)
    assert [fold.source for fold in folds] == sorted(set(source))
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(source)))
    for fold in folds:
        assert set(table.source[fold.test]) == {fold.source}
        assert sorted([*fold.train, *fold.test]) == list(range(len(source)))
