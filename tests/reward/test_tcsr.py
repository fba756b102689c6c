import itertools

import pytest

from steer_lit.reward.tcsr import returns_to_go, tcsr


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


def test_trap_23_the_order_of_the_scores_does_not_touch_the_last_bit_of_the_final_reward() -> None:
    # Summed from the left, 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in floating point.
    scores = [0.1, 0.2, 0.3]
    assert sum(scores) != sum(reversed(scores))
    assert len({tcsr(order, 0.0)[-1] for order in itertools.permutations(scores)}) == 1


def test_returns_to_go_by_hand() -> None:
    assert returns_to_go([1.0, 0.48, 0.48]) == pytest.approx([1.96, 0.96, 0.48], abs=1e-12)


def test_no_turns_give_no_rewards() -> None:
    assert tcsr([], 0.3) == []
    assert returns_to_go([]) == []
