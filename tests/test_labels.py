"""The command for people's scores: exit codes, sentences, and what it writes; on made-up scores."""

import json

import numpy as np
import pytest
from made_up import make_table

from vmaf_research.learn.labels import evaluate_labels
from vmaf_research.serve.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "A made-up table, and made-up scores of its clips."
    folder = tmp_path_factory.mktemp("labels")
    frames = make_table(n_sources=5, n_clips=5, n_frames=3)
    frames.to_parquet(folder / "frames.parquet")
    clips = frames.groupby(["source", "dis_basename"], as_index=False)["vmaf"].mean()
    noise = np.random.default_rng(0).normal(0, 0.05, len(clips))
    clips["mos"] = (1 + clips["vmaf"] / 25 + noise).clip(1, 5)
    clips.drop(columns="vmaf").to_csv(folder / "mos.csv", index=False)
    return folder


def run(folder, labels, *options):
    return main(["evaluate-labels", str(folder / "frames.parquet"), "--labels", str(folder / labels), *options])


def test_report(folder, capsys):
    out = folder / "report.json"
    assert run(folder, "mos.csv", "--no-learning", "--out", str(out)) == 0
    assert capsys.readouterr().out.startswith("25 clips of 5 sources, scores 1 to 5")
    report = json.loads(out.read_text())
    assert report["clips"] == 25 and report["scale"] == [1, 5] and list(report["predictors"]) == ["vmaf"]
    assert 0 < report["predictors"]["vmaf"]["RMSE"] < 0.2 and report["predictors"]["vmaf"]["SROCC"] > 0.95


def test_learning_finds_what_the_teacher_misses(tmp_path):
    "People who mind motion less than the teacher thinks, on eight sources."
    frames = make_table(n_sources=8, n_clips=8, n_frames=12)
    clips = frames.groupby(["source", "dis_basename"], as_index=False)[["vmaf", "motion2"]].mean()
    bent = 1 + 4 / (1 + np.exp(-(clips["vmaf"] - 0.6 * clips["motion2"] - 70) / 12))
    noise = np.random.default_rng(0).normal(0, 0.15, len(clips))
    frames.to_parquet(tmp_path / "frames.parquet")
    clips[["source", "dis_basename"]].assign(mos=(bent + noise).clip(1, 5)).to_csv(tmp_path / "mos.csv", index=False)
    report = evaluate_labels(tmp_path / "frames.parquet", tmp_path / "mos.csv")
    assert report.gain("learned, equal weights", "vmaf").low > 0
