"""The modules on the path that a GPU takes: nothing is left on the CPU, and they learn what they learn on it.

Not in 4 bits: bitsandbytes' weights are a tensor class of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.lit.grpo_module import GRPOModule, ObjectiveSettings, RolloutSettings
from steer_lit.lit.optim import OptimSettings
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.lit.sft_module import SFTModule
from steer_lit.reward.reward import Reward
from tests.lit.test_grpo_module import LetterTutor
from tests.pretended_gpu import GPU, pretended_gpu


class AnyDevice(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        """Nothing is to be set up."""


OPTIM = OptimSettings(lr=1e-2, schedule="constant", warmup=0.0)


def sft(policy: Any) -> PolicyModule:
    return SFTModule(policy, OPTIM, 4096)


def grpo(policy: Any) -> PolicyModule:
    rollout, objective = RolloutSettings(group_size=3, max_turns=2, max_new_tokens=8), ObjectiveSettings(epochs=2)
    players = ScriptedAttacker(), LetterTutor(), Reward(w_format=0.0)
    return GRPOModule(policy, *players, rollout, objective, OPTIM, micro_tokens=400, seed=1)


@pytest.mark.parametrize("make", [sft, grpo])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_run_on_a_gpu_learns_what_it_learns_on_a_cpu(
    make: Callable[[Any], PolicyModule],
    checkpointing: bool,
    make_trainer: Any,
    small_world: Any,
    tiny_policy: Any,
) -> None:
    def learned(device: torch.device) -> dict[str, torch.Tensor]:
        policy = tiny_policy(adapted=True, device=str(device), gradient_checkpointing=checkpointing)
        assert policy.packs is (device.type == "cpu")
        strategy = SingleDeviceStrategy(device, AnyDevice())
        trainer = make_trainer(max_steps=2, strategy=strategy, accelerator="auto")
        trainer.fit(make(policy), small_world(make.__name__))
        return {name: tensor.cpu() for name, tensor in policy.adapter_state().items()}

    on_cpu = learned(torch.device("cpu"))
    with pretended_gpu():
        on_gpu = learned(GPU)
    assert on_gpu.keys() == on_cpu.keys()
    for name, tensor in on_cpu.items():
        torch.testing.assert_close(on_gpu[name], tensor, rtol=1e-3, atol=2e-4)
