"""The one bootstrap: clusters of dialogues are drawn with replacement, and the seeds of a training among themselves.

Every figure here is made of sums over dialogues, so a draw is how often each unit was drawn, and its sums are a product
with the units' own. That is scipy's percentile bootstrap, with its draws (tests/bench/test_resampling.py); scipy's own
function wants a statistic of indices, and one axis for all that is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_AT_ONCE = 1 << 21  # units that are drawn in one step: what is held does not grow with the number of draws


class Rate(TypedDict):
    """A share in percent (or a difference of two, in points) and its 95% interval."""

    value: float | None
    low: float | None
    high: float | None


NO_RATE: Rate = {"value": None, "low": None, "high": None}  # of what nothing can be said about


@dataclass(slots=True)
class Draws:
    """Draws of one figure, each independent of those before; made anew, it gives the same ones.

    The last axis of what is drawn is [1 + resamples]: first the sample itself, then its draws.
    """

    rng: np.random.Generator
    resamples: int

    @classmethod
    def of(cls, seed: int, resamples: int) -> Draws:
        return cls(np.random.default_rng(seed), resamples)

    def sums(self, units: Array) -> Array:
        """What the `units`, [..., units], add up to when as many as there are, one or more, are drawn among them:
        [..., 1 + resamples].
        """
        count = units.shape[-1]
        parts, step = [units.sum(axis=-1, keepdims=True)], max(1, _AT_ONCE // count)
        for start in range(0, self.resamples, step):
            size = min(step, self.resamples - start)
            drawn = self.rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
            weights = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
            parts.append(units @ weights.T)
        return np.concatenate(parts, axis=-1)

    def over_seeds(self, figures: Array) -> Array:
        """The mean of `figures`, [seeds, ..., 1 + resamples], over seeds that are drawn: [..., 1 + resamples]."""
        weights = self.sums(np.eye(len(figures))) / len(figures)
        return np.asarray(np.einsum("sd,s...d->...d", weights, figures))


def intervals(figures: Array) -> Array:
    """Compute each figure in percent and its 95% interval, [..., 3], from its draws, [..., 1 + resamples].

    Percentile and not BCa: BCa is undefined when all dialogues agree, which constant policies bring about.
    """
    low, high = np.quantile(figures[..., 1:], (0.025, 0.975), axis=-1)
    return np.asarray(np.round(100 * np.stack([figures[..., 0], low, high], axis=-1), 2))


def rate_of(figures: Array, units: int) -> Rate:
    """A figure of so many units by its draws, [1 + resamples]: a single one has no interval."""
    value, low, high = intervals(figures).tolist()
    return {"value": value, "low": low, "high": high} if units > 1 else {"value": value, "low": None, "high": None}
