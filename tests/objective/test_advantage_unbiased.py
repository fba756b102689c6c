"""TRAPS 26, exactly: every group of a small policy that may end a dialogue, weighted by its probability.

The policy plays at most 3 turns and knows its previous action. Action 0 ends the dialogue, 1 and 2 continue it. That
makes 15 trajectories and 15^3 groups of 3, so expected gradients are sums, not samples.
"""

import itertools

import pytest
import torch
from torch import Tensor

from steer_lit.objective.advantage import advantages, turn_advantages

TURNS, ACTIONS, ROWS = 3, 3, 3
VALID = [(True, True, True), (True, False, True)]


def paths(prefix: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Yield every trajectory as its actions."""
    found: list[tuple[int, ...]] = []
    for action in range(ACTIONS):
        path = (*prefix, action)
        found += [path] if action == 0 or len(path) == TURNS else paths(path)
    return found


PATHS = paths()
ALIVE = torch.tensor([[turn < len(path) for turn in range(TURNS)] for path in PATHS])  # [15, T]
NUMBERS = torch.Generator().manual_seed(3)
LOGITS = torch.randn(TURNS, ACTIONS, ACTIONS, dtype=torch.float64, generator=NUMBERS)  # turn, previous, action
PAY = torch.rand(TURNS, ACTIONS, ACTIONS, dtype=torch.float64, generator=NUMBERS)


def steps(table: Tensor) -> Tensor:  # [T, A, A] -> [15, T] the table's entry at each turn of each path, 0 after its end
    rows = []
    for path in PATHS:
        entries = [table[turn, path[turn - 1] if turn else 0, path[turn]] for turn in range(len(path))]
        rows.append(torch.stack([*entries, *[table.new_zeros(())] * (TURNS - len(path))]))
    return torch.stack(rows)


def constant_return(pay: Tensor) -> Tensor:  # [15, T]: paid unevenly on the way, 2.0 in total on every path
    rewards = steps(pay)
    for row, path in enumerate(PATHS):
        rewards[row, len(path) - 1] += 2.0 - rewards[row].sum()
    return rewards


def to_go(rewards: Tensor) -> Tensor:
    return rewards.flip(1).cumsum(1).flip(1)


def expected_gradients(rewards: Tensor, credit: str, scale: str, valid: tuple[bool, ...]) -> tuple[Tensor, Tensor]:
    """Return two gradients, each [T, A, A]: of the expected sum over valid rows of A * log-probability, and of the
    expected return.
    """
    logits = LOGITS.clone().requires_grad_()
    logprobs = steps(logits.log_softmax(-1))  # [15, T]
    chance = logprobs.sum(1).exp()  # [15]
    (true,) = torch.autograd.grad((chance * rewards.sum(1)).sum(), logits, retain_graph=True)
    groups = torch.tensor(list(itertools.product(range(len(PATHS)), repeat=ROWS)))  # [3375, K]
    voted = torch.tensor(valid).expand(len(groups), ROWS)
    if credit == "turn":
        weight = turn_advantages(to_go(rewards)[groups], ALIVE[groups], voted, scale)  # [3375, K, T]
    else:
        weight = advantages(rewards.sum(1)[groups], voted, scale)[..., None]
    likely = chance.detach()[groups].prod(1)  # [3375]
    surrogate = (likely[:, None, None] * weight * logprobs[groups]).sum()
    (estimated,) = torch.autograd.grad(surrogate, logits)
    return estimated, true


def test_the_policy_stops_early_often_enough_to_matter() -> None:
    chance = steps(LOGITS.log_softmax(-1)).sum(1).exp()
    lengths = ALIVE.sum(1)
    assert chance.sum().item() == pytest.approx(1.0, abs=1e-12)
    assert all(chance[lengths == length].sum() > 0.1 for length in (1, 2, 3))


@pytest.mark.parametrize("valid", VALID)
@pytest.mark.parametrize("scale", ["none", "group"])
@pytest.mark.parametrize("credit", ["trajectory", "turn"])
def test_trap_26_a_constant_return_has_an_expected_gradient_of_zero(credit: str, scale: str, valid: tuple) -> None:
    rewards = constant_return(PAY)
    estimated, true = expected_gradients(rewards, credit, scale, valid)
    torch.testing.assert_close(true, torch.zeros_like(true), atol=1e-12, rtol=0.0)
    torch.testing.assert_close(estimated, torch.zeros_like(true), atol=1e-12, rtol=0.0)


@pytest.mark.parametrize("valid", VALID)
@pytest.mark.parametrize("credit", ["trajectory", "turn"])
def test_trap_26_the_expected_gradient_is_the_true_one_at_every_turn(credit: str, valid: tuple) -> None:
    # Each of the n valid rows gives (n - 1) / n of the true gradient, so their sum is n - 1 times the true gradient.
    estimated, true = expected_gradients(steps(PAY), credit, "none", valid)
    assert true.abs().amax(dim=(1, 2)).min() > 1e-3  # there is something to learn at every turn
    torch.testing.assert_close(estimated, (sum(valid) - 1) * true, atol=1e-12, rtol=0.0)
