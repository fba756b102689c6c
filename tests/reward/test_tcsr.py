import itertools

import pytest

from steer_lit.reward.tcsr import gains, returns_to_go, tcsr


def test_tcsr_by_hand() -> None:
    # r = 1, 0.2, 0.6: minimum so far 1, 0.2, 0.2; mean so far 1, 0.6, 0.6.
    # alpha 0.3: 1; 0.06 + 0.42 = 0.48; 0.06 + 0.42 = 0.48.
    assert tcsr([1.0, 0.2, 0.6], 0.3) == pytest.approx([1.0, 0.48, 0.48], abs=1e-12)


def test_alpha_zero_is_the_running_mean_and_one_the_running_minimum() -> None:
    assert tcsr([0.5, 1.0, 0.0], 0.0) == pytest.approx([0.5, 0.75, 0.5], abs=1e-12)
    assert tcsr([0.5, 1.0, 0.0], 1.0) == [0.5, 0.5, 0.0]


def test_a_failure_lowers_every_later_turn_and_no_earlier_one() -> None:
    safe, broken = tcsr([0.9] * 5, 0.3), tcsr([0.9, 0.9, 0.1, 0.9, 0.9], 0.3)
    assert broken[:2] == safe[:2]
    assert all(low < high for low, high in zip(broken[2:], safe[2:], strict=True))


def test_trap_23_the_order_of_the_scores_does_not_change_the_final_reward() -> None:
    # Added from the left, 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in floating point.
    scores = [0.1, 0.2, 0.3]
    assert (0.1 + 0.2) + 0.3 != (0.3 + 0.2) + 0.1
    assert len({tcsr(order, 0.0)[-1] for order in itertools.permutations(scores)}) == 1


def test_returns_to_go_by_hand() -> None:
    assert returns_to_go([1.0, 0.48, 0.48]) == pytest.approx([1.96, 0.96, 0.48], abs=1e-12)


def test_no_turns_give_no_rewards() -> None:
    assert tcsr([], 0.3) == []
    assert returns_to_go([]) == []


def test_gains_by_hand() -> None:
    """Scores 1, 0.2, 1 at alpha 0.3 give turn rewards 1, 0.48 and 0.06 + 0.7 * 2.2 / 3 = 0.57333.

    Before turn 2 the minimum is 1 and the sum is 1. They alone give 0.3 + 0.7 / 2 = 0.65 of its own reward and 0.3 +
    0.7 / 3 = 0.53333 of turn 3's. Before turn 3 the minimum is 0.2 and the sum 1.2. They alone give 0.06 + 0.7 * 1.2 /
    3 = 0.34.
    """
    assert gains([1.0, 0.2, 1.0], 0.3) == pytest.approx([2.053333, -0.13, 0.233333], abs=1e-6)
    assert gains([], 0.3) == []


def test_a_gain_does_not_see_scores_before_its_turn_unless_they_are_the_minimum() -> None:
    """With alpha 0 the last turn's gain is its own share of the mean. Its return-to-go depends on earlier scores."""
    good, bad = [1.0, 1.0, 0.4], [0.1, 0.3, 0.4]
    assert gains(good, 0.0)[-1] == pytest.approx(0.4 / 3) == gains(bad, 0.0)[-1]
    assert returns_to_go(tcsr(good, 0.0))[-1] != pytest.approx(returns_to_go(tcsr(bad, 0.0))[-1])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_what_a_gain_subtracts_does_not_depend_on_the_turn_or_later_ones(alpha: float) -> None:
    """What is subtracted depends on earlier scores only, so the expected gradient equals that of the return-to-go."""
    left_out = set()
    for later in ([0.0, 0.0], [1.0, 0.5], [0.3, 1.0]):
        scores = [0.7, 0.4, *later]
        left_out.add(round(returns_to_go(tcsr(scores, alpha))[2] - gains(scores, alpha)[2], 12))
    assert len(left_out) == 1
