"""Intervals promise what n sources can promise, whatever the residuals are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import make_table

from vmaf_research.learn.conformal import (
    UNITS,
    attainable_level,
    bounds,
    conformal_rank,
    distance_scale,
    sources_needed,
)
from vmaf_research.learn.intervals import _pooled_half_width, calibrate, measure_coverage, nested_coverage
from vmaf_research.learn.table import load_training_table
from vmaf_research.measure.core import BadInput

RESIDUALS = st.lists(st.lists(st.floats(-100, 100), min_size=1, max_size=6), min_size=1, max_size=8)


def columns(per_source):
    "Residuals of several sources as two columns."
    source = np.repeat([f"s{k}" for k in range(len(per_source))], [len(each) for each in per_source])
    return np.concatenate(per_source), source


def mean_share_inside(per_source, width):
    return np.mean([np.mean(np.abs(each) <= width) for each in per_source])


@given(RESIDUALS)
def test_frame_widths_are_the_least_that_reach_each_share(per_source):
    calibration = calibrate(*columns(per_source), "frame")
    count = len(per_source)
    everything = np.sort(np.abs(np.concatenate(per_source)))
    for number, width in enumerate(calibration.half_widths, start=1):
        assert mean_share_inside(per_source, width) >= number / count - 1e-6
        narrower = everything[everything < width]
        if len(narrower):
            assert mean_share_inside(per_source, narrower[-1]) < number / count - 1e-12


@given(RESIDUALS)
def test_clip_widths_hold_all_clips_of_so_many_sources(per_source):
    calibration = calibrate(*columns(per_source), "clip")
    for number, width in enumerate(calibration.half_widths, start=1):
        assert sum(bool(np.all(np.abs(each) <= width)) for each in per_source) >= number
    assert set(calibration.half_widths) <= set(calibration.greatest.values())


@given(RESIDUALS, st.sampled_from(UNITS), st.randoms(use_true_random=False))
def test_order_and_sign_do_not_matter_and_widths_do_not_decrease(per_source, unit, random):
    residual, source = columns(per_source)
    order = list(range(len(residual)))
    random.shuffle(order)
    calibration = calibrate(residual, source, unit)
    assert calibrate(-residual[order], source[order], unit) == calibration
    assert list(calibration.half_widths) == sorted(calibration.half_widths)
    assert calibration.half_widths[-1] == max(calibration.greatest.values()) == np.abs(residual).max()


@given(st.floats(0.001, 0.999), st.integers(1, 300))
def test_a_level_is_refused_exactly_when_there_are_too_few_sources(level, count):
    if sources_needed(level) <= count:
        assert 1 <= conformal_rank(level, count) <= count
        assert conformal_rank(level, count) >= (count + 1) * level - 1e-6
    else:
        with pytest.raises(BadInput, match=f"needs {sources_needed(level)} sources"):
            conformal_rank(level, count)


@pytest.mark.parametrize("count", range(1, 60))
def test_the_attainable_level_is_attained(count):
    assert conformal_rank(attainable_level(count), count) == count
    with pytest.raises(BadInput):
        conformal_rank(attainable_level(count) + 1e-4, count)


@pytest.mark.parametrize("level", [0, 1, -0.5, 1.5, 90])
def test_levels_that_are_none(level):
    with pytest.raises(BadInput, match="between 0 and 1"):
        conformal_rank(level, 9)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("level", [0.3, 0.5, 0.8])
def test_coverage_of_a_new_source_is_the_level_and_no_accident(unit, level):
    "Draws of exchangeable sources; a frame is inside (or all clips are) at least as often as promised."
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(800):
        spread = rng.lognormal(0, 1, 8)
        residual = rng.normal(0, np.repeat(spread, 10))
        source = np.repeat([f"s{k}" for k in range(8)], 10)
        known = source != "s7"
        inside = np.abs(residual[~known]) <= calibrate(residual[known], source[known], unit).half_width(level)
        hits.append(inside.mean() if unit == "frame" else inside.all())
    error = np.std(hits) / np.sqrt(len(hits))
    assert np.mean(hits) >= level - 3 * error


def test_bounds_stay_within_the_scale():
    calibration = calibrate(*columns([[3.0], [5.0]]), "frame")
    low, high = bounds(np.array([0.0, 1.0, 50.0, 99.0, 100.0]), calibration.half_width(0.6))
    assert low.tolist() == [0, 0, 45, 94, 95]
    assert high.tolist() == [5, 6, 55, 100, 100]


@pytest.mark.parametrize(
    ("residual", "source", "unit", "sentence"),
    [
        ([1.0, np.nan], ["a", "b"], "frame", "of b, is not finite"),
        ([1.0, np.inf], ["a", "b"], "clip", "of b, is not finite"),
        ([], [], "frame", "one each per frame"),
        ([1.0], ["a", "b"], "clip", "one each per clip"),
        ([1.0], ["a"], "shot", "expected one of frame, clip"),
    ],
)
def test_unusable_residuals(residual, source, unit, sentence):
    with pytest.raises(BadInput, match=sentence):
        calibrate(np.array(residual), np.array(source), unit)


def test_nested_coverage_looks_at_nothing_of_the_source_put_aside():
    "Half-widths for a source stay as they were when its own rows are predicted worse; its coverage falls."
    table = load_training_table(make_table(5, 3, 6))
    rng = np.random.default_rng(0)
    predictions = table.target + rng.normal(0, 2, (2, 5, len(table)))
    before = nested_coverage(table, predictions, level=0.8)
    own = table.source == "source2"
    worse = predictions.copy()
    worse[:, 2, own] = np.where(table.target[own] > 50, 0, 100)
    after = nested_coverage(table, worse, level=0.8)
    for method in ("by source", "pooled"):
        assert after.half_width.loc["source2", method] == before.half_width.loc["source2", method]
        assert after.inside.loc["source2", method] == 0 < before.inside.loc["source2", method]
    others = before.inside.index != "source2"
    assert after.inside[others].equals(before.inside[others])


def test_pooled_half_width_is_the_order_statistic():
    assert _pooled_half_width(np.arange(-9.0, 0.0), 0.9) == 9
    assert _pooled_half_width(np.arange(1.0, 100.0), 0.9) == 90
    assert _pooled_half_width(np.array([2.0, 1.0]), 0.9) == 2  # too few rows: the greatest there is


@given(st.floats(0.01, 100), st.sampled_from(UNITS))
def test_widths_of_an_ensemble_follow_its_spread_and_its_scale(factor, unit):
    rng = np.random.default_rng(2)
    source = np.repeat([f"s{k}" for k in range(6)], 20)
    spread = rng.lognormal(0, 1, 120)
    residual = spread * rng.normal(0, 1, 120)
    calibration, larger = (calibrate(c * residual, source, unit, c * spread) for c in (1, factor))
    assert np.allclose(larger.half_width(0.8, factor * spread), factor * calibration.half_width(0.8, spread))
    widest = calibration.half_width(6 / 7, spread)
    assert (np.abs(residual) <= widest * (1 + 1e-9)).all()
    assert np.argmax(widest) == np.argmax(spread)


def test_clips_of_an_unusual_source_get_wider_intervals():
    "Errors that grow with the distance from the other sources: a scale that knows it holds the farthest source."
    rng = np.random.default_rng(3)
    source, names = np.repeat([f"s{k}" for k in range(9)], 12), [f"s{k}" for k in range(9)]
    away = np.repeat([*np.linspace(0.5, 3, 8), 12.0], 12)
    scale = distance_scale(away, 2)
    residual = scale * rng.uniform(-1, 1, len(source))
    mean, spread = np.tile(-residual, (9, 1)), np.full((9, len(source)), 0.1)
    plain = measure_coverage(np.zeros(len(source)), source, mean, spread, 0.9, "clip")
    scaled = measure_coverage(np.zeros(len(source)), source, mean, spread, 0.9, "clip", np.tile(scale, (9, 1)))
    column = "by source, scaled"
    assert plain.inside.loc["s8", column] < 0.6 < 0.8 < scaled.inside.loc["s8", column]
    assert scaled.half_width[column].drop("s8").max() < scaled.half_width.loc["s8", column]
    assert list(scaled.inside.index) == names


def test_a_calibration_of_an_ensemble_is_not_that_of_one_network():
    source = np.repeat(["a", "b", "c"], 4)
    residual, spread = np.linspace(-2, 2, 12), np.linspace(0.1, 0.4, 12)
    with pytest.raises(BadInput, match="give the spread"):
        calibrate(residual, source, "frame", spread).half_width(0.5)
    with pytest.raises(BadInput, match="that of one number"):
        calibrate(residual, source, "frame").half_width(0.5, spread)
    with pytest.raises(BadInput, match="that of one number"):
        calibrate(residual, source, "clip").half_width(0.5, distance=spread)
    with pytest.raises(BadInput, match="copies have no spread"):
        calibrate(residual, source, "frame", np.zeros(12))
