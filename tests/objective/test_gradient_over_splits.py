"""TRAPS 22: an optimizer step has one gradient, however its rows are cut into micro-batches."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from steer_lit.objective.grpo import GrpoStats, grpo_loss
from steer_lit.objective.normalise import StepCounts, denominator

ROWS, LENGTH, WIDTH, VOCABULARY = 6, 7, 4, 5
LENGTHS = (7, 1, 4, 0, 2, 6)  # row 3 failed
NORMALISERS = ("dialogue_sum", "dialogue", "token", "constant")


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


INPUTS, WEIGHTS, ADVANTAGES = draw(0, ROWS, LENGTH, WIDTH), draw(1, WIDTH, VOCABULARY), draw(2, ROWS, 1)
OLD, REFERENCE = WEIGHTS + 0.1 * draw(3, WIDTH, VOCABULARY), WEIGHTS + 0.3 * draw(4, WIDTH, VOCABULARY)
TOKENS = torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH) % VOCABULARY
MASK = torch.arange(LENGTH) < torch.tensor(LENGTHS)[:, None]


def step_counts(mask: Tensor) -> StepCounts:
    """Return the numbers of rows and of their tokens that are trained on."""
    return StepCounts(float(mask.any(1).sum()), float(mask.sum()))


def logprobs(weights: Tensor, rows: Sequence[int]) -> Tensor:  # [B, L] of a linear policy
    scores = (INPUTS[list(rows)] @ weights).log_softmax(-1)
    return scores.gather(-1, TOKENS[list(rows), :, None])[..., 0]


def accumulate(weights: Tensor, micro_batches: Sequence[Sequence[int]], normaliser: str, step: StepCounts) -> GrpoStats:
    """Run backward over the micro-batches, as one rank does. Adds to `weights.grad` and returns the rank's stats."""
    stats = []
    for rows in micro_batches:
        mask = MASK[list(rows)]
        loss, found = grpo_loss(
            logprobs(weights, rows),
            logprobs(OLD, rows),
            logprobs(REFERENCE, rows),
            ADVANTAGES[list(rows)],
            mask,
            clip_low=0.2,
            clip_high=0.2,
            kl_coef=0.5,
            kl_estimator="k3",
            denominator=denominator(mask, normaliser, step, max_tokens=LENGTH),
        )
        loss.backward()
        stats.append(found)
    return sum(stats[1:], start=stats[0])


def whole_step(normaliser: str) -> tuple[Tensor, dict[str, float]]:
    weights = WEIGHTS.clone().requires_grad_()
    stats = accumulate(weights, [range(ROWS)], normaliser, step_counts(MASK))
    return weights.grad, stats.means()


def cuts() -> list[list[list[int]]]:
    """Yield all 32 ways to cut the six rows, in order, into micro-batches."""
    found = []
    for bits in range(2 ** (ROWS - 1)):
        batches = [[0]]
        for row in range(1, ROWS):
            if bits >> (row - 1) & 1:
                batches.append([])
            batches[-1].append(row)
        found.append(batches)
    return found


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_trap_22_every_cut_into_micro_batches_gives_the_same_gradient(normaliser: str) -> None:
    expected, means = whole_step(normaliser)
    assert 0.0 < means["clip_share"] < 1.0  # some ratios are clipped, some are not
    assert expected.abs().max() > 1e-2
    for batches in cuts():
        step = StepCounts(*map(sum, zip(*(step_counts(MASK[rows]) for rows in batches), strict=True)))
        weights = WEIGHTS.clone().requires_grad_()
        stats = accumulate(weights, batches, normaliser, step)
        torch.testing.assert_close(weights.grad, expected, atol=1e-12, rtol=0.0)
        assert stats.means() == pytest.approx(means, abs=1e-12)
