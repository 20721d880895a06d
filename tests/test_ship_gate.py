"""The gate lets nothing pass that is not a number, not complete, or not what it was asked about."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import make_table, replace
from packaged import CORPUS, small_report

from vmaf_research.learn.loso import LosoReport, evaluate
from vmaf_research.learn.table import load_training_table
from vmaf_research.measure.core import BadInput, ShipRefused
from vmaf_research.ship.gate import _METRICS, STRICT_RULES, check, integrity_problems, ship_gate
from vmaf_research.ship.package import package_model

TABLE = load_training_table(make_table(n_sources=4, n_clips=4, n_frames=6))
PERFECT = evaluate("perfect", TABLE, TABLE.target - 0.25)


def report(**per_source):
    "A report of which some sources have other metrics; `None` takes the fold out."
    folds = {name: replace(each, **per_source.get(name, {})) for name, each in PERFECT.per_source.items()}
    return LosoReport(TABLE, "made up", (0,), {0: replace(PERFECT, per_source=folds)}, {})


def with_folds(folds):
    return LosoReport(TABLE, "made up", (0,), {0: replace(PERFECT, per_source=folds)}, {})


def test_a_good_model_passes():
    verdict = ship_gate(report())
    assert verdict.passed and verdict.reasons == ()
    verdict.raise_if_refused()


UNDEFINED = st.sampled_from([None, math.nan, math.inf, -math.inf])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.one_of(st.floats(-1, 1), UNDEFINED), min_size=4, max_size=4), st.floats(0.01, 1))
def test_it_passes_exactly_if_every_fold_is_finite_and_the_mean_reaches_the_threshold(values, threshold):
    shown = report(**{f"source{k}": {"plcc": value} for k, value in enumerate(values)})
    finite = all(value is not None and math.isfinite(value) for value in values)
    verdict = ship_gate(shown, threshold)
    assert verdict.passed == (finite and np.mean(values) >= threshold)
    assert verdict.passed == (verdict.reasons == ())
    json.dumps(verdict.to_json(), allow_nan=False)


@pytest.mark.parametrize("metric", _METRICS)
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_any_undefined_metric_of_any_fold_refuses(metric, value):
    verdict = ship_gate(report(source2={metric: value}))
    assert not verdict.passed
    assert any("source2" in reason and metric in reason for reason in verdict.reasons)
    with pytest.raises(ShipRefused) as caught:
        verdict.raise_if_refused()
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("metric", _METRICS)
def test_an_undefined_pooled_metric_refuses(metric):
    pooled = replace(PERFECT.pooled, **{metric: math.nan})
    shown = LosoReport(TABLE, "made up", (0,), {0: replace(PERFECT, pooled=pooled)}, {})
    assert not ship_gate(shown).passed


def test_one_nan_prediction_refuses():
    predictions = TABLE.target.copy()
    predictions[5] = np.nan
    shown = LosoReport(TABLE, "made up", (0,), {0: evaluate("x", TABLE, predictions)}, {})
    reasons = ship_gate(shown).reasons
    assert any("95 finite predictions for 96 rows" in reason for reason in reasons)


def test_missing_and_changed_folds_refuse():
    folds = dict(PERFECT.per_source)
    lost = folds.pop("source1")
    assert "no fold for source1" in str(ship_gate(with_folds(folds)).reasons)
    renamed = ship_gate(with_folds({**folds, "other": lost})).reasons
    assert "no fold for source1" in str(renamed) and "unexpected folds other" in str(renamed)
    assert not ship_gate(with_folds({})).passed
    everything = report()
    assert not ship_gate(everything, expected_sources=[*TABLE.sources, "BigBuckBunny"]).passed
    assert not ship_gate(everything, expected_sources=TABLE.sources[1:]).passed
    assert ship_gate(everything, expected_sources=TABLE.sources[::-1]).passed


def test_a_fold_that_was_judged_on_fewer_rows_refuses():
    assert "source3 was judged on 23 rows" in str(ship_gate(report(source3={"n": 23})).reasons)


def test_every_seed_is_looked_at():
    holes = evaluate("x", TABLE, np.where(TABLE.frame == 0, np.nan, TABLE.target))
    shown = LosoReport(TABLE, "made up", (0, 1), {0: PERFECT, 1: holes}, {})
    assert any(reason.startswith("seed 1:") for reason in ship_gate(shown).reasons)
    assert integrity_problems(replace(shown, members={})) == ["the report has no predictions"]


def floored(offset, floor_offset):
    members = {0: evaluate("x", TABLE, TABLE.target - offset)}
    return LosoReport(TABLE, "made up", (0,), members, {"ridge": evaluate("ridge", TABLE, TABLE.target - floor_offset)})


@pytest.mark.parametrize(
    "offset, floor_offset, broken",
    [
        (0.5, 2.0, []),
        (0.5, 0.4, ["pooled RMSE / best floor's"]),
        (2.0, 5.0, ["absolute bias"]),
        (5.0, 9.0, ["worst source RMSE", "absolute bias"]),
        (9.0, 5.0, ["pooled RMSE / best floor's", "worst source RMSE", "absolute bias"]),
    ],
)
def test_strict_gates_on_what_correlation_cannot_see(offset, floor_offset, broken):
    shown = floored(offset, floor_offset)
    assert ship_gate(shown).passed
    verdict = ship_gate(shown, strict=True)
    assert [reason.split(" is ")[0] for reason in verdict.reasons] == broken
    assert verdict.passed == (not broken)
    assert {rule.name for rule in STRICT_RULES} <= {each.name for each in ship_gate(shown).checks}


def test_strict_needs_floors():
    assert not ship_gate(report(), strict=True).passed


@pytest.mark.parametrize("threshold", [math.nan, 0, -1, 1.01, math.inf])
def test_thresholds_that_are_no_correlations_are_refused(threshold):
    with pytest.raises(BadInput, match="expected a correlation"):
        ship_gate(report(), threshold)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("comparison", ["at least", "at most", "below", "equal to", ""])
def test_no_comparison_passes_what_is_undefined(value, comparison):
    assert not check("x", value, comparison, 0.0, True, "").passed


def test_the_verdict_of_another_report_does_not_ship_a_model(tmp_path):
    shown = small_report()
    verdict = ship_gate(replace(shown, members={0: evaluate("x", shown.table, shown.table.target)}))
    assert verdict.passed
    with pytest.raises(ShipRefused, match="judged another report"):
        package_model("x", shown, verdict, tmp_path / "model", CORPUS, "", "")
    assert not (tmp_path / "model").exists()
