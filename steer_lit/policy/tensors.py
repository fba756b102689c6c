"""A check that tensors read from a file fit those they will be copied to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from steer_lit.numbers import counted


def tensor_mismatch(saved: Any, wanted: Mapping[str, Tensor]) -> str | None:
    """Return why `saved` does not fit `wanted`, else None.

    Names and shapes must agree. Numbers and their squares must be finite in the dtypes of `wanted`: nothing can be
    computed with larger ones.
    """
    if not isinstance(saved, dict):
        return "they are no tensors by name"
    if missing := [name for name in wanted if name not in saved]:
        return f"{_with_others(missing)} missing"
    if more := [name for name in saved if name not in wanted]:
        return f"{_with_others(more)} not among them"
    for name, tensor in wanted.items():
        found = saved[name]
        if not isinstance(found, Tensor) or not found.is_floating_point():
            return f"{name} is no tensor of numbers"
        if found.shape != tensor.shape:
            return f"{name} has shape {tuple(found.shape)}, not {tuple(tensor.shape)}"
        if not found.to(tensor.dtype).square().isfinite().all():
            return f"{name} holds numbers that are not finite or too large, {found.abs().max():g}"
    return None


def _with_others(names: Sequence[Any]) -> str:
    first, others = f"{names[0]!s:.200}", len(names) - 1
    return f"{first} and {counted(others, 'other')} are" if others else f"{first} is"
