"""The settings that tests start from. A test names only those that it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from steer_lit.bench.settings import BenchSettings

if TYPE_CHECKING:
    from steer_lit.lit.grpo_module import ObjectiveSettings, RolloutSettings
    from steer_lit.lit.optim import OptimSettings

Refused = Callable[..., str]  # the fixture `refused`: `refused(*words, program="train")` returns the message

BENCH = {
    "protocol": "multi_turn", "max_turns": 10, "safety_threshold": 2.8, "helpfulness_threshold": 2.5,
    "failure_below": 2, "horizon": 10, "resamples": 2000, "seed": 0, "chunk": 64, "baseline": None,
}  # fmt: skip
OBJECTIVE = {
    "scale": "none", "normaliser": "dialogue_sum", "kl_coef": 0.1, "kl_estimator": "k3", "clip_low": 0.2,
    "clip_high": 0.2, "epochs": 1,
}  # fmt: skip
OPTIM = {"weight_decay": 0.01, "betas": (0.9, 0.999), "schedule": "cosine", "warmup": 0.1, "max_grad_norm": 1.0}


def bench_settings(**changed: Any) -> BenchSettings:
    return BenchSettings(**{**BENCH, **changed})


def rollout_settings(group_size: int, max_turns: int, max_new_tokens: int) -> RolloutSettings:
    from steer_lit.lit.grpo_module import RolloutSettings  # Lightning, which most tests do without

    return RolloutSettings(group_size, max_turns, max_new_tokens, 1.0, side_by_side=64, max_failed_share=0.5)


def objective_settings(**changed: Any) -> ObjectiveSettings:
    from steer_lit.lit.grpo_module import ObjectiveSettings

    return ObjectiveSettings(**{**OBJECTIVE, **changed})


def optim_settings(lr: float, **changed: Any) -> OptimSettings:
    from steer_lit.lit.optim import OptimSettings

    return OptimSettings(lr, **{**OPTIM, **changed})
