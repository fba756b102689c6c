"""Fixtures: a tiny policy, a small world, and trainers that write into a temporary folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from steer_lit.types import Attack, Completion, Message, Scenario, Trajectory, Turn, TurnGold, Verdict
from tests.policies import moved, small_policy

SYSTEM = "Look, think in <thinking></thinking>, then reply in <answer></answer>."


@pytest.fixture
def tiny_policy() -> Callable[..., Any]:
    """Return a function that makes a new tiny policy; with `adapted`, its adapter has random weights and an effect."""
    from steer_lit.policy.lora import LINEAR_LAYERS, LoraSettings

    def make(
        dtype: str = "float32", adapted: bool = False, targets: Sequence[str] = LINEAR_LAYERS, **settings: Any
    ) -> Any:
        lora = LoraSettings(r=4, alpha=8, dtype=dtype, targets=targets)  # type: ignore[arg-type]
        policy = small_policy(lora=lora, system_prompt=SYSTEM, **settings)
        return moved(policy) if adapted else policy

    return make


@pytest.fixture
def small_world() -> Callable[..., Any]:
    """Return a function that makes a datamodule of short STEER-mini dialogues."""
    from steer_lit.data.datamodule import SteerDataModule
    from steer_lit.data.sources import MiniSource

    def make(stage: str, batch_size: int = 3, val_size: int = 0) -> Any:
        source = MiniSource(sft=40, rl=40, bench=10, captions=40, primer=40, mean_turns=2, seed=0)
        return SteerDataModule(source, stage, batch_size, seed=0, val_size=val_size, max_turns=2)  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that makes a quiet Trainer on the CPU for `max_steps` steps."""
    from lightning import Trainer

    def make(max_steps: int, **settings: Any) -> Any:
        defaults = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "max_epochs": -1,
            "default_root_dir": tmp_path,
        }
        return Trainer(max_steps=max_steps, **{**defaults, **settings})

    return make


@pytest.fixture
def played() -> Callable[..., Trajectory]:
    """Return a function that makes a trajectory from one (intent, safety, usefulness, refused) per turn. None gives a
    failed verdict.
    """

    def make(*turns: tuple[str, int, int, bool] | None, ended: str = "terminated") -> Trajectory:
        made = []
        for number, facts in enumerate(turns):
            gold = None
            verdict = Verdict(failed="the tutor did not answer")
            if facts is not None:
                intent, safety, usefulness, refused = facts
                gold = TurnGold(intent, "words" if intent == "harmful" else "none", "answer")  # type: ignore[arg-type]
                verdict = Verdict(safety, usefulness, 10, refused=refused)
            attack = Attack(Message.of("user", f"question {number}"), gold)
            made.append(Turn(attack, Completion("<thinking>t</thinking><answer>a</answer>", (1, 2)), verdict))
        failed = "the tutor did not answer" if None in turns else None
        scenario = Scenario("row", "red_team", made[0].attack)
        return Trajectory(scenario, tuple(made), None, 7, "failed" if failed else ended, failed)  # type: ignore[arg-type]

    return make
