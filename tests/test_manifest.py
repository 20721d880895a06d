"""Manifests as a user meets them: verified, shown, replayed, exported, and compared with the last one."""

import json
import shutil
import sys

import pyarrow.parquet as pq
import pytest
import typer
from made_up import make_codec_rows

from vmaf_research.corpora.rows import new_row, write_rows
from vmaf_research.measure import manifest as manifest_module
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.measure.manifest import describe_path, manifest_path, open_manifest, part_paths, verify
from vmaf_research.measure.provenance import seal, write_json
from vmaf_research.serve.cli import app, main
from vmaf_research.serve.manifests import replay
from vmaf_research.serve.options import markers
from vmaf_research.ship.ensemble import PREDICTIONS, run_ensemble

COMMANDS = typer.main.get_command(app)
PATTERNS = {"bars": "testsrc2=s=96x64", "noise": "nullsrc=s=96x64,geq=random(1)*255:128:128"}


def extraction(folder):
    "The words that extract the videos of a folder."
    names = ["--out", str(folder / "t.parquet"), "--workdir", str(folder / "work"), "--features", "canonical6"]
    return ["extract", "clips", str(folder / "videos"), *names, "--height", "64", "--frames", "8", "-q"]


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    "Two tiny videos, extracted. Tests that change something work on a copy."
    folder = tmp_path_factory.mktemp("extracted")
    (folder / "videos").mkdir()
    for name, pattern in PATTERNS.items():
        run_ffmpeg(["-f", "lavfi", "-i", pattern, "-frames:v", "8", str(folder / "videos" / f"{name}.mkv")])
    assert main(extraction(folder)) == 0
    return folder


def copy_to(folder, extracted):
    for name in ("videos", "work"):
        shutil.copytree(extracted / name, folder / name)
    assert main(extraction(folder)) == 0
    return folder


@pytest.fixture
def copy(extracted, tmp_path):
    "The same, at a place of its own, with a manifest that was written there."
    return copy_to(tmp_path, extracted)


@pytest.fixture(scope="module")
def shared_copy(extracted, tmp_path_factory):
    "One for tests that rewrite the words of the command only."
    return copy_to(tmp_path_factory.mktemp("copy"), extracted)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rewrite(path, change):
    "Change the document of a manifest and seal it again, as a liar would."
    document = open_manifest(path).document
    change(document)
    write_json(manifest_path(path), seal(document))


