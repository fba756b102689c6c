import math

import pytest

from steer_lit.lit.optim import lr_factor


def test_cosine_with_warm_up_by_hand() -> None:
    # 10 steps, warm-up 0.2: two rising steps at 1/3 and 2/3, then eight along half a cosine from 1 towards 0.
    factors = [lr_factor(step, 10, "cosine", 0.2) for step in range(10)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert factors[6] == pytest.approx(0.5)  # half way: cos(pi / 2) = 0
    assert factors[9] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))
    assert factors[2:] == sorted(factors[2:], reverse=True)


def test_constant_stays_after_warm_up() -> None:
    assert [lr_factor(step, 4, "constant", 0.25) for step in range(4)] == pytest.approx([0.5, 1.0, 1.0, 1.0])


def test_the_rate_never_comes_back_after_the_last_step() -> None:
    assert lr_factor(15, 10, "cosine", 0.0) == 0.0


def test_an_endless_run_has_a_constant_rate() -> None:
    assert lr_factor(10_000, math.inf, "cosine", 0.1) == 1.0
