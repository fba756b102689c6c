"""GRPO's reference in a checkpoint, the adapter that the run started from, and whether a resumed run has the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from steer_lit.errors import Problem, SteerError
from steer_lit.lit.training_checkpoint import ANOTHER
from steer_lit.policy.lora import same_adapter
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.policy.tensors import tensor_mismatch


def saved_reference(own: Mapping[str, Any], policy: QwenVL) -> dict[str, Tensor]:
    """Return the reference. Raise SteerError if it does not fit, or if `policy` started from another adapter."""
    reference: dict[str, Tensor] = own["reference"]
    if reason := tensor_mismatch(reference, policy.adapter_state()):
        raise SteerError(f"the checkpoint has a reference that does not fit, {reason}: {ANOTHER}")
    if not _started_alike(own, policy):
        there = f"init_from={own['init_from'] or 'null'}"
        remedy = f"the checkpoint's run started from another adapter, {there}: resume with that, or a copy of it"
        raise SteerError(str(Problem("init_from", policy.started_from, remedy)))
    return reference


def _started_alike(own: Mapping[str, Any], policy: QwenVL) -> bool:
    """Return whether the saved run began with this policy's adapter.

    The weights are compared, as the folder may have been moved; if the folder is gone, its path.
    """
    if not policy.start_is_gone:
        return same_adapter(own["reference"], policy.adapter_state())
    here, there = policy.started_from, own["init_from"]
    return here is not None and there is not None and os.path.abspath(here) == os.path.abspath(there)