def test_a_replay_measures_again_and_gives_the_same_bytes(extracted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = files(extracted)
    assert main(["manifest", "replay", str(extracted / "t.parquet"), "--keep", "again"]) == 0
    text = capsys.readouterr().out
    assert "everything computed again" in text and "same: table, pairs" in text
    pairs = open_manifest(extracted / "t.parquet").facts["counts"]["pairs"]
    assert len(list((tmp_path / "again" / "cache" / "measure").rglob("*.json"))) == pairs
    repeated = tmp_path / "again" / "out" / "t.parquet"
    assert repeated.read_bytes() == (extracted / "t.parquet").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again"]
    assert files(extracted) == before
    assert main(["manifest", "replay", str(extracted / "t.parquet"), "--keep", "again"]) == 2
    assert "is not an empty folder" in capsys.readouterr().err


def test_stored_measurements_are_used_on_request(extracted):
    result = replay(extracted / "t.parquet", COMMANDS, use_cache=True)
    assert result.same and result.used_cache and "with stored measurements" in repr(result)


def victims(folder):
    "A file of every sort that a manifest covers, itself included."
    work = folder / "work"
    encode = next(path for path in sorted((work / "dis").rglob("*")) if path.suffix in (".mp4", ".mkv", ".yuv", ".y4m"))
    reference = next((work / "ref").glob("*.y4m"))
    outputs = [folder / name for name in ("t.parquet", "t.parquet.pairs.parquet", "t.parquet.manifest.json")]
    return [*outputs, folder / "videos" / "bars.mkv", encode, reference]


def test_one_changed_byte_anywhere_is_named(copy, capsys):
    whole = copy / "t.parquet"
    assert main(["manifest", "verify", str(whole)]) == 0
    for path in victims(copy):
        original = path.read_bytes()
        damaged = bytearray(original)
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(damaged)
        capsys.readouterr()
        assert main(["manifest", "verify", str(whole)]) == 1, path
        assert path.name in capsys.readouterr().err
        path.write_bytes(original)
    assert main(["manifest", "verify", str(whole)]) == 0


def test_several_manifests_are_all_looked_at(extracted, copy, capsys):
    (copy / "t.parquet.pairs.parquet").unlink()
    (copy / "videos" / "noise.mkv").write_bytes(b"nothing")
    capsys.readouterr()
    assert main(["manifest", "verify", str(copy / "t.parquet"), str(extracted / "t.parquet")]) == 1
    printed = capsys.readouterr()
    assert "pairs.parquet" in printed.err and "noise.mkv" in printed.err
    assert "are as recorded" in printed.out


def test_a_folder_that_moved_as_a_whole_still_verifies(copy, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "run"
    shutil.move(copy, elsewhere)
    assert verify(elsewhere / "t.parquet").ok
    (elsewhere / "videos" / "bars.mkv").unlink()
    assert "bars.mkv" in verify(elsewhere / "t.parquet").differences[0]


def test_inputs_that_are_gone_or_elsewhere(copy, tmp_path_factory, capsys):
    moved = tmp_path_factory.mktemp("moved") / "videos"
    shutil.move(copy / "videos", moved)
    table = str(copy / "t.parquet")
    assert main(["manifest", "replay", table]) == 2
    assert "originals/bars.mkv" in (said := capsys.readouterr().err) and "--root" in said
    shutil.rmtree(copy / "work")  # made again, so not needed
    assert main(["manifest", "replay", table, "--root", f"originals={moved}", "--use-cache"]) == 0
    shutil.copy(moved / "bars.mkv", moved / "noise.mkv")
    assert main(["manifest", "replay", table, "--root", f"originals={moved}"]) == 2
    assert "originals/noise.mkv" in capsys.readouterr().err
    for wrong, sentence in (("originals", "NAME=FOLDER"), (f"korpus={moved}", "has no root korpus")):
        assert main(["manifest", "replay", table, "--root", wrong]) == 2
        assert sentence in capsys.readouterr().err


def test_what_differs_is_said_exactly(copy, capsys):
    table = pq.read_table(copy / "t.parquet")
    false = table.set_column(table.column_names.index("vmaf"), "vmaf", [[99.0, *table["vmaf"].to_pylist()[1:]]])
    pq.write_table(false, copy / "t.parquet")

    def claim(document):
        facts = document["deterministic"]
        facts["run_provenance"]["outputs"]["table"] = describe_path(copy / "t.parquet", {"output": copy})
        facts["counts"]["pairs"] = 1000
        facts["package"]["version"] = "0.0.0"

    rewrite(copy / "t.parquet", claim)
    assert main(["manifest", "verify", str(copy / "t.parquet")]) == 0  # consistent, and yet not true
    capsys.readouterr()
    assert main(["manifest", "replay", str(copy / "t.parquet"), "--use-cache"]) == 1
    text = capsys.readouterr().out
    assert f"vmaf differs in 1 of {len(table)} rows" in text and "first in row 0" in text
    assert "counts.pairs: 1000 recorded" in text
    assert "different: fact package" not in text and "circumstances: package.version: '0.0.0' recorded" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "a call of the library"),
        (["rm", "-rf", "/"], "no such command"),
        (["registry", "promote", "--verdict", "v.json"], "is not replayed; extract, corpus"),
        (["corpus", "describe", "rows.jsonl"], "does not say where it writes"),
        (["extract", "clips", "videos", "--delete"], "does not take these words"),
        (["extract", "clips", "nowhere", "--out", "t.parquet"], "no such folder"),
    ],
)
def test_commands_that_are_not_replayed(words, sentence, shared_copy, capsys):
    table = shared_copy / "t.parquet"
    rewrite(table, lambda document: document["deterministic"]["run_provenance"].update(argv=words))
    capsys.readouterr()
    assert main(["manifest", "replay", str(table)]) == 2
    assert sentence in capsys.readouterr().err


def test_an_input_that_is_its_own_output(copy, capsys):
    def loop(document):
        run = document["deterministic"]["run_provenance"]
        run["inputs"]["table"] = run["outputs"]["table"]

    rewrite(copy / "t.parquet", loop)
    capsys.readouterr()
    assert main(["manifest", "replay", str(copy / "t.parquet")]) == 2
    assert "its input table is its own output" in capsys.readouterr().err


def leaves(command, name=()):
    "All commands below one."
    if not hasattr(command, "commands"):
        return {name: command}
    found = {}
    for word, inner in command.commands.items():
        found |= leaves(inner, (*name, word))
    return found


def test_every_path_of_a_command_says_what_it_is_for():
    "A new option that is a path needs `Reads()`, `Changes()` or `Writes(…)` in its type."
    commands = leaves(COMMANDS)
    assert ("extract", "clips") in commands and ("refresh",) in commands
    found = {name: markers(command) for name, command in commands.items()}
    assert not [(*name, path) for name, paths in found.items() for path, marker in paths.items() if marker is None]


def test_rows_that_changed_since_the_last_time(copy, capsys):
    shutil.copy(copy / "videos" / "bars.mkv", copy / "videos" / "more.mkv")
    rows = pq.read_metadata(copy / "t.parquet").num_rows
    capsys.readouterr()
    assert main(extraction(copy)) == 0
    now = pq.read_metadata(copy / "t.parquet").num_rows
    text = capsys.readouterr().err
    assert f"t.parquet: {rows:,} → {now:,} rows: +8 in more/" in text
    assert main(extraction(copy)) == 0
    assert "→" not in capsys.readouterr().err


