"""What people said: tables and their traps, the judge against scipy and hand calculation, heads and their scope."""

import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from made_up import make_opinions

from vmaf_research.corpora.opinions import read_opinions
from vmaf_research.corpora.traps import TRAPS
from vmaf_research.learn.head import HEAD_INPUTS, RankingHead, head_inputs
from vmaf_research.learn.judge import fit_logistic, judge_metrics, session_agreement
from vmaf_research.measure.core import find_root
from vmaf_research.measure.features import CANONICAL_6
from vmaf_research.measure.teacher import load_teacher
from vmaf_research.serve.cli import main
from vmaf_research.ship import people

SHARED = find_root().parent / "shared" / "people"
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared tables are not here")


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
    tables = [write(make_opinions("a"), folder / "a.parquet"), write(make_opinions("b", seed=1), folder / "b.parquet")]
    assert main(["people", "train", *tables, "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_a_head_gains_on_what_it_has_not_seen_and_changes_nothing_outside(trained, tmp_path, capsys):
    inside = write(make_opinions("c", contents=10, seed=2), tmp_path / "c.parquet")
    outside = write(make_opinions("d", seed=3, scale="ACR 1-5, 1080p, 3H"), tmp_path / "d.parquet")
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
    small = make_opinions("d", seed=3, scale="ACR 1-5, 1080p, 3H")
    rows = pd.concat([make_opinions("c", seed=2), small], ignore_index=True)
    rows.loc[5, "ssim"] = np.nan
    rows = rows.drop(columns=["psnr", "adm2"])  # which a head does not take
    write(rows, tmp_path / "t.parquet")
    words = ["score", "people_v1", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "s.parquet")]
    assert main([*words, "--models", str(trained / "model")]) == 0
    assert "as the teacher" in capsys.readouterr().out
    scored = pd.read_parquet(tmp_path / "s.parquet")
    outside = ~scored["in_scope"]
    assert outside.sum() == (rows["dataset"] == "d").sum() + 1 and scored.loc[5, "reason"] == "an input is missing"
    assert (scored.loc[outside, "score"] == scored.loc[outside, "vmaf_v061"]).all()
    assert (scored.loc[~outside, "score"] != scored.loc[~outside, "vmaf_v061"]).any()


def test_score_says_what_people_would_say_with_an_interval(trained, tmp_path, capsys):
    rows = pd.concat([make_opinions("c", seed=2), make_opinions("d", scale="ACR 1-5, 1080p, 3H")], ignore_index=True)
    write(rows, tmp_path / "t.parquet")
    words = ["score", "people_v1", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "s.parquet")]
    words += ["--models", str(trained / "model"), "--interval"]
    assert main([*words, "0.8"]) == 0
    scored = pd.read_parquet(tmp_path / "s.parquet")
    inside, share = scored["in_scope"], 25 * (scored["mos"] - 1)
    assert scored.loc[~inside, ["opinion", "low", "high"]].isna().all(axis=None)
    assert ((scored["low"] <= share) & (share <= scored["high"]))[inside].mean() > 0.75
    (tmp_path / "s.parquet").unlink()
    assert main([*words, "0.99"]) == 2 and "guarantee at most 0.923" in capsys.readouterr().err
    assert not (tmp_path / "s.parquet").exists()


def test_a_head_takes_the_inputs_that_its_sidecar_names(tmp_path, monkeypatch, capsys):
    seven = ("vmaf_v061", "motion2", "adm2", "vif_scale3", "psnr", "ssim", "upscale")
    monkeypatch.setattr(people, "fit_head", partial(people.fit_head, names=seven))
    table = write(make_opinions(contents=3, clips=6, sessions=("one",)), tmp_path / "t.parquet")
    assert main(["people", "train", table, "--out", str(tmp_path / "run"), "--id", "old"]) == 0
    monkeypatch.undo()
    models = str(tmp_path / "run/model")
    assert "over seven terms" in (tmp_path / "run/model/old.md").read_text()
    assert main(["registry", "verify", "--models", models]) == 0
    rows = pd.read_parquet(table).assign(psnr=lambda rows: rows["psnr"].where(rows.index != 4))
    rows.to_parquet(table)
    words = ["score", "old", table, "--models", models, "--out"]
    assert main([*words, str(tmp_path / "s.parquet")]) == 0
    scored = pd.read_parquet(tmp_path / "s.parquet")
    assert scored.index[~scored["in_scope"]].tolist() == [4] and scored.loc[4, "reason"] == "an input is missing"
    head = people.load_heads(tmp_path / "run")[0].sidecar.head
    inputs = head_inputs(read_opinions([table]).rows, seven)
    wanted = RankingHead(**{name: np.array(values) for name, values in head}, names=seven).score(inputs)
    assert scored["score"].drop(4).to_numpy() == pytest.approx(np.delete(wanted, 4), abs=1e-4)


def test_a_head_that_gains_nothing_is_a_placeholder_and_is_not_installed(tmp_path, capsys):
    rows = make_opinions()
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


