"""Which of two values of a headline is the better one."""

from __future__ import annotations

import math

import pytest

from steer_lit.lit.headline import EXACT_SHARE, RIGHT_SHARE, VAL_LOSS, Headline


@pytest.mark.parametrize(("headline", "low_wins"), [(VAL_LOSS, True), (RIGHT_SHARE, False), (EXACT_SHARE, False)])
def test_less_is_better_of_a_loss_alone(headline: Headline, low_wins: bool) -> None:
    assert headline.better(0.2, 0.5) is low_wins
    assert headline.better(0.5, 0.2) is not low_wins


@pytest.mark.parametrize("headline", [VAL_LOSS, RIGHT_SHARE])
def test_the_first_counts_equal_ones_and_no_number_do_not(headline: Headline) -> None:
    assert headline.better(0.5, None)
    assert not headline.better(0.5, 0.5)
    assert not headline.better(math.nan, None)
    assert not headline.better(math.nan, 0.5)
