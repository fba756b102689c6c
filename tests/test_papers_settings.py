"""The paper's settings (SaFeR-Steer, Tables 6 and 7 and its evaluation), typed once more: no config may lose one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.test_conf import SERVER, compose, resolved

TEN_TIMES = 10 * 1e-5  # LoRA's rate for the paper's 1e-5, which trains all weights

SFT = {  # Table 6
    "data.batch_size": 16,
    "data.max_turns": 10,
    "data.source.sft": 12934,
    "optim.weight_decay": 0.01,
    "optim.schedule": "cosine",
    "optim.warmup": 0.1,
    "trainer.max_epochs": 2,
    "trainer.max_steps": -1,
    "model.dtype": "bfloat16",
    "model.max_pixels": 262144,
}
GRPO = {  # Table 7, Eq. 18-21
    "data.batch_size": 64,
    "data.source.rl": 2000,
    "optim.weight_decay": 0.01,
    "rollout.group_size": 5,
    "rollout.max_turns": 10,
    "objective.kl_coef": 0.1,
    "objective.kl_estimator": "k3",
    "objective.scale": "none",
    "objective.normaliser": "dialogue_sum",
    "objective.clip_low": 0.2,
    "objective.clip_high": 0.2,
    "objective.epochs": 1,
    "reward.w_safe": 0.4,
    "reward.w_use": 0.4,
    "reward.w_faith": 0.2,
    "reward.combine": "weighted",
    "reward.alpha": 0.3,
    "reward.return": "sum",
    "reward.credit": "trajectory",
    "trainer.max_epochs": 1,
    "trainer.max_steps": -1,
    "tutor._target_": "steer_lit.tutor.llm.LlmTutor",
    "tutor.temperature": 0.0,
    "attacker._target_": "steer_lit.attacker.adaptive.AdaptiveAttacker",
    "model.dtype": "bfloat16",
}
BENCH = {
    "bench.protocol": "multi_turn",
    "bench.max_turns": 10,
    "bench.safety_threshold": 2.8,  # Table 3
    "bench.helpfulness_threshold": 2.5,  # Table 3
    "bench.failure_below": 2,  # Eq. 22
    "bench.horizon": 10,  # Eq. 22
    "data.source.bench": 3227,
    "rollout.temperature": 0.0,
}


def at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config[name]
    return config


@pytest.mark.parametrize("size", ["3b", "7b"])
@pytest.mark.parametrize(("stage", "settings"), [("sft", SFT), ("grpo", GRPO)])
def test_the_papers_runs_have_its_settings(stage: str, settings: dict[str, Any], size: str) -> None:
    start = [] if stage == "sft" else ["init_from=here", *SERVER]
    config = resolved(compose(f"experiment={stage}_{size}", *start))
    assert {key: at(config, key) for key in settings} == settings
    assert config["optim"]["lr"] == pytest.approx(TEN_TIMES)
    assert config["model"]["source"] == f"Qwen/Qwen2.5-VL-{size.upper()}-Instruct"


@pytest.mark.parametrize(("stage", "batch"), [("sft", 16), ("grpo", 64)])
def test_the_stages_begin_with_the_papers_learning_rate(stage: str, batch: int) -> None:
    config = compose("~experiment", f"stage={stage}", "model=qwen2_5_vl_3b")
    assert (config.optim.lr, config.data.batch_size) == (1e-5, batch)


def test_the_benchmark_has_the_papers_settings() -> None:
    config = resolved(compose(name="bench"))
    assert {key: at(config, key) for key in BENCH} == BENCH
