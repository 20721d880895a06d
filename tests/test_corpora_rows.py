"""Corpus rows: files of all versions, damaged ones, and the commands that merge, scale, convert and describe them."""

import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmaf_research.corpora.row_tools import _IDENTITY, SCALES, _read_log, aggregate_ratings, merge_rows
from vmaf_research.corpora.rows import ROW_KEYS, ROW_SCHEMA, new_row, read_corpus_rows, upgrade_row, write_rows
from vmaf_research.measure.core import BadInput
from vmaf_research.serve.cli import main

KNOWN = {"src": "dog.mp4", "src_sha256": "ab" * 32, "encoder": "libx264", "preset": "fast", "clip_mode": "full"}


def some_rows(*qualities, **known):
    return [new_row(**KNOWN | known, crf=quality, vmaf_score=120 - quality) for quality in qualities]


def values_of(key):
    "Values that a key takes."
    kinds = {
        "integer": st.integers(int(key.low or 0), min(int(key.high or 99), 2**63 - 1)),
        "number": st.floats(key.low or 0.0, 1e300 if key.high is None else key.high),
        "flag": st.booleans(),
        "text": st.text(st.characters(codec="utf-8"), min_size=1),
        "sha256": st.text("0123456789abcdef", min_size=64, max_size=64),
        "time": st.datetimes().map(lambda time: time.isoformat()),
    }
    values = kinds[key.kind]
    return values if key.unavailable == "required" else values | st.just(key.unavailable)


@settings(max_examples=30, deadline=None)
@given(st.fixed_dictionaries({name: values_of(key) for name, key in ROW_SCHEMA.items()}))
def test_what_is_written_is_read(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    row = new_row(**values)
    assert row == values and tuple(row) == ROW_KEYS
    write_rows(path, [row])
    assert read_corpus_rows(path).rows == (row,)


@given(st.data())
def test_a_row_is_checked_whatever_is_in_it(data):
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda part: st.lists(part, max_size=2)
    )
    key = data.draw(st.sampled_from(ROW_KEYS))
    value = data.draw(anything)
    try:
        row = new_row(**KNOWN | {key: value})
    except BadInput as error:
        assert key in str(error)
    else:
        json.dumps(row, allow_nan=False).encode()


def test_every_flipped_bit_gives_a_row_or_a_sentence(tmp_path):
    path, documents = tmp_path / "x.json", {}
    write_rows(path, some_rows(25, adm2_mean=0.9, timestamp="2026-05-09T12:00:00+00:00"))
    documents["rows"] = path.read_bytes()[:700], lambda: read_corpus_rows(path)
    rating = {"corpus": "lsvq", "src": "a", "src_sha256": "ab", "mos": 3.5, "mos_std_dev": 0.5}
    documents["rating"] = json.dumps(rating).encode(), lambda: aggregate_ratings([path], tmp_path / "out.jsonl")
    metrics = {"vmaf": 9.5, "adm2": 1, "motion2": 0, **{f"vif_scale{number}": 0.5 for number in range(4)}}
    log = {"version": "3", "frames": [{"frameNum": 0, "metrics": metrics}], "pooled_metrics": {"vmaf": {"mean": 9.5}}}
    documents["log"] = json.dumps(log).encode(), lambda: _read_log(path)
    for name, (raw, read) in documents.items():
        refused = 0
        for position in range(0, len(raw), 3):
            damaged = bytearray(raw)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            try:
                read()
            except BadInput:
                refused += 1
        assert refused > len(raw) / 12, name


def test_rows_of_the_original_are_read(tmp_path):
    "Version 3 with bare NaN tokens, an empty digest, whole numbers for CRF, and the encoder's statistics as NaN."
    row = some_rows(25)[0] | {"src_sha256": "", "crf": 25, "adm2_mean": "NAN", "enc_internal_qp_mean": "NAN"}
    path = tmp_path / "old.jsonl"
    path.write_text(json.dumps(row).replace('"NAN"', "NaN") + "\n")
    (read,) = read_corpus_rows(path).rows
    assert (read["src_sha256"], read["crf"], read["adm2_mean"], read["enc_internal_qp_mean"]) == (None, 25.0, None, 0.0)
    write_rows(path, [read])
    assert b"NaN" not in path.read_bytes()


def test_older_versions_are_upgraded_and_counted(tmp_path):
    new = some_rows(25)[0]
    versions = [
        {key: value for key, value in new.items() if ROW_SCHEMA[key].since <= version} | {"schema_version": version}
        for version in (1, 2, 3)
    ]
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in versions))
    read = read_corpus_rows(path)
    assert (len(read.rows), read.upgraded) == (3, 2)
    assert read.rows == (new,) * 3
    for version, row in zip((1, 2, 3), versions, strict=True):
        for key in row:
            short = {name: value for name, value in row.items() if name != key}
            with pytest.raises(BadInput, match=key):
                upgrade_row(short)
        assert upgrade_row(row)["schema_version"] == 3, version


