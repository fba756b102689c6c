"""What a training step costs: seconds, and GPU memory."""

from __future__ import annotations

import time

import torch

from steer_lit.lit.policy_module import PolicyModule


class StepCost:
    """Measures one training step of `module`, from here on."""

    def __init__(self, module: PolicyModule) -> None:
        self._module, self._device = module, module.policy.device
        self._started = self._parted = time.perf_counter()
        self._forget_peak()  # it may be that of a validation, or of loading

    def log_part(self, part: str) -> None:
        """Log the seconds and the peak memory of what came since the last part, or since the start."""
        before, self._parted = self._parted, time.perf_counter()
        self._module.log(f"train/{part}_seconds", self._parted - before)
        self.log_peak(f"train/{part}_peak_gb")

    def log_speed(self, tokens: float) -> None:
        """Log the tokens per second of the whole step; `tokens` are those of all ranks."""
        self._module.log("train/tokens_per_second", tokens / (time.perf_counter() - self._started))

    def log_peak(self, name: str) -> None:
        """Log the peak GPU memory of tensors since the last call, or since the start, the largest of all ranks.

        In GB of 2^30 bytes. On a CPU, nothing is logged.
        """
        if self._device.type == "cuda":
            self._module.log(name, self._module.largest(torch.cuda.max_memory_allocated(self._device) / 2**30))
            self._forget_peak()

    def _forget_peak(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
