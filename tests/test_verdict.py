"""The verdict as a function: what it must not depend on, and what it must never let through."""

import copy
import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import make_codec_rows

from vmaf_research.learn.codec_table import load_ensemble_table
from vmaf_research.learn.loso import evaluate
from vmaf_research.learn.recipes import RECIPES
from vmaf_research.learn.table import KEY
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.manifest import run_provenance, write_manifest
from vmaf_research.measure.provenance import seal, write_json
from vmaf_research.ship import verdict as verdict_module
from vmaf_research.ship.ensemble import PREDICTIONS, SEEDS, EnsembleRun, artefact_name, run_identity, seed_document
from vmaf_research.ship.gate import _COMPARISONS, check
from vmaf_research.ship.verdict import (
    _LEAST_DIFFERENCE,
    _MOST_SPREAD,
    HOLD,
    PROMOTE,
    contract_gate,
    judge,
    least_difference,
    read_verdict,
    validate,
)

pytestmark = pytest.mark.usefixtures("floors_once")
THRESHOLD = 0.95
numbers = st.floats(0.9, 1.0) | st.sampled_from([0.95, math.nextafter(0.95, 0), 0.955, 1.0])
any_number = numbers | st.none() | st.floats(allow_nan=True, allow_infinity=True)
seeds = st.dictionaries(st.integers(0, 9), numbers, min_size=1, max_size=6)


# The contract


@given(seeds)
def test_the_contract_is_its_three_comparisons(plccs):
    gate = contract_gate(plccs, THRESHOLD)
    values = np.array([plccs[seed] for seed in sorted(plccs)])
    spread = values.max() - values.min()
    expected = values.mean() >= THRESHOLD and spread <= _MOST_SPREAD + 1e-12 and values.min() >= THRESHOLD
    assert gate["passed"] is bool(expected)
    assert gate["failing_seeds"] == sorted(seed for seed, value in plccs.items() if value < THRESHOLD)
    assert gate["mean_plcc"] == values.mean() and gate["plcc_spread"] == values.max() - values.min()


@given(st.dictionaries(st.integers(0, 9), any_number, max_size=6))
def test_what_is_undefined_never_passes(plccs):
    gate = contract_gate(plccs, THRESHOLD)
    defined = [value for value in plccs.values() if value is not None and math.isfinite(value)]
    if len(defined) < len(plccs) or not plccs:
        assert not gate["passed"] and gate["mean_plcc"] is None and gate["plcc_spread"] is None
        assert {seed for seed, value in plccs.items() if value is None or math.isnan(value)} <= {*gate["failing_seeds"]}
    json.dumps(gate, allow_nan=False)


@given(seeds, st.randoms())
def test_the_order_of_the_seeds_does_not_matter(plccs, random):
    items = list(plccs.items())
    random.shuffle(items)
    assert contract_gate(dict(items), THRESHOLD) == contract_gate(plccs, THRESHOLD)


@given(seeds, st.integers(0, 9), st.floats(0, 0.1))
def test_a_worse_seed_never_helps_the_mean_or_itself(plccs, seed, loss):
    before = contract_gate(plccs, THRESHOLD)
    worse = {each: value - loss if each == seed else value for each, value in plccs.items()}
    after = contract_gate(worse, THRESHOLD)
    for part in ("mean_plcc_pass", "per_seed_pass"):
        assert before[part] or not after[part]


@given(st.sampled_from(sorted(_COMPARISONS)), any_number, st.floats(0, 1))
def test_a_check_passes_only_defined_values_that_compare(comparison, value, threshold):
    result = check("x", value, comparison, threshold, True, "")
    if value is None or not math.isfinite(value):
        assert not result.passed and result.value is None
    else:
        assert result.passed is bool(_COMPARISONS[comparison](value, threshold))


# Members that are copies


@given(st.integers(2, 5), st.integers(0, 100))
def test_copies_have_no_difference(count, seed):
    generator = np.random.default_rng(seed)
    member = generator.uniform(0, 100, 30)
    target = member + generator.normal(0, 1, 30)
    members = np.stack([member] * 2 + [member + generator.normal(0, 1, 30) for _ in range(count - 2)])
    assert least_difference(members, target) == 0
    assert least_difference(members[::-1], target) == 0


def test_difference_is_relative_to_the_error():
    target = np.zeros(4)
    members = np.array([[1.0, 1, 1, 1], [3.0, 3, 3, 3]])  # 2 apart, mean 2 off
    assert least_difference(members, target) == 1
    assert least_difference(members * [[1.0], [np.nan]], target) is None
    assert least_difference(np.array([[1.0], [-1.0]]), np.zeros(1)) is None  # no error, no scale


# Whole verdicts, on predictions that are made up


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("verdict") / "rows.parquet"
    make_codec_rows(3, 6, 5).to_parquet(path)
    return load_ensemble_table(path)


