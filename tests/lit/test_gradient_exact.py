"""TRAPS 22, 28 and 31 on whole steps: the gradient and the figures do not depend on how the work is divided.

The Trainer takes the step. The gradient compared is the one the optimizer gets: summed over micro-batches and ranks,
not clipped. Two ranks are two processes over gloo, each with its share of the step's rows.
"""

from __future__ import annotations

import contextlib
import os
import socket
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.types import SoFar, Verdict
from tests.forked import on_two_ranks
from tests.policies import ending_at_every, moved, small_policy
from tests.settings import objective_settings, optim_settings, rollout_settings

TOLERANCE = 1e-6  # relative to the gradient's norm; float32 has 6e-8
WHOLE, SOME, ROW_BY_ROW = 100_000, 450, 1  # micro_tokens: one micro-batch, a few, one per row
PACKS = (True, False)  # rows concatenated for our own layers, or padded for transformers' modules
WORK = [  # (micro_tokens, checkpointing, packs)
    *((SOME, False, packs) for packs in PACKS),
    *((ROW_BY_ROW, False, packs) for packs in PACKS),
    *((WHOLE, True, packs) for packs in PACKS),
    (SOME, True, True),
    (WHOLE, False, False),
]
Step = tuple[dict[str, Tensor], dict[str, float], int]  # gradients, figures, micro-batches


class ChecksumTutor:
    """Its scores are pseudo-random and depend on every letter. The rubric would give all of tiny's nonsense
    one score.
    """

    def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]:
        numbers = [zlib.crc32(turns[-1].completion.text.encode()) for _, turns in dialogues]
        return [Verdict(1 + n % 10, 1 + n // 10 % 10, 1 + n // 100 % 10, refused=n % 2 == 1) for n in numbers]


def one_step(stage: str, micro_tokens: int, checkpointing: bool, folder: Path, **trainer: Any) -> Step:
    """Take one step with a new policy whose adapter has an effect. There are 5 rows, so that two ranks get 3 and 2."""
    from lightning import Trainer

    from steer_lit.data.datamodule import SteerDataModule
    from steer_lit.data.sources import MiniSource

    policy = moved(small_policy(gradient_checkpointing=checkpointing))
    module = make_module(stage, ending_at_every(policy, 4), micro_tokens)
    source = MiniSource(sft=10, rl=10, bench=10, captions=10, primer=100, mean_turns=2)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    lightning = Trainer(
        max_steps=1,
        accelerator="cpu",
        enable_model_summary=False,
        default_root_dir=folder,
        **quiet,
        **{"devices": 1, **trainer},
    )
    gradients, batches = watch(module)
    lightning.fit(module, SteerDataModule(source, stage, batch_size=5, max_turns=3))  # type: ignore[arg-type]
    figures = {name: float(value) for name, value in lightning.callback_metrics.items() if "second" not in name}
    return gradients, figures, len(batches)


def make_module(stage: str, policy: Any, micro_tokens: int) -> Any:
    from steer_lit.attacker.adaptive import AdaptiveAttacker
    from steer_lit.lit.grpo_module import GRPOModule
    from steer_lit.lit.sft_module import SFTModule
    from steer_lit.reward.reward import Reward

    optim = optim_settings(lr=1e-3, schedule="constant", warmup=0.0, max_grad_norm=1e9)
    if stage != "grpo":
        return SFTModule(policy, optim, micro_tokens, trains="base" if stage == "pretrain" else "adapter")
    rollout, objective = rollout_settings(group_size=3, max_turns=2, max_new_tokens=8), objective_settings()
    players = (AdaptiveAttacker(), ChecksumTutor(), Reward())
    return GRPOModule(policy, *players, rollout, objective, optim, micro_tokens, seed=1)


def watch(module: Any) -> tuple[dict[str, Tensor], list[int]]:
    """Return two containers that the step fills: the gradient by weight, and the number of rows of each micro-batch."""
    gradients: dict[str, Tensor] = {}
    batches: list[int] = []
    configure, micro_batches = module.configure_optimizers, module.micro_batches

    def configured() -> Any:
        optimizers, schedules = configure()
        masters = optimizers[0].masters
        optimizers[0].register_step_pre_hook(
            lambda *_: gradients.update({name: master.grad.clone() for name, master in masters.items()})
        )
        return optimizers, schedules

    def counted(traces: Any) -> Any:
        for batch, rows in micro_batches(traces):
            batches.append(len(rows))
            yield batch, rows

    module.configure_optimizers, module.micro_batches = configured, counted
    return gradients, batches


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = TOLERANCE) -> None:
    assert found.keys() == expected.keys()
    assert all(gradient.any() for gradient in expected.values())
    assert difference(*(torch.cat([g[name].flatten() for name in expected]) for g in (found, expected))) < tolerance
    for name, gradient in expected.items():
        assert difference(found[name], gradient) < 5 * tolerance, name  # it can be a small difference of large terms


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Step]:
    """Return a function that takes a stage's step on one rank in one micro-batch. Each stage's step is taken once."""
    known: dict[str, Step] = {}

    def step(stage: str) -> Step:
        if stage not in known:
            known[stage] = one_step(stage, WHOLE, False, tmp_path_factory.mktemp(stage))
        return known[stage]

    return step