@pytest.mark.parametrize("key", _IDENTITY)
def test_merging_keeps_encodes_that_differ_in_any_setting(tmp_path, key):
    row = some_rows(25)[0]
    changed = {"number": 99.5, "integer": 99, "text": "other", "flag": True}[ROW_SCHEMA[key].kind]
    write_rows(tmp_path / "a.jsonl", [row])
    write_rows(tmp_path / "b.jsonl", [row | {key: changed}])
    made = merge_rows([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "c.jsonl")
    assert made.counts["rows"] == 2


@pytest.fixture
def files(tmp_path, monkeypatch):
    "A folder with two files of rows that overlap and one of ratings, in which the command runs."
    monkeypatch.chdir(tmp_path)
    write_rows("a.jsonl", some_rows(25, 35))
    write_rows("b.jsonl", some_rows(35, 45))
    (tmp_path / "mos.jsonl").write_text('{"corpus": "lsvq", "src": "dog.mp4", "mos": 4, "mos_std_dev": NaN}\n')
    return tmp_path


COMMANDS = {
    "merge": (["corpus", "merge", "a.jsonl", "b.jsonl", "--out", "out.jsonl"], "a.jsonl"),
    "aggregate": (["corpus", "aggregate", "mos.jsonl", "--out", "out.jsonl"], "mos.jsonl"),
    "to-parquet": (["corpus", "to-parquet", "a.jsonl", "--out", "out.parquet"], "a.jsonl"),
    "describe": (["corpus", "describe", "a.jsonl", "--html", "out.html"], "a.jsonl"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_leave_a_manifest_that_verifies(files, capsys, name):
    words, source = COMMANDS[name]
    out = files / words[-1]
    assert main(words) == 0
    first = out.read_bytes()
    assert main(["manifest", "verify", out.name]) == 0
    assert main(words) == 0 and out.read_bytes() == first
    for changed in (source, out.name):
        raw = (files / changed).read_bytes()
        (files / changed).write_bytes(raw[:-2] + b" \n")
        capsys.readouterr()
        assert main(["manifest", "verify", out.name]) == 1
        assert changed in capsys.readouterr().err
        (files / changed).write_bytes(raw)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_bad_line_costs_nothing(files, capsys, name):
    words, source = COMMANDS[name]
    out = files / words[-1]
    assert main(words) == 0
    before, listing = out.read_bytes(), sorted(path.name for path in files.iterdir())
    with open(files / source, "a") as file:
        file.write('{"half of a ')
    capsys.readouterr()
    assert main(words) == 2
    number = (files / source).read_bytes().count(b"\n") + 1
    assert f"{source}, line {number}: not valid JSON" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert sorted(path.name for path in files.iterdir()) == listing
    assert main([*words, "--skip-bad-lines"]) == 0
    printed = capsys.readouterr()
    assert "1 lines skipped" in printed.out and f"line {number}" in printed.err
    assert out.read_bytes() == before or name == "describe"  # whose page counts skipped lines


def test_contradictions_need_a_decision(files, capsys):
    write_rows("b.jsonl", [some_rows(35)[0] | {"vmaf_score": 3.0}])
    words = COMMANDS["merge"][0]
    assert main(words) == 2
    assert "a.jsonl, line 2 and b.jsonl, line 1 contradict each other" in capsys.readouterr().err
    assert not (files / "out.jsonl").exists()
    assert main([*words, "--keep-first"]) == 0
    assert [row["vmaf_score"] for row in read_corpus_rows("out.jsonl").rows] == [95, 85]


def test_scales_are_declared(files, capsys):
    (files / "mos.jsonl").write_text('{"corpus": "mine", "src": "dog.mp4", "mos": 4}\n')
    words = COMMANDS["aggregate"][0]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "--scale mine=LOW:HIGH" in error and all(name in error for name in SCALES)
    assert main([*words, "--scale", "mine=1:3"]) == 2
    assert "the scale of mine is 1:3" in capsys.readouterr().err
    assert main([*words, "--scale", "mine"]) == 2
    assert main([*words, "--scale", "mine=1:7"]) == 0
    assert json.loads((files / "out.jsonl").read_text())["mos"] == 50


def test_description_as_json(files, capsys):
    assert main(["corpus", "describe", "a.jsonl", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["facts"]["rows"] == 2
    assert found["curves"][0]["encoder"] == "libx264"
    assert {line["key"] for line in found["ranges"]} == {"crf", "vmaf_score"}


def test_parquet_has_the_types_of_the_schema(files):
    assert main(COMMANDS["to-parquet"][0]) == 0
    table = pd.read_parquet("out.parquet", dtype_backend="pyarrow")
    assert tuple(table.columns) == ROW_KEYS
    names = {"integer": "int64", "number": "double", "flag": "bool"}
    for key in ROW_SCHEMA.values():
        assert str(table[key.name].dtype) == f"{names.get(key.kind, 'string')}[pyarrow]", key.name
