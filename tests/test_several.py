"""Several tables are one data set: their corpora, what is the same in them, what they contradict, and their folds."""

import json
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_up import make_codec_rows, make_table

from vmaf_research.learn.codec_table import load_ensemble_table
from vmaf_research.learn.folds import plan_folds
from vmaf_research.learn.recipes import RECIPES
from vmaf_research.learn.table import corpus_names, load_training_table, take_sources
from vmaf_research.measure.core import BadInput, ShipRefused
from vmaf_research.measure.manifest import manifest_path, open_manifest, pairs_path, verify
from vmaf_research.serve.cli import main
from vmaf_research.ship import refresh as refresh_module
from vmaf_research.ship.ensemble import SEEDS, artefact_name, run_ensemble
from vmaf_research.ship.gate import ship_gate
from vmaf_research.ship.refresh import Plan, train_and_package
from vmaf_research.ship.registry import load
from vmaf_research.ship.verdict import contract_gate, judge, validate

pytestmark = pytest.mark.usefixtures("floors_once")
KEY = ["source", "dis_basename"]


def write(path: Path, rows: pd.DataFrame, references: dict[str, str] | None = None) -> Path:
    "A table, and if the digests of references are known a pairs table beside it."
    rows.to_csv(path, index=False) if path.suffix == ".csv" else rows.to_parquet(path, index=False)
    if references is not None:
        pairs = rows[KEY].drop_duplicates()
        pairs.assign(reference_sha256=pairs.source.map(references)).to_parquet(pairs_path(path), index=False)
    return path


@pytest.fixture
def tables(tmp_path):
    "Three corpora of three sources; the first and the second one share a reference under two names."
    parts = [make_table(3, 3, 8, seed=seed).sample(frac=1, random_state=seed) for seed in range(3)]
    first = write(tmp_path / "one.parquet", parts[0], {f"source{k}": f"{k:064}" for k in range(3)})
    second = write(tmp_path / "two.parquet", parts[1], {f"source{k}": f"{k + 2:064}" for k in range(3)})
    return [first, second, write(tmp_path / "three.csv", parts[2])]


def groups(table):
    "The sources that are left out together, if these are several."
    return {frozenset(table.sources[k] for k in each) for each in table.groups.values() if len(each) > 1}


def test_the_corpus_is_part_of_the_key_and_dropping_a_table_changes_the_digest(tables):
    whole = load_training_table(tables)
    assert whole.corpora == ("one", "three", "two") and len(whole.sources) == 9
    assert len(whole) == 3 * 72
    assert groups(whole) == {frozenset({"one/source2", "two/source0"})}
    assert whole.digest == load_training_table(tables[::-1]).digest
    others = [load_training_table([path for path in tables if path != gone]).digest for gone in tables]
    alone = [load_training_table(path).digest for path in tables]
    assert len({whole.digest, *others, *alone}) == 7
    assert load_training_table(tables[:1]).sources == ("source0", "source1", "source2")


def test_parts_in_a_folder_are_one_table(tables, tmp_path):
    folder, rows = tmp_path / "parts", pd.read_parquet(tables[0])
    folder.mkdir()
    for number in range(3):
        rows[number::3].to_parquet(folder / f"{number}.parquet", index=False)
    assert load_training_table(folder).digest == load_training_table(tables[0]).digest
    assert load_training_table([folder, tables[2]]).corpora == ("parts", "three")
    rows[:2].to_parquet(folder / "4.parquet")
    with pytest.raises(BadInput, match=r"0.parquet and .*4.parquet: have the same frames: 1 of"):
        load_training_table(folder)


def test_rows_of_a_table_may_say_their_corpus(tables, tmp_path):
    rows = pd.concat([pd.read_parquet(path).assign(corpus=path.stem) for path in tables[:2]])
    both = load_training_table(write(tmp_path / "both.parquet", rows))
    assert both.sources == load_training_table(tables[:2]).sources
    assert (both.features == load_training_table(tables[:2]).features).all()
    with pytest.raises(BadInput, match="the corpus 'a/b' has a / in its name"):
        load_training_table(rows.assign(corpus="a/b"))


