"""TRAPS 16: in bfloat16 the sampled and the scored log-prob of a token differ, and the ratio is still 1."""

from __future__ import annotations

from typing import Any

import pytest

from steer_lit.attacker.adaptive import AdaptiveAttacker
from steer_lit.lit.grpo_module import GRPOModule
from steer_lit.policy.lora import LoraSettings
from steer_lit.reward.reward import Reward
from steer_lit.tutor.rubric import RubricTutor
from tests.policies import small_policy
from tests.settings import objective_settings, optim_settings, rollout_settings


@pytest.mark.parametrize("epochs", [1, 2])
def test_trap_16_the_ratio_is_one_where_sampled_and_scored_logprobs_differ(
    make_trainer: Any, small_world: Any, epochs: int, packs: bool
) -> None:
    """The learning rate is 0, so the second epoch scores the same policy in the same micro-batches."""
    policy = small_policy(dtype="bfloat16", lora=LoraSettings(r=4, alpha=8, dtype="bfloat16"))
    rollout = rollout_settings(group_size=3, max_turns=2, max_new_tokens=8)
    objective = objective_settings(epochs=epochs)
    players = (AdaptiveAttacker(), RubricTutor(), Reward())
    module = GRPOModule(policy, *players, rollout, objective, optim_settings(lr=0.0), micro_tokens=600, seed=1)
    trainer = make_trainer(max_steps=epochs)
    trainer.fit(module, small_world("grpo"))
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert figures["train/ratio"] == figures["train/ratio_max"] == 1.0
    assert figures["train/kl"] == 0.0
    # transformers' modules round differently from our layers, which sample. The gap is logged and not trained on.
    assert figures["train/ratio_gap_max"] < 0.1
    assert packs or figures["train/ratio_gap_max"] > 1e-3
