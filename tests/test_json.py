"""JSON of another form: what is stored is made again, what comes from elsewhere is refused in a sentence."""

import json

import pytest
from made_up import make_table

from vmaf_research.corpora.extract import Job, run_job
from vmaf_research.corpora.ladder import make_once
from vmaf_research.corpora.pairs import Pair
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.features import CANONICAL_6
from vmaf_research.measure.provenance import open_sealed, read_json, scan_lines, seal, write_json
from vmaf_research.measure.video import convert_clip
from vmaf_research.predict.shot_features import shot_features
from vmaf_research.serve.cli import main


def deep(value, change):
    "A copy of a JSON value with a change somewhere in it."
    copy = json.loads(json.dumps(value))
    change(copy)
    return copy


def set_in(*path, to):
    def change(document):
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return change


DAMAGE = {
    "stored measurement": (
        set_in("columns", to={}),
        set_in("columns", "vmaf", to=["9"] * 4),
        set_in("columns", "vmaf", to=[1.0]),
        set_in("columns", to=None),
        set_in("engine", to=[]),
        lambda document: document["columns"].pop("adm2"),
        lambda document: document.pop("skipped"),
    ),
    "ladder": (
        set_in("clip", to=None),
        set_in("clip", "fps", to="0/0"),
        set_in("clip", "pix_fmt", to="rgb24"),
        set_in("clip", "width", to="64"),
        lambda document: document["clip"].pop("frames"),
    ),
    "shots": (
        set_in("features", to=[]),
        set_in("features", "y_avg", to="12"),
        lambda document: document["features"].pop("fps"),
        set_in("features", "extra", to=1.0),
    ),
}


def measured_again(folder, make, changes):
    "Whether something stored in a folder is made again, to the same bytes, where its sealed record has another form."
    (path,) = sorted(folder.rglob("*.json"))
    before = path.read_bytes()
    for change in changes:
        write_json(path, seal(deep(json.loads(before), change)))
        make()
        assert path.read_bytes() == before


def test_cache_entries_of_another_form_are_made_again(tmp_path, pan):
    pair = Pair("pan", pan, pan, None, None, None, None, None)
    job = Job(pair, CANONICAL_6, ("vmaf_v0.6.1",), ("a", "b"), tmp_path / "jobs")
    run_job(job)
    measured_again(tmp_path / "jobs", lambda: run_job(job) is True, DAMAGE["stored measurement"])

    out = tmp_path / "made" / "x.y4m"

    def made():
        return make_once(out, {}, lambda: convert_clip(pan, out, 64, 36))

    assert made() == make_once(out, {}, lambda: None)
    measured_again(tmp_path / "made", made, DAMAGE["ladder"])
    shot_features(pan, cache=tmp_path / "shots")
    measured_again(tmp_path / "shots", lambda: shot_features(pan, cache=tmp_path / "shots"), DAMAGE["shots"])


def test_json_beyond_the_limits(tmp_path):
    path = tmp_path / "x.json"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadInput, match="larger than 256 MiB"):
        open_sealed(path)
    with pytest.raises(BadInput, match="larger than 256 MiB"):
        list(scan_lines(path, dict))
    for text, sentence in (
        ("[" * 5000, "levels deep"), ('{"a": 1e999}', "not a finite number"), ('{"a": NaN}', "not a finite number"),
        ('{"a": ' + "9" * 6000 + "}", "digits"), ('{"a": "\\ud800"}', "surrogates"), ('{"a": 1, "a": 2}', "twice"),
        ("[]", "should be an object"), ("\0", "not valid JSON"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(BadInput, match=sentence):
            read_json(path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_json("\ud800")


LOG = {
    "version": "3.2", "frames": [
        {"frameNum": 0, "metrics": {"vmaf": 9.5, "adm2": 1, "motion2": 0} | {f"vif_scale{k}": 0.5 for k in range(4)}}
    ], "pooled_metrics": {"vmaf": {"mean": 9.5}},
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        set_in("pooled_metrics", to=[]),
        set_in("pooled_metrics", "vmaf", to=9.5),
        set_in("pooled_metrics", "vmaf", to={"mean": "9.5"}),
        set_in("pooled_metrics", "vmaf", to={"mean": 10**400}),
        set_in("frames", 0, "metrics", "vmaf", to=10**400),
        set_in("frames", 0, "metrics", "vmaf", to=True),
        set_in("frames", 0, "metrics", to=[]),
        set_in("frames", 0, "frameNum", to="0"),
        set_in("version", to=3),
    ],
)
def test_logs_of_libvmaf_of_another_form(change, tmp_path, capsys):
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "DA_480x272_25fps_10bit_420.json"
    words = ["corpus", "bvi-dvc-rows", str(log.parent), "--out", str(tmp_path / "x.jsonl"), "-q"]
    log.write_text(json.dumps(LOG))
    assert main(words) == 0
    (tmp_path / "x.jsonl").unlink()
    log.write_text(json.dumps(deep(LOG, change)))
    assert main(words) == 2
    assert log.name in capsys.readouterr().err and not (tmp_path / "x.jsonl").exists()


def test_nothing_is_trained_for_sources_of_two_rows_each(tmp_path, capsys):
    "A correlation of two rows is always 1 or -1."
    make_table(3).groupby("source").head(2).assign(vmaf=range(6)).to_parquet(tmp_path / "two.parquet")
    words = ["train", "fr-regressor-v1", "--parquet", str(tmp_path / "two.parquet"), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "no source has more than 2 rows; a correlation within it needs 3" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
