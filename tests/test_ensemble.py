"""The ensemble from rows to members in use: what is refused on the way, and what never changes by accident."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from hypothesis import given
from hypothesis import strategies as st
from made_up import make_codec_rows
from packaged import package

from vmaf_research.learn.codec_table import load_ensemble_table
from vmaf_research.learn.codecs import (
    CODEC_BLOCK,
    CODEC_BLOCKS,
    ENCODER_VOCAB,
    VOCABULARIES,
    _adapt_one_hot,
    codec_block,
    crf_norm,
)
from vmaf_research.learn.loso import loso
from vmaf_research.learn.recipes import RECIPES, Recipe
from vmaf_research.learn.stacks import Checkpoint
from vmaf_research.learn.table import RENAMED
from vmaf_research.measure.core import BadInput, settings
from vmaf_research.measure.encode import ENCODERS
from vmaf_research.measure.provenance import SEAL, open_sealed, seal, write_json
from vmaf_research.serve import cli
from vmaf_research.serve.cli import main
from vmaf_research.ship.ensemble import (
    _CHECKPOINT,
    ENSEMBLE_ID,
    PREDICTIONS,
    SEEDS,
    artefact_name,
    member_id,
    run_ensemble,
    run_identity,
)
from vmaf_research.ship.registry import REGISTRY, install, load, read_registry, verify_registry

pytestmark = pytest.mark.usefixtures("floors_once")
QUICK = Recipe(
    name="quick",
    optimizer="adam",
    learning_rate=5e-3,
    weight_decay=0.0,
    schedule="one_cycle",
    loss="mse",
    epochs=60,
    batch_size=32,
    dropout=0.0,
)


@pytest.fixture(scope="module", autouse=True)
def quick():
    "A recipe that learns made-up rows in a second; the way is the same."
    RECIPES["quick"] = QUICK
    yield
    del RECIPES["quick"]


@pytest.fixture(scope="module")
def promoted(quick, tmp_path_factory):
    "A table, its run with PROMOTE.json, and the exported members."
    folder = tmp_path_factory.mktemp("ensemble")
    (folder / "videos").mkdir()
    (folder / "videos" / "clip.y4m").write_bytes(b"stands for a video")
    make_codec_rows().to_parquet(folder / "rows.parquet")
    run_ensemble(folder / "rows.parquet", folder / "run", "quick", corpus_root=folder / "videos", progress=False)
    assert main(["ensemble", "validate", str(folder / "run")]) == 0
    assert main(["ensemble", "export", str(folder / "run"), "-q"]) == 0
    return folder


@pytest.fixture
def own(promoted, tmp_path):
    "A copy of it to damage."
    folder = tmp_path / "copy"
    shutil.copytree(promoted, folder)
    return folder


def reseal(path, change):
    "Edit a sealed document and make its seal right again."
    document = open_sealed(path)
    change(document)
    write_json(path, seal(document))


@pytest.fixture(scope="module")
def another_run(promoted, tmp_path_factory):
    "Its files."
    out = tmp_path_factory.mktemp("another") / "run"
    run_ensemble(promoted / "rows.parquet", out, QUICK.changed(epochs=61), corpus_root=promoted / "videos")
    return out


def replace_run(folder, another):
    "Another run in the place of one whose members were exported."
    shutil.copytree(another, folder / "run", dirs_exist_ok=True)


def said(capsys):
    streams = capsys.readouterr()
    return streams.out + streams.err


def validate(folder):
    return main(["ensemble", "validate", str(folder / "run"), "--table", str(folder / "rows.parquet")])


def export(folder):
    return main(["ensemble", "export", str(folder / "run"), "--table", str(folder / "rows.parquet"), "-q"])


def promote(folder):
    verdict = ["--verdict", str(folder / "run" / "PROMOTE.json")]
    return main(["registry", "promote", *verdict, "--models", str(folder / "run" / "model")])


def rollback(folder):
    return main(["registry", "rollback", "--models", str(folder / "run" / "model")])


def smoke(folder):
    return [row.smoke for row in read_registry(folder).models]


# Codecs


def test_vocabulary_and_block_are_those_of_the_contract():
    assert len(ENCODER_VOCAB) == 12 and len(CODEC_BLOCK) == 14
    assert ENCODER_VOCAB[:5] == ("libx264", "libx265", "libsvtav1", "libvvenc", "libvpx-vp9")
    assert ENCODER_VOCAB[-1] == "unknown"
    (row,) = codec_block(["hevc_nvenc"], ["p4"], [51])
    assert row.tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 5 / 9, 1.0]


@given(st.sampled_from(sorted(VOCABULARIES)), st.data())
def test_adapters_keep_the_encoder(name, data):
    names = VOCABULARIES[name]
    slot = data.draw(st.integers(0, len(names) - 1))
    (row,) = _adapt_one_hot(np.eye(len(names))[[slot]], name)
    assert row.sum() == 1
    encoder = {"x264": "libx264", "x265": "libx265"}.get(names[slot], names[slot])
    assert ENCODER_VOCAB[row.argmax()] == (encoder if encoder in ENCODER_VOCAB else "unknown")


@given(st.sampled_from(sorted(ENCODERS)), st.floats(-10, 80))
def test_quality_is_normed_by_the_encoder_alone(encoder, quality):
    best, worst = ENCODERS[encoder].quality_range
    if best <= quality <= worst:
        assert crf_norm(encoder, quality) == pytest.approx((quality - best) / (worst - best))
    else:
        with pytest.raises(BadInput, match="outside its range"):
            crf_norm(encoder, quality)


# Tables


def table_of(tmp_path, rows, name="rows.parquet"):
    path = tmp_path / name
    if name.endswith(".parquet"):
        rows.to_parquet(path)
    elif name.endswith(".csv"):
        rows.to_csv(path, index=False)
    else:
        rows.to_json(path, orient="records", lines=True, double_precision=15)
    return path


def test_forms_of_one_table_give_the_same_rows(tmp_path):
    rows = make_codec_rows(3, 4, 5)
    shuffled = rows.sample(frac=1, random_state=1).rename(columns={new: old for old, new in RENAMED.items()})
    tables = [load_ensemble_table(table_of(tmp_path, rows, name)) for name in ("a.parquet", "b.csv")]
    tables.append(load_ensemble_table(table_of(tmp_path, shuffled, "c.jsonl")))
    for other in tables[1:]:
        assert other.rows.features == pytest.approx(tables[0].rows.features, abs=1e-12)
        assert other.rows.source.tolist() == tables[0].rows.source.tolist()
    moved = load_ensemble_table(table_of(tmp_path, rows.sample(frac=1, random_state=2), "d.parquet"))
    assert moved.rows.digest == tables[0].rows.digest and moved.sha256 != tables[0].sha256


def test_what_the_vocabulary_does_not_have_is_counted(tmp_path):
    rows = make_codec_rows(encoders=("libtheora",)).assign(preset="6")
    table = load_ensemble_table(table_of(tmp_path, rows))
    text = " ".join(table.notes)
    assert "480 rows of libtheora, which goes to the slot" in text
    assert "codec-awareness is untested" in text and "no preset" in text
    assert table.rows.features[:, 6 + 11].all() and table.vocabulary == 2


def test_encoders_that_only_the_later_vocabulary_has(tmp_path):
    rows = make_codec_rows(3, 6, 24, encoders=("libx264", "libaom-av1", "av1_amf")).assign(preset="quality")
    table = load_ensemble_table(table_of(tmp_path, rows))
    assert table.vocabulary == 3 and table.rows.feature_names[6:] == CODEC_BLOCKS[3] and not table.notes[1:]
    block = table.rows.features[:, 6:-2]
    assert block.shape[1] == 16 and (block.sum(axis=1) == 1).all() and block[:, [0, 1, 8]].any(axis=0).all()
    identity = run_identity(table, None, RECIPES["tuned"], False)
    assert (identity["encoder_vocab_version"], identity["num_codecs"]) == (3, 18)
    report = loso(table.rows, "tuned", floors=False, final=True, progress=False)
    package("wide_v1", tmp_path / "model", report=report)
    model = load("wide_v1", tmp_path / "model")
    assert model.sidecar.codec_block_layout == list(CODEC_BLOCKS[3])
    scored, models = tmp_path / "scored.parquet", str(tmp_path / "model")
    assert main(["score", "wide_v1", str(table.paths[0]), "--out", str(scored), "--models", models]) == 0
    assert np.abs(pd.read_parquet(scored)["score"] - rows["vmaf"]).mean() < 3


def test_a_pairs_table_is_joined_and_checked(tmp_path, capsys):
    rows = make_codec_rows()
    pairs = rows.drop_duplicates(["source", "dis_basename"])[["source", "dis_basename", "codec", "preset", "crf"]]
    pairs = pairs.assign(encode_height=360, reference_path="r.y4m", reference_size=1, distorted_size=2)
    pairs = pairs.assign(distorted_path=pairs["source"] + pairs["dis_basename"])
    path = table_of(tmp_path, rows.drop(columns=["preset", "crf"]))

    def load_with(pairs):
        pairs.to_parquet(f"{path}.pairs.parquet")
        return load_ensemble_table(path)

    table = load_with(pairs)
    assert table.rows.features == pytest.approx(load_ensemble_table(table_of(tmp_path, rows, "f.csv")).rows.features)
    assert table.corpus_digest is not None
    assert load_with(pairs.assign(distorted_size=3)).corpus_digest != table.corpus_digest
    for other, sentence in [
        (pairs[1:], "rows have no pair"),
        (pairs.assign(codec="libx264"), "its pairs table says libx264"),
        (pd.concat([pairs, pairs[:1]]), "is there twice"),
        (pairs.assign(crf=pairs["crf"].where(pairs.index != 0)), "NaN or infinite values in crf"),
    ]:
        with pytest.raises(BadInput, match=sentence):
            load_with(other)


# Runs


def test_a_finished_run_is_used_again_and_a_damaged_seed_is_not(own):
    names = [PREDICTIONS, *(artefact_name(seed) for seed in SEEDS)]
    before = {name: (own / "run" / name).read_bytes() for name in names}
    again = run_ensemble(own / "rows.parquet", own / "run", "quick", corpus_root=own / "videos", progress=False)
    assert again.trained == ()
    assert {name: (own / "run" / name).read_bytes() for name in names} == before
    (own / "run" / artefact_name(3)).write_bytes(before[artefact_name(3)][:-20])
    predictions = pd.read_parquet(own / "run" / PREDICTIONS)
    predictions.assign(seed1=predictions["seed0"]).to_parquet(own / "run" / PREDICTIONS)
    again = run_ensemble(own / "rows.parquet", own / "run", "quick", corpus_root=own / "videos", progress=False)
    assert again.trained == (1, 3)
    assert validate(own) == 0


def bytes_of(folder):
    "Every file below a folder."
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--recipe", "tuned", "--dry-run"], "True now; recipe.name: 'quick' recorded, 'tuned' now"),
        (["--recipe", "tuned"], "recipe.name: 'quick' recorded, 'tuned' now"),
        (["--dry-run"], "dry_run: False recorded, True now"),
    ],
)
def test_a_finished_run_is_not_overwritten_by_another(options, sentence, own, capsys):
    before = bytes_of(own)
    words = ["ensemble", "run", str(own / "rows.parquet"), "--out", str(own / "run"), "-q"]
    assert main([*words, "--corpus-root", str(own / "videos"), *options]) == 2
    assert sentence in (text := said(capsys)) and "give another --out, or remove the folder" in text
    assert bytes_of(own) == before


def test_a_run_of_another_table_is_not_overwritten(own):
    pd.read_parquet(own / "rows.parquet").iloc[::2].to_parquet(own / "rows.parquet")
    before = bytes_of(own)
    with pytest.raises(BadInput, match="corpus_digest: .* table_sha256: .* give another --out"):
        run_ensemble(own / "rows.parquet", own / "run", "quick", progress=False)
    assert bytes_of(own) == before


def test_a_run_in_place_of_a_file_is_refused(promoted, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/run"):
        assert main(["ensemble", "run", str(promoted / "rows.parquet"), "--out", str(tmp_path / out), "-q"]) == 2
        assert "is a file, expected" in said(capsys)
        with pytest.raises(BadInput, match="file is a file, expected a folder"):
            run_ensemble(promoted / "rows.parquet", tmp_path / out, "quick", progress=False)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_refused(own, capsys):
    before = bytes_of(own)
    table = ["--table", str(own / "rows.parquet")]
    for words in (
        ["run", str(own / "rows.parquet"), "--out", str(own / "trial"), "--dry-run"],
        ["export", str(own / "run"), *table],
    ):
        assert main(["ensemble", *words, "--device", "cuda", "-q"]) == 2
        assert "device cuda: PyTorch" in said(capsys)
    assert bytes_of(own) == before


def test_the_same_run_has_the_same_results(promoted, tmp_path):
    again = tmp_path / "run"
    run_ensemble(promoted / "rows.parquet", again, "quick", corpus_root=promoted / "videos", progress=False)
    for seed in SEEDS:
        first, second = (open_sealed(f / artefact_name(seed)) for f in (promoted / "run", again))
        assert {n: v for n, v in first.items() if n not in ("volatile", "sha256_of_content")} == {
            n: v for n, v in second.items() if n not in ("volatile", "sha256_of_content")
        }
    assert (promoted / "run" / PREDICTIONS).read_bytes() == (again / PREDICTIONS).read_bytes()
    assert main(["manifest", "verify", str(again / PREDICTIONS)]) == 0
    assert sorted(path.name[:5] for path in (again / "logs").iterdir()) == [f"seed{seed}" for seed in SEEDS]


LONG = RECIPES["adr0303"].changed(name="long", learning_rate=5e-3, weight_decay=0.0, schedule="one_cycle", epochs=80)
RUN = """
import sys

