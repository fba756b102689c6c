"""Tensors in files: whether those read fit those they will be copied to, and what is raised if none can be written."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
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


@contextmanager
def disk_errors(folder: Path, remedy: str = "") -> Iterator[None]:
    """Raise OSError for safetensors' own error if it cannot write to `folder`, as on a full disk."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, f"{error}{remedy}", str(folder)) from error


def _with_others(names: Sequence[Any]) -> str:
    first, others = f"{names[0]!s:.200}", len(names) - 1
    return f"{first} and {counted(others, 'other')} are" if others else f"{first} is"
