"""Which of two values of the monitored metric is better."""

from __future__ import annotations

import math

import pytest

from steer_lit.lit.monitored_metric import EXACT_SHARE, RIGHT_SHARE, VAL_LOSS, MonitoredMetric


@pytest.mark.parametrize(("monitored", "low_wins"), [(VAL_LOSS, True), (RIGHT_SHARE, False), (EXACT_SHARE, False)])
def test_smaller_is_better_for_a_loss_only(monitored: MonitoredMetric, low_wins: bool) -> None:
    assert monitored.better(0.2, 0.5) is low_wins
    assert monitored.better(0.5, 0.2) is not low_wins


@pytest.mark.parametrize("monitored", [VAL_LOSS, RIGHT_SHARE])
def test_the_first_value_counts_equal_values_and_nan_do_not(monitored: MonitoredMetric) -> None:
    assert monitored.better(0.5, None)
    assert not monitored.better(0.5, 0.5)
    assert not monitored.better(math.nan, None)
    assert not monitored.better(math.nan, 0.5)
