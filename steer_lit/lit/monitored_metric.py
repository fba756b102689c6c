"""The metric that sums up a run: the closing line shows it, and it decides which adapter is best."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MonitoredMetric:
    """The name under which a metric is logged, and whether less is better, as for a loss."""

    name: str
    less_is_better: bool = False

    def better(self, value: float, best: float | None) -> bool:
        """Return whether `value` is strictly better than `best`; None is no value yet. NaN is never better."""
        if best is None:
            return not math.isnan(value)
        return value < best if self.less_is_better else value > best


VAL_LOSS = MonitoredMetric("val/loss", less_is_better=True)
EXACT_SHARE = MonitoredMetric("val/exact_share")
RIGHT_SHARE = MonitoredMetric("val/right_share")
