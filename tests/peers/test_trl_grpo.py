"""Loss and advantages against TRL's GRPOTrainer, on the same numbers, for the modes both have.

    pip install -e '.[peers]' && pytest tests/peers

TRL's own methods run on a trainer without a model: what they ask the model for is handed to them. Its names for ours:

| `objective.normaliser` | TRL `loss_type` |
| --- | --- |
| `dialogue_sum` | `luspo` with token-level ratios |
| `dialogue` | `grpo` |
| `token` | `dapo`; `bnpo` where a step is one micro-batch |
| `constant` | `dr_grpo`, `max_completion_length` being the most a dialogue may sample |

Where the two differ by definition, a test shows by how much.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from steer_lit.objective.advantage import advantages
from steer_lit.objective.grpo import GrpoStats, grpo_loss
from steer_lit.objective.normalise import StepCounts, denominator

pytest.importorskip("trl", minversion="1.16", reason="TRL is in the peers extra: pip install -e '.[peers]'")

ROWS, LENGTH = 6, 9
LOSS_TYPES = {"dialogue_sum": "luspo", "dialogue": "grpo", "token": "dapo", "constant": "dr_grpo"}
NAN = float("nan")


def draw(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# TRL's completion is everything after the first prompt. The user's later turns are masked in it.
REAL = torch.arange(LENGTH) < torch.tensor([9, 4, 7, 9, 1, 6])[:, None]
MASK = REAL & torch.tensor([1, 1, 1, 0, 0, 1, 1, 1, 1], dtype=torch.bool)
LOGPROBS = -2 * draw(0, ROWS, LENGTH)
OLD = LOGPROBS + 0.6 * (draw(1, ROWS, LENGTH) - 0.5)  # ratios from 0.74 to 1.35: the clip at 0.2 acts on some
REFERENCE = LOGPROBS + draw(2, ROWS, LENGTH) - 0.5
ADVANTAGES = 2 * draw(3, ROWS) - 1


def step_counts(mask: Tensor) -> StepCounts:
    """Return the numbers of rows and of their tokens that are trained on."""
    return StepCounts(float(mask.any(1).sum()), float(mask.sum()))


def bare_trainer(**settings: Any) -> Any:
    """Return TRL's trainer with one process, plain GRPO and no model."""
    from trl import GRPOTrainer

    trainer = GRPOTrainer.__new__(GRPOTrainer)
    accelerator = SimpleNamespace(
        device=torch.device("cpu"), num_processes=1, process_index=0, gather=lambda x: x, reduce=lambda x, reduction: x
    )
    plain = {
        "accelerator": accelerator,
        "model": SimpleNamespace(training=True),
        "current_gradient_accumulation_steps": 1,
        "importance_sampling_level": "token",
        "max_completion_length": LENGTH,
        "use_vllm": False,
        "_metrics": {"train": defaultdict(list)},
    }
    for name, value in {**plain, **settings}.items():
        setattr(trainer, name, value)
    return trainer


# ---- the loss


def trl_loss(
    logprobs: Tensor,
    rows: slice,
    loss_type: str,
    *,
    old: bool = True,
    beta: float = 0.04,
    clip: tuple[float, float] = (0.2, 0.2),
    mask: Tensor = MASK,
    micro_batches: int = 1,
) -> tuple[Tensor, dict[str, list[float]]]:
    """Return TRL's loss of one of `micro_batches` in an optimizer step, and what it logs."""
    trainer = bare_trainer(
        loss_type=loss_type,
        beta=beta,
        epsilon_low=clip[0],
        epsilon_high=clip[1],
        current_gradient_accumulation_steps=micro_batches,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=micro_batches),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        _entropy_bonus_enabled=False,
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs[rows], torch.zeros_like(logprobs[rows]), None),
    )
    real = REAL[rows].long()
    inputs = {
        "prompt_ids": torch.zeros(len(real), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(real), 1, dtype=torch.long),
        "completion_ids": torch.zeros_like(real),
        "completion_mask": real,
        "tool_mask": mask[rows].long(),
        "advantages": ADVANTAGES[rows],
        "ref_per_token_logps": REFERENCE[rows],
        "num_items_in_batch": mask.sum().double(),
    }
    if old:
        inputs["old_per_token_logps"] = OLD[rows]
    return trainer._compute_loss(trainer.model, inputs), trainer._metrics["train"]


