"""The teacher's support vectors as a graph, against libvmaf itself on a real encode."""

import numpy as np
import pytest

from vmaf_research.measure.features import CANONICAL_6
from vmaf_research.measure.libvmaf import measure
from vmaf_research.measure.teacher import load_teacher
from vmaf_research.ship.onnx import PRECISIONS, open_session, run_session, svr_graph

TOLERANCE = {"float64": 5e-4, "float32": 0.05}  # VMAF; the first is the rounding of libvmaf's output


@pytest.fixture(scope="module")
def measured(pan, encoded):
    return measure(pan, encoded, features=CANONICAL_6).columns


@pytest.mark.parametrize("precision", PRECISIONS)
def test_graph_gives_libvmafs_score(measured, precision):
    session = open_session(svr_graph(load_teacher(), {}, precision))
    found = run_session(session, np.column_stack([measured[name] for name in CANONICAL_6]))
    assert np.abs(found - measured["vmaf"]).max() < TOLERANCE[precision]
    assert np.ptp(found) > 0