def test_a_table_is_read_whatever_pandas_wrote_about_it(trained, tmp_path, capsys):
    table, out = tmp_path / "t.parquet", tmp_path / "s.parquet"
    rows = make_opinions(contents=2, clips=4)
    rows.set_axis(rows.index // 2).to_parquet(table)
    table.write_bytes(table.read_bytes().replace(b"numpy_type", b"numpy_typo"))
    assert main(["people", "read", str(table), "--out", str(out)]) == 0 and len(pd.read_parquet(out)) == len(rows)
    assert main(["score", "people_v1", str(table), "--models", str(trained / "model"), "--out", str(out)]) == 0
    assert "__index_level_0__" not in pd.read_parquet(out)


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
    table = write(spoil(make_opinions()), tmp_path / "t.parquet")
    code, out, err = run(capsys, "read", table)
    assert code == (2 if TRAPS[kind] else 0) and f"{kind}: lab/" in err and said in err
    assert json.loads(out.splitlines()[-1])[kind] > 0
    code, _, err = run(capsys, "evaluate", table, "--resamples", 50)
    assert code == (2 if TRAPS[kind] else 0) and said in err
    sound = make_opinions("sound", seed=4)
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
    rows = read_frame(make_opinions(contents=4, clips=5))
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
    write(make_opinions(), tmp_path / "t.parquet")
    write(make_opinions().drop(columns=["psnr", "ssim"]), tmp_path / "bare.parquet")
    code, _, err = run(capsys, *words)
    assert code == 2 and sentence in err


def write_clone(folder):
    "Clones of the three repositories of the family of AVT-VQDB-UHD-1, of made-up people, with logs of every age."
    rng, teacher = np.random.default_rng(0), load_teacher()
    tests = {
        "uhd/test_1": ("mos_ci.csv", "{source}_netflix_{rate}kbps_{height}p_59.94fps_{codec}", ".mkv"),
        "uhd/test_2": ("mos_ci.csv", "{source}_8s_{rate}kbps_{height}p_60.0fps_{codec}", ".mkv"),
        "hdr": ("subjective_scores/mos_ci.csv", "9_{height}_{rate}K_{codec}_{source}", ".mkv"),
        "appeal": ("subjective_scores/video_quality_mos_ci.csv", "{source}_{rate}k_{height}_{codec}", ".mkv"),
    }
    for number, (place, (scores, name, suffix)) in enumerate(tests.items()):
        logs = folder / place / ("vmaf_reports" if "uhd" in place else "vmaf_scores")
        logs.mkdir(parents=True)
        lines = ["stimuli_file,mos,ci,std" if place == "hdr" else "video_name,MOS,CI,src"]
        for content in range(8):
            motion = rng.uniform(0.5, 12)
            for rate, quality in zip((100, 200, 400, 800, 1600, 3200), np.linspace(0.1, 1, 6), strict=True):
                height = int(rng.choice([2160, 1080, 720, 360]))
                codec = "vvc" if place == "appeal" and rate > 400 else "hevc"
                detail = 0.5 + 0.49 * quality + rng.normal(0, 0.002, (4, 1))
                features = np.hstack([detail, *[detail - 0.1 + k / 40 for k in range(4)], np.full((4, 1), motion)])
                score = teacher.predict(features).mean()
                feels = score + 20 * (np.log1p(motion) - 1.8) - 4 * np.log2(2160 / height) + rng.normal(0, 3)
                facts = {"source": f"c{number}{'abcdefgh'[content]}", "rate": rate, "height": height, "codec": codec}
                clip = name.format(**facts)
                if codec == "vvc":
                    clip = "{source}.mkv_{height}p_{rate}k_vvc".format(**facts)
                lines.append(f"{clip}{suffix},{np.clip(1 + feels / 25, 1, 5):.3f},0.25,x")
                log = clip.replace(".mkv", "").replace("_vvc", ".266") + ("_vmaf" if "uhd" in place else "")
                old = "uhd" in place
                keys = [name if old else f"integer_{name}" for name in CANONICAL_6]
                named = ("psnr", "ssim") if old else ("psnr_y", "float_ssim")
                more = dict(zip(named, (22 + score / 5, 0.99), strict=True))
                frames = [dict(zip(keys, row.tolist(), strict=True)) | more | {"vmaf": 50.0} for row in features]
                frames = [{"frameNum": k, "metrics": metrics} for k, metrics in enumerate(frames)]
                (logs / f"{log}.json").write_text(json.dumps({"version": "2.3.0", "frames": frames}))
        (folder / place / scores).parent.mkdir(exist_ok=True)
        (folder / place / scores).write_text("\n".join(lines) + "\n")


def test_clones_are_studied_in_one_command(tmp_path, capsys):
    write_clone(tmp_path)
    rows = read_opinions([tmp_path / "uhd", tmp_path / "hdr", tmp_path / "appeal"]).rows
    assert rows.groupby("session").size().to_dict() == {
        "avt_appeal/appeal": 48, "avt_hdr/hdr": 48, "avt_uhd1/test_1": 48, "avt_uhd1/test_2": 48,
    }  # fmt: skip
    assert rows[["height", "codec", "mos_ci", *HEAD_INPUTS]].notna().all(axis=None)
    assert rows["family"].nunique() == 32 and set(rows["codec"]) == {"hevc", "vvc"}
    assert all(frames.shape == (4, 6) for frames in rows["frames"])
    data = [word for name in ("uhd", "hdr") for word in ("--data", f"{name}={tmp_path / name}")]
    code, out, _ = run(capsys, "train", *data, "--held-out", tmp_path / "appeal", "--out", tmp_path / "run")
    assert code == 0 and "REFUSED" not in out
    words = ("--model", tmp_path / "run", "--registered", "fr_regressor_nano_v1", "--json", "--resamples", 50)
    code, out, _ = run(capsys, "evaluate", tmp_path / "appeal", *words)
    found = json.loads(out)["metrics"]
    assert found["people_v1"]["gain"]["pair_accuracy"]["low"] > 0
    nano, teacher = (found[name]["means"]["srocc"] for name in ("fr_regressor_nano_v1", "vmaf_v061"))
    assert nano == pytest.approx(teacher, abs=0.01)


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