@pytest.mark.parametrize(("micro_tokens", "checkpointing", "packs"), WORK)
@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_trap_22_trap_28_the_gradient_does_not_depend_on_how_the_step_is_computed(
    stage: str,
    micro_tokens: int,
    checkpointing: bool,
    packs: bool,
    whole: Callable[[str], Step],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected, figures, batches = whole(stage)
    assert batches == 1
    monkeypatch.setattr(QwenVL, "packs", packs)
    assert figures.get("train/turns", 2.0) > 1.5
    gradients, again, batches = one_step(stage, micro_tokens, checkpointing, tmp_path)
    rows = 5 if stage == "sft" else 15
    assert batches == {WHOLE: 1, ROW_BY_ROW: rows}.get(micro_tokens, batches)
    assert 1 < batches < rows or micro_tokens != SOME
    assert_same(gradients, expected, TOLERANCE if packs else 2 * TOLERANCE)  # transformers' kernels round differently
    assert again == pytest.approx(figures, rel=1e-5, abs=1e-6 if packs else 5e-6)


# ---- two ranks


STAGES = ("sft", "grpo", "pretrain")
TWO_RANK_STEPS = [(stage, micro_tokens) for stage in STAGES for micro_tokens in (WHOLE, SOME, ROW_BY_ROW)]


def run_rank(rank: int, folder: str, ports: list[int]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    for (stage, micro_tokens), port in zip(TWO_RANK_STEPS, ports, strict=True):
        # One port per step. With one port for all, an early rank could join the group that the other is still leaving.
        os.environ["MASTER_PORT"] = str(port)
        step = one_step(stage, micro_tokens, False, Path(folder), devices=2, strategy="ddp")
        torch.save(step, Path(folder) / f"{stage}-{micro_tokens}-{rank}.pt")
        # Leave the group, as a new run would. In a group, transformers writes weights on the first rank only.
        torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all steps on two ranks. Return the folder that holds each rank's results."""
    folder = tmp_path_factory.mktemp("ranks")
    with contextlib.ExitStack() as bound:
        free = [bound.enter_context(socket.socket()) for _ in TWO_RANK_STEPS]
        for one in free:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in free]
    on_two_ranks(run_rank, str(folder), ports)
    return folder


@pytest.mark.parametrize("micro_tokens", [WHOLE, SOME, ROW_BY_ROW])
@pytest.mark.parametrize("stage", STAGES)
def test_trap_22_two_ranks_have_the_gradient_of_one(
    stage: str, micro_tokens: int, whole: Callable[[str], Step], two_ranks: Path
) -> None:
    expected, _, _ = whole(stage)
    batches = []
    for rank in (0, 1):
        gradients, _, count = torch.load(two_ranks / f"{stage}-{micro_tokens}-{rank}.pt", weights_only=True)
        assert_same(gradients, expected)
        batches.append(count)
    scale = 3 if stage == "grpo" else 1
    rows = [3 * scale, 2 * scale]
    assert batches == {WHOLE: [1, 1], ROW_BY_ROW: rows}.get(micro_tokens, batches)
    assert max(batches) > 1 or micro_tokens == WHOLE


@pytest.mark.parametrize("stage", STAGES)
def test_trap_31_the_figures_of_two_ranks_are_those_of_one(
    stage: str, whole: Callable[[str], Step], two_ranks: Path
) -> None:
    """One rank has three rows and the other two, so the mean of the ranks' means would differ."""
    _, figures, _ = whole(stage)
    for rank in (0, 1):
        _, together, _ = torch.load(two_ranks / f"{stage}-{WHOLE}-{rank}.pt", weights_only=True)
        assert together == pytest.approx(figures, rel=1e-5, abs=1e-6)


def test_pretraining_has_a_gradient_for_every_weight_of_the_base(whole: Callable[[str], Step]) -> None:
    """The tests with two ranks compare only the weights found here. A missing weight would be missing in both."""
    from steer_lit.policy.tiny import build_tiny

    gradients, _, _ = whole("pretrain")
    trained = {name.removeprefix("model.base_model.model.").replace(".base_layer", "") for name in gradients}
    assert trained == {name for name, _ in build_tiny().model.named_parameters()}
    assert all(gradient.any() for gradient in gradients.values())