def test_a_file_may_say_which_sources_are_the_same(tables, tmp_path):
    same = tmp_path / "same.csv"
    same.write_text("corpus,source,group\nthree,source1,dog\none,source1,dog\none,source2,cat\n")
    table = load_training_table(tables, same_source=same)
    found = {frozenset({"three/source1", "one/source1"}), frozenset({"one/source2", "two/source0"})}
    assert groups(table) == found
    assert {"dog", "cat"} <= set(table.groups)
    assert table.digest != load_training_table(tables).digest
    for text, sentence in (
        ("corpus,source,group\nfour,source1,dog\n", "four/source1 is none of the 9 sources"),
        ("source,group\nsource1,\n", "source1 has no group"),
        ("source,group\nsource1,dog\nsource1,cat\n", "is in more than one group"),
        ("corpus,group\none,dog\n", "has no column source"),
    ):
        same.write_text(text)
        with pytest.raises(BadInput, match=sentence):
            load_training_table(tables, same_source=same)


def test_contradictions_and_repetitions_are_named(tables, tmp_path):
    rows = pd.read_parquet(tables[0])
    for path, change in ((tmp_path / "same" / "p", 0.0), (tmp_path / "other" / "p", 0.25)):
        path.mkdir(parents=True)
        rows.to_parquet(path / "a.parquet")
        again = rows[10:12].assign(motion2=rows.motion2[10:12] + change)
        again.to_parquet(path / "b.parquet")
    with pytest.raises(BadInput, match=r"a.parquet and .*b.parquet: have the same frames: 2 of 74 rows, first"):
        load_training_table(tmp_path / "same" / "p")
    said = r"a.parquet and .*b.parquet: contradict each other: 2 of 74 rows, first \(source\d, clip\d.mkv, \d\)"
    with pytest.raises(BadInput, match=said + r".*; motion2 is [\d.]+ and [\d.]+ in the first"):
        load_training_table(tmp_path / "other" / "p")


def test_faults_are_named_with_their_table(tables, tmp_path):
    rows = pd.read_csv(tables[2])
    rows.loc[3, "adm2"] = np.nan
    write(tables[2], rows)
    with pytest.raises(BadInput, match=r"three.csv: NaN or infinite values in adm2: 1 of 216 rows, first \(three/"):
        load_training_table(tables)


def test_tables_that_are_called_alike_are_told_apart_or_refused(tmp_path):
    rows = make_table(3, 2, 4)
    (tmp_path / "x").mkdir()
    paths = [write(tmp_path / "a.parquet", rows), write(tmp_path / "x" / "a.parquet", rows)]
    with pytest.raises(BadInput, match="are all called a; give them other file names"):
        corpus_names(paths)
    assert corpus_names([paths[0], tmp_path / "b.parquet"]) == ["a", "b"]


def check_plan(plan, table):
    "Every source is left out once, and nothing is learned from what is the same."
    group_of = dict(zip(table.sources, table.group_of or table.sources, strict=True))
    assert sorted(source for fold in plan.folds for source in fold.sources) == sorted(table.sources)
    for fold in plan.folds:
        seen = {group_of[source] for source in set(table.source[fold.train])}
        assert set(table.source[fold.test]) == set(fold.sources)
        assert seen.isdisjoint(group_of[source] for source in fold.sources)


def test_folds_of_every_kind(tables):
    table = load_training_table(tables)
    loso, three, corpus = (plan_folds(table, rule) for rule in ("loso", 3, "corpus"))
    for plan in (loso, three, corpus):
        check_plan(plan, table)
    assert len(loso.folds) == 8 and not loso.plain and "one/source2 + two/source0" in loso.says
    assert [fold.source for fold in corpus.folds] == ["one", "three", "two"]
    assert "left out under another name: 2 times" in corpus.says
    assert three.to_json() == plan_folds(load_training_table(tables[::-1]), "3").to_json()
    assert three.to_json() != plan_folds(table, 3, seed=1).to_json()
    assert plan_folds(table, 8).rule == "loso"
    for fold in three.folds:
        counts = Counter(source.split("/")[0] for source in fold.sources)
        assert max(counts.values()) - min(counts[name] for name in table.corpora) <= 1
    held = plan_folds(table, judge=["two"])
    assert held.judged == ("two/source0", "two/source1", "two/source2")
    assert "one/source2" not in set(table.source[held.folds[0].train])


