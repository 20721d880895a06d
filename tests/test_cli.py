"""The commands as a user types them: what they print, which exit code they end with, and what they leave."""

import inspect
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import typer
from made_up import make_table

from vmaf_research.corpora import bvi_dvc
from vmaf_research.corpora.row_tools import SCALES
from vmaf_research.corpora.scored import SCORED_SETS, extract_scored
from vmaf_research.learn.recipes import RECIPES
from vmaf_research.measure.core import ShipRefused, validated
from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.measure.features import CANONICAL_6
from vmaf_research.measure.provenance import SEAL
from vmaf_research.serve.cli import app, main
from vmaf_research.serve.options import Writes, markers
from vmaf_research.ship import refresh as refresh_module
from vmaf_research.ship.records import Sidecar
from vmaf_research.ship.registry import load, read_registry, write_model
from vmaf_research.ship.score import TABLE_SUFFIXES

pytestmark = pytest.mark.usefixtures("floors_once")
SOURCES = 4
WRITTEN = ("out", "html", "workdir", "per_frame", "manifest_out")


def train(table, out):
    "Exit code of the command that trains fr_regressor_v1; made-up sources differ too much for the real threshold."
    words = ["train", "fr-regressor-v1", "--parquet", str(table), "--out", str(out), "--ship-threshold", "0.5", "-q"]
    return main(words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "A run of `train fr-regressor-v1` that passed its gate."
    folder = tmp_path_factory.mktemp("trained")
    make_table(SOURCES, 12, 60).to_parquet(folder / "table.parquet", index=False)
    assert train(folder / "table.parquet", folder / "run") == 0
    return folder


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_measure_prints_one_json_object(pan, encoded, capsys):
    raw = ["--width", "320", "--height", "180"]
    assert main(["measure", str(pan.path), str(encoded.path), *raw, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["teacher"] == ["vmaf_v0.6.1"]
    assert len(result["frames"]) == 8
    assert result["mean"]["vmaf"] == pytest.approx(np.mean([frame["vmaf"] for frame in result["frames"]]))
    assert set(CANONICAL_6) < result["mean"].keys()
    assert result["engine"]["libvmaf"]


def test_measure_prints_a_list_for_people(encoded, capsys):
    assert main(["measure", str(encoded.path), str(encoded.path), "--features", "adm2,motion2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["vmaf", "adm2", "motion2"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["measure", "nowhere.mkv", "nowhere.mkv"], "no such file"),
        (["measur"], "No such command"),
        (["extract", "netflix", "nowhere", "--out", "t.parquet"], "no such folder"),
        (["refresh", "--data-root", "nowhere"], "no such folder"),
        (["refresh", "--data-root", "a", "--clips", "b"], "do not go with it"),
        (["refresh", "--width", "20"], "--data-root only"),
        (["train", "fr-regressor-v1", "--parquet", "nowhere.parquet"], "no such file"),
        (["train", "resnet", "--parquet", "nowhere.parquet"], "resnet"),
        (["score", "nothing", "t.parquet", "--out", "u.parquet"], "nothing"),
        (["manifest", "verify", "nowhere.json"], "nowhere.json"),
    ],
)
def test_bad_words_and_paths(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.fixture
def place(tmp_path, monkeypatch):
    "The working folder, with files and a folder that no command may touch."
    for name in ("t.parquet", "t.parquet.pairs.parquet", "t.parquet.manifest.json", "labels.csv", "v.mkv", "g.jsonl"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link.parquet").symlink_to("t.parquet")
    (tmp_path / "videos").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


TAKEN = [
    ("score nano t.parquet --out t.parquet --quality-confidence 0.8 --target 90", "is the same file as TABLE"),
    ("manifest export t.parquet --croissant --out t.parquet", "is the same file as MANIFEST t.parquet"),
    ("manifest export t.parquet --croissant --out t.parquet.manifest.json", "belongs to MANIFEST t.parquet"),
    ("manifest export t.parquet.manifest.json --croissant --out t.parquet", "belongs to MANIFEST t.parquet.manifest"),
    ("people read t.parquet --out t.parquet", "is the same file as TABLES t.parquet"),
    ("people train t.parquet --held-out t.parquet --out videos/../t.parquet", "is the same file as TABLES t.parquet"),
    ("predictor tune --source v.mkv --html v.mkv", "--html is the same file as --source v.mkv"),
    ("corpus merge g.jsonl t.parquet --out g.jsonl", "is the same file as ROWS g.jsonl"),
]
UNUSABLE = [
    ("corpus grid --sources videos --crf 30 --out videos", "videos: is a folder; name a file for the rows"),
    ("corpus merge g.jsonl t.parquet --out videos", "videos: is a folder; name a file for the rows"),
    ("corpus to-parquet g.jsonl --out videos", "videos: is a folder; name a file for the table"),
    ("corpus describe g.jsonl --html videos", "videos: is a folder; name a file for the page"),
    ("extract clips videos --out e.parquet --workdir v.mkv", "v.mkv is a file, expected a folder"),
    ("train fr-regressor-v1 --parquet t.parquet --out v.mkv", "v.mkv is a file, expected a folder"),
    ("predictor tune --source v.mkv --out g.jsonl", "g.jsonl is a file, expected a folder"),
    ("refresh --clips videos --out v.mkv", "v.mkv is a file, expected a folder"),
    ("corpus grid --sources videos --crf 30 --out n.csv", "n.csv: expected a name that ends in .jsonl"),
    ("corpus grid --sources videos --crf 30 --out n.jsonl --per-frame n.csv", "n.csv: expected a name that ends in"),
    ("corpus merge g.jsonl t.parquet --out all.csv", "all.csv: expected a name that ends in .jsonl"),
    ("corpus to-parquet g.jsonl --out rows.csv", "rows.csv: expected a name that ends in .parquet"),
    ("score nano t.parquet --out scored.json", "scored.json: expected a name that ends in .parquet or .csv"),
]


@pytest.mark.parametrize(("words", "sentence"), [*TAKEN, *UNUSABLE])
def test_outputs_are_looked_at_before_a_command_starts(words, sentence, place, capsys):
    before = files(place)
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert sentence in error and ".part " not in error and len(error.strip().splitlines()) == 1
    assert files(place) == before


def test_a_folder_without_permission(place, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda _, mode: mode == os.R_OK)  # for tests that run as root
    assert main(["corpus", "to-parquet", "g.jsonl", "--out", "new/rows.parquet"]) == 2
    assert f"new/rows.parquet: cannot be written, no permission to put files into {place}" in capsys.readouterr().err


def test_a_folder_that_is_read_may_also_be_written_to(place, capsys):
    assert main(["extract", "clips", "videos", "--out", "videos/t.parquet", "--workdir", "videos"]) == 2
    assert "videos: has no video" in capsys.readouterr().err


def parameters(command, name=()):
    "Every parameter of the commands of the tree, by command and name."
    if not hasattr(command, "commands"):
        marked = markers(command)
        return {(*name, each.name): (each, marked.get(each.name)) for each in command.params}
    found = {}
    for word, inner in command.commands.items():
        found |= parameters(inner, (*name, word))
    return found


def test_what_is_written_to_each_path_is_known():
    written = {name: marker for name, (_, marker) in parameters(typer.main.get_command(app)).items()}
    suffixes = {name: marker.suffixes for name, marker in written.items() if isinstance(marker, Writes)}
    assert suffixes["score", "out"] == TABLE_SUFFIXES
    assert suffixes["train", "out"] == suffixes["extract", "clips", "workdir"] == ()
    assert {name for name in written if name[-1] in WRITTEN} == set(suffixes)


def test_defaults_and_names_are_those_of_the_library():
    "The command line repeats some, because their modules take a second to import."
    found = {name: parameter for name, (parameter, _) in parameters(typer.main.get_command(app)).items()}
    defaults = {name: parameter.default for name, parameter in found.items()}
    konvid, bvi = (
        {name: each.default for name, each in inspect.signature(function).parameters.items()}
        for function in (extract_scored, bvi_dvc.extract_bvi_dvc)
    )
    assert defaults["extract", "konvid", "crf"] == ",".join(f"{quality:g}" for quality in konvid["qualities"])
    assert defaults["extract", "konvid", "preset"] == defaults["extract", "scored", "preset"] == konvid["preset"]
    assert defaults["extract", "scored", "crf"] == defaults["extract", "konvid", "crf"]
    assert all(name in found["extract", "scored", "data_set"].help for name in SCORED_SETS)
    assert defaults["extract", "bvi-dvc", "crf"] == ",".join(f"{quality:g}" for quality in bvi["qualities"])
    assert defaults["extract", "bvi-dvc", "codecs"] == ",".join(bvi["codecs"])
    assert defaults["extract", "bvi-dvc", "preset"] == defaults["corpus", "bvi-dvc-rows", "preset"] == bvi["preset"]
    assert defaults["corpus", "bvi-dvc-rows", "encoder"] == bvi["codecs"][0]
    assert defaults["corpus", "bvi-dvc-rows", "crf"] == bvi["qualities"][0]
    assert ",".join(bvi_dvc.TIERS) in found["extract", "bvi-dvc", "tier"].help
    assert ", ".join(SCALES) in found["corpus", "aggregate", "scale"].help


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_a_start_loads_no_table_or_model_library(word):
    heavy = "pandas pyarrow torch matplotlib skimage scipy sklearn onnx".split()
    code = f"import sys; from vmaf_research.serve.cli import main; main([{word!r}])"
    code += "; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() and not set(heavy) & set(done.stderr.split())


def test_what_a_start_costs():
    "Told, not asserted: machines differ."
    seconds = []
    for code in ("from vmaf_research.serve.cli import main; main(['--version'])", "import pandas"):
        code = f"{code}; import time; print(time.process_time())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds.append(float(done.stdout.split()[-1]))
    print(f"--version {seconds[0]:.2f} s of processor time, pandas {seconds[1]:.2f} s")
    print(f"ratio {seconds[0] / seconds[1]:.2f}, expected at most 0.6")


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (["--features", ""], "names no feature"),
        (["--features", " , "], "names no feature"),
        (["--features", "adm2,adm7"], "adm7"),
        (["--teacher", "vmaf_v9"], "vmaf_v9"),
    ],
)
def test_names_are_looked_at_before_anything_is_encoded(option, sentence, place, capsys):
    before = files(place)
    for words in (["measure", "v.mkv", "v.mkv"], ["extract", "embedded", "--out", "e.parquet", "-q"]):
        assert main([*words, *option]) == 2
        assert sentence in capsys.readouterr().err
    assert files(place) == before


def test_a_registry_that_is_not_there(tmp_path, capsys):
    for command in ("list", "verify", "rollback"):
        assert main(["registry", command, "--models", str(tmp_path / "nope")]) == 2
        assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'nope' / 'registry.json'}: no such file")
    (tmp_path / "registry.json").write_text("{}")
    assert main(["registry", "verify", "--models", str(tmp_path)]) == 1


def test_train_packages_what_passed(trained):
    run = trained / "run"
    report = json.loads((run / "report.json").read_text())
    assert report["models"]["fr_regressor_v1"]["shipped"] is True
    assert len(report["recipes"]["adr0249"]["per_source"]) == SOURCES
    assert set(report["floors"]) == {"ridge", "nusvr", "histgb"}
    assert [row.id for row in read_registry(run / "model").models] == ["fr_regressor_v1"]
    assert main(["registry", "verify", "--models", str(run / "model")]) == 0
    assert main(["manifest", "verify", str(run / "report.json")]) == 0


def test_same_command_gives_the_same_bytes(trained, tmp_path, floors_once, monkeypatch):
    monkeypatch.setattr("vmaf_research.learn.loso._predict_fold", floors_once)
    again = tmp_path / "run"
    assert train(trained / "table.parquet", again) == 0
    first, second = files(trained / "run"), files(again)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == ["report.json.manifest.json"]


def test_a_refused_model_leaves_nothing_behind(trained, tmp_path, capsys):
    run = shutil.copytree(trained / "run", tmp_path / "run")
    table = make_table(SOURCES, 12, 60)
    table["vmaf"] = np.random.default_rng(0).permutation(table["vmaf"].to_numpy())
    table.to_parquet(tmp_path / "shuffled.parquet", index=False)
    assert train(tmp_path / "shuffled.parquet", run) == 3
    assert "mean LOSO PLCC" in capsys.readouterr().err
    assert not (run / "model").exists()
    assert json.loads((run / "report.json").read_text())["models"]["fr_regressor_v1"]["shipped"] is False


def test_an_unusable_table_does_not_touch_an_earlier_run(trained, tmp_path, capsys):
    run = shutil.copytree(trained / "run", tmp_path / "run")
    before = files(run)
    table = make_table()
    table.loc[7, "adm2"] = np.nan
    table.to_parquet(tmp_path / "nan.parquet", index=False)
    assert train(tmp_path / "nan.parquet", run) == 2
    assert "adm2" in capsys.readouterr().err
    assert files(run) == before


def test_a_table_that_is_not_its_manifests(trained, tmp_path, encoded):
    clips = tmp_path / "videos"
    clips.mkdir()
    shutil.copy(encoded.path, clips)
    table = tmp_path / "t.parquet"
    assert main(["extract", "clips", str(clips), "--out", str(table), "--height", "64", "--frames", "8", "-q"]) == 0
    assert main(["manifest", "verify", str(table)]) == 0
    shutil.copy(trained / "table.parquet", table)
    assert main(["manifest", "verify", str(table)]) == 1
    assert train(table, tmp_path / "run") == 2


@pytest.fixture
def little_budget(monkeypatch):
    "The teacher_function recipe with a fraction of its vectors: the way is the same, the model is worse."
    recipe = RECIPES["teacher_function"]
    monkeypatch.setitem(RECIPES, recipe.name, recipe.changed(sampled_vectors=20_000, refining_vectors=10_000))


def test_refresh_of_a_folder_of_videos(tmp_path, little_budget, monkeypatch, capsys):
    videos = tmp_path / "videos"
    videos.mkdir()
    for number, pattern in enumerate(("testsrc2", "mandelbrot", "rgbtestsrc,noise=alls=40:allf=t")):
        size = pattern.replace("testsrc2", "testsrc2=s=160x90").replace("mandelbrot", "mandelbrot=s=160x90")
        run_ffmpeg(["-f", "lavfi", "-i", size, "-frames:v", "12", str(videos / f"video{number}.mkv")])
    size = ["--height", "64", "--frames", "12"]
    words = ["refresh", "--clips", str(videos), *size, "--out", str(tmp_path / "run"), "-q"]
    monkeypatch.setattr(refresh_module, "install", lambda *_: pytest.fail("a run without --install installs nothing"))
    code = main(words)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert code == (0 if any(model["shipped"] for model in report["models"].values()) else 3)
    said = capsys.readouterr()
    assert "warning: fr_regressor_v1: recipe adr0249 will not converge on" in said.err
    assert report["models"]["fr_regressor_v1"]["shipped"] is False and "fr_regressor_v1: mean LOSO PLCC" in said.out
    assert set(report["recipes"]) == {"adr0249", "teacher_function", "tuned"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<img") == 3 and str(tmp_path) not in page
    table = (tmp_path / "run" / "features.parquet").read_bytes()
    assert main(words) == code
    assert (tmp_path / "run" / "features.parquet").read_bytes() == table
    capsys.readouterr()


def test_models_by_name_are_compared_in_one_report(trained, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["train", "--parquet", str(trained / "table.parquet"), "--out", str(run), "-q", "--recipe", "tuned"]
    words += ["--recipe", "adr0249", "--architecture", "vmaf_tiny_v3", "--architecture", "attention"]
    assert main(words) == 0
    report, said = json.loads((run / "report.json").read_text()), capsys.readouterr()
    shipped = {name: model["shipped"] for name, model in report["models"].items()}
    assert shipped == {"vmaf_tiny_v3_tuned": True, "vmaf_tiny_v3_adr0249": False}
    assert set(report["recipes"]) == {"tuned@vmaf_tiny_v3", "adr0249@vmaf_tiny_v3"}
    assert set(report["clips"]) == {"attention", *report["recipes"], *report["floors"]}
    assert "not packaged: vmaf_tiny_v3_adr0249: mean LOSO PLCC" in said.out
    assert "attention is evaluated only" in said.out
    assert "vmaf_tiny_v3_adr0249: recipe adr0249@vmaf_tiny_v3 will not converge on" in said.err
    assert "of this run use vmaf_tiny_v3_tuned" in said.err
    clips = pd.read_parquet(run / "clips.parquet")
    assert len(clips) == SOURCES * 12 and np.abs(clips["tuned@vmaf_tiny_v3"] - clips["target"]).mean() < 10
    model = load("vmaf_tiny_v3_tuned", run / "model")
    assert model.sidecar.training.recipe.architecture == "vmaf_tiny_v3" and model.sidecar.training.parameters == 769
    assert main(["registry", "verify", "--models", str(run / "model")]) == 0
    assert main(["manifest", "verify", str(run / "report.json")]) == 0
    capsys.readouterr()


def test_strict_refuses_a_run_with_one_refused_model(trained, tmp_path, capsys):
    words = ["train", "--parquet", str(trained / "table.parquet"), "--out", str(tmp_path / "run"), "-q", "--strict"]
    words += ["--ship-threshold", "0.9", "--architecture", "small", "--recipe", "tuned", "--recipe", "adr0249"]
    assert main(words) == 3
    said = capsys.readouterr().err
    assert "fr_regressor_small_adr0249: mean LOSO PLCC" in said and "Accepted: fr_regressor_small_tuned." in said
    assert not (tmp_path / "run" / "clips.parquet").exists()


def test_install_copies_accepted_models_only(trained, tmp_path):
    plans = (refresh_module.PLANS["fr_regressor_v1"],)
    table, home = trained / "table.parquet", tmp_path / "model"
    options = {"install_into": home, "progress": False}
    refresh_module.train_and_package(table, tmp_path / "run", plans, (), threshold=0.5, **options)
    assert load("fr_regressor_v1", home).row.sha256 == load("fr_regressor_v1", trained / "run" / "model").row.sha256
    before = files(home)
    with pytest.raises(ShipRefused):
        refresh_module.train_and_package(table, tmp_path / "run", plans, (), threshold=1.0, **options)
    assert files(home) == before


@pytest.mark.parametrize(("source", "target"), [("t.parquet", "s.parquet"), ("t.csv", "s.csv"), ("t.csv", "s.parquet")])
def test_score_adds_two_columns(source, target, trained, tmp_path, capsys):
    table = make_table(2)[[*CANONICAL_6, "source"]].assign(code="007", note="a, b")
    getattr(table, {"parquet": "to_parquet", "csv": "to_csv"}[source.split(".")[1]])(tmp_path / source, index=False)
    models = ["--models", str(trained / "run" / "model")]
    assert main(["score", "fr_regressor_v1", str(tmp_path / source), "--out", str(tmp_path / target), *models]) == 0
    read = {"parquet": pd.read_parquet, "csv": lambda path: pd.read_csv(path, dtype={"code": str})}
    scored = read[target.split(".")[1]](tmp_path / target)
    assert list(scored.columns) == [*table.columns, "score", "in_range"]
    if source[-3:] == target[-3:]:
        assert (scored["code"] == "007").all() and (scored["note"] == "a, b").all()
    expected = load("fr_regressor_v1", trained / "run" / "model").score(table[list(CANONICAL_6)].to_numpy())
    assert scored["score"].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert main(["manifest", "verify", str(tmp_path / target)]) == 0
    assert f"{len(table)} rows" in capsys.readouterr().out


def test_score_flags_rows_beyond_the_training_range(trained, tmp_path):
    table = make_table(2)
    table.loc[3, "motion2"] = 500.0
    table.to_parquet(tmp_path / "t.parquet")
    models = ["--models", str(trained / "run" / "model")]
    out = tmp_path / "s.parquet"
    assert main(["score", "fr_regressor_v1", str(tmp_path / "t.parquet"), "--out", str(out), *models]) == 0
    assert not pd.read_parquet(out)["in_range"][3]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda table: table.drop(columns="adm2"), "has no column adm2"),
        (lambda table: table.assign(score=1.0), "already has a column score"),
        (lambda table: table.assign(adm2=table["adm2"].where(table.index != 5)), "infinite values in adm2: row 5"),
        (lambda table: table.assign(adm2="high"), "adm2 holds str, expected numbers"),
        (lambda table: table.iloc[:0], "no rows"),
    ],
)
def test_score_refuses_and_leaves_no_file(change, sentence, trained, tmp_path, capsys):
    change(make_table(2)).to_parquet(tmp_path / "t.parquet", index=False)
    models = ["--models", str(trained / "run" / "model")]
    words = ["score", "fr_regressor_v1", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "s.parquet"), *models]
    assert main(words) == 2
    assert sentence in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.parquet"]


