"""What the gate says, word for word: every check with its limit and reason, every sentence, as text, JSON and HTML."""

import pytest
from made_up import make_table, replace

from vmaf_research.learn.loso import LosoReport, evaluate
from vmaf_research.learn.table import load_training_table
from vmaf_research.measure.core import BadInput, ShipRefused, html_table
from vmaf_research.ship.gate import GateResult, _rmse_ratio, check, integrity_problems, ship_gate

TABLE = load_training_table(make_table(n_sources=4, n_clips=4, n_frames=6))
NETWORK = evaluate("network", TABLE, TABLE.target * 0.99)
RIDGE = evaluate("ridge", TABLE, TABLE.target * 0.98)
TREES = evaluate("histgb", TABLE, TABLE.target * 0.985)


def report(per_source=None, floors=None, **changes):
    shipped = replace(NETWORK, per_source=per_source or NETWORK.per_source, **changes)
    return LosoReport(
        TABLE, "made up", (0,), {0: shipped}, {"ridge": RIDGE, "histgb": TREES} if floors is None else floors
    )


def ratio(floor):
    return NETWORK.pooled.rmse / floor.pooled.rmse


def test_every_check_of_a_good_model():
    worst = NETWORK.worst_source
    expected = [
        ("problems of the report", 0, 0, "equal to", True, True, "other rows are another experiment"),
        ("folds", 4, 4, "equal to", True, True, "fewer sources are another experiment"),
        ("mean LOSO PLCC", NETWORK.summary["mean_plcc"], 0.95, "at least", True, True, "contract of fr_regressor_v1"),
        ("pooled RMSE", NETWORK.pooled.rmse, None, "", True, False, "VMAF points, on sources left out"),
        ("worst source", worst, None, "", True, False, "the one to look at"),
        ("pooled RMSE / Ridge's", ratio(RIDGE), None, "", True, False, "lift over a straight line"),
        (
            *("pooled RMSE / best floor's", ratio(TREES), 1.0, "below", True, False),
            "a network that an ordinary regressor beats on the same folds is not worth shipping",
        ),
        (
            *("worst source RMSE", NETWORK.per_source[worst].rmse, 4.466, "at most", True, False),
            "the worst fold of the published fr_regressor_v1 (BigBuckBunny); a successor must not be worse",
        ),
        (
            *("absolute bias", abs(NETWORK.pooled.bias), 1.0, "at most", True, False),
            "an offset moves every CRF decision and leaves every correlation at 1",
        ),
    ]
    names = ("name", "value", "threshold", "comparison", "passed", "gating", "reason")
    found = ship_gate(report(), 0.95).to_json()
    assert found == {
        "passed": True,
        "strict": False,
        "checks": [dict(zip(names, each, strict=True)) for each in expected],
        "reasons": [],
    }
    strict = ship_gate(report(), 0.95, strict=True).to_json()
    assert strict["strict"] is True and strict["passed"] is True
    assert [each["gating"] for each in strict["checks"]] == [True] * 3 + [False] * 3 + [True] * 3


SMALL = GateResult(
    passed=False,
    strict=True,
    checks=(
        check("folds", 3, "equal to", 4, True, "fewer"),
        check("pooled RMSE", 1.5, "", None, False, "points"),
        check("bias", 0.25, "at most", 1.0, True, "offset"),
    ),
    reasons=("folds is 3, expected equal to 4", "seed 0: <b>"),
)


def test_as_text():
    assert str(SMALL) == (
        "ship gate (strict): REFUSED\n"
        "  FAILED folds: 3 (equal to 4)\n"
        "  info   pooled RMSE: 1.5\n"
        "  ok     bias: 0.25 (at most 1)\n"
        "  reason: folds is 3, expected equal to 4\n"
        "  reason: seed 0: <b>"
    )
    passed = replace(SMALL, passed=True, strict=False, checks=SMALL.checks[2:], reasons=())
    assert str(passed) == "ship gate: PASSED\n  ok     bias: 0.25 (at most 1)"
    assert SMALL.checks[0].sentence() == "folds is 3, expected equal to 4"
    assert SMALL.checks[2].sentence() == "bias is 0.25, expected at most 1"


def test_as_html():
    assert SMALL._repr_html_() == (
        "<b>refused</b>"
        + html_table(
            [
                ("FAILED", "folds", "3", "equal to 4", "fewer"),
                ("info", "pooled RMSE", "1.5", "", "points"),
                ("ok", "bias", "0.25", "at most 1", "offset"),
            ]
        )
        + "<ul><li>folds is 3, expected equal to 4</li><li>seed 0: &lt;b&gt;</li></ul>"
    )
    assert replace(SMALL, passed=True)._repr_html_().startswith("<b>passed</b>")


