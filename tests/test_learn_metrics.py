"""Metrics against scipy, scikit-learn, brute force and closed forms; ties and undefined values above all."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import max_error, mean_absolute_error, root_mean_squared_error

from vmaf_research.learn.metrics import (
    agreement,
    clip_agreement,
    cluster_bootstrap,
    compare_correlations,
    kendall,
    outlier_ratio,
    plcc,
    rmse,
    rmse_star,
    srocc,
)
from vmaf_research.measure.core import BadInput

SCORES = st.floats(0, 100, width=32)
COARSE = st.integers(0, 8).map(lambda step: 12.5 * step)  # many ties, some at both ends


def columns(elements, least=2, most=40):
    "Two columns of the same length."
    return st.integers(least, most).flatmap(
        lambda n: st.tuples(*[arrays(np.float64, n, elements=elements) for _ in range(2)])
    )


def average_ranks(values):
    "By counting: how many are smaller, and half of those that are equal."
    return np.array([np.sum(values < value) + (np.sum(values == value) + 1) / 2 for value in values])


@settings(deadline=None)
@given(columns(COARSE))
def test_srocc_is_the_correlation_of_average_ranks(both):
    ranks = [average_ranks(column) for column in both]
    expected = None if min(np.ptp(each) for each in both) == 0 else np.corrcoef(*ranks)[0, 1]
    assert srocc(*both) == (expected if expected is None else pytest.approx(expected, abs=1e-12))


@settings(deadline=None)
@given(columns(COARSE, most=25))
def test_kendall_is_tau_b_by_counting_pairs(both):
    first, second = both
    i, j = np.triu_indices(len(first), 1)
    signs = np.sign(first[i] - first[j]), np.sign(second[i] - second[j])
    untied = math.sqrt(np.sum(signs[0] != 0) * np.sum(signs[1] != 0))
    expected = None if untied == 0 else pytest.approx(np.sum(signs[0] * signs[1]) / untied, abs=1e-12)
    assert kendall(first, second) == expected


@settings(deadline=None)
@given(columns(COARSE), st.randoms(use_true_random=False))
def test_no_metric_depends_on_the_order_of_the_rows(both, random):
    order = list(range(len(both[0])))
    random.shuffle(order)
    once, again = agreement(*both), agreement(both[0][order], both[1][order])
    for name, value in once.to_json().items():
        other = again.to_json()[name]
        assert name == "nonsaturated" or other == (value if value is None else pytest.approx(value, abs=1e-9)), name


@settings(deadline=None)
@given(columns(COARSE))
def test_rank_correlations_see_the_order_only(both):
    prediction, target = both
    for correlation in (srocc, kendall):
        value = correlation(prediction, target)
        assert correlation(np.exp(prediction / 50), target) == value
        assert correlation(-prediction, target) == (value if value is None else pytest.approx(-value, abs=1e-12))


@settings(deadline=None)
@given(columns(SCORES))
def test_errors_are_those_of_scikit_learn(both):
    prediction, target = both
    found = agreement(prediction, target)
    assert found.rmse == pytest.approx(root_mean_squared_error(target, prediction), abs=1e-9)
    assert found.mae == pytest.approx(mean_absolute_error(target, prediction), abs=1e-9)
    assert found.max_abs_error == pytest.approx(max_error(target, prediction), abs=1e-9)
    assert found.bias == pytest.approx(prediction.mean() - target.mean(), abs=1e-9)
    assert found.rmse_star <= found.rmse + 1e-12
    assert found.outlier_ratio == np.mean(np.abs(prediction - target) > 1)


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    target = rng.uniform(0, 100, 500).round(-1)
    prediction = target + rng.normal(0, 5, 500)
    assert plcc(prediction, target) == stats.pearsonr(prediction, target).statistic
    assert srocc(prediction, target) == pytest.approx(stats.spearmanr(prediction, target).statistic)
    assert kendall(prediction, target) == pytest.approx(stats.kendalltau(prediction, target, variant="b").statistic)


@pytest.mark.parametrize("tied", [0.1, 0.3, 0.5, 0.72, 0.9])
def test_a_tied_block_costs_what_theory_says(tied):
    "Average ranks against a predictor that orders the tied block at random: the square root of 1 - p**3."
    rng, n = np.random.default_rng(1), 40_000
    target = np.where(np.arange(n) < tied * n, 100.0, rng.uniform(0, 99, n))
    prediction = target + rng.uniform(0, 0.5, n) * (target == 100)
    assert srocc(prediction, target) == pytest.approx(math.sqrt(1 - tied**3), abs=0.01)
    assert srocc(np.clip(prediction, 0, 100), target) == pytest.approx(1.0)
    assert agreement(prediction, target).srocc == pytest.approx(1.0)


@pytest.mark.parametrize("metric", [plcc, srocc, kendall])
@pytest.mark.parametrize(
    "prediction, target",
    [([], []), ([1], [2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [4, 4, 4]), ([1, np.nan, 3], [1, 2, 3]),
     ([1, 2, 3], [1, np.inf, 3])],
)  # fmt: skip
def test_undefined_correlations_are_none(metric, prediction, target):
    assert metric(np.array(prediction, dtype=float), np.array(target, dtype=float)) is None


def test_undefined_values_are_null_in_json():
    text = json.dumps(agreement([1.0, np.nan, 3.0], [1.0, 2.0, 100.0]).to_json(), allow_nan=False)
    found = json.loads(text)
    assert [found[name] for name in ("plcc", "rmse", "mae", "bias", "max_abs_error", "outlier_ratio")] == [None] * 6
    assert found["saturated_share"] == pytest.approx(1 / 3)
    assert found["nonsaturated"]["n"] == 2


def test_saturated_rows_are_those_at_either_end():
    found = agreement([-5.0, 10, 50, 90, 130], [0.0, 10, 50, 90, 100])
    assert found.saturated_share == 0.4
    assert (found.rmse, found.nonsaturated.n) == (0.0, 3)


def test_tolerances_may_differ_from_row_to_row():
    error, tolerance = np.array([0.5, -2.0, 3.0, 0.0]), np.array([1.0, 1.0, 3.0, 0.0])
    target = np.array([10.0, 20.0, 30.0, 40.0])
    assert outlier_ratio(target + error, target, tolerance) == 0.25
    assert rmse_star(target + error, target, tolerance) == pytest.approx(0.5)
    assert agreement(target + error, target, tolerance=tolerance).tolerance is None


def test_clip_level_metrics_are_those_of_the_means():
    rng = np.random.default_rng(2)
    numbers = {"p": rng.uniform(-20, 120, 300), "t": rng.uniform(0, 100, 300)}
    rows = pd.DataFrame({"name": rng.integers(0, 9, 300).astype(str), **numbers})
    means = rows.assign(p=rows.p.clip(0, 100)).groupby("name")[["p", "t"]].mean()
    found = clip_agreement(rows.p, rows.t, rows["name"])
    assert found.n == rows["name"].nunique()
    assert found.rmse == pytest.approx(root_mean_squared_error(means.t, means.p))
    assert found.plcc == pytest.approx(means.p.corr(means.t))


def mean_error(prediction, target):
    return np.mean(prediction - target)


def test_the_bootstrap_covers_a_new_corpus_about_as_often_as_it_says():
    "Corpora of 12 sources with an offset each; the true mean error is 0."
    rng, hits = np.random.default_rng(3), 0
    for _ in range(200):
        source = np.repeat(np.arange(12), 20)
        target = rng.uniform(0, 100, 240)
        prediction = target + rng.normal(0, 2, 12)[source] + rng.normal(0, 0.5, 240)
        interval = cluster_bootstrap(mean_error, prediction, target, source, n_resamples=200, level=0.9)
        hits += interval.low <= 0 <= interval.high
    assert 0.78 <= hits / 200 <= 0.96


def test_the_bootstrap_of_single_rows_is_the_ordinary_one():
    rng = np.random.default_rng(4)
    target = rng.uniform(0, 100, 400)
    prediction = target + rng.normal(0, 1, 400)
    interval = cluster_bootstrap(rmse, prediction, target, np.arange(400))
    ordinary = stats.bootstrap(
        ((prediction - target) ** 2,), lambda x, axis: np.sqrt(np.mean(x, axis=axis)), method="percentile", rng=rng
    ).confidence_interval
    assert interval.low == pytest.approx(ordinary.low, abs=0.02)
    assert interval.high == pytest.approx(ordinary.high, abs=0.02)
    assert interval.low < interval.estimate < interval.high


@given(st.floats(-0.99, 0.99), st.floats(-0.99, 0.99), st.integers(4, 200), st.integers(4, 200))
def test_comparing_correlations_is_antisymmetric(first, second, n_first, n_second):
    z, p_value = compare_correlations(first, n_first, second, n_second)
    turned = compare_correlations(second, n_second, first, n_first)
    assert z == pytest.approx(-turned[0], abs=1e-12)
    assert 0 <= p_value <= 1 and p_value == pytest.approx(turned[1])
    expected = (math.atanh(first) - math.atanh(second)) / math.sqrt(1 / (n_first - 3) + 1 / (n_second - 3))
    assert z == pytest.approx(expected)


def test_comparing_correlations_errs_as_often_as_it_says():
    "Two samples of the same population: significant at 95 % in about 5 % of the cases."
    rng, count = np.random.default_rng(5), 0
    for _ in range(400):
        both = [rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 30).T for _ in range(2)]
        count += compare_correlations(plcc(*both[0]), 30, plcc(*both[1]), 30)[1] < 0.05
    assert 0.02 <= count / 400 <= 0.09


@pytest.mark.parametrize("first, n", [(None, 9), (float("nan"), 9), (1.0, 9), (-1.0, 9), (0.5, 3)])
def test_correlations_that_cannot_be_compared_are_refused(first, n):
    with pytest.raises(BadInput, match="at least 4 pairs"):
        compare_correlations(first, n, 0.5, 9)
    with pytest.raises(BadInput, match="at least 4 pairs"):
        compare_correlations(0.5, 9, first, n)


def test_shapes_must_agree():
    for prediction, target in [([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]])]:
        with pytest.raises(BadInput, match="one each per row"):
            agreement(prediction, target)