def test_what_folds_are_refused(tables):
    table = load_training_table(tables)
    for rule in ("many", "1", 0, "-3", "2.5"):
        with pytest.raises(BadInput, match=f"folds {rule}: expected loso, corpus, or a number of groups"):
            plan_folds(table, rule)
    with pytest.raises(BadInput, match="9 folds were asked for"):
        plan_folds(table, 9)
    with pytest.raises(BadInput, match="there is one corpus"):
        plan_folds(load_training_table(tables[0]), "corpus")
    with pytest.raises(BadInput, match="there is no corpus four"):
        plan_folds(table, judge=["four"])


def test_many_sources_are_left_out_in_groups():
    rows = make_table(101, 2, 3)
    plan = plan_folds(load_training_table(rows))
    assert plan.rule == "10" and len(plan.folds) == 10 and "101 sources" in plan.says
    assert plan_folds(load_training_table(rows[rows.source != "source7"])).plain


def test_some_sources_are_a_table_of_their_own(tables):
    table = load_training_table(tables)
    some = take_sources(table, ["two/source1", "one/source0"])
    assert some.sources == ("one/source0", "two/source1") and some.corpora == ("one", "two")
    assert len(some) == 48 and set(some.source) == set(some.sources)


PLANS = (Plan("several_v1", "tuned", "For tests only.", "Predicts nothing real."),)


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    "Two corpora that are large enough to learn from; one source is in both."
    folder, rows = tmp_path_factory.mktemp("larger"), make_table(7, 6, 12)
    numbers = rows.source.str[-1].astype(int)
    known = {f"source{k}": f"{k:064}" for k in range(7)}
    first = write(folder / "one.parquet", rows[numbers < 4].assign(codec="libx264"), known)
    second = write(folder / "two.parquet", rows[numbers > 2].assign(codec="libx265"), known)
    return [first, second]


def run(tables, out, **options):
    return train_and_package(tables, out, PLANS, (), threshold=0.5, progress=False, **options)


def test_a_model_of_several_tables_says_what_it_rests_on(larger, tmp_path):
    result = run(larger, tmp_path / "run", folds="corpus")
    says = "each of 2 corpora (one, two) left out in turn"
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    found = report["recipes"]["tuned"]
    assert found["folds"]["says"].startswith(says) and found["summary"]["n_folds"] == 2
    assert set(found["per_corpus"]) == {"one", "two"} and len(found["per_source"]) == 8
    gate = {each["name"]: each for each in report["models"]["several_v1"]["gate"]["checks"]}
    assert gate["folds"]["value"].startswith(says) and "mean leave-one-corpus-out PLCC" in gate
    page = (tmp_path / "run" / "report.html").read_text()
    assert says in page and "two, all sources" in page
    assert f"Folds: {says}" in str(result)
    manifest = open_manifest(tmp_path / "run" / "report.json")
    assert {"table", "pairs", "table2", "pairs2"} <= set(manifest.inputs)
    assert verify(tmp_path / "run" / "report.json").ok
    model = load("several_v1", tmp_path / "run" / "model")
    assert [each["name"] for each in model.sidecar.corpus.to_json()["tables"]] == ["one", "two"]
    card = (tmp_path / "run" / "model" / "several_v1.md").read_text()
    assert says in card and "Over all rows of each corpus" in card and "table of two" in card
    larger[1].rename(tmp_path / "away")
    assert not verify(tmp_path / "run" / "report.json").ok
    (tmp_path / "away").rename(larger[1])


