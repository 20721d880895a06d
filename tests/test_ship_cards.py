"""A card says what its sidecar says, in a format that hubs and people can use."""

import json
import re

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import example_sidecar
from packaged import packaged_files, unpack

from vmaf_research.learn.metrics import show_number
from vmaf_research.learn.recipes import RECIPES
from vmaf_research.measure.core import BadInput, find_root, validated
from vmaf_research.ship.cards import _table, render_card
from vmaf_research.ship.records import Sidecar
from vmaf_research.ship.registry import examine_model, load, verify_registry


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    return unpack(tmp_path / "model")


@pytest.fixture(scope="module")
def card():
    return packaged_files()["first_v1.md"].decode()


@pytest.fixture(scope="module")
def sidecar():
    return validated(Sidecar, json.loads(packaged_files()["first_v1.json"]), "first_v1.json")


def front_matter(card):
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def tables(card):
    "Rows of all tables, as lists of cells."
    lines = [line for line in card.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, (*path, key))
    elif isinstance(value, list):
        for key, each in enumerate(value):
            yield from leaves(each, (*path, key))
    else:
        yield path, value


def test_the_committed_card_is_the_rendered_one(card, sidecar):
    assert card == render_card(sidecar)


def test_front_matter_is_a_model_index(card, sidecar):
    block = front_matter(card)
    assert block["license"] == "apache-2.0"
    assert block["library_name"] == "onnx"
    (index,) = block["model-index"]
    (result,) = index["results"]
    assert index["name"] == sidecar.id
    assert set(result) == {"task", "dataset", "metrics"}
    assert {"type", "name"} <= set(result["task"]) and {"type", "name"} <= set(result["dataset"])
    values = {each["name"]: each["value"] for each in result["metrics"]}
    training = sidecar.training
    assert values["PLCC, mean over the sources left out"] == training.loso_mean_plcc
    assert values["RMSE over all rows, VMAF points"] == training.loso_pooled_rmse
    assert all(each["type"] in {"pearsonr", "spearmanr", "rmse"} for each in result["metrics"])


def test_every_source_and_floor_has_its_row(card, sidecar):
    rows = {row[0]: row[1:] for row in tables(card)}
    for source, scores in sidecar.training.per_source.items():
        numbers = (scores.plcc, scores.srocc, scores.kendall, scores.rmse, scores.bias, scores.max_abs_error)
        assert rows[source] == [str(scores.n), f"{scores.saturated_share:.0%}", *map(show_number, numbers)]
    assert list(sidecar.training.floors) == ["ridge", "nusvr", "histgb"]
    for name, floor in sidecar.training.floors.items():
        assert rows[name][:2] == [show_number(floor.mean_plcc), show_number(floor.pooled_rmse)]


def test_the_five_points_are_answered(card, sidecar):
    titles = re.findall(r"^## (.*)$", card, re.MULTILINE)
    assert titles == [
        "What it does",
        "What the score means",
        "How to run it",
        "How well it agrees with its teacher",
        "Where it comes from",
        "What it does not do",
    ]
    for fact in (sidecar.sha256, sidecar.sha256_raw, sidecar.license, sidecar.corpus.licence, "vmaf-research score"):
        assert fact in card


SHOWN = [  # fields whose value a reader finds in the card
    ("id",), ("description",), ("notes",), ("license",), ("sha256",), ("sha256_raw",), ("opset",), ("teacher",),
    ("corpus", "name"), ("corpus", "kind"), ("corpus", "licence"), ("corpus", "description"), ("training", "n_rows"),
    ("training", "n_sources"), ("training", "n_pairs"), ("training", "table_digest"), ("training", "seed"),
    ("training", "parameters"), ("training", "loso_mean_plcc"), ("training", "loso_std_plcc"),
    ("training", "loso_mean_srocc"), ("training", "loso_pooled_rmse"), ("training", "loso_worst_source"),
    ("training", "loso_worst_source_rmse"), ("training", "in_sample_rmse"), ("training", "recipe", "epochs"),
    ("training", "per_source", "source1", "rmse"), ("training", "per_source", "source1", "plcc"),
    ("training", "floors", "ridge", "pooled_rmse"), ("feature_min", 0), ("feature_max", 1), ("feature_mean", 0),
    ("parity", "raw"), ("training", "intervals", "rmse", "high"),
]  # fmt: skip


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: ".".join(map(str, path)))
def test_a_changed_fact_changes_the_card(path):
    document = example_sidecar().to_json()
    *parents, last = path
    block = document
    for key in parents:
        block = block[key]
    value = block[last]
    hexadecimal = isinstance(value, str) and len(value) == 64
    block[last] = "12" * 32 if hexadecimal else value + "_changed" if isinstance(value, str) else value * 0.9
    if isinstance(value, int):
        block[last] = value - 1 if value else 5
    if path == ("id",):
        document |= {"onnx": f"{block[last]}.onnx", "onnx_raw": f"{block[last]}_raw.onnx"}
    try:
        changed = validated(Sidecar, document, "x")
    except BadInput as error:
        assert "per_source" in str(error)  # a summary that is not that of its sources
    else:
        assert render_card(changed) != render_card(example_sidecar())


