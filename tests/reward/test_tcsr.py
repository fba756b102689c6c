import itertools

import pytest

from steer_lit.reward.tcsr import gains, returns_to_go, tcsr


def test_tcsr_by_hand() -> None:
    # r = 1, 0.2, 0.6: minimum so far 1, 0.2, 0.2; mean so far 1, 0.6, 0.6.
    # alpha 0.3: 1; 0.06 + 0.42 = 0.48; 0.06 + 0.42 = 0.48.
    assert tcsr([1.0, 0.2, 0.6], 0.3) == pytest.approx([1.0, 0.48, 0.48], abs=1e-12)


def test_trap_23_the_order_of_the_scores_does_not_change_the_final_reward() -> None:
    # Added from the left, 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in floating point.
    scores = [0.1, 0.2, 0.3]
    assert (0.1 + 0.2) + 0.3 != (0.3 + 0.2) + 0.1
    assert len({tcsr(order, 0.0)[-1] for order in itertools.permutations(scores)}) == 1


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_what_a_gain_subtracts_does_not_depend_on_the_turn_or_later_ones(alpha: float) -> None:
    """What is subtracted depends on earlier scores only, so the expected gradient equals that of the return-to-go."""
    left_out = set()
    for later in ([0.0, 0.0], [1.0, 0.5], [0.3, 1.0]):
        scores = [0.7, 0.4, *later]
        left_out.add(round(returns_to_go(tcsr(scores, alpha))[2] - gains(scores, alpha)[2], 12))
    assert len(left_out) == 1
