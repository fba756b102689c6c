import pytest
import torch

from steer_lit.objective.normalise import StepCounts, denominator
from steer_lit.objective.sft import sft_loss

# Dialogues of 2 and 4 tokens, and a failed one.
MASK = torch.tensor([[0, 1, 1, 0, 0], [1, 1, 0, 1, 1], [0, 0, 0, 0, 0]])
# One optimizer step: this micro-batch and others, 5 dialogues and 20 tokens in total.
STEP = StepCounts(dialogues=5, tokens=20)


@pytest.mark.parametrize(
    ("normaliser", "expected"),
    [
        # The sums of -logprobs over the dialogues are 2 and 12.
        ("dialogue_sum", (2 + 12) / 5),
        ("dialogue", (2 / 2 + 12 / 4) / 5),
        ("token", (2 + 12) / 20),
        ("constant", (2 + 12) / (5 * 8)),
    ],
)
def test_trap_21_trap_25_losses_by_hand(normaliser: str, expected: float) -> None:
    logprobs = -torch.tensor([[9.0, 1.0, 1.0, 9.0, 9.0], [3.0, 3.0, 9.0, 3.0, 3.0], [9.0] * 5])
    divisor = denominator(MASK, normaliser, STEP, max_tokens=8)
    assert sft_loss(logprobs, MASK, divisor).item() == pytest.approx(expected, abs=1e-6)


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
