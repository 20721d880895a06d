"""The published JSON Schemas are those of the records, hold for what is shipped, and refuse what the records refuse."""

import json
import sys

import pytest
from jsonschema import Draft202012Validator

import vmaf_research
from vmaf_research.corpora.rows import new_row
from vmaf_research.measure.core import find_root
from vmaf_research.measure.manifest import describe_path, run_provenance, write_manifest
from vmaf_research.ship.records import PREDICTOR
from vmaf_research.ship.registry import read_registry

ROOT = find_root(__file__)
sys.path.insert(0, str(ROOT / "docs"))
from schemas import SCHEMAS, texts  # noqa: E402

MODELS = ROOT / "model"


@pytest.fixture
def manifest(tmp_path):
    "What was written about a table."
    table, roots = tmp_path / "t.csv", {"output": tmp_path}
    table.write_text("a,b\n1,2\n")
    provenance = run_provenance(vmaf_research.__file__, {"frames": 2}, {}, {"table": describe_path(table, roots)})
    return json.loads(write_manifest(table, "scored-table", provenance, {"counts": {"rows": 1}}, roots).read_text())


def problems(kind, document):
    "Where a document breaks the published schema."
    validator = Draft202012Validator(json.loads((SCHEMAS / f"{kind}.schema.json").read_text(encoding="utf-8")))
    return [error.json_path for error in validator.iter_errors(document)]


def test_they_are_as_the_records_say():
    assert {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.iterdir()} == texts()
    for text in texts().values():
        Draft202012Validator.check_schema(json.loads(text))


def test_what_is_written_follows_them(manifest):
    registry = json.loads((MODELS / "registry.json").read_text())
    assert problems("registry", registry) == []
    for row in read_registry(MODELS).models:
        kind = "predictor-sidecar" if row.kind == PREDICTOR else "sidecar"
        assert problems(kind, json.loads((MODELS / row.sidecar).read_text())) == [], row.id
    assert problems("manifest", manifest) == []
    assert problems("corpus-row", new_row(src="a.mp4", encoder="libx264")) == []


def test_what_breaks_a_rule_is_found():
    registry = json.loads((MODELS / "registry.json").read_text())
    registry["models"][0] |= {"onnx": "../elsewhere.onnx", "opset": "17"}
    assert sorted(problems("registry", registry)) == ["$.models[0].onnx", "$.models[0].opset"]
    sidecar = json.loads((MODELS / "fr_regressor_v1.json").read_text())
    del sidecar["feature_mean"], sidecar["training"]["recipe"]["epochs"]
    assert sorted(problems("sidecar", sidecar | {"sha256": "AB"})) == ["$", "$.sha256", "$.training.recipe"]
    predictor = json.loads((MODELS / "predictor_libx264.json").read_text())
    assert problems("predictor-sidecar", predictor | {"kind": "fr"}) == ["$.kind"]
    row = new_row(src="a.mp4", encoder="libx264") | {"src": "", "vmaf_score": 900, "src_sha256": "ab", "shots": 1}
    assert sorted(problems("corpus-row", row)) == ["$", "$.src", "$.src_sha256", "$.vmaf_score"]


@pytest.mark.parametrize("change", [{"schema": "something-else"}, {"schema_version": 2}, {"deterministic": {}}])
def test_a_manifest_of_something_else_is_found(change, manifest):
    assert problems("manifest", manifest | change)
