"""The bootstrap compared with scipy's, which draws the same numbers, and with results that can be enumerated."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from steer_lit.bench import resampling
from steer_lit.bench.resampling import Draws, rate_of


def test_a_ratios_interval_equals_scipys_percentile_bootstrap() -> None:
    rng = np.random.default_rng(5)
    passed, counted = rng.integers(0, 2, size=40).astype(float), rng.integers(1, 4, size=40).astype(float)

    def ratio(units: np.ndarray, axis: int = -1) -> np.ndarray:
        return passed[units].sum(axis=axis) / counted[units].sum(axis=axis)

    theirs = bootstrap(
        (np.arange(40),), ratio, vectorized=True, method="percentile", n_resamples=500,
        random_state=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    ours = rate_of(np.divide(*Draws(seed=3, resamples=500).sums(np.stack([passed, counted]))), units=40)
    assert ours["value"] == pytest.approx(100 * passed.sum() / counted.sum())
    assert (ours["low"], ours["high"]) == pytest.approx((100 * theirs.low, 100 * theirs.high))


def test_every_draw_has_the_samples_size_and_the_first_is_the_sample() -> None:
    weights = Draws(seed=0, resamples=300).sums(np.eye(7))
    assert weights.shape == (7, 301)
    assert weights[:, 0].tolist() == [1.0] * 7
    assert set(weights.sum(axis=0)) == {7.0}
    assert weights[:, 1:].mean(axis=1) == pytest.approx(np.ones(7), abs=0.2)
    assert len(np.unique(weights, axis=1).T) > 200


def test_draws_do_not_depend_on_the_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 draws of the whole benchmark would not fit in memory at once."""
    whole = Draws(seed=0, resamples=50).sums(np.eye(7))
    for at_once in (1, 20, 7 * 49):
        monkeypatch.setattr(resampling, "_AT_ONCE", at_once)
        assert np.array_equal(Draws(seed=0, resamples=50).sums(np.eye(7)), whole)


def test_successive_draws_are_independent_and_reproducible() -> None:
    draws = Draws(seed=0, resamples=2000)
    first, second = draws.sums(np.array([1.0, 0.0]))[1:], draws.sums(np.array([1.0, 0.0]))[1:]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1
    assert Draws(seed=0, resamples=2000).sums(np.array([1.0, 0.0]))[1:].tolist() == first.tolist()


def test_one_seed_is_not_resampled_and_two_are() -> None:
    draws, alone = Draws(seed=0, resamples=400), np.arange(401.0)[None]
    assert draws.over_seeds(alone).tolist() == alone[0].tolist()
    apart = draws.over_seeds(np.stack([np.zeros((3, 401)), np.ones((3, 401))]))  # [seeds, turns, draws]
    assert apart.shape == (3, 401)
    assert apart[:, 0].tolist() == [0.5] * 3
    assert {0.0, 0.5, 1.0} == set(apart[0, 1:])
    assert (apart == apart[:1]).all()  # a seed is drawn with its whole curve
    assert np.mean(apart[0, 1:] == 0) == pytest.approx(0.25, abs=0.06)


def test_intervals_by_hand() -> None:
    # 41 draws 0, 1/40, ..., 1: the 2.5% quantile is the draw with 1 of 40 below it.
    figures = np.concatenate([[0.6], np.arange(41) / 40])
    assert rate_of(figures, units=2) == {"value": 60.0, "low": 2.5, "high": 97.5}
    assert rate_of(np.full(101, 0.25), units=1) == {"value": 25.0, "low": None, "high": None}
