"""What a training step costs: seconds, and GPU memory."""

from __future__ import annotations

import time

import torch

from steer_lit.lit.policy_module import PolicyModule


class StepCost:
    """Measures one training step of `module`, from here on."""

    def __init__(self, module: PolicyModule) -> None:
        self._module = module
        self._started = self._parted = time.perf_counter()
        _forget_peak(module)  # it may be that of a validation, or of loading

    def log_part(self, part: str) -> None:
        """Log the seconds and the peak memory of what came since the last part, or since the start."""
        before, self._parted = self._parted, time.perf_counter()
        self._module.log(f"train/{part}_seconds", self._parted - before)
        log_peak(self._module, f"train/{part}_peak_gb")

    def log_speed(self, tokens: float) -> None:
        """Log the tokens per second of the whole step; `tokens` are those of all ranks."""
        self._module.log("train/tokens_per_second", tokens / (time.perf_counter() - self._started))


def log_peak(module: PolicyModule, name: str) -> None:
    """Log the peak GPU memory of tensors since the measurement started, in GB of 2^30 bytes, the largest of all ranks.

    The measurement starts anew. On a CPU, nothing is logged.
    """
    if module.policy.device.type == "cuda":
        module.log(name, module.largest(torch.cuda.max_memory_allocated(module.policy.device) / 2**30))
        _forget_peak(module)


def _forget_peak(module: PolicyModule) -> None:
    if module.policy.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(module.policy.device)
