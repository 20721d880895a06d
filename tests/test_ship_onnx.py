"""Exported graphs compute what the network computes, and graphs of strangers are refused before they run."""

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from packaged import small_report

from vmaf_research.measure.core import BadInput, ShipRefused
from vmaf_research.measure.core import settings as project_settings
from vmaf_research.ship.onnx import _MAX_BYTES, _OPERATORS, check_graph, open_session, run_session
from vmaf_research.ship.package import _PARITY, _contract_graph, export_graphs, raw_graph


@pytest.fixture(scope="module")
def fitted():
    return small_report().final


@pytest.fixture(scope="module")
def graphs(fitted):
    table = small_report().table
    return export_graphs(fitted, "test_v1", table.features, table.digest)


def test_graphs_are_native_to_the_operator_set_and_self_describing(graphs):
    table = small_report().table
    for data in graphs[:2]:
        model = onnx.load_from_string(data)
        assert [(each.domain, each.version) for each in model.opset_import] == [("", 17)]
        assert project_settings().opset == 17
        facts = {each.key: each.value for each in model.metadata_props}
        assert facts["id"] == "test_v1" and facts["teacher"] == "vmaf_v0.6.1" and facts["output_range"] == "0,100"
        assert facts["features"].split(",") == list(table.feature_names)
        assert facts["table_digest"] == table.digest
        assert all(each.data_location == TensorProto.DEFAULT for each in model.graph.initializer)
        assert {node.op_type for node in model.graph.node} <= _OPERATORS


@pytest.mark.parametrize("rows", [1, 2, 7, 1024, 20_001])
def test_the_batch_is_free(graphs, fitted, rows):
    features = np.random.default_rng(rows).normal(fitted.feature_mean, fitted.feature_std, (rows, 6))
    scores = open_session(graphs[1]).run(["score"], {"features": features.astype(np.float32)})[0]
    assert scores.shape == (rows,) and scores.dtype == np.float32
    assert np.abs(scores - fitted.predict(features)).max() <= _PARITY
    standardised = ((features - fitted.feature_mean) / fitted.feature_std).astype(np.float32)
    with torch.no_grad():
        expected = fitted.module(torch.from_numpy(standardised)).numpy()
    assert np.abs(run_session(open_session(graphs[0]), standardised) - expected).max() <= _PARITY


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=6))
def test_raw_scores_stay_in_range_for_any_row(row):
    (score,) = run_session(raw_session(), np.array([row]))
    assert 0 <= score <= 100


@cache
def raw_session():
    return open_session(raw_graph(small_report().final, {}))


def test_the_bytes_depend_on_nothing_but_the_network(fitted, graphs):
    table = small_report().table
    assert export_graphs(fitted, "test_v1", table.features, table.digest) == graphs
    assert _contract_graph(fitted, {"b": "2", "a": "1"}) == _contract_graph(fitted, {"a": "1", "b": "2"})


def test_a_network_that_is_not_finite_is_not_exported(fitted):
    table = small_report().table
    spoiled = replace(fitted, feature_mean=np.where(np.arange(6) == 2, np.nan, fitted.feature_mean))
    with pytest.raises((BadInput, ShipRefused)):
        export_graphs(spoiled, "test_v1", table.features, table.digest)


def refusal(data, change):
    model = onnx.load_from_string(data)
    change(model)
    with pytest.raises(BadInput) as caught:
        check_graph(model.SerializeToString())
    return str(caught.value)


def outside_data(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    tensor.ClearField("raw_data")


def outside_data_without_flag(model):
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")


def outside_constant(model):
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "c")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def sparse(model):
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))


def sparse_constant(model):
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    node = helper.make_node("Constant", [], ["c"], sparse_value=helper.make_sparse_tensor(values, indices, [4]))
    model.graph.node.append(node)


def branch():
    return helper.make_graph([], "branch", [], [])


def loop(model):
    model.graph.node.append(helper.make_node("Loop", ["", "x"], ["y"], body=branch()))


def condition(model):
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch(), else_branch=branch()))


def scan(model):
    model.graph.node.append(helper.make_node("Scan", ["x"], ["y"], body=branch(), num_scan_inputs=1))


def hidden_subgraph(model):
    "An allowed operator that carries a graph in an attribute that it does not have."
    model.graph.node[0].attribute.append(helper.make_attribute("body", branch()))


def foreign_domain(model):
    model.graph.node[0].domain = "com.microsoft"


def foreign_import(model):
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def foreign_operator(model):
    model.graph.node[0].op_type = "StringNormalizer"


def function(model):
    model.functions.append(helper.make_function("", "Gemm", ["x"], ["y"], [], [helper.make_opsetid("", 17)]))


def other_opset(model):
    model.opset_import[0].version = 18


def wider_input(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 7


def fixed_batch(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def double_output(model):
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def second_output(model):
    model.graph.output.append(model.graph.output[0])


def huge_tensor(model):
    tensor = model.graph.initializer[0]
    tensor.dims[:] = [1 << 20, 1 << 20]


def negative_dimension(model):
    model.graph.initializer[0].dims[:] = [-64, -6]


def infinite_weight(model):
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((64, 6), np.inf, np.float32), "net.0.weight"))


