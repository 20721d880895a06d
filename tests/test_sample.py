"Samples of a series: how often the promise is kept, what is said about other poolings, and when all is looked at."

import numpy as np
import pytest

from vmaf_research import sample_mean
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.sample import draw_sample


def shot(rng, frames, level, rhythm=1.5):
    "A slow walk around a level, with the rhythm of B pictures and a first frame without motion."
    steps = np.cumsum(rng.normal(0, 0.3, frames))
    pattern = np.resize(rng.normal(0, rhythm, 8), frames)
    scores = level + steps - steps.mean() + pattern
    scores[0] -= 8
    return scores


def title(seed, frames=15_000):
    rng = np.random.default_rng(seed)
    shots = [shot(rng, int(rng.integers(40, 300)), rng.choice([70, 85, 95])) for _ in range(frames // 40)]
    return np.clip(np.concatenate(shots)[:frames], 0, 100)


def with_a_bad_shot(series):
    series = series.copy()
    series[5_000:5_400] -= 60
    return np.clip(series, 0, 100)


def with_drops(series):
    series = series.copy()
    for start in range(700, len(series), 1_000):
        series[start : start + 4] = 10
    return series


CONTENTS = {
    "shots": title(1),
    "a bad shot": with_a_bad_shot(title(2)),
    "drops": with_drops(title(3)),
    "still": np.full(12_000, 97.4),
    "mostly still": np.concatenate([np.full(7_000, 97.4), title(4, 1_000), np.full(7_000, 97.4)]),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_the_promise_is_kept(name):
    series, mean = CONTENTS[name], CONTENTS[name].mean()
    replays = [sample_mean(series, within=0.5, seed=seed) for seed in range(60)]
    assert np.mean([each.low <= mean <= each.high for each in replays]) >= 0.9
    assert np.mean([each.share for each in replays]) <= 0.1
    for each in replays:
        assert each.high - each.low == pytest.approx(1.0)
        assert sum(end - start for start, end in each.pieces) == round(each.share * len(series)) == len(each.weights)
        assert each.weights.sum() == pytest.approx(1)
        looked = np.concatenate([series[start:end] for start, end in each.pieces])
        assert each.weights @ looked == pytest.approx(each.mean)
        assert each.pooled["min"].high == looked.min() >= series.min() and each.pooled["min"].low is None


def test_stretches_that_end_at_cuts_need_fewer_looks_and_frames():
    rng = np.random.default_rng(7)
    shots = [shot(rng, 240, rng.choice([60, 75, 90, 97])) for _ in range(62)]
    series, cuts = np.clip(np.concatenate(shots), 0, 100), range(240, 62 * 240, 240)
    asked = []

    def look(pieces):
        asked.append(len(pieces))
        return np.concatenate([series[start:end] for start, end in pieces])

    told = [draw_sample(len(series), look, within=0.5, seed=seed, cuts=cuts) for seed in range(30)]
    blind = [sample_mean(series, within=0.5, seed=seed) for seed in range(30)]
    assert np.mean([each.low <= series.mean() <= each.high for each in told]) >= 0.9
    assert np.mean([each.share for each in told]) < np.mean([each.share for each in blind])
    assert min(asked) > 0 and told[3] == sample_mean(series, within=0.5, seed=3, cuts=cuts)


def test_what_is_said_of_percentiles_holds():
    series = CONTENTS["shots"]
    for rank in (1, 5, 10):
        said = [sample_mean(series, within=0.5, seed=seed).pooled[f"p{rank}"] for seed in range(60)]
        true = np.percentile(series, rank)
        assert np.mean([(each.low is None or each.low <= true) and true <= each.high for each in said]) >= 0.9


def test_where_a_sample_would_cost_as_much_the_whole_is_looked_at():
    clip = shot(np.random.default_rng(5), 250, 80)
    for series in (clip, clip[:1], clip[:7]):
        found = sample_mean(series, within=0.5)
        assert found.share == 1 and found.low == found.high == found.mean == pytest.approx(series.mean())
        assert found.note.startswith("exact: ") and found.pooled["p5"].value == pytest.approx(np.percentile(series, 5))
    wild = np.random.default_rng(6).uniform(0, 100, 9_000)
    assert "differ too much" in sample_mean(wild, within=0.5).note


def test_a_seed_repeats_itself_and_another_looks_elsewhere():
    series = CONTENTS["shots"]
    assert sample_mean(series, seed=4) == sample_mean(series, seed=4)
    assert sample_mean(series, seed=4).pieces != sample_mean(series, seed=5).pieces
    assert sample_mean(series, within=0.5).share < sample_mean(series, within=0.25).share
    assert sample_mean(series, within=2).share < 0.03


@pytest.mark.parametrize("options", [{"within": 0}, {"within": np.nan}, {"confidence": 1}, {"confidence": 0.2}])
def test_promises_that_make_no_sense(options):
    with pytest.raises(BadInput, match="expected"):
        sample_mean(CONTENTS["still"], **options)