def test_a_refusal_names_all_reasons():
    with pytest.raises(ShipRefused) as caught:
        SMALL.raise_if_refused()
    assert str(caught.value) == "ship gate refused: folds is 3, expected equal to 4; seed 0: <b>"
    replace(SMALL, passed=True).raise_if_refused()


def test_sentences_about_folds_rows_and_metrics():
    folds = NETWORK.per_source
    first, second, third, fourth = folds
    damaged = {first: replace(folds[first], plcc=None, bias=float("nan")), second: replace(folds[second], n=7)}
    lost = NETWORK.predictions.copy()
    lost[:3] = float("nan")
    found = integrity_problems(report({**damaged, "x": folds[third], "y": folds[fourth]}, predictions=lost))
    assert found == [
        f"seed 0: no fold for {third}, {fourth} (4 of 4 sources)",
        "seed 0: unexpected folds x, y",
        "seed 0: 93 finite predictions for 96 rows",
        f"seed 0: {first}: plcc, bias undefined (NaN, or a constant column)",
        f"seed 0: {second} was judged on 7 rows, the table has another number",
        "seed 0: x was judged on 24 rows, the table has another number",
        "seed 0: y was judged on 24 rows, the table has another number",
    ]
    assert integrity_problems(replace(report(), members={})) == ["the report has no predictions"]
    pooled = replace(NETWORK.pooled, n=5, mae=None)
    assert integrity_problems(report(pooled=pooled)) == [
        "seed 0: all rows was judged on 5 rows, the table has another number",
        "seed 0: all rows: mae undefined (NaN, or a constant column)",
    ]
    assert integrity_problems(report(predictions=NETWORK.predictions[:90])) == [
        "seed 0: 90 finite predictions for 96 rows"
    ]
    assert integrity_problems(report(), [first, second, third]) == [f"seed 0: unexpected folds {fourth}"]
    assert integrity_problems(report()) == []


def test_expected_sources_reach_the_checks():
    gate = ship_gate(report(), 0.95, expected_sources=[*TABLE.sources, "source9", "source9"])
    assert gate.reasons == (
        "seed 0: no fold for source9 (4 of 5 sources)",
        "folds is 4, expected equal to 5",
    )
    assert gate.checks[0].value == 1 and gate.checks[0].passed is False


def test_ratio_to_a_floor():
    assert _rmse_ratio(report()) == ratio(TREES)
    assert _rmse_ratio(report(), "ridge") == ratio(RIDGE)
    assert _rmse_ratio(report(), "nusvr") is None
    assert _rmse_ratio(report(floors={})) is None
    perfect = evaluate("perfect", TABLE, TABLE.target)
    assert _rmse_ratio(report(floors={"perfect": perfect})) is None
    assert _rmse_ratio(report(pooled=replace(NETWORK.pooled, rmse=None))) is None


@pytest.mark.parametrize(
    ("threshold", "good"), [(1.0, True), (1.0001, False), (0.0001, True), (0.0, False), (-0.5, False)]
)
def test_a_threshold_is_a_correlation(threshold, good):
    if good:
        assert ship_gate(report(), threshold).checks[2].threshold == threshold
        return
    with pytest.raises(BadInput) as caught:
        ship_gate(report(), threshold)
    assert str(caught.value) == f"ship gate: threshold {threshold}, expected a correlation above 0 and at most 1"


def test_strict_rules_gate_on_error_bias_and_floors():
    def reasons(**changes):
        return ship_gate(report(**changes), 0.95, strict=True).reasons

    worst = NETWORK.worst_source
    poor = {**NETWORK.per_source, worst: replace(NETWORK.per_source[worst], rmse=4.467)}
    assert reasons(per_source=poor) == ("worst source RMSE is 4.467, expected at most 4.466",)
    assert reasons(pooled=replace(NETWORK.pooled, bias=-1.5)) == ("absolute bias is 1.5, expected at most 1",)
    same = {"ridge": NETWORK}
    assert reasons(floors=same) == ("pooled RMSE / best floor's is 1, expected below 1",)
    assert reasons(floors={}) == ("pooled RMSE / best floor's is —, expected below 1",)
    assert ship_gate(report(floors={}), 0.95).passed
