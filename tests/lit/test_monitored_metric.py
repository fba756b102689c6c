"""Which of two values of a monitored metric is the better one."""

from __future__ import annotations

import math

import pytest

from steer_lit.lit.monitored_metric import EXACT_SHARE, RIGHT_SHARE, VAL_LOSS, MonitoredMetric


@pytest.mark.parametrize(("monitored", "low_wins"), [(VAL_LOSS, True), (RIGHT_SHARE, False), (EXACT_SHARE, False)])
def test_less_is_better_of_a_loss_alone(monitored: MonitoredMetric, low_wins: bool) -> None:
    assert monitored.better(0.2, 0.5) is low_wins
    assert monitored.better(0.5, 0.2) is not low_wins


@pytest.mark.parametrize("monitored", [VAL_LOSS, RIGHT_SHARE])
def test_the_first_counts_equal_ones_and_no_number_do_not(monitored: MonitoredMetric) -> None:
    assert monitored.better(0.5, None)
    assert not monitored.better(0.5, 0.5)
    assert not monitored.better(math.nan, None)
    assert not monitored.better(math.nan, 0.5)
