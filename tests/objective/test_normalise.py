import pytest
import torch

from steer_lit.objective.grpo import grpo_loss
from steer_lit.objective.normalise import StepCounts, denominator
from steer_lit.objective.sft import sft_loss

# Dialogues of 2 and 4 tokens, and a failed one.
MASK = torch.tensor([[0, 1, 1, 0, 0], [1, 1, 0, 1, 1], [0, 0, 0, 0, 0]])
# One optimizer step: this micro-batch and others, 5 dialogues and 20 tokens in total.
STEP = StepCounts(dialogues=5, tokens=20)
ALONE = StepCounts(dialogues=2, tokens=6)  # the micro-batch is the whole step


@pytest.mark.parametrize(
    ("normaliser", "expected"),
    [
        ("dialogue_sum", [5, 5]),
        ("dialogue", [5 * 2, 5 * 4]),
        ("token", [20, 20]),
        ("constant", [5 * 8, 5 * 8]),
    ],
)
def test_trap_21_denominators_by_hand(normaliser: str, expected: list) -> None:
    assert denominator(MASK, normaliser, STEP, max_tokens=8)[:2, 0].tolist() == expected


@pytest.mark.parametrize(
    ("normaliser", "expected"),
    [
        # The sums of -logprobs over the dialogues are 2 and 12.
        ("dialogue_sum", (2 + 12) / 2),
        ("dialogue", (2 / 2 + 12 / 4) / 2),
        ("token", (2 + 12) / 6),
        ("constant", (2 + 12) / (2 * 8)),
    ],
)
def test_trap_21_losses_by_hand(normaliser: str, expected: float) -> None:
    logprobs = -torch.tensor([[9.0, 1.0, 1.0, 9.0, 9.0], [3.0, 3.0, 9.0, 3.0, 3.0], [9.0] * 5])
    divisor = denominator(MASK, normaliser, ALONE, max_tokens=8)
    assert sft_loss(logprobs, MASK, divisor).item() == pytest.approx(expected, abs=1e-6)


def test_trap_25_a_failed_row_counts_in_no_denominator() -> None:
    # On policy the loss is -A / denominator, summed over tokens. With A = 1 it is minus each token's share of the mean.
    logprobs = torch.zeros(3, 5)
    for normaliser in ("dialogue", "token"):
        divisor = denominator(MASK, normaliser, ALONE)
        settings = {"clip_low": 0.2, "clip_high": 0.2, "kl_coef": 0.0, "kl_estimator": "k3", "denominator": divisor}
        loss, _ = grpo_loss(logprobs, None, None, torch.ones(3, 1), MASK, **settings)
        assert loss.item() == pytest.approx(-1.0, abs=1e-6)


def test_a_step_of_failed_rows_only_does_not_divide_by_zero() -> None:
    nothing = torch.zeros(2, 3)
    for normaliser in ("dialogue_sum", "dialogue", "token", "constant"):
        divisor = denominator(nothing, normaliser, StepCounts(0, 0), max_tokens=1)
        assert divisor.tolist() == [[1.0], [1.0]]


def test_sft_loss_ignores_what_is_not_supervised() -> None:
    logprobs = torch.tensor([[float("nan"), -2.0, float("-inf")]], requires_grad=True)
    loss = sft_loss(logprobs, torch.tensor([[0, 1, 0]]), 4.0)
    loss.backward()
    assert loss.item() == 0.5
    assert logprobs.grad.tolist() == [[0.0, -0.25, 0.0]]


def test_settings_that_cannot_work_are_named() -> None:
    with pytest.raises(ValueError, match="normaliser='sequence'"):
        denominator(MASK, "sequence", STEP)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_tokens >= 1, got None"):
        denominator(MASK, "constant", STEP)
