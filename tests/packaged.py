"""A packaged model that several tests share, made once: a small network that learned a made-up table."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from made_up import make_table

from vmaf_research.learn.loso import loso
from vmaf_research.learn.table import load_training_table
from vmaf_research.ship.gate import ship_gate
from vmaf_research.ship.package import package_model
from vmaf_research.ship.registry import REGISTRY

CORPUS = {"name": "made up", "kind": "none", "licence": "none needed", "description": "a formula, no video"}
TEXTS = {"description": "For tests only.", "notes": "Predicts nothing real."}
IDS = ("first_v1", "second_v1")
FILES = (REGISTRY, *(f"{model_id}{suffix}" for model_id in IDS for suffix in (".json", ".md", ".onnx", "_raw.onnx")))


@cache
def small_report():
    "Leave-one-source-out report with floors and a final model."
    return loso(load_training_table(make_table()), recipe="tuned", final=True, progress=False)


def package(model_id, folder, report=None, **options):
    report = report or small_report()
    return package_model(model_id, report, ship_gate(report), folder, CORPUS, **{**TEXTS, **options})


@cache
def packaged_files():
    "Content of a registry with the models `IDS`, by file name."
    with TemporaryDirectory() as folder:
        for model_id in IDS:
            package(model_id, folder)
        made = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    assert made.keys() == {*FILES}
    return made


def unpack(folder):
    "Write that registry to a folder."
    for name, data in packaged_files().items():
        (folder / name).write_bytes(data)
    return folder
