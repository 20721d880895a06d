"""What people said: tables and their traps, the judge against scipy and hand calculation, heads and their scope."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from vmaf_research.corpora.opinions import TRAPS, read_opinions
from vmaf_research.learn.head import HEAD_INPUTS
from vmaf_research.learn.judge import fit_logistic, judge_metrics, session_agreement
from vmaf_research.measure.core import find_root
from vmaf_research.serve.cli import main

SHARED = find_root().parent / "shared" / "people"
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared tables are not here")


def made_up(name="lab", contents=6, clips=8, scale="ACR 1-5 (MOS), 4K, 1.5H", seed=0, sessions=("one", "two")):
    "Made-up people who like motion more, and small pictures less, than VMAF thinks."
    rng = np.random.default_rng(seed)
    motion, parts = rng.uniform(0.5, 12, contents), []
    for session in sessions:
        score = np.tile(np.linspace(15, 99, clips), (contents, 1)) + rng.normal(0, 2, (contents, clips))
        score = score.clip(0, 100)
        height = rng.choice([2160, 1080, 720, 360], score.shape)
        feels = score + 12 * (np.log1p(motion)[:, None] - 1.8) - 4 * np.log2(2160 / height)
        detail = 0.4 + score / 170 + rng.normal(0, 0.01, score.shape)
        columns = {
            "dataset": name, "subset": session, "source": np.repeat([f"{name}{k}" for k in range(contents)], clips),
            "video": [f"v{k}" for k in range(contents * clips)], "codec": "h264", "height": height.ravel(), "fps": 50.0,
            "mos": (1 + feels / 25 + rng.normal(0, 0.12, score.shape)).clip(1, 5).ravel(), "mos_ci": 0.25,
            "scale": scale, "vmaf_v061": score.ravel(), "motion2": np.repeat(motion, clips), "misaligned": False,
            "adm2": detail.ravel(), "psnr": 22 + score.ravel() / 5, "ssim": 0.9 + score.ravel() / 1100,
        }  # fmt: skip
        columns |= {f"vif_scale{k}": (detail - 0.1 + k / 40).ravel() for k in range(4)}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def write(rows, path):
    rows.to_parquet(path)
    return str(path)


def run(capsys, *words):
    code = main(["people", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "A head, trained by the command on two made-up tables."
    folder = tmp_path_factory.mktemp("people")
    tables = [write(made_up("a"), folder / "a.parquet"), write(made_up("b", seed=1), folder / "b.parquet")]
    assert main(["people", "train", *tables, "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_a_head_gains_on_what_it_has_not_seen_and_changes_nothing_outside(trained, tmp_path, capsys):
    inside = write(made_up("c", seed=2), tmp_path / "c.parquet")
    outside = write(made_up("d", seed=3, scale="ACR 1-5, 1080p, 3H"), tmp_path / "d.parquet")
    code, out, _ = run(capsys, "evaluate", inside, outside, "--model", trained, "--json", "--resamples", 200)
    assert code == 0
    found = json.loads(out)
    teacher, head = found["metrics"]["vmaf_v061"], found["metrics"]["people_v1"]
    assert set(head["sessions"]) == {"c/one", "c/two", "d/one", "d/two"}
    wanted = {"plcc", "srocc", "rmse", "within_content_srocc", "pair_accuracy"}
    assert all(wanted <= set(each) for each in head["sessions"].values()) and wanted <= set(head["means"])
    assert head["sessions"]["d/one"] == teacher["sessions"]["d/one"]
    for name in ("pair_accuracy", "srocc"):
        gain = found["models"]["people_v1"]["gain_in_scope"][name]
        assert 0 < gain["low"] <= gain["value"] <= gain["high"]
        assert head["gain"][name]["value"] == pytest.approx(gain["value"] / 2)
        assert teacher["gain"][name] == {"value": 0, "low": 0, "high": 0}
    assert found["models"]["people_v1"]["change_outside"] == 0
    assert (trained / "report.json").is_file() and "nobody should claim" in (trained / "model/people_v1.md").read_text()


def test_score_returns_the_teacher_outside_of_the_scope_and_says_so(trained, tmp_path, capsys):
    rows = pd.concat([made_up("c", seed=2), made_up("d", seed=3, scale="ACR 1-5, 1080p, 3H")], ignore_index=True)
    rows.loc[5, "psnr"] = np.nan
    write(rows, tmp_path / "t.parquet")
    words = ["score", "people_v1", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "s.parquet")]
    assert main([*words, "--models", str(trained / "model")]) == 0
    assert "as the teacher" in capsys.readouterr().out
    scored = pd.read_parquet(tmp_path / "s.parquet")
    outside = ~scored["in_scope"]
    assert outside.sum() == (rows["dataset"] == "d").sum() + 1 and scored.loc[5, "reason"] == "an input is missing"
    assert (scored.loc[outside, "score"] == scored.loc[outside, "vmaf_v061"]).all()
    assert (scored.loc[~outside, "score"] != scored.loc[~outside, "vmaf_v061"]).any()


def test_a_head_that_gains_nothing_is_a_placeholder_and_is_not_installed(tmp_path, capsys):
    rows = made_up()
    rows["mos"] = (1 + rows["vmaf_v061"] / 25 + np.random.default_rng(0).normal(0, 0.1, len(rows))).clip(1, 5)
    table = write(rows, tmp_path / "t.parquet")
    code, out, err = run(capsys, "train", table, "--out", tmp_path / "run")
    assert code == 0 and "REFUSED" in out
    row = json.loads((tmp_path / "run/model/registry.json").read_text())["models"][0]
    assert row["smoke"] is True and row["kind"] == "people"
    code, _, err = run(capsys, "train", table, "--out", tmp_path / "again", "--install")
    assert code == 3 and "its lower end" in err


def test_registry_of_a_head_is_verified_bit_by_bit(trained, capsys):
    assert main(["registry", "verify", "--models", str(trained / "model")]) == 0
    sidecar = trained / "model" / "people_v1.json"
    whole = sidecar.read_bytes()
    try:
        sidecar.write_bytes(whole.replace(b'"distance"', b'"distancf"', 1))
        assert main(["registry", "verify", "--models", str(trained / "model")]) == 1
    finally:
        sidecar.write_bytes(whole)


def shifted(rows):
    late = rows["source"] == "lab5"
    return rows.assign(vmaf_v061=rows["vmaf_v061"] * np.where(late, 0.1, 1), psnr=rows["psnr"] * np.where(late, 0.6, 1))


TRAPPED = {
    "misaligned": (shifted, "lab5/v40"),
    "reversed": (lambda rows: rows.assign(mos=6 - rows["mos"]), "rank correlation"),
    "mixed": (lambda rows: rows.drop(columns="subset"), "clips with two scores"),
    "swapped": (lambda rows: rows.assign(codec=["reference", *rows["codec"][1:]], adm2=rows["adm2"].clip(upper=0.9)),
                "exchanged when lab0/v0"),
    "duplicated": (lambda rows: rows.assign(motion2=rows["motion2"].replace(rows["motion2"][8], rows["motion2"][0])),
                   "lab0 and lab1 have the same reference"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TRAPPED)
def test_traps_are_named_refused_or_excluded_by_a_flag_and_counted(kind, tmp_path, capsys):
    spoil, said = TRAPPED[kind]
    table = write(spoil(made_up()), tmp_path / "t.parquet")
    code, out, err = run(capsys, "read", table)
    assert code == (2 if TRAPS[kind] else 0) and f"{kind}: lab/" in err and said in err
    assert json.loads(out.splitlines()[-1])[kind] > 0
    code, _, err = run(capsys, "evaluate", table, "--resamples", 50)
    assert code == (2 if TRAPS[kind] else 0) and said in err
    sound = made_up("sound", seed=4)
    both = write(sound, tmp_path / "sound.parquet")
    code, out, err = run(capsys, "read", table, both, "--exclude", kind, "--out", tmp_path / "all.parquet")
    assert code == 0 and said not in err and len(pd.read_parquet(tmp_path / "all.parquet")) >= len(sound)
    manifest = json.loads((tmp_path / "all.parquet.manifest.json").read_text())
    assert manifest["deterministic"]["counts"][f"excluded as {kind}"] > 0


def test_the_judge_agrees_with_scipy_and_with_a_hand_calculation():
    score = np.array([20.0, 35, 50, 64, 91, 18, 40, 47, 80, 88])
    mos = np.array([1.5, 2.0, 3.1, 3.0, 4.6, 1.2, 2.6, 3.3, 4.1, 4.0])
    rows = pd.DataFrame({
        "session": "s", "source": ["a"] * 5 + ["b"] * 5, "mos": mos, "mos_ci": 0.3, "low": 1.0, "high": 5.0,
        "pairwise": False,
    })  # fmt: skip
    found = session_agreement(rows, score)
    assert found["plcc"] == pytest.approx(scipy.stats.pearsonr(score, mos).statistic)
    assert found["srocc"] == pytest.approx(scipy.stats.spearmanr(score, mos).statistic)
    assert found["kendall"] == pytest.approx(scipy.stats.kendalltau(score, mos).statistic)
    inside = [scipy.stats.spearmanr(score[part], mos[part]).statistic for part in (slice(5), slice(5, 10))]
    assert found["within_content_srocc"] == pytest.approx(np.mean(inside))
    fitted = fit_logistic(score, mos)(score)
    free = scipy.optimize.curve_fit(
        lambda x, a, b, c, d: a + b / (1 + np.exp((c - x) / d)), score, mos, p0=[1, 4, 50, 20], maxfev=20000
    )[0]  # fmt: skip
    best = np.sqrt(np.mean((free[0] + free[1] / (1 + np.exp((free[2] - score) / free[3])) - mos) ** 2))
    error = np.abs(fitted - mos)
    assert found["rmse"] == pytest.approx(best, rel=1e-3) and found["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert found["rmse_star"] == pytest.approx(np.sqrt(np.mean(np.maximum(error - 0.3, 0) ** 2)))
    assert found["outlier_ratio"] == pytest.approx(np.mean(error > 0.3))
    right, count, similar, apart = 0.0, 0, [], []
    for i in range(10):
        for j in range(i):
            if abs(mos[i] - mos[j]) > np.hypot(0.3, 0.3):
                count += 1
                right += (mos[i] - mos[j]) * (score[i] - score[j]) > 0
                apart.append(abs(score[i] - score[j]))
            else:
                similar.append(abs(score[i] - score[j]))
    assert found["pairs"] == count and found["pair_accuracy"] == pytest.approx(right / count)
    wins = [(a > b) + 0.5 * (a == b) for a in apart for b in similar]
    assert found["different_auc"] == pytest.approx(np.mean(wins))


def test_the_bootstrap_is_that_of_copied_rows():
    rows = read_frame(made_up(contents=4, clips=5))
    found = judge_metrics(rows, ["vmaf_v061", "psnr", "ssim"], resamples=40, seed=3)
    families = sorted(set(rows["family"]))
    counts = np.random.default_rng(3).multinomial(4, np.full(4, 0.25), 40)
    gains = []
    for weight in counts:
        values = []
        for _, session in rows.groupby("session"):
            copied = pd.concat([session[session["family"] == name] for name, times in zip(families, weight, strict=True)
                                for _ in range(times)])  # fmt: skip
            values.append(np.subtract(*(scipy.stats.spearmanr(copied[name], copied["mos"]).statistic
                                        for name in ("ssim", "vmaf_v061"))))  # fmt: skip
        gains.append(np.mean(values))
    ends = found.gains["ssim"]["srocc"]
    assert [ends["low"], ends["high"]] == pytest.approx(np.quantile(gains, [0.025, 0.975]), abs=1e-9)


def read_frame(rows):
    "Rows as `read_opinions` gives them."
    with tempfile.TemporaryDirectory() as folder:
        return read_opinions([write(rows, Path(folder) / "t.parquet")]).rows


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["read", "nowhere.parquet"], "no such file"),
        (["evaluate", "t.parquet", "--metric", "mine"], "no metric mine"),
        (["evaluate", "t.parquet", "--model", "."], "no registry"),
        (["train", "--out", "run", "--data", "avt"], "expected a name, = and the folder"),
        (["train", "--out", "run"], "no opinion table"),
        (["train", "bare.parquet", "--out", "run"], "no session has all inputs"),
        (["evaluate", "bare.parquet", "--exclude", "all"], "expected mixed"),
    ],
)
def test_what_is_refused(words, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(made_up(), tmp_path / "t.parquet")
    write(made_up().drop(columns=["psnr", "ssim"]), tmp_path / "bare.parquet")
    code, _, err = run(capsys, *words)
    assert code == 2 and sentence in err


@shared
def test_shared_tables_are_read_as_they_are():
    found = read_opinions(sorted(SHARED.glob("*.parquet")))
    assert found.traps == () and len(found.sessions) == 7 and found.rows["family"].nunique() == 56
    by_session = found.rows.groupby("session")
    assert by_session["reference_height"].first().to_dict() == {
        "av2ctc_coding/codec": 1080, "av2ctc_coding/preprocessed": 1080, "avt_hdr/hdr": 2160, "avt_uhd1/test_2": 2160,
        "avt_uhd1/test_3": 2160, "live_vqa/live_vqa": 432, "msu_cvqad/2021": 1080,
    }  # fmt: skip
    ready = found.rows[found.rows["laboratory"] == "avt"]
    assert ready[list(HEAD_INPUTS)].notna().all(axis=None)
