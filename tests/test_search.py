"""The search for a quality value, over many made-up curves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vmaf_research.measure.core import BadInput, EngineError
from vmaf_research.predict.search import PATIENCE, Status, Trial, condition, prior_from_curves, search, wide_prior

QUALITIES = np.arange(12, 40)
scores = arrays(float, len(QUALITIES), elements=st.floats(0, 100))
targets = st.floats(0, 100)


def logistic_curves(centers, width=5.0, qualities=QUALITIES):
    "Curves like those of an encoder: from 100 down, with their middle at different quality values."
    return 100 / (1 + np.exp((qualities - np.asarray(centers)[:, None]) / width))


PRIOR = prior_from_curves(QUALITIES, logistic_curves([24, 26, 27, 29, 33]))


def run(curve, target, prior=PRIOR):
    "A search on a curve, and the values that it asked for."
    asked = []

    def measure(quality):
        asked.append(quality)
        return Trial(quality, float(curve[np.flatnonzero(prior.qualities == quality)[0]]))

    return search(measure, target, prior), asked


@given(curve=scores, target=targets)
@settings(max_examples=150, deadline=None)
def test_any_curve_ends_with_a_proof(curve, target):
    "Whatever the curve, rising or falling: the result is measured, and so is what proves it."
    result, asked = run(curve, target)
    by_quality = dict(zip(QUALITIES.tolist(), curve, strict=True))
    chosen = result.chosen.quality
    assert len(asked) == len(set(asked)) == len(result.trials) and chosen in asked
    assert len(asked) <= PATIENCE + np.ceil(np.log2(len(QUALITIES) + 1))
    if result.status is Status.UNREACHABLE:
        assert chosen == QUALITIES[0] and all(by_quality[quality] < target for quality in asked)
        return
    assert by_quality[chosen] >= target
    assert not any(by_quality[quality] >= target for quality in asked if quality > chosen)
    if result.status is Status.OPTIMUM:
        assert chosen + 1 in asked and by_quality[chosen + 1] < target
    else:
        assert chosen == QUALITIES[-1]


@given(curve=scores.map(lambda values: np.sort(values)[::-1]), target=targets)
@settings(max_examples=150, deadline=None)
def test_falling_curves_give_the_worst_value_that_meets(curve, target):
    result, _ = run(curve, target)
    meets = QUALITIES[curve >= target]
    if len(meets):
        assert result.chosen.quality == meets.max() and result.status is not Status.UNREACHABLE
    else:
        assert result.status is Status.UNREACHABLE


def test_few_encodes_on_ordinary_curves():
    "Curves of other widths and places than those of the prior still need a handful, of 28 values."
    curves = [logistic_curves([center], width)[0] for center in range(6, 50, 4) for width in (2, 3, 5, 9)]
    asked = [len(run(curve, target)[1]) for curve in curves for target in range(20, 98, 7)]
    assert np.mean(asked) < 5 and np.quantile(asked, 0.9) <= 6


def test_the_prior_saves_encodes():
    "A clip like the others needs fewer encodes than the same clip with a prior that knows nothing."
    curve = logistic_curves([28])[0]
    known, wide = (
        np.mean([len(run(curve, target, prior)[1]) for target in range(40, 96, 5)])
        for prior in (PRIOR, wide_prior(QUALITIES, np.full(len(QUALITIES), 50.0)))
    )
    assert known < wide - 1


def test_a_falling_order_of_values():
    "An encoder whose higher values are better: best first means descending."
    values = QUALITIES[::-1]
    prior = prior_from_curves(values, logistic_curves([24, 27, 33]))
    result, _ = run(logistic_curves([28])[0], 60, prior)
    worse = values[np.flatnonzero(values == result.chosen.quality)[0] + 1]
    assert worse == result.chosen.quality - 1
    assert worse in [trial.quality for trial in result.trials]


@given(curve=scores, positions=st.lists(st.integers(0, len(QUALITIES) - 1), min_size=1, max_size=12, unique=True))
@settings(max_examples=60, deadline=None)
def test_conditioning_keeps_what_was_measured(curve, positions):
    "However unlikely the scores: they are reproduced, and every deviation is a finite number."
    known = condition(PRIOR, {int(QUALITIES[position]): float(curve[position]) for position in positions})
    assert np.array_equal(known.mean[positions], curve[positions])
    assert np.isfinite(known.mean).all() and np.isfinite(known.deviation).all()


def test_what_measuring_raises_is_passed_on():
    def broken(quality):
        raise EngineError(f"the encoder failed at {quality}")

    with pytest.raises(EngineError, match="the encoder failed at"):
        search(broken, 80, PRIOR)
    for target in (-1, 100.5, float("nan")):
        with pytest.raises(BadInput, match="expected a VMAF score"):
            search(broken, target, PRIOR)