def test_a_model_is_judged_on_another_corpus(larger, tmp_path):
    result = run(larger[:1], tmp_path / "run", judge_on=larger[1:])
    report = result.reports["tuned"]
    assert report.table.corpora == ("two",) and set(report.learned.sources) == {f"one/source{k}" for k in range(3)}
    training = load("several_v1", tmp_path / "run" / "model").sidecar.training
    assert training.n_sources == 4 and training.learned.n_sources == 3
    assert "learned from one, judged on two" in (tmp_path / "run" / "model" / "several_v1.md").read_text()
    with pytest.raises(BadInput, match="nothing is left out in turn"):
        run(larger[:1], tmp_path / "other", judge_on=larger[1:], folds="loso")
    assert not (tmp_path / "other").exists()


def test_a_refresh_learns_from_other_tables_as_well(larger, tmp_path, monkeypatch):
    corpus = SimpleNamespace(sources=[f"source{k}" for k in range(5)])  # one of which is not in the table
    asked = {}

    def extract(_, out, **options):
        asked.update(options)
        shutil.copy(larger[0], out)

    monkeypatch.setattr(refresh_module, "extract", extract)
    monkeypatch.setattr(refresh_module, "plans_for", lambda teacher: PLANS)
    (tmp_path / "run").mkdir()
    there = ThreadPoolExecutor(1)
    with pytest.raises(ShipRefused, match="no fold for features/source4"):
        refresh_module.refresh(corpus, tmp_path / "run", tables=[larger[1]], folds=2, executor=there, progress=False)
    assert asked["executor"] is there
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["corpus"]["name"] == "features + two" and len(report["recipes"]["tuned"]["per_corpus"]) == 2


def test_the_command_takes_several_tables(larger, tmp_path, capsys):
    words = ["train", "fr-regressor-v1", "--parquet", str(larger[0]), "--parquet", str(larger[1]), "--folds", "2"]
    code = main([*words, "--ship-threshold", "0.001", "--out", str(tmp_path / "run"), "-q"])
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert code in (0, 3) and report["corpus"]["name"] == "one + two"
    assert report["recipes"]["adr0249"]["folds"]["rule"] == "2"
    capsys.readouterr()