DIGEST = "ab" * 32


def made_up_run(table, change=lambda seed, values: values, folder="run", **facts):
    "Files of a run whose predictions are the target and some noise."
    identity = run_identity(table, DIGEST, RECIPES["adr0303"], dry_run=False) | facts
    rows, documents, columns = table.rows, {}, {}
    for seed in SEEDS:
        noise = np.random.default_rng(seed).normal(0, 1.0, len(rows))
        columns[f"seed{seed}"] = change(seed, rows.target + noise)
        evaluation = evaluate(f"seed {seed}", rows, columns[f"seed{seed}"])
        documents[artefact_name(seed)] = seed_document(seed, identity, evaluation, 1.0)
    keys = dict(zip(KEY, (rows.source, rows.clip, rows.frame), strict=True))
    predictions = pd.DataFrame({**keys, "target": rows.target, **columns})
    digests = {name: "cd" * 32 for name in (*documents, PREDICTIONS)}
    return EnsembleRun(folder_of(table, folder), table, documents, digests, predictions)


def folder_of(table, name):
    return table.paths[0].parent / name


def test_a_run_in_order_is_promoted(table):
    verdict = judge(made_up_run(table))
    assert verdict.promoted, verdict.reasons
    assert verdict.document["artefacts"][PREDICTIONS] == "cd" * 32
    assert verdict.document["table"]["sha256"] == table.sha256
    none = {"ref_count": 0, "dis_count": 0, "yuv_count": 0, "orphans": []}  # a flat table lists no files
    assert verdict.document["corpus"] == {"name": "rows", "present": True, "sha256": DIGEST} | none


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda run: run.artefacts.pop(artefact_name(3)), "loso_seed3.json is missing"),
        (lambda run: run.artefacts.update({"loso_seed7.json": run.artefacts[artefact_name(1)]}), "not of the seeds"),
        (lambda run: run.artefacts[artefact_name(2)].update(seed=1), "says that it is about seed 1"),
        (lambda run: run.artefacts[artefact_name(2)].update(note="dry-run"), "loso_seed2.json is a dry-run"),
        (lambda run: run.artefacts[artefact_name(2)].update(package_version="9"), "differ in package_version"),
        (lambda run: run.artefacts[artefact_name(2)].update(table_digest=DIGEST), "differ in table_digest"),
        (lambda run: run.artefacts[artefact_name(2)].update(corpus_digest=None), "not known which files"),
        (lambda run: run.artefacts[artefact_name(2)].update(n_folds=2), "differ in n_folds"),
        (lambda run: run.artefacts[artefact_name(2)]["folds"].pop(), "differ in folds"),
        (lambda run: run.artefacts[artefact_name(2)]["folds"][0].update(n_train=3), "differ in folds"),
        (lambda run: run.artefacts[artefact_name(2)]["folds"][0].update(plcc=None), "PLCC of source0 is not that of"),
        (lambda run: run.artefacts[artefact_name(2)].update(mean_plcc=None), "mean_plcc None is not that"),
        (
            lambda run: run.artefacts[artefact_name(2)].update(
                recipe={**run.artefacts[artefact_name(2)]["recipe"], "epochs": 1}
            ),
            "differ in recipe",
        ),
    ],
)
def test_what_the_published_gate_let_through_is_held(change, sentence, table):
    run = made_up_run(table)
    change(run)
    verdict = judge(run)
    assert not verdict.promoted
    assert sentence in " ".join(verdict.reasons)
    assert verdict.document["recommendation"].startswith("Keep smoke: true")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda seed, values: values if seed else np.where(np.arange(len(values)) == 4, np.nan, values), "the metrics"),
        (
            lambda seed, values: values + (30 * np.sin(np.arange(len(values))) if seed == 2 else 0),
            "spread of the seeds",
        ),
        (lambda seed, values: 50 + 0 * values, "mean LOSO PLCC"),
    ],
)
def test_bad_predictions_are_held(change, name, table):
    verdict = judge(made_up_run(table, change))
    failed = [each["name"] for each in verdict.document["checks"] if not each["passed"]]
    assert not verdict.promoted and any(name in each for each in failed), failed


def test_five_copies_are_held(table):
    copy = table.rows.target + np.random.default_rng(0).normal(0, 1, len(table.rows))
    verdict = judge(made_up_run(table, lambda seed, values: copy))
    (reason,) = verdict.reasons
    assert reason.startswith("least difference of two members is 0")
    assert verdict.document["gate"]["passed"] is True  # the contract alone would have let them through
    nearly = judge(made_up_run(table, lambda seed, values: copy + 0.1 * _LEAST_DIFFERENCE * (values - copy)))
    assert not nearly.promoted


@pytest.fixture(scope="module")
def base(table):
    "A run in order, to copy."
    return made_up_run(table)


