"""Frozen weights stored in oneDNN's own layout, for fast products with the few rows of a decoding step on a CPU.

A product of a few rows takes as long as its weights take to arrive, and twice as long if they are laid out anew at
every call. The operators are the ones torch's compiler emits on CPUs. They are not public, so plain products stand in
if a build of torch lacks them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_OPERATORS = ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported")
ROWS = 16  # the number of rows the layout is chosen for


def can_prepack(weight: Tensor) -> bool:
    """Return whether oneDNN has such a layout for this dtype on this CPU."""
    operators: Any = torch.ops.mkldnn
    if weight.device.type != "cpu" or not all(hasattr(operators, name) for name in _OPERATORS):
        return False
    return weight.dtype != torch.bfloat16 or operators._is_mkldnn_bf16_supported()


def prepack(weight: Tensor) -> Tensor:
    """Return an opaque copy of `weight` [out, in] as it is now."""
    operators: Any = torch.ops.mkldnn
    return operators._reorder_linear_weight(weight.detach(), ROWS)


def prepacked_linear(x: Tensor, weight: Tensor, shift: Tensor | None = None) -> Tensor:
    """Return x W^T + shift, [M, out]: `weight` is from `prepack`, `shift` a bias [out] or a residual [M, out]."""
    operator: Any = torch.ops.mkldnn._linear_pointwise
    if shift is None or shift.ndim == 1:
        return operator(x, weight, shift, "none", [], "")
    return operator.binary(x, shift, weight, None, "add")