def cycle(model):
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def add(model, operator, *inputs, constants=(), **attributes):
    "Append a node whose output nobody uses, and its constants."
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants)
    output = f"made{len(model.graph.node)}"
    model.graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
    return output


def column_and_row(size):
    return [("column", np.ones((size, 1), np.float32)), ("row", np.ones((1, size), np.float32))]


def gigabytes_of_a_shape(model):
    add(model, "ConstantOfShape", "size", constants=[("size", np.array([1 << 30]))])


def gigabytes_by_expansion(model):
    add(model, "Expand", "one", "size", constants=[("one", np.ones(1, np.float32)), ("size", np.array([1 << 30]))])


def outer_product(model):
    add(model, "MatMul", "column", "row", constants=column_and_row(40_000))


def outer_sum(model):
    add(model, "Add", "column", "row", constants=column_and_row(40_000))


def doubled_thirty_times(model):
    value = "features"
    for _ in range(30):
        value = add(model, "Concat", value, value, axis=1)


def product_of_matrices(model):
    value = "square"
    model.graph.initializer.append(numpy_helper.from_array(np.ones((250, 250), np.float32), value))
    for _ in range(2):
        value = add(model, "MatMul", value, "square")


def many_products(model):
    columns = np.array([k % 6 for k in range(900)])
    model.graph.initializer.append(numpy_helper.from_array(np.ones((900, 900), np.float32), "square"))
    value = add(model, "Gather", "features", "columns", constants=[("columns", columns)], axis=1)
    for _ in range(30):
        value = add(model, "MatMul", value, "square")


def every_row_with_every_row(model):
    first = add(model, "Gather", "features", "zero", constants=[("zero", np.array([0]))], axis=1)
    flat = add(model, "Squeeze", first, "axis", constants=[("axis", np.array([1]))])
    add(model, "Mul", first, add(model, "Unsqueeze", flat, "zero"))


STRANGERS = [
    (gigabytes_of_a_shape, "ConstantOfShape is not on the list"), (gigabytes_by_expansion, "Expand is not on the list"),
    (outer_product, "the limits are"), (outer_sum, "the limits are"), (doubled_thirty_times, "the limits are"),
    (product_of_matrices, "the limits are"), (many_products, "the limits are"),
    (every_row_with_every_row, "not known before it runs"),
    (outside_data, "another file"), (outside_data_without_flag, "another file"), (outside_constant, "another file"),
    (sparse, "sparse tensors"), (sparse_constant, "sparse or a reference"), (loop, "Loop is not on the list"),
    (condition, "If is not on the list"), (scan, "Scan is not on the list"), (hidden_subgraph, "sub-graph"),
    (foreign_domain, "only the standard domain"), (foreign_import, "no other"), (function, "functions"),
    (foreign_operator, "not on the list"), (other_opset, "operator set 17"), (wider_input, "inputs and outputs"),
    (fixed_batch, "inputs and outputs"), (double_output, "inputs and outputs"), (second_output, "inputs and outputs"),
    (huge_tensor, "too large"), (negative_dimension, "ONNX graph"), (infinite_weight, "NaN or infinity"),
    (cycle, "not a valid model"),
]  # fmt: skip


@pytest.mark.parametrize("change, said", STRANGERS, ids=lambda each: getattr(each, "__name__", ""))
def test_graphs_of_strangers_are_refused(graphs, change, said):
    assert said in refusal(graphs[0], change)


@settings(deadline=None, max_examples=150)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_damaged_bytes_are_refused_or_still_a_graph_that_may_run(place, mask):
    "Without a digest damage need not be seen; but it must never crash, hang or get an odd graph through."
    data = bytearray(contract_bytes())
    data[int(place * len(data))] ^= mask
    try:
        model = check_graph(bytes(data))
    except BadInput:
        return
    assert {node.op_type for node in model.graph.node} <= _OPERATORS
    assert all(node.domain == "" for node in model.graph.node)


def contract_bytes():
    return _contract_graph(small_report().final, {})


@pytest.mark.parametrize("data", [b"", b"\x00", b"not a graph", b"\xff" * 1000, b"{}"])
def test_what_is_no_graph_is_refused(data):
    with pytest.raises(BadInput, match="ONNX graph"):
        check_graph(data)


def test_what_is_too_large_is_not_even_parsed():
    with pytest.raises(BadInput, match="the limit is"):
        check_graph(bytes(_MAX_BYTES + 1))


def test_the_raw_graph_does_not_depend_on_the_scaler_outside(fitted, graphs):
    facts = {each.key: each.value for each in onnx.load_from_string(graphs[1]).metadata_props}
    assert raw_graph(fitted, facts) == graphs[1]
    assert raw_graph(replace(fitted, feature_std=fitted.feature_std * 2), facts) != graphs[1]