from test_ensemble import LONG, Checkpoint, run_ensemble

Checkpoint.seconds = 0
run_ensemble(sys.argv[1], sys.argv[2], LONG, device="cpu", progress=False)
"""


def test_a_run_that_is_killed_in_training_ends_with_the_same_bytes(tmp_path, monkeypatch):
    "SIGKILL while the stack trains; the same command again goes on, and nobody can tell from the results."
    table = table_of(tmp_path, make_codec_rows(3, 4, 20))
    first, other = tmp_path / "first", tmp_path / "other"
    command = [sys.executable, "-c", RUN, str(table), str(first)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(command, env=environment, cwd=os.path.dirname(__file__)) as process:
        states = set()
        while len(states) < 2 and process.poll() is None:  # two states: the second is from within the training
            with contextlib.suppress(FileNotFoundError):
                states.add((first / _CHECKPOINT).stat().st_ino)
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert (first / _CHECKPOINT).is_file() and not (first / artefact_name(0)).exists()
    steps, load_state = [], Checkpoint.load

    def load(checkpoint, device):
        state = load_state(checkpoint, device)
        steps.append(state and state["step"])
        return state

    monkeypatch.setattr(Checkpoint, "load", load)
    for folder in (first, other):
        run_ensemble(table, folder, LONG, device="cpu", progress=False)
    assert steps[0] > 0 and steps[1] is None
    assert (first / PREDICTIONS).read_bytes() == (other / PREDICTIONS).read_bytes()
    for seed in SEEDS:
        documents = [open_sealed(folder / artefact_name(seed)) for folder in (first, other)]
        lasting = [{n: v for n, v in each.items() if n not in ("volatile", SEAL)} for each in documents]
        assert lasting[0] == lasting[1]
    assert {path.name for path in first.iterdir()} == {path.name for path in other.iterdir()}
    assert not (first / _CHECKPOINT).exists()


# Tampering


def test_an_edited_result_is_refused(own, capsys):
    path = own / "run" / artefact_name(2)
    path.write_bytes(path.read_bytes().replace(b'"mean_plcc": 0.9', b'"mean_plcc": 0.8', 1))
    assert validate(own) == 2
    assert "does not match its sha256_of_content" in said(capsys)
    assert export(own) == 2


def test_an_edited_and_resealed_result_is_refused(own, capsys):
    reseal(own / "run" / artefact_name(2), lambda document: document.update(mean_plcc=0.9999))
    assert export(own) == 3
    assert "is not that of the predictions" in said(capsys)
    assert validate(own) == 1
    assert not (own / "run" / "PROMOTE.json").exists()
    assert promote(own) == 2


def test_an_edited_table_is_refused(own, capsys):
    rows = pd.read_parquet(own / "rows.parquet")
    rows.assign(vmaf=rows["vmaf"].where(rows.index != 3, 50.0)).to_parquet(own / "rows.parquet")
    assert export(own) == 3
    assert "table_digest differs" in said(capsys)
    assert validate(own) == 1
    assert "rows.parquet is not what loso_seed0.json was trained on" in said(capsys)


def test_a_shortened_fold_list_is_refused(own, capsys):
    def drop_fold(document):
        document["folds"].pop()
        document["n_folds"] -= 1
        document["mean_plcc"] = float(np.mean([fold["plcc"] for fold in document["folds"]]))

    for seed in SEEDS:
        reseal(own / "run" / artefact_name(seed), drop_fold)
    assert export(own) == 3
    assert "has the folds source0, source1, source2, the predictions" in said(capsys)
    assert validate(own) == 1


def test_edited_predictions_are_refused(own, capsys):
    predictions = pd.read_parquet(own / "run" / PREDICTIONS)
    for change in (
        predictions.assign(seed3=predictions["target"]),
        predictions.assign(seed3=np.nan),
        predictions.drop(columns="seed3"),
        predictions.assign(target=predictions["target"] + 1),
        predictions[1:],
    ):
        change.to_parquet(own / "run" / PREDICTIONS)
        assert validate(own) == 1
        assert export(own) == 3
    assert "seed 3" in said(capsys)


def test_a_flipped_bit_in_a_member_is_refused(own, capsys):
    path = own / "run" / "model" / f"{member_id(1)}_raw.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    before = (own / "run" / "model" / REGISTRY).read_bytes()
    assert promote(own) == 1
    assert f"{member_id(1)}_raw.onnx: its SHA-256 is" in said(capsys)
    assert (own / "run" / "model" / REGISTRY).read_bytes() == before


def test_members_of_another_run_are_not_promoted(own, another_run, capsys):
    replace_run(own, another_run)
    assert validate(own) == 0
    assert promote(own) == 3
    assert "results of the seed is" in said(capsys)
    assert smoke(own / "run" / "model") == [True] * 5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda document: document["table"].update(digest="ab" * 32), "table is"),
        (lambda document: document["artefacts"].update({artefact_name(4): "ab" * 32}), "results of the seed is"),
        (lambda document: document["corpus"].update(sha256="ab" * 32), "corpus is"),
        (lambda document: document["corpus"].update(present=False), "it names no corpus"),
        (lambda document: document["gate"].update(mean_plcc=0.99999), "does not follow"),
        (lambda document: document["gate"]["per_seed_plccs"].update({"2": 0.5}), "does not follow"),
        (lambda document: document["gate"]["per_seed_plccs"].pop("4"), "expected [0, 1, 2, 3, 4]"),
        (lambda document: document["checks"][0].update(passed=False), "problems of the seeds failed"),
        (lambda document: document["notes"].append("looks good"), "verdict is"),
    ],
)
def test_an_edited_verdict_promotes_nothing(change, sentence, own, capsys):
    reseal(own / "run" / "PROMOTE.json", change)
    assert promote(own) == 3
    assert sentence in said(capsys)
    assert smoke(own / "run" / "model") == [True] * 5
    assert export(own) == 3


def test_a_damaged_verdict_promotes_nothing(own, capsys):
    path = own / "run" / "PROMOTE.json"
    path.write_bytes(path.read_bytes().replace(b"PROMOTE", b"PROMOTF", 1))
    assert promote(own) == 2
    assert export(own) == 3
    path.write_bytes((own / "run" / artefact_name(0)).read_bytes())
    assert promote(own) == 2
    assert "schema: Input should be 'vmaf-research-ensemble-verdict'" in said(capsys)


def test_a_held_ensemble_is_not_promoted(own, capsys):
    reseal(own / "run" / artefact_name(1), lambda document: document.update(note="dry-run"))
    assert validate(own) == 1
    held = str(own / "run" / "HOLD.json")
    assert main(["registry", "promote", "--verdict", held, "--models", str(own / "run" / "model")]) == 3
    assert "it is HOLD" in said(capsys)


def test_export_needs_a_verdict(own, capsys):
    (own / "run" / "PROMOTE.json").unlink()
    before = sorted((own / "run" / "model").iterdir())
    assert export(own) == 3
    assert "the run was not validated" in said(capsys)
    assert sorted((own / "run" / "model").iterdir()) == before


def test_a_dry_run_is_held_and_not_exported(tmp_path, capsys):
    path = table_of(tmp_path, make_codec_rows())
    run = str(tmp_path / "run")
    assert main(["ensemble", "run", str(path), "--out", run, "--corpus-root", str(tmp_path), "--dry-run", "-q"]) == 0
    assert main(["ensemble", "validate", run]) == 1
    assert "loso_seed0.json is a dry-run" in said(capsys)
    assert main(["ensemble", "export", run, "-q"]) == 3
    assert "is a dry-run" in said(capsys)
    assert not (tmp_path / "run" / "model").exists()


# Members, promotion and rollback


def test_members_score_and_say_where_they_come_from(promoted):
    table = load_ensemble_table(promoted / "rows.parquet")
    members = [load(member_id(seed), promoted / "run" / "model") for seed in SEEDS]
    scores = np.stack([member.score(table.rows.features) for member in members])
    assert np.abs(scores.mean(axis=0) - table.rows.target).mean() < 2
    assert (scores.std(axis=0) > 0).any()
    assert members[0].feature_names[6:] == CODEC_BLOCK
    assert members[0].sidecar.ensemble.members == [member_id(seed) for seed in SEEDS]
    with pytest.raises(BadInput, match="expected \\[n, 20\\]"):
        members[0].score(table.rows.features[:, :6])
    card = (promoted / "run" / "model" / f"{member_id(0)}.md").read_text()
    assert "codec block" in card and "smoke: true" in card and "codec_onehot" in card


def test_export_gives_the_same_bytes(own):
    model = own / "run" / "model"
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    assert export(own) == 0
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_score_command_takes_the_codec_block(promoted, tmp_path):
    table = load_ensemble_table(promoted / "rows.parquet").rows
    pd.DataFrame(table.features, columns=table.feature_names).to_parquet(tmp_path / "t.parquet")
    words = [str(tmp_path / "t.parquet"), "--out", str(tmp_path / "s.parquet")]
    assert main(["score", member_id(0), *words, "--models", str(promoted / "run" / "model")]) == 0
    scored = pd.read_parquet(tmp_path / "s.parquet")
    expected = load(member_id(0), promoted / "run" / "model").score(table.features)
    assert scored["score"].to_numpy() == pytest.approx(expected) and scored["in_range"].all()


def models(folder):
    return ["--models", str(folder / "run" / "model")]


def test_the_ensemble_scores_as_one_model(promoted, tmp_path, capsys):
    "Codec block from the table's own columns; mean, spread and bounds of the members' mean."
    out = tmp_path / "s.parquet"
    words = [str(promoted / "rows.parquet"), "--out", str(out), "--interval", "0.8", *models(promoted)]
    assert main(["score", ENSEMBLE_ID, *words]) == 0
    assert "160 rows have no preset that the vocabulary knows" in (text := said(capsys)) and "placeholder" in text
    scored = pd.read_parquet(out)
    assert list(scored.columns[-5:]) == ["score", "spread", "in_range", "low", "high"]
    single = []
    for seed in SEEDS:
        words = [str(promoted / "rows.parquet"), "--out", str(tmp_path / "one.csv"), *models(promoted)]
        assert main(["score", member_id(seed), *words]) == 0
        single.append(pd.read_csv(tmp_path / "one.csv")["score"].to_numpy())
    assert scored["score"].to_numpy() == pytest.approx(np.mean(single, axis=0))
    assert scored["spread"].to_numpy() == pytest.approx(np.std(single, axis=0, ddof=1), abs=1e-6)
    inside = (scored["low"] <= scored["vmaf"]) & (scored["vmaf"] <= scored["high"])
    assert inside.mean() > 0.8 and (scored["high"] - scored["low"]).nunique() > 5
    assert main(["manifest", "verify", str(out)]) == 0
    words = [str(promoted / "rows.parquet"), "--out", str(out), "--interval", "0.9", *models(promoted)]
    assert main(["score", ENSEMBLE_ID, *words]) == 2
    assert "4 sources guarantee at most 0.8; 0.9 needs 9 sources" in said(capsys)


def test_the_ensemble_chooses_an_encode(promoted, tmp_path, capsys):
    rows = pd.read_parquet(promoted / "rows.parquet").assign(codec="libaom-av1")
    rows = rows.assign(bitrate_kbps=8000 * 0.9 ** rows["crf"]).rename(columns={"codec": "encoder", "crf": "cq"})
    path = table_of(tmp_path, rows)
    out = tmp_path / "answer.csv"
    words = ["--out", str(out), "--quality-confidence", "0.8", "--target", "1", *models(promoted)]
    assert main(["score", ENSEMBLE_ID, str(path), *words]) == 0
    assert "480 rows of libaom-av1, which goes to the slot `unknown`" in said(capsys)
    clips = pd.read_csv(out)
    widths = (clips["high"] - clips["score"])[clips["high"] < 100]
    assert len(clips) == 24 and clips["spread"].gt(0).all() and widths.nunique() > 5
    assert clips.groupby("source")["chosen"].sum().eq(1).all()
    words[5] = "100"
    assert main(["score", ENSEMBLE_ID, str(path), *words]) == 0
    assert said(capsys).count("unreachable, the greatest lower bound is") == 4


def test_an_incomplete_ensemble_scores_nothing(own, another_run, capsys):
    home, out = own / "home", own / "s.parquet"
    for seed in SEEDS[:4]:
        install(member_id(seed), own / "run" / "model", home)
    words = [ENSEMBLE_ID, str(own / "rows.parquet"), "--out", str(out), "--models", str(home)]
    assert main(["score", *words]) == 1
    assert f"{member_id(4)} is missing" in said(capsys)
    install(member_id(4), own / "run" / "model", home)
    assert main(["score", *words]) == 0
    out.unlink()
    replace_run(own, another_run)
    RECIPES["quick"] = QUICK.changed(epochs=61)
    assert validate(own) == 0 and export(own) == 0
    RECIPES["quick"] = QUICK
    install(member_id(2), own / "run" / "model", home)
    assert main(["score", *words]) == 1
    assert f"{member_id(2)} and {member_id(0)} differ in verdict_sha256" in said(capsys)
    assert not out.exists()


def test_promote_then_rollback_restores_the_bytes(own, capsys):
    model = own / "run" / "model"
    before = (model / REGISTRY).read_bytes()
    assert promote(own) == 0
    assert said(capsys).count('+  "smoke": false') == 5
    assert smoke(model) == [False] * 5
    assert verify_registry(model) == []
    assert promote(own) == 2
    assert "promoted already" in said(capsys)
    assert rollback(own) == 0
    assert (model / REGISTRY).read_bytes() == before
    assert rollback(own) == 2


def test_promoted_members_are_not_replaced_by_placeholders(own, capsys):
    model = own / "run" / "model"
    home = own / "home"
    for seed in SEEDS:
        install(member_id(seed), model, home)
    verdict = ["--verdict", str(own / "run" / "PROMOTE.json"), "--models", str(home)]
    assert main(["registry", "promote", *verdict]) == 0
    with pytest.raises(BadInput, match="would replace a real model"):
        install(member_id(0), model, home)
    assert smoke(home) == [False] * 5
    assert verify_registry(home) == []


def test_a_member_in_use_needs_a_recorded_promotion(own):
    path = own / "run" / "model" / REGISTRY
    reseal(path, lambda document: document["models"][0].update(smoke=False))
    assert verify_registry(path.parent) == [
        f"{member_id(0)}: smoke is false, but no promotion of these bytes is recorded"
    ]


def command_words(command, words=()):
    "Every command of the tree, as words."
    if not hasattr(command, "commands"):
        yield words
    for word, inner in getattr(command, "commands", {}).items():
        yield from command_words(inner, (*words, word))


def test_only_promote_and_rollback_change_smoke(own, capsys, monkeypatch):
    "Every command runs against registered members; apart from the two, none changes a byte of what says smoke."
    model, rows = own / "run" / "model", str(own / "rows.parquet")
    run = str(own / "run")
    home = own / "home"
    for seed in SEEDS:
        install(member_id(seed), model, home)
    before = (home / REGISTRY).read_bytes()
    models = ["--models", str(home)]
    own_models = replace(settings(), model_path=home, own_model_path=home)
    monkeypatch.setattr("vmaf_research.ship.registry.settings", lambda: own_models)
    arguments = {
        ("ensemble", "run"): [rows, "--out", str(own / "trial"), "--dry-run", "-q"],
        ("ensemble", "validate"): [run],
        ("ensemble", "export"): [run, "--install", "-q", *models],
        ("registry", "list"): models,
        ("registry", "verify"): models,
        ("registry", "sign"): [member_id(0), "--private-key", str(home / "no.pem"), *models],
        ("score",): [member_id(0), rows, "--out", str(own / "s.parquet"), *models],
        ("train",): ["fr-regressor-v1", "--parquet", rows, "--out", str(own / "train"), "-q"],
        ("refresh",): ["--clips", str(own / "videos"), "--out", str(own / "refresh"), "--install", "-q"],
        ("manifest", "verify"): [str(home / REGISTRY)],
        ("manifest", "replay"): [str(own / "run" / "PROMOTE.json")],
    }
    acts = {("registry", "promote"), ("registry", "rollback")}
    harmless = {
        ("measure",),
        ("doctor",),
        ("mcp",),
        ("extract", "netflix"),
        ("extract", "clips"),
        ("extract", "embedded"),
        ("extract", "konvid"),
        ("extract", "scored"),
        ("extract", "chug"),
        ("extract", "bvi-dvc"),
        *(("corpus", verb) for verb in "merge aggregate describe to-parquet grid bvi-dvc-rows".split()),
        *(("people", verb) for verb in "read evaluate train".split()),  # train installs with --install only
        ("manifest", "show"),
        ("manifest", "export"),
        ("predictor", "predict"),
        ("predictor", "tune"),
    }
    of_predictors = {("predictor", "train"), ("predictor", "stubs")}  # tests/test_predictors.py holds them to it
    known = set(arguments) | acts | harmless | of_predictors
    assert set(command_words(typer.main.get_command(cli.app))) <= known, (
        "a new command: say here how it is called, and that it leaves smoke alone"
    )
    for words, rest in arguments.items():
        main([*words, *rest])
        after = json.loads((home / REGISTRY).read_bytes())
        assert [row["smoke"] for row in after["models"]] == [True] * 5, words
    assert (home / REGISTRY).read_bytes() == before
    capsys.readouterr()
