"""Optimizer settings and the learning rate at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Schedule = Literal["cosine", "constant"]


@dataclass(frozen=True, slots=True)
class OptimSettings:
    """AdamW and its schedule. `warmup` is a share of all steps in 0..1; `max_grad_norm` clips the whole gradient."""

    lr: float
    weight_decay: float
    betas: tuple[float, float]
    schedule: Schedule
    warmup: float
    max_grad_norm: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))  # no list of OmegaConf's in checkpoints (TRAPS 39)


def lr_factor(step: int, total: float, schedule: Schedule, warmup: float) -> float:
    """Return the share, in 0..1, of the peak learning rate at `step` (from 0) of `total`.

    The factor rises linearly over the first `warmup * total` steps and reaches 1 after the last of them. Then it stays
    there (`constant`) or falls along half a cosine that would reach 0 at step `total` (`cosine`). In an endless run it
    is always 1.
    """
    if not math.isfinite(total):
        return 1.0
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    done = min(1.0, (step - rising) / max(1.0, total - rising))
    return 0.5 * (1.0 + math.cos(math.pi * done))