@settings(max_examples=20, deadline=None)
@given(st.permutations(SEEDS), st.randoms())
def test_the_order_of_files_and_rows_does_not_matter(table, base, order, random):
    run = copy.deepcopy(base)
    shuffled = run.predictions.sample(frac=1, random_state=random.randrange(1000))
    shuffled = shuffled.sort_values(list(KEY), ignore_index=True)[
        random.sample([*run.predictions], len(run.predictions.columns))
    ]
    documents = {artefact_name(seed): run.artefacts[artefact_name(seed)] for seed in order}
    other = EnsembleRun(run.folder, run.table, dict(sorted(documents.items())), run.digests, shuffled)
    assert judge(other).lasting == judge(run).lasting


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0, 2), st.floats(-0.01, 0.01).filter(lambda shift: abs(shift) > 1e-8))
def test_no_edited_number_is_promoted(table, base, seed, fold, shift):
    run = copy.deepcopy(base)
    run.artefacts[artefact_name(seed)]["folds"][fold]["plcc"] += shift
    assert not judge(run).promoted


# Files


def write_run(run):
    run.folder.mkdir(exist_ok=True)
    for name, document in run.artefacts.items():
        write_json(run.folder / name, seal(document))
    run.predictions.to_parquet(run.folder / PREDICTIONS)
    return run.folder


def test_the_opposite_verdict_goes_and_the_bytes_stay(table):
    folder = write_run(made_up_run(table, folder="files"))
    assert validate(folder, table.paths[0]).promoted
    first = (folder / "PROMOTE.json").read_bytes()
    assert validate(folder, table.paths[0]).promoted
    second = (folder / "PROMOTE.json").read_bytes()
    lines = [line for line in itertools.zip_longest(first.splitlines(), second.splitlines()) if line[0] != line[1]]
    assert all(b"generated_at_utc" in line[0] or b"sha256_of_content" in line[0] for line in lines)
    write_run(made_up_run(table, lambda seed, values: 100 - values, folder="files"))
    assert validate(folder, table.paths[0]).document["verdict"] == HOLD
    assert not (folder / "PROMOTE.json").exists()
    write_run(made_up_run(table, folder="files"))
    assert validate(folder, table.paths[0]).document["verdict"] == PROMOTE
    assert not (folder / "HOLD.json").exists()
    (folder / "HOLD.json").write_bytes((folder / "PROMOTE.json").read_bytes())
    with pytest.raises(BadInput, match="HOLD.json lies beside it"):
        read_verdict(folder / "PROMOTE.json")


def test_rows_in_another_order_give_the_same_verdict(table):
    folder = write_run(made_up_run(table, folder="order"))
    expected = validate(folder, table.paths[0]).lasting
    predictions = pd.read_parquet(folder / PREDICTIONS)
    predictions.sample(frac=1, random_state=0).to_parquet(folder / PREDICTIONS)
    found = validate(folder, table.paths[0]).lasting
    different = [name for name in expected if expected[name] != found[name]]
    assert different == ["artefacts"]  # the bytes of the file are others, what is in it is not


@pytest.mark.parametrize("name", [PREDICTIONS, artefact_name(0)])
def test_an_unreadable_run_is_bad_input_and_leaves_the_verdict(name, table):
    folder = write_run(made_up_run(table, folder=f"unreadable-{name}"))
    validate(folder, table.paths[0])
    before = (folder / "PROMOTE.json").read_bytes()
    (folder / name).write_bytes((folder / name).read_bytes()[:-30])
    with pytest.raises(BadInput, match=name):
        validate(folder, table.paths[0])
    (folder / name).unlink()
    if name == PREDICTIONS:
        with pytest.raises(BadInput, match="ensemble run"):
            validate(folder, table.paths[0])
        assert (folder / "PROMOTE.json").read_bytes() == before


def test_a_verdict_counts_the_files_of_its_corpus(tmp_path):
    table = tmp_path / "t.parquet"
    pairs = make_codec_rows(2, 2, 3)[["source", "dis_basename", "codec", "preset", "crf"]].drop_duplicates()
    paths = {"reference_path": "ref/" + pairs.source + ".yuv"}
    paths["distorted_path"] = "dis/" + pairs.source + pairs.dis_basename
    pairs.assign(encode_height=64, **paths).to_parquet(f"{table}.pairs.parquet")
    counts = {"ref_count": 2, "dis_count": len(pairs), "yuv_count": 2}
    assert verdict_module._corpus_counts([table]) == counts | {"orphans": []}
    content, provenance = {"corpus": {"name": "tree", "orphans": ["dis/old.yuv"]}}, run_provenance(__file__, {}, {}, {})
    write_manifest(table, "full-features", provenance, content, {"output": tmp_path})
    assert verdict_module._corpus_counts([table]) == counts | {"orphans": ["dis/old.yuv"]}