def test_show(extracted, capsys):
    assert main(["manifest", "show", str(extracted / "t.parquet")]) == 0
    text = capsys.readouterr().out
    assert "full-features" in text and "vmaf-research extract clips" in text and "more inputs" in text
    assert "<script>" not in open_manifest(extracted / "t.parquet")._repr_html_()


def test_croissant_is_loaded_by_its_library(extracted, tmp_path, capsys):
    mlcroissant = pytest.importorskip("mlcroissant")
    out = extracted / "t.croissant.json"
    words = ["manifest", "export", str(extracted / "t.parquet"), "--out", str(out)]
    assert main(words) == 2
    assert "--croissant" in capsys.readouterr().err
    assert main([*words, "--croissant", "--license", "CC0-1.0"]) == 0
    assert "table_rows (30 columns)" in capsys.readouterr().out
    dataset = mlcroissant.Dataset(jsonld=out)
    rows = list(dataset.records("table_rows"))
    table = pq.read_table(extracted / "t.parquet")
    assert [row["table_rows/vmaf"] for row in rows] == pytest.approx(table["vmaf"].to_pylist())
    digests = {each["@id"]: each["sha256"] for each in json.loads(out.read_text())["distribution"]}
    outputs = open_manifest(extracted / "t.parquet").outputs
    assert digests == {name: each["sha256"] for name, each in outputs.items()}


def test_croissant_without_its_library(extracted, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    words = ["manifest", "export", str(extracted / "t.parquet"), "--croissant", "--out", str(tmp_path / "c.json")]
    assert main(words) == 2
    assert "pip install vmaf-research[croissant]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_scored_table_is_replayed(extracted, tmp_path):
    out = tmp_path / "scored.parquet"
    assert main(["score", "fr_regressor_nano_v1", str(extracted / "t.parquet"), "--out", str(out)]) == 0
    result = replay(out, COMMANDS)
    assert result.same and result.outputs == ("table",)
    with pytest.raises(BadInput, match="this version has no such command"):
        rewrite(out, lambda document: document["deterministic"]["run_provenance"].update(argv=["skore"]))
        replay(out, COMMANDS)


def test_a_verdict_is_replayed_on_a_copy_of_its_run(tmp_path, capsys):
    make_codec_rows().to_parquet(tmp_path / "rows.parquet")
    run = tmp_path / "run"
    run_ensemble(tmp_path / "rows.parquet", run, dry_run=True, progress=False)
    assert main(["ensemble", "validate", str(run)]) == 1
    assert main(["manifest", "verify", str(run / "HOLD.json"), str(run / PREDICTIONS)]) == 0
    before = files(run)
    result = replay(run / "HOLD.json", COMMANDS)
    assert result.same and result.outputs == ("verdict",)
    assert files(run) == before
    (run / "loso_seed0.json").write_bytes(b"{}")
    with pytest.raises(BadInput, match="loso_seed0.json"):
        replay(run / "HOLD.json", COMMANDS)


def test_a_manifest_in_parts_is_verified_and_replayed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(manifest_module, "_MOST_ENTRIES", 10)
    names = [f"{number}.jsonl" for number in range(11)]
    for number, name in enumerate(names):
        row = new_row(src=name, encoder="libx264", preset="fast", clip_mode="full", crf=20.0 + number, vmaf_score=90.0)
        write_rows(tmp_path / name, [row])
    out, copied = tmp_path / "all.jsonl", tmp_path / "kept" / "all.manifest.json"
    words = ["corpus", "merge", *(str(tmp_path / name) for name in names), "--out", str(out)]
    words += ["--manifest-out", str(copied)]
    assert main(words) == 0
    parts = part_paths(manifest_path(out))
    assert {"argv", "inputs"} <= {path.name.split(".")[3] for path in parts}
    part = parts[-1]
    raw = json.loads(manifest_path(out).read_text())["deterministic"]["run_provenance"]
    assert (raw["inputs"], raw["argv"]) == ({}, []) and set(open_manifest(out).inputs) == set(names)
    assert main(["manifest", "verify", str(out)]) == 0
    monkeypatch.undo()
    assert main(["manifest", "replay", str(copied)]) == 0  # the manifest of the repetition is in one piece
    whole = part.read_bytes()
    part.write_bytes(whole[:-3])
    capsys.readouterr()
    assert main(["manifest", "verify", str(out)]) == 1
    assert f"{part.name}: is a part of all.jsonl.manifest.json, and is gone or was changed" in capsys.readouterr().err
    assert main(["manifest", "show", str(out)]) == 2
    part.write_bytes(whole)
    assert main(["manifest", "show", str(out)]) == 0
    assert main(words) == 0 and part_paths(manifest_path(out)) == []