def test_a_cut_off_table_is_named(trained, tmp_path, capsys):
    path = tmp_path / "t.parquet"
    make_table(2).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])
    models = ["--models", str(trained / "run" / "model")]
    assert main(["score", "fr_regressor_v1", str(path), "--out", str(tmp_path / "s.parquet"), *models]) == 2
    assert "t.parquet: cannot be read as a table" in capsys.readouterr().err


def test_a_damaged_model_is_neither_verified_nor_used(trained, tmp_path, capsys):
    models = shutil.copytree(trained / "run" / "model", tmp_path / "model")
    graph = bytearray((models / "fr_regressor_v1_raw.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (models / "fr_regressor_v1_raw.onnx").write_bytes(graph)
    assert main(["registry", "verify", "--models", str(models)]) == 1
    words = ["score", "fr_regressor_v1", str(trained / "table.parquet"), "--out", str(tmp_path / "s.parquet")]
    assert main([*words, "--models", str(models)]) == 1
    assert "fr_regressor_v1_raw.onnx" in capsys.readouterr().err
    assert main(["registry", "list", "--models", str(trained / "run" / "model")]) == 0


def test_score_with_an_interval(trained, tmp_path, capsys):
    table, out = tmp_path / "t.parquet", tmp_path / "s.parquet"
    make_table(2, 12, 100).to_parquet(table, index=False)
    words = ["score", "fr_regressor_v1", str(table), "--out", str(out), "--models", str(trained / "run" / "model")]
    assert main([*words, "--interval", "0.8"]) == 0
    scored = pd.read_parquet(out)
    assert list(scored.columns)[-4:] == ["score", "in_range", "low", "high"]
    record = load("fr_regressor_v1", trained / "run" / "model").sidecar.calibration.frame
    assert scored["low"].to_numpy() == pytest.approx((scored["score"] - record.half_widths[-1]).clip(0, 100))
    assert scored["high"].to_numpy() == pytest.approx((scored["score"] + record.half_widths[-1]).clip(0, 100))
    assert main(["manifest", "verify", str(out)]) == 0
    before = out.read_bytes()
    for level, sentence in (("0.9", "0.9 needs 9 sources"), ("0.95", "needs 19 sources"), ("80", "between 0 and 1")):
        assert main([*words, "--interval", level]) == 2
        assert sentence in capsys.readouterr().err
    assert out.read_bytes() == before


def test_bounds_are_not_overwritten(trained, tmp_path, capsys):
    table, out = tmp_path / "t.parquet", tmp_path / "s.parquet"
    make_table(2).assign(low=0.0).to_parquet(table, index=False)
    words = ["score", "fr_regressor_v1", str(table), "--out", str(out), "--models", str(trained / "run" / "model")]
    assert main([*words, "--interval", "0.5"]) == 2
    assert "already has a column low" in capsys.readouterr().err
    assert main(words) == 0


@pytest.fixture(scope="module")
def candidates(trained):
    "Encodes of two sources with their pairs table, as an extraction leaves them."
    table = make_table(2, 12, 20)
    table.to_parquet(trained / "candidates.parquet", index=False)
    pairs = table[["source", "dis_basename"]].drop_duplicates()
    number = pairs["dis_basename"].str.extract(r"(\d+)", expand=False).astype(int)
    pairs = pairs.assign(codec="libx264", crf=14.0 + 3 * number, bitrate_kbps=6000 * 0.7**number)
    pairs.to_parquet(trained / "candidates.parquet.pairs.parquet", index=False)
    return trained / "candidates.parquet"


def cheapest(candidates, out, *words):
    models = ["--models", str(candidates.parent / "run" / "model")]
    return main(["score", "fr_regressor_v1", str(candidates), "--out", str(out), *models, *words])


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_cheapest_encode_whose_lower_bound_reaches_the_target(suffix, candidates, tmp_path, capsys):
    out = tmp_path / f"answer{suffix}"
    assert cheapest(candidates, out, "--quality-confidence", "0.6", "--target", "60") == 0
    clips = pd.read_parquet(out) if suffix == ".parquet" else pd.read_csv(out)
    assert len(clips) == 24 and set(clips["codec"]) == {"libx264"}
    text = capsys.readouterr().out
    for source, group in clips.groupby("source"):
        reaching = group[group["low"] >= 60]
        chosen = group[group["chosen"]]
        assert len(chosen) == 1 and chosen["crf"].item() == reaching["crf"].max()
        assert f"{source} libx264: {chosen['dis_basename'].item()}" in text
    assert main(["manifest", "verify", str(out)]) == 0


def test_a_target_that_nobody_reaches_is_unreachable(candidates, tmp_path, capsys):
    assert cheapest(candidates, tmp_path / "a.parquet", "--quality-confidence", "0.8", "--target", "100") == 0
    assert capsys.readouterr().out.count("unreachable") == 2
    assert not pd.read_parquet(tmp_path / "a.parquet")["chosen"].any()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--quality-confidence", "0.8"], "go together"),
        (["--target", "90"], "go together"),
        (["--quality-confidence", "0.8", "--target", "90", "--interval", "0.8"], "give one of them"),
        (["--quality-confidence", "0.95", "--target", "90"], "needs 19 sources"),
        (["--quality-confidence", "0.8", "--target", "900"], "expected a VMAF score"),
    ],
)
def test_choices_that_are_refused(words, sentence, candidates, tmp_path, capsys):
    assert cheapest(candidates, tmp_path / "a.parquet", *words) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_candidates_without_costs(candidates, tmp_path, capsys):
    shutil.copy(candidates, tmp_path / "t.parquet")
    words = ["score", "fr_regressor_v1", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "a.parquet")]
    models = ["--models", str(candidates.parent / "run" / "model")]
    assert main([*words, *models, "--quality-confidence", "0.8", "--target", "90"]) == 2
    assert "has no column crf, bitrate_kbps" in capsys.readouterr().err
    pairs = pd.read_parquet(f"{candidates}.pairs.parquet")
    pairs.loc[0, "crf"] = np.nan
    pairs.to_parquet(tmp_path / "t.parquet.pairs.parquet", index=False)
    assert main([*words, *models, "--quality-confidence", "0.8", "--target", "90"]) == 2
    assert "NaN or infinite values in crf: source0 clip0.mkv" in capsys.readouterr().err
    assert not (tmp_path / "a.parquet").exists()


def test_a_model_without_calibration_has_no_intervals(trained, candidates, tmp_path, capsys):
    model = load("fr_regressor_v1", trained / "run" / "model")
    document = {name: value for name, value in model.sidecar.to_json().items() if name not in ("calibration", SEAL)}
    graphs = {name: (trained / "run" / "model" / name).read_bytes() for name in (model.row.onnx, model.row.onnx_raw)}
    sidecar = validated(Sidecar, document, "x")
    write_model(tmp_path / "model", sidecar, graphs)
    words = ["score", "fr_regressor_v1", str(candidates), "--out", str(tmp_path / "a.parquet")]
    words += ["--models", str(tmp_path / "model")]
    assert main(words) == 0
    for wish in (["--interval", "0.5"], ["--quality-confidence", "0.5", "--target", "50"]):
        assert main([*words, *wish]) == 2
        assert "fr_regressor_v1: has no calibration" in capsys.readouterr().err