def our_loss(
    logprobs: Tensor,
    rows: slice,
    normaliser: str,
    step: StepCounts,
    *,
    old: bool = True,
    beta: float = 0.04,
    clip: tuple[float, float] = (0.2, 0.2),
    mask: Tensor = MASK,
) -> tuple[Tensor, GrpoStats]:
    return grpo_loss(
        logprobs[rows],
        OLD[rows] if old else None,
        REFERENCE[rows] if beta else None,
        ADVANTAGES[rows, None],
        mask[rows],
        clip_low=clip[0],
        clip_high=clip[1],
        kl_coef=beta,
        kl_estimator="k3",
        denominator=denominator(mask[rows], normaliser, step, max_tokens=LENGTH),
    )


def gradient(loss: Tensor, logprobs: Tensor) -> Tensor:
    return torch.autograd.grad(loss, logprobs)[0]


@pytest.mark.parametrize("clip", [(0.2, 0.2), (0.1, 0.3)])
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize(("normaliser", "loss_type"), [*LOSS_TYPES.items(), ("token", "bnpo")])
def test_loss_gradient_and_metrics_equal_trls(
    normaliser: str, loss_type: str, old: bool, beta: float, clip: Any
) -> None:
    logprobs, everything = LOGPROBS.clone().requires_grad_(), slice(None)
    ours, stats = our_loss(logprobs, everything, normaliser, step_counts(MASK), old=old, beta=beta, clip=clip)
    theirs, figures = trl_loss(logprobs, everything, loss_type, old=old, beta=beta, clip=clip)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    found, expected = gradient(ours, logprobs), gradient(theirs, logprobs)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    means = stats.means()
    assert means["clip_share"] == pytest.approx(figures["clip_ratio/region_mean"][0], abs=1e-6)
    assert (means["clip_share"] > 0) is old
    if beta:
        assert means["kl"] == pytest.approx(figures["kl"][0], abs=1e-6)


@pytest.mark.parametrize("normaliser", LOSS_TYPES)
def test_equal_micro_batches_add_up_to_the_same_step(normaliser: str) -> None:
    logprobs = LOGPROBS.clone().requires_grad_()
    parts = (slice(0, 3), slice(3, 6))
    ours = sum(our_loss(logprobs, part, normaliser, step_counts(MASK))[0] for part in parts)
    theirs = sum(trl_loss(logprobs, part, LOSS_TYPES[normaliser], micro_batches=2)[0] for part in parts)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    torch.testing.assert_close(gradient(ours, logprobs), gradient(theirs, logprobs), atol=1e-12, rtol=0)


def test_differs_bnpo_averages_the_means_of_micro_batches() -> None:
    """The micro-batches have 15 and 12 counted tokens. In TRL's `bnpo` a token of the second weighs more; in `token`
    all weigh the same.
    """
    parts = (slice(0, 3), slice(3, 6))
    counts = [step_counts(MASK[part]) for part in parts]
    assert [count.tokens for count in counts] == [15, 12]
    theirs = sum(trl_loss(LOGPROBS, part, "bnpo", micro_batches=2)[0] for part in parts)
    ours = [our_loss(LOGPROBS, part, "token", step_counts(MASK))[0] for part in parts]
    weighed = sum(loss * 27 / (2 * count.tokens) for loss, count in zip(ours, counts, strict=True))
    torch.testing.assert_close(weighed, theirs, atol=1e-12, rtol=0)
    assert abs(float(sum(ours) - theirs)) > 1e-3


@pytest.mark.parametrize("normaliser", ["dialogue_sum", "dialogue", "constant"])
def test_differs_a_failed_row_stays_in_trls_denominators(normaliser: str) -> None:
    """With one of six rows masked, TRL still divides by six rows; ours by the five valid ones (TRAPS 25)."""
    mask = MASK.clone()
    mask[1] = False
    ours, _ = our_loss(LOGPROBS, slice(None), normaliser, step_counts(mask), mask=mask)
    theirs, _ = trl_loss(LOGPROBS, slice(None), LOSS_TYPES[normaliser], mask=mask)
    torch.testing.assert_close(ours * 5 / 6, theirs, atol=1e-12, rtol=0)
    assert abs(float(ours)) > 1e-3


