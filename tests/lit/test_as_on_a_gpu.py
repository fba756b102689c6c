"""Training on a simulated GPU: no tensor stays on the CPU, and the learned weights equal those of the CPU.

4-bit weights are not tested here, because bitsandbytes stores them in its own tensor class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.lit.grpo_module import GRPOModule
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.lit.sft_module import SFTModule
from steer_lit.reward.reward import Reward
from tests.lit.test_grpo_module import LetterTutor
from tests.pretended_gpu import GPU, pretended_gpu
from tests.settings import objective_settings, optim_settings, rollout_settings


class AnyDevice(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        """Set nothing up."""


def on(device: torch.device) -> dict[str, Any]:
    return {"strategy": SingleDeviceStrategy(device, AnyDevice()), "accelerator": "auto"}


OPTIM = optim_settings(lr=1e-2, schedule="constant", warmup=0.0)


def sft(policy: Any) -> PolicyModule:
    return SFTModule(policy, OPTIM, 4096)


def grpo(policy: Any) -> PolicyModule:
    rollout, objective = rollout_settings(group_size=3, max_turns=2, max_new_tokens=8), objective_settings(epochs=2)
    players = ScriptedAttacker(), LetterTutor(), Reward(w_format=0.0)
    return GRPOModule(policy, *players, rollout, objective, OPTIM, micro_tokens=400, seed=1)


@pytest.mark.parametrize("make", [sft, grpo])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_run_on_a_gpu_learns_the_same_as_on_a_cpu(
    make: Callable[[Any], PolicyModule],
    checkpointing: bool,
    make_trainer: Any,
    small_world: Any,
    tiny_policy: Any,
) -> None:
    def learned(device: torch.device) -> dict[str, torch.Tensor]:
        policy = tiny_policy(adapted=True, device=str(device), gradient_checkpointing=checkpointing)
        assert policy.packs
        trainer = make_trainer(max_steps=2, **on(device))
        trainer.fit(make(policy), small_world(make.__name__))
        return {name: tensor.cpu() for name, tensor in policy.adapter_state().items()}

    on_cpu = learned(torch.device("cpu"))
    with pretended_gpu():
        on_gpu = learned(GPU)
    assert on_gpu.keys() == on_cpu.keys()
    for name, tensor in on_cpu.items():
        torch.testing.assert_close(on_gpu[name], tensor, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(
    ("make", "peaks"),
    [(sft, {"train/peak_gb": 5.0}), (grpo, {"train/rollout_peak_gb": 3.0, "train/learn_peak_gb": 5.0})],
)
def test_each_part_of_a_step_logs_its_peak_memory(
    make: Callable[[Any], PolicyModule],
    peaks: dict[str, float],
    make_trainer: Any,
    small_world: Any,
    tiny_policy: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only on a GPU. Rollouts take 3 GB and learning 5 GB. The 9 GB of loading or validation before must not count."""
    taken = [9.0]

    def taking(part: Callable[..., Any], size: float) -> Callable[..., Any]:
        def larger(*given: Any, **named: Any) -> Any:
            taken.append(size)
            return part(*given, **named)

        return larger

    def fitted(device: torch.device) -> dict[str, Any]:
        module: Any = make(tiny_policy(adapted=True, device=str(device)))
        monkeypatch.setattr(module, "accumulate", taking(module.accumulate, 5.0))
        if make is grpo:
            monkeypatch.setattr(module, "play", taking(module.play, 3.0))
        trainer = make_trainer(max_steps=1, **on(device))
        trainer.fit(module, small_world(make.__name__))
        return dict(trainer.callback_metrics)

    with pretended_gpu(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "max_memory_allocated", lambda device: max(taken) * 2**30)
        patch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: taken.__setitem__(slice(None), [1.0]))
        on_gpu = {name: float(value) for name, value in fitted(GPU).items() if name.endswith("_gb")}
    assert on_gpu == peaks
    assert not any(name.endswith("_gb") for name in fitted(torch.device("cpu")))


def test_rollouts_that_may_outgrow_the_gpu_are_told_of_once(
    make_trainer: Any, small_world: Any, tiny_policy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pretended_gpu(), pytest.MonkeyPatch.context() as patch:
        module = grpo(tiny_policy(device=str(GPU)))
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (2**14, 2**33))
        make_trainer(max_steps=2, **on(GPU)).fit(module, small_world("grpo"))
    (said,) = [record.getMessage() for record in caplog.records if "memory may run out" in record.getMessage()]
    assert "lower hardware.side_by_side or rollout.max_new_tokens" in said
