"""A run that runs out of memory says in one line what it was doing, which keys to lower, and how it goes on."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from steer_lit.cli import main as cli
from steer_lit.lit.master_weights import MasterAdamW
from steer_lit.lit.sft_module import SFTModule
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.policy.text_stack import TextStack
from steer_lit.rollout.engine import SampledSession
from steer_lit.types import TokenTrace
from tests.policies import small_policy
from tests.pretended_gpu import pretended_gpu
from tests.settings import optim_settings

SMALL = ["data.source.scale=0.02", "data.batch_size=2", "data.val_size=10", "callbacks.checkpoint.every_n_steps=1"]
SMALL += ["logger=none", "trainer.max_steps=3", "trainer.val_check_interval=3", "hardware.micro_tokens=100000"]
GRPO = ["+experiment=grpo_tiny", "rollout.max_turns=2", "rollout.max_new_tokens=8"]
CUDAS = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.65 GiB of which 1.19 GiB is "
    "free. Including non-PyTorch memory, this process has 22.45 GiB memory in use. Of the allocated memory ..."
)


def runs_out(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, call: int) -> None:
    """Make the `call`th call of a method raise the error of a GPU without memory."""
    method, calls = getattr(owner, name), itertools.count(1)

    def without_memory(*given: Any, **named: Any) -> Any:
        if next(calls) == call:
            raise torch.OutOfMemoryError(CUDAS)
        return method(*given, **named)

    monkeypatch.setattr(owner, name, without_memory)


@pytest.mark.parametrize(
    ("words", "owner", "name", "call", "doing", "key"),
    [
        ([], QwenVL, "logprobs", 2, "learning in step 2", "lower hardware.micro_tokens=100000"),
        ([], QwenVL, "logprobs", 4, "validating", "lower hardware.micro_tokens=100000"),
        (GRPO, QwenVL, "logprobs", 3, "learning in step 2", "lower hardware.micro_tokens=100000"),
        (["hardware.micro_tokens=64"], QwenVL, "logprobs", 1, "learning in step 1", "a dialogue of 4"),
        (GRPO, SampledSession, "_read", 1, "answering 8 dialogues side by side", "lower hardware.side_by_side or roll"),
        (
            [],
            SampledSession,
            "_read",
            1,
            "answering 4 dialogues side by side",
            "lower hardware.side_by_side or replay",
        ),
        (
            [],
            MasterAdamW,
            "step",
            2,
            "training",
            "free what other programs hold, or take a small",
        ),
        (
            GRPO,
            QwenVL,
            "freeze_reference",
            1,
            "training",
            "free what other programs hold, or take a small",
        ),
        ([], MasterAdamW, "__init__", 1, "training", "free what other programs hold, or take a small"),
        (GRPO, TextStack, "operands", 1, "preparing to answer", "free what other programs hold, or take a small"),
    ],
)
def test_one_line_says_what_to_lower_and_the_run_goes_on_from_its_checkpoint(
    words: list[str],
    owner: type,
    name: str,
    call: int,
    doing: str,
    key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        runs_out(patch, owner, name, call)
        assert cli.run("train", [*SMALL, *words, f"hydra.run.dir={tmp_path}"]) == 2
    said = capsys.readouterr().err
    sizes = "allocate 2.00 GiB, capacity of 23.65 GiB of which 1.19 GiB is free"
    assert f"out of memory while {doing} ({sizes}): {key}" in said
    assert "Traceback" not in said
    if "is saved" in said:
        *_, told, following = said.splitlines()
        assert told.endswith("is saved")
        assert cli.run("train", shlex.split(following.removeprefix("next:"))[2:]) == 0


def test_a_benchmark_names_its_own_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs_out(monkeypatch, SampledSession, "_read", 1)
    words = ["model=tiny", "bench.limit=10", "rollout.max_new_tokens=4", f"hydra.run.dir={tmp_path}"]
    assert cli.run("bench", words) == 2
    assert "answering 10 dialogues side by side" in (said := capsys.readouterr().err)
    assert "lower bench.chunk or rollout.max_new_tokens" in said


@pytest.mark.parametrize(
    ("device", "checkpointing", "four_bit", "advice"),
    [
        ("cpu", False, [], "set model.gradient_checkpointing=true, or begin anew with a lower data.max_turns or "),
        ("cpu", True, [], "begin anew with a lower data.max_turns or model.max_pixels"),
        ("cuda:0", True, [], "begin anew with a lower data.max_turns or model.max_pixels, or with model.quantize=nf4"),
        ("cuda:0", True, ["q_proj"], "begin anew with a lower data.max_turns or model.max_pixels"),
    ],
)
def test_a_dialogue_that_is_too_long_alone_names_what_is_not_yet_done(
    device: str, checkpointing: bool, four_bit: list[str], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer_lit.policy.qwen_vl.four_bit_modules", lambda model: four_bit)
    with pretended_gpu():
        policy = small_policy(device=device, gradient_checkpointing=checkpointing)
        said = SFTModule(policy, optim_settings(lr=1e-3), 8).less_memory(
            [TokenTrace((1,) * 9, (0,) * 9, (0.0,) * 9, ())]
        )
    told = said.removeprefix("a dialogue of 9 tokens alone is too long: ")
    assert told.startswith(advice)
    assert ("nf4" in told, "checkpointing" in told) == ("nf4" in advice, "checkpointing" in advice)


def test_a_model_that_is_too_large_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from steer_lit.policy import load

    def too_large(*_: Any) -> Any:
        raise torch.OutOfMemoryError(CUDAS)

    monkeypatch.setattr(load, "open_base", too_large)
    assert cli.run("train", [*SMALL, f"hydra.run.dir={tmp_path}"]) == 2
    assert "out of memory while loading model=tiny to cpu (allocate 2.00 GiB" in capsys.readouterr().err
