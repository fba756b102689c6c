"""The one bootstrap: clusters of dialogues are drawn with replacement, and so are the seeds of a training.

Every figure is made of sums over dialogues, so a draw is a vector of how often each unit was drawn, and its sums are
the product of that vector with the units' values. The result equals scipy's percentile bootstrap, draw by draw
(tests/bench/test_resampling.py). scipy's function would need a statistic of indices, and resamples one axis only.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DIGITS = 6  # of every figure in a summary: more than a report shows, or it would round what is rounded already
_AT_ONCE = 1 << 21  # units drawn in one step, so that memory does not grow with the number of draws


class Rate(TypedDict):
    """A share in percent, or a difference of two in points, and its 95% interval."""

    value: float | None
    low: float | None
    high: float | None


NO_RATE: Rate = {"value": None, "low": None, "high": None}  # without data


class Draws:
    """The random draws of one figure. Each call draws anew; another object of the same seed repeats the draws.

    The last axis of a result is [1 + resamples]: first the sample itself, then the resamples.
    """

    def __init__(self, seed: int, resamples: int) -> None:
        self._rng, self._resamples = np.random.default_rng(seed), resamples

    def sums(self, units: Array) -> Array:
        """Sum `units`, [..., units] with at least one unit, over resamples of the same size: [..., 1 + resamples]."""
        count = units.shape[-1]
        sums, step = [units.sum(axis=-1, keepdims=True)], max(1, _AT_ONCE // count)
        for start in range(0, self._resamples, step):
            size = min(step, self._resamples - start)
            drawn = self._rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
            weights = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
            sums.append(units @ weights.T)
        return np.concatenate(sums, axis=-1)

    def over_seeds(self, figures: Array) -> Array:
        """Average `figures`, [seeds, ..., 1 + resamples], over resampled seeds: [..., 1 + resamples]."""
        weights = self.sums(np.eye(len(figures))) / len(figures)
        return np.asarray(np.einsum("sd,s...d->...d", weights, figures))


def rate_of(figures: Array, units: int) -> Rate:
    """Return the rate of a figure over `units` units from its draws, [1 + resamples]. One unit gives no interval.

    Intervals are percentile, not BCa: BCa is undefined when all dialogues agree, as a constant policy's may.
    """
    points = np.concatenate([figures[:1], np.quantile(figures[1:], (0.025, 0.975))])
    value, low, high = np.round(100 * points, DIGITS).tolist()
    return {"value": value, "low": low, "high": high} if units > 1 else {"value": value, "low": None, "high": None}
