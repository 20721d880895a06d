"""The data of the calculator: registered networks and exact functions of the teachers, for a page without a server."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from models import opened
from onnx import numpy_helper

from vmaf_research.measure.core import settings
from vmaf_research.measure.features import CANONICAL_6, FEATURES, TEACHER_FEATURES, TEACHERS
from vmaf_research.measure.teacher import Teacher, load_teacher
from vmaf_research.ship.registry import Registry

PAGE = """# Calculator

:::{rst-class} lead
What VMAF makes of its features: by the exact function of libvmaf's model files and by the registered networks, in this
page and nowhere else. Or drop the JSON log of a libvmaf run here: its curve, its pooled scores and its worst frames
:::

<div id="calculator"><noscript>The calculator runs in the browser; it needs JavaScript.</noscript></div>
<script src="_static/calculator-data.js"></script>
<script src="_static/calculator.js"></script>

The sliders span what the registered network has seen; beyond it the marked features are *out of range*, where the exact
function still is what libvmaf computes and a network is not tested. Scores differ from those of libvmaf by its printed
decimals, which is less than 0.0003. Nothing is sent anywhere.
"""


def _numbers(values: Any) -> list:
    return [float(value) for value in np.asarray(values, dtype=float).ravel()]


def _ends(teacher: Teacher) -> dict[str, Any]:
    ends = teacher.ends
    return {"chroma": ends.chroma_correction, "transform": ends.transform, "range": list(ends.score_range)}


def _function(teacher: Teacher) -> dict[str, Any]:
    "Support vectors row by row, and what is done to features before and to the score after them."
    return {
        "slopes": _numbers(teacher.slopes), "intercepts": _numbers(teacher.intercepts),
        "outputSlope": teacher.output_slope, "outputIntercept": teacher.output_intercept,
        "vectors": _numbers(teacher.support_vectors), "coefficients": _numbers(teacher.coefficients),
        "gamma": teacher.gamma, "rho": teacher.rho,
    }  # fmt: skip


def _network(name: str) -> dict[str, Any]:
    "Scaling and layers of a self-contained graph, whose bytes the registry vouches for."
    sidecar = opened(name).sidecar
    graph = onnx.load(str(settings().model_path / sidecar.onnx_raw)).graph
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    layers = sorted({each.rsplit(".", 1)[0] for each in values if each.endswith(".weight")})
    return {
        "mean": _numbers(values["feature_mean"]), "std": _numbers(values["feature_std"]),
        "layers": [{part: _numbers(values[f"{each}.{part}"]) for part in ("weight", "bias")} for each in layers],
        "low": list(sidecar.feature_min), "high": list(sidecar.feature_max),
    }  # fmt: skip


def calculator_data(registry: Registry) -> dict[str, Any]:
    "Everything that the page computes with; what several teachers share is there once."
    keys = {each.name: each.key for each in (*FEATURES, *TEACHER_FEATURES)}
    functions, networks, teachers = [], [], []

    def place(store: list, value: Any) -> int:
        if value not in store:
            store.append(value)
        return store.index(value)

    loaded = {row.id: opened(row.id).sidecar for row in registry.models if row.kind == "fr" and not row.smoke}
    shipped = {each: sidecar for each, sidecar in loaded.items() if sidecar.ensemble is None}  # features only
    for name, known in TEACHERS.items():
        if known.sha256 is None or not known.clipped:
            continue
        teacher = load_teacher(name)
        own = {each: place(networks, _network(each)) for each, sidecar in shipped.items() if sidecar.teacher == name}
        v0 = len(known.inputs) == len(CANONICAL_6)
        teachers.append({
            "name": name, "column": known.column, "ends": _ends(teacher),
            "function": place(functions, _function(teacher)),
            "inputs": [{"name": each, "key": keys[each]} for each in known.inputs], "networks": own,
            "start": [0.95, 0.55, 0.88, 0.93, 0.95, 4.0] if v0 else [0.5, 10.0, 0.9, 5.0],
            "low": [0.3, 0, 0, 0, 0, 0] if v0 else [0, 0, 0.5, 0],
            "high": [1, 1, 1, 1, 1, 30] if v0 else [17, 45, 1, 18],
        })  # fmt: skip
    return {"teachers": teachers, "functions": functions, "networks": networks}


def write_calculator(registry: Registry, folder: Path) -> None:
    "Write `calculator-data.js`, a script and no JSON, since a page that was opened as a file may not fetch."
    text = json.dumps(calculator_data(registry), separators=(",", ":"))
    (folder / "calculator-data.js").write_text(f"const CALCULATOR = {text};\n", encoding="utf-8")
