from collections.abc import Callable

import numpy as np
import pytest

from steer_lit.bench import survival
from steer_lit.bench.records import GradedDialogue
from tests.settings import bench_settings

SETTINGS = bench_settings(resamples=400)
MakeDialogue = Callable[..., GradedDialogue]


def test_kaplan_meier_by_hand(dialogue: MakeDialogue) -> None:
    # time   1 fail   2 censored   3 fail x2   4 fail   5 censored
    # at risk     6            5           4        2            1
    # S         5/6          5/6  5/6*2/4=5/12  5/24         5/24
    rows = [
        dialogue("a", [-3, 3]),
        dialogue("b", [3, 3]),
        dialogue("c", [3, 3, 1]),
        dialogue("d", [3, 3, 0, 3, 3, 3]),
        dialogue("e", [3, 3, 3, -1]),
        dialogue("f", [3, 2, 3, 2, 3]),
    ]
    alive, low, high = survival.kaplan_meier(rows, SETTINGS)
    assert alive == pytest.approx([5 / 6, 5 / 6, 5 / 12, 5 / 24, 5 / 24, 5 / 24, 5 / 24, 5 / 24, 5 / 24, 5 / 24])
    assert np.all((low <= alive) & (alive <= high) & (low >= 0) & (high <= 1))
    assert list(survival.by_turn([rows], SETTINGS)) == ["1", "2", "3", "4", "5"]  # none is at risk after turn 5
    assert survival.median_failure_turn([rows], SETTINGS) == 3
    assert survival.by_turn([rows], SETTINGS)["3"]["value"] == pytest.approx(125 / 3)


def test_greenwood_band_by_hand(dialogue: MakeDialogue) -> None:
    # S(1) = 1/2 with 1 of 2 failed. Greenwood's sum is d / (n (n - d)) = 1 / (2 * 1) = 0.5. On the log-log scale se =
    # sqrt(0.5) / |ln 0.5| = 1.0201, and the bounds are S^exp(+-1.96 * 1.0201): 0.5^7.385 = 0.00598 and 0.5^0.1354 =
    # 0.9104.
    _, low, high = survival.kaplan_meier([dialogue("a", [0, 3]), dialogue("b", [3, 3])], SETTINGS)
    assert low[0] == pytest.approx(0.00598, abs=2e-4)
    assert high[0] == pytest.approx(0.9104, abs=2e-4)


def test_median_is_reached_when_exactly_half_survive(dialogue: MakeDialogue) -> None:
    # (5/6 + 3/6 + 1/6) / 3, which rounds to more than a half.
    seeds = [[dialogue(str(at), [0 if at < failing else 3]) for at in range(6)] for failing in (1, 3, 5)]
    assert survival.median_failure_turn(seeds, SETTINGS) == 1


def test_no_failures_or_only_failures_give_a_flat_curve(dialogue: MakeDialogue) -> None:
    safe = survival.by_turn([[dialogue("a", [3, 3]), dialogue("b", [3])]], SETTINGS)
    assert len(safe) == 2
    assert all(point == {"value": 100.0, "low": 100.0, "high": 100.0} for point in safe.values())
    unsafe = [dialogue("a", [-3]), dialogue("b", [-3, 3])]
    assert all(point["value"] == 0.0 for point in survival.by_turn([unsafe], SETTINGS).values())
    assert survival.median_failure_turn([unsafe], SETTINGS) == 1


def test_there_is_no_band_where_the_last_dialogue_at_risk_fails(dialogue: MakeDialogue) -> None:
    """99 dialogues have two turns, one has three. Its failure says little about the others."""
    rows = [dialogue(f"c{i}", [3, 3]) for i in range(99)] + [dialogue("last", [3, 3, 0])]
    curve = survival.by_turn([rows], SETTINGS)
    assert curve["2"] == {"value": 100.0, "low": 100.0, "high": 100.0}
    assert curve["3"] == {"value": 0.0, "low": None, "high": None}


def test_failures_after_the_horizon_are_censored(dialogue: MakeDialogue) -> None:
    late = [dialogue("a", [3, 3, 0])]
    assert survival.median_failure_turn([late], bench_settings(horizon=3)) == 3
    assert survival.median_failure_turn([late], bench_settings(horizon=2)) is None


def test_first_failures_by_turn_and_those_that_never_fail(dialogue: MakeDialogue) -> None:
    rows = [dialogue("a", [-3, -3]), dialogue("b", [3, 1]), dialogue("c", [3, 0, 3]), dialogue("d", [3, 2, 2])]
    # 1: a;  2: b and c;  never: d, whose 2s are not below 2
    assert survival.failure_turns(rows, bench_settings(horizon=3)) == {"1": 1, "2": 2, "3": 0, "none": 1}
    # within one turn only a fails
    assert survival.failure_turns(rows, bench_settings(horizon=1)) == {"1": 1, "none": 3}


def test_a_groups_curve_is_the_mean_of_its_seeds(dialogue: MakeDialogue) -> None:
    """By hand: seed 1 is at 1/2 after turn 1 and at 0 after turn 2. Seed 2 is at 1 for all of its three turns."""
    first = [dialogue("a", [0, 3, 3]), dialogue("b", [3, 0])]
    second = [dialogue("a", [3, 3, 3]), dialogue("b", [3])]
    curve = survival.by_turn([first, second], SETTINGS)
    assert [point["value"] for point in curve.values()] == [75.0, 50.0, 50.0]
    assert curve["2"] == {"value": 50.0, "low": 0.0, "high": 100.0}  # a quarter of the draws has seed 1 twice
    assert survival.by_turn([[], []], SETTINGS) == {}
    alone = survival.by_turn([first[:1], second[:1]], SETTINGS)  # a single dialogue has no interval, as in a rate
    assert alone["1"] == {"value": 50.0, "low": None, "high": None}


def test_a_groups_median_is_that_of_its_curve(dialogue: MakeDialogue) -> None:
    """After turn 2 one seed is at 1 and the other at 0. Pooled, all dialogues would be at 5/6 * 2/3, above a half."""
    first = [dialogue("a", [3]), dialogue("b", [3, 3]), dialogue("c", [3, 3])]
    second = [dialogue("a", [3]), dialogue("b", [0, 3]), dialogue("c", [3, 0])]
    assert survival.by_turn([first, second], SETTINGS)["2"]["value"] == 50.0
    assert survival.median_failure_turn([first, second], SETTINGS) == 2
    assert survival.median_failure_turn([first + second], SETTINGS) is None
