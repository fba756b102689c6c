"""The metric that sums up a run: what its closing line shows, and what its best adapter is chosen by."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MonitoredMetric:
    """The name it is logged under, and whether less of it is better, as of a loss."""

    name: str
    less_is_better: bool = False

    def better(self, value: float, best: float | None) -> bool:
        """Whether `value` is strictly better than `best`, or the first there is. NaN, of nothing counted, never is."""
        if best is None:
            return not math.isnan(value)
        return value < best if self.less_is_better else value > best


VAL_LOSS = MonitoredMetric("val/loss", less_is_better=True)
EXACT_SHARE = MonitoredMetric("val/exact_share")
RIGHT_SHARE = MonitoredMetric("val/right_share")