def test_a_failed_row_is_in_neither_count_of_tokens() -> None:
    mask = MASK.clone()
    mask[1] = False
    ours, _ = our_loss(LOGPROBS, slice(None), "token", step_counts(mask), mask=mask)
    theirs, _ = trl_loss(LOGPROBS, slice(None), "dapo", mask=mask)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


# ---- advantages


def trl_advantages(returns: Tensor, scale: str) -> Tensor:  # [G, K], NaN where nothing was scored -> [G, K]
    """Return the advantages of TRL's generation step for these rewards. Prompts and completions are one token each."""
    groups, size = returns.shape
    rows = returns.numel()
    trainer = bare_trainer(
        beta=0.0,
        num_generations=size,
        num_iterations=1,
        scale_rewards=scale,
        multi_objective_aggregation="sum_then_normalize",
        reward_funcs=[None],
        reward_func_names=["return"],
        reward_weights=torch.ones(1),
        _calculate_rewards=lambda *_: returns.reshape(-1, 1).clone(),
        _generate=lambda prompts: ([[1]] * rows, [[1]] * rows, None, ["a"] * rows, None, {}, None, None),
        _tokenizer=SimpleNamespace(pad_token_id=0),
        pad_to_multiple_of=None,
        mask_truncated_completions=False,
        environment_factories=None,
        environments=None,
        tools=None,
        log_multimodal=False,
        ref_model=None,
        args=SimpleNamespace(
            per_device_train_batch_size=rows,
            gradient_checkpointing_kwargs=None,
            steps_per_generation=1,
            gradient_accumulation_steps=1,
        ),
        model=SimpleNamespace(training=True, is_gradient_checkpointing=False),
        _logs=defaultdict(list, rewards=defaultdict(list), extra=defaultdict(list)),
        _pending_extra_logs={},
        _pending_metrics={},
    )
    scored = trainer._generate_and_score_completions([{"prompt": "p"} for _ in range(rows)])
    return scored["advantages"].view(groups, size)


RETURNS = 3 * draw(4, 5, 4)
FAILED = torch.zeros(5, 4, dtype=torch.bool)
FAILED[1, 2] = FAILED[3, 0] = FAILED[3, 3] = True


def test_unscaled_advantages_equal_trls_including_failed_rows() -> None:
    """A failed row has TRL's reward None, an unscorable completion: not in the baseline, advantage 0."""
    theirs = trl_advantages(RETURNS.masked_fill(FAILED, NAN), "none")
    torch.testing.assert_close(advantages(RETURNS, ~FAILED, "none"), theirs, atol=1e-12, rtol=0)


def test_differs_scaled_advantages_by_trls_epsilon_only() -> None:
    """Both deviations have n - 1 in their denominator. TRL adds 1e-4 to it; ours compares for equality instead."""
    theirs = trl_advantages(RETURNS.masked_fill(FAILED, NAN), "group")
    std = torch.stack([row[~failed].std() for row, failed in zip(RETURNS, FAILED, strict=True)])[:, None]
    ours = advantages(RETURNS, ~FAILED, "group")
    torch.testing.assert_close(ours * std / (std + 1e-4), theirs, atol=1e-7, rtol=0)  # TRL's n / (n - 1) is float32
    assert 1e-5 < (ours - theirs).abs().max() < 1e-3


def test_differs_a_group_without_spread_gives_trl_rounding_noise() -> None:
    """TRAPS 23: the mean of seven 0.7s is not 0.7 in floating point. TRL divides the difference by 1e-4."""
    returns = torch.full((1, 7), 0.7)
    assert trl_advantages(returns, "group").abs().max() > 0
    assert torch.equal(advantages(returns, torch.ones(1, 7), "group"), torch.zeros(1, 7))


@pytest.mark.parametrize("scale", ["none", "group"])
def test_a_group_with_one_valid_row_has_no_advantage_in_either(scale: str) -> None:
    returns = torch.tensor([[1.0, NAN, NAN]])
    assert torch.equal(trl_advantages(returns, scale), torch.zeros(1, 3))
    assert torch.equal(advantages(returns, ~returns.isnan(), scale), torch.zeros(1, 3))