def test_an_ensemble_of_several_tables(tmp_path):
    tables = []
    for number, name in enumerate(("one", "two")):
        rows = make_codec_rows(3, 6, 8, seed=number).drop(columns="dis_basename")
        tables.append(write(tmp_path / f"{name}.parquet", rows))
    table = load_ensemble_table(tables)
    assert table.rows.corpora == ("one", "two") and table.name == "one.parquet, two.parquet"
    assert sum(table.encoders.values()) == len(table.rows)
    out = tmp_path / "run"
    found = run_ensemble(tables, out, "adr0303", folds=2, dry_run=True, progress=False)
    assert "2 groups of 6 sources" in str(found)
    seed = json.loads((out / artefact_name(0)).read_text())
    assert seed["fold_rule"] == "2" and {fold["n_train"] for fold in seed["folds"]} == {len(table.rows) // 2}
    verdict = validate(out)
    assert any("2 groups of 6 sources" in note for note in verdict.document["notes"])
    assert {"mean 2-fold PLCC"} <= {check.name for check in verdict.checks}
    for name in found.artefacts:
        found.artefacts[name]["folds"][0]["n_train"] -= 1
    assert any("are not those of one.parquet, two.parquet" in reason for reason in judge(found).reasons)


def test_an_ensemble_is_judged_on_another_corpus(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(RECIPES, "quick", RECIPES["tuned"].changed(name="quick", epochs=40, batch_size=32, dropout=0.0))
    monkeypatch.setattr("vmaf_research.ship.verdict._MOST_SPREAD", 1.0)
    rows, paths, roots = make_codec_rows(8, 4, 12).drop(columns="dis_basename"), [], []
    for name, which in (("one", range(6)), ("two", range(4, 8))):  # two sources are in both, as their digests say
        paths.append(tmp_path / f"{name}.parquet")
        rows[rows.source.isin([f"source{k}" for k in which])].to_parquet(paths[-1])
        roots.append(tmp_path / f"files of {name}")
        roots[-1].mkdir()
        (roots[-1] / f"{name}.y4m").write_bytes(b"stands for a video")
    same = tmp_path / "same.csv"
    same.write_text("corpus,source,group\n" + "".join(f"{c},source{k},{k}\n" for c in ("one", "two") for k in (4, 5)))
    out, options = tmp_path / "run", {"same_source": same, "corpus_root": roots, "progress": False}
    found = run_ensemble(paths[:1], out, "quick", judge_on=paths[1:], **options)
    says = "learned from one, judged on two; there more than once: 4, 5; not learned from"
    assert found.plan.says.startswith(says) and set(found.predictions.source) == {f"two/source{k}" for k in range(4, 8)}
    seed = json.loads((out / artefact_name(0)).read_text())
    per_source = len(rows) // 8
    assert {fold["n_train"] for fold in seed["folds"]} == {4 * per_source} and seed["judge_on"] == ["two"]
    assert run_ensemble(paths[:1], out, "quick", judge_on=paths[1:], **options).trained == ()
    with pytest.raises(BadInput, match="was made with other settings"):
        run_ensemble(paths, out, "quick", **options)

    verdict = validate(out, corpus_root=roots)
    assert verdict.promoted and verdict.document["folds"]["says"].startswith(says)
    assert "mean held-out PLCC" in {check.name for check in verdict.checks}
    assert f"note: folds: {says}" in repr(verdict)
    assert not validate(out, corpus_root=[roots[0], roots[0]]).promoted  # each table has its own
    assert validate(out, corpus_root=roots).promoted
    assert main(["ensemble", "export", str(out), "-q"]) == 0
    assert main(["registry", "promote", "--verdict", str(out / "PROMOTE.json"), "--models", str(out / "model")]) == 0
    training = load("fr_regressor_v2_ensemble_v1_seed0", out / "model").sidecar.training
    assert training.n_sources == 4 and training.learned.n_sources == 4 and training.learned.n_rows == 4 * per_source
    card = (out / "model" / "fr_regressor_v2_ensemble_v1_seed3.md").read_text()
    assert "learned from one, judged on two" in card

    damaged = found.predictions.assign(target=0.0)
    assert any("is about other rows" in reason for reason in judge(replace(found, predictions=damaged)).reasons)
    capsys.readouterr()
    words = ["ensemble", "run", str(paths[0]), "--judge-on", str(paths[1]), "--out", str(tmp_path / "no"), "-q"]
    assert main([*words, "--folds", "loso"]) == 2 and "nothing is left out in turn" in capsys.readouterr().err
    assert main([*words, "--corpus-root", str(roots[0])]) == 2
    assert "folders of files: 1, tables: 2; give one folder for each table" in capsys.readouterr().err
    assert main(["ensemble", "run", str(paths[1]), *words[3:]]) == 2
    assert "which is to be judged; learn from another one" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_an_undefined_correlation_is_said_to_be_one(tmp_path):
    rows = make_codec_rows(3, 3, 6)
    rows.loc[rows.source == "source1", "vmaf"] = 100.0
    path = write(tmp_path / "rows.parquet", rows.drop(columns="dis_basename"))
    run_ensemble(path, tmp_path / "run", dry_run=True, progress=False)
    verdict = validate(tmp_path / "run")
    failed = {check.name for check in verdict.checks if not check.passed}
    assert "undefined metrics" in failed and "problems of the metrics" not in failed
    assert "the PLCC of source1 is undefined" in repr(verdict) and "edited" not in repr(verdict)


def test_a_spread_at_the_limit_passes_whatever_its_last_bit():
    plccs = dict(zip(SEEDS, (0.955, 0.95, 0.951, 0.952, 0.953), strict=True))
    assert 0.955 - 0.95 > 0.005
    assert contract_gate(plccs)["passed"]
    assert not contract_gate(plccs | {0: 0.955001})["passed"]


def test_one_table_says_nothing_new(larger, tmp_path):
    table = load_training_table(larger[0])
    assert (table.corpus_of, table.group_of) == ((), ())
    result = run(larger[0], tmp_path / "run")
    assert "folds" not in result.to_json()["recipes"]["tuned"] and result.folds_note == ""
    assert ship_gate(result.reports["tuned"]).checks[2].name == "mean LOSO PLCC"
    assert manifest_path(tmp_path / "run" / "report.json").is_file()
