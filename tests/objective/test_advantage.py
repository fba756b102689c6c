import math

import pytest
import torch
from torch import Tensor

from steer_lit.objective.advantage import advantages, turn_advantages, usable_rows
from steer_lit.reward.tcsr import gains, tcsr

NAN = float("nan")


def close(actual: Tensor, expected: list) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=actual.dtype), atol=1e-6, rtol=0.0)


def test_scale_group_divides_by_the_groups_standard_deviation() -> None:
    # 3, 1, 2: (1 + 1 + 0) / (n - 1) = 1, deviation 1. 5, 5, 2: (1 + 1 + 4) / 2 = 3, deviation sqrt 3.
    values = torch.tensor([[3.0, 1.0, 2.0], [5.0, 5.0, 2.0]])
    root = math.sqrt(3.0)
    close(advantages(values, torch.ones(2, 3), "group"), [[1.0, -1.0, 0.0], [1 / root, 1 / root, -2 / root]])


@pytest.mark.parametrize("failed_value", [0.0, 100.0, NAN])
def test_trap_24_a_failed_row_has_no_vote_in_the_baseline(failed_value: float) -> None:
    values, valid = torch.tensor([[1.0, 1.0, 0.0, failed_value]]), torch.tensor([[True, True, True, False]])
    close(advantages(values, valid, "none"), [[1 / 3, 1 / 3, -2 / 3, 0.0]])  # baseline 2/3 over the valid ones
    # Deviation sqrt((1/9 + 1/9 + 4/9) / 2) = sqrt(1/3).
    root = math.sqrt(3.0)
    close(advantages(values, valid, "group"), [[root / 3, root / 3, -2 * root / 3, 0.0]])


# Equal in exact arithmetic: each turn's gain is what its own score adds, whatever turn 0 scored.
SAME_LATER = [[first, 0.91, 0.91] for first in (0.1, 0.19, 0.46, 0.64)]


@pytest.mark.parametrize("scale", ["none", "group"])
def test_trap_23_gains_that_differ_by_their_rounding_have_no_advantage(scale: str) -> None:
    values = torch.tensor([[gains(scores, 0.3) for scores in SAME_LATER]], dtype=torch.float64)
    assert 0 < (values[0, :, 1:].amax(0) - values[0, :, 1:].amin(0)).max() < 1e-14
    result = turn_advantages(values, torch.ones(1, 4, 3), torch.ones(1, 4), scale)
    assert torch.equal(result[..., 1:], torch.zeros(1, 4, 2, dtype=torch.float64))
    assert result[..., 0].abs().min() > 0


@pytest.mark.parametrize("scale", ["none", "group"])
@pytest.mark.parametrize(
    ("size", "scores"),
    [
        (1e9, ([0.1, 0.5], [0.2, 0.4])),
        (1.0, ([round(7 / 30, 12), 0.3], [round(8 / 30, 12)] * 2)),  # as with weights of 1/3
    ],
)
def test_trap_23_equal_means_of_other_scores_have_no_advantage(scale: str, size: float, scores: tuple) -> None:
    values = torch.tensor([[size * tcsr(row, 0.0)[-1] for row in scores]], dtype=torch.float64)
    assert values[0, 0] != values[0, 1]
    assert torch.equal(advantages(values, torch.ones(1, 2), scale), torch.zeros(1, 2, dtype=torch.float64))


def test_trap_23_a_small_true_spread_is_still_scaled() -> None:
    values = torch.tensor([[0.5, 0.5, 0.5 + 2.0**-20]])
    root = math.sqrt(3.0)
    scaled = advantages(values, torch.ones(1, 3), "group")
    close(scaled, [[-root / 3, -root / 3, 2 * root / 3]])
    close(turn_advantages(values[..., None], torch.ones(1, 3, 1), torch.ones(1, 3), "group")[..., 0], scaled.tolist())


@pytest.mark.parametrize("scale", ["none", "group"])
def test_trap_23_a_group_with_fewer_than_two_valid_rows_is_left_out(scale: str) -> None:
    values = torch.tensor([[1.0, 2.0], [1.0, NAN], [NAN, NAN]])
    valid = torch.tensor([[True, True], [True, False], [False, False]])
    assert usable_rows(valid).tolist() == [[True, True], [False, False], [False, False]]
    result = advantages(values, valid, scale)
    assert result[0].abs().min() > 0
    assert torch.equal(result[1:], torch.zeros(2, 2))
    turns = turn_advantages(values[..., None], torch.ones(3, 2, 1), valid, scale)
    assert torch.equal(turns[..., 0], result)
    assert torch.equal(advantages(torch.ones(1, 1), torch.ones(1, 1), scale), torch.zeros(1, 1))


def test_an_unknown_scale_is_named() -> None:
    with pytest.raises(ValueError, match="scale='batch'"):
        advantages(torch.ones(1, 2), torch.ones(1, 2), "batch")  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", ["none", "group"])
def test_with_all_rows_alive_turn_advantages_equal_trajectory_advantages(scale: str) -> None:
    values = torch.rand(4, 5, 3, generator=torch.Generator().manual_seed(1))
    valid = torch.tensor([[True] * 5, [True] * 5, [True, True, False, True, True], [True] + [False] * 4])
    by_turn = turn_advantages(values, torch.ones(4, 5, 3), valid, scale)
    for turn in range(3):
        torch.testing.assert_close(by_turn[..., turn], advantages(values[..., turn], valid, scale), atol=1e-6, rtol=0)


def test_trap_26_rows_that_ended_early_neither_vote_nor_shrink_the_others() -> None:
    # Three valid rows and a failed one. Row 2 ended after turn 0, row 1 after turn 1. Values after the end are NaN.
    values = torch.tensor([[[3.0, 2.0, 1.0], [2.0, 1.0, NAN], [1.0, NAN, NAN], [9.0, 9.0, 9.0]]])
    alive = torch.tensor([[[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]])
    valid = torch.tensor([[True, True, True, False]])
    expected = [
        [
            [1.0, 2 / 3, 2 / 3],  # turn 1: 2/3 * (2 - 1); turn 2, one row left: 2/3 * (1 - 0)
            [0.0, -2 / 3, 0.0],  # turn 1: 2/3 * (1 - 2)
            [-1.0, 0.0, 0.0],  # turn 0: 1 - mean(3, 2, 1)
            [0.0, 0.0, 0.0],
        ]
    ]
    close(turn_advantages(values, alive, valid, "none"), expected)
    # Deviation of the rows still alive: turn 0 1; turn 1 sqrt(0.5); turn 2 none, hence no advantage.
    root = math.sqrt(2.0)
    scaled = [[[1.0, 2 / 3 * root, 0.0], [0.0, -2 / 3 * root, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]
    close(turn_advantages(values, alive, valid, "group"), scaled)