def test_a_sidecar_without_a_field_is_refused_or_still_has_a_card(sidecar):
    document = sidecar.to_json()
    for path, _ in list(leaves(document)):
        broken = json.loads(json.dumps(document))
        block = broken
        for key in path[:-1]:
            block = block[key]
        del block[path[-1]]
        try:
            less = validated(Sidecar, broken, "x")
        except BadInput:
            continue
        assert render_card(less).startswith("---\nlicense: "), path


def test_an_edited_card_is_reported_and_not_registered(folder, card, sidecar):
    improved = card.replace("RMSE", "RMSE (negligible)", 1)
    (folder / "first_v1.md").write_text(improved)
    assert any(problem.startswith("first_v1.md") for problem in verify_registry(folder))
    row = load("second_v1", folder).row
    files = {name: packaged_files()[name] for name in row.file_names} | {row.card: improved.encode()}
    assert examine_model(row, files)[1][0] == "second_v1.md: is not the card that the sidecar gives; render it again"


def test_both_python_examples_run(folder, card, monkeypatch):
    "Taken out of the card, in a checkout of which the folder is the model folder."
    (folder.parent / "settings.ini").write_text((find_root(__file__) / "settings.ini").read_text())
    library, plain = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(folder)
    outcome = {}
    exec(library.replace("model.score(", "outcome = model.score("), outcome)
    exec(plain, outcome)
    assert np.isfinite(outcome["outcome"]).all() and outcome["outcome"].shape == (1,)
    assert np.abs(outcome["score"] - outcome["outcome"]).max() < 1e-4
    assert outcome["outcome"] == load("first_v1", folder).score(outcome["features"])


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(TEXT, TEXT, TEXT)
def test_hostile_names_do_not_break_the_card(source, corpus_name, description):
    "File names and free texts end up in tables and YAML; neither may fall apart."
    training = example_sidecar().training.to_json()
    scores = next(iter(training["per_source"].values()))
    training |= {"per_source": {source: scores}, "loso_worst_source": source, "n_sources": 1, "n_rows": scores["n"]}
    corpus = {"name": corpus_name, "kind": "none", "licence": "a|b", "description": description}
    card = render_card(example_sidecar(training=training, corpus=corpus))
    document = yaml.safe_load(card.split("\n---\n")[0][4:])
    assert document["model-index"][0]["results"][0]["dataset"]["name"] == corpus_name


@given(st.lists(st.lists(st.text(), min_size=3, max_size=3), max_size=4))
def test_tables_keep_their_columns(rows):
    lines = _table(["a", "b", "c"], rows).split("\n")
    assert len(lines) == 2 + len(rows)
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in lines)


def test_a_copy_of_the_teacher_is_called_one():
    training = example_sidecar().training.to_json()
    recipe = RECIPES["teacher_function"].model_dump()
    card = render_card(example_sidecar(training=training | {"recipe": recipe}))
    assert "portable, differentiable copy of the teacher, not new evidence about people" in card
    assert "1,000,000 feature vectors" in card
    assert "not new evidence about people" not in render_card(example_sidecar())


def test_nothing_in_a_sidecar_is_a_machine_path_or_not_finite(sidecar):
    for path, value in leaves(sidecar.to_json()):
        assert not (isinstance(value, str) and value.startswith("/")), path
        assert not (isinstance(value, float) and not np.isfinite(value)), path
