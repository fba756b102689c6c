"""Tensors in files: whether those read fit those they will be copied to, and what is raised if none can be written."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor


def tensor_mismatch(saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """Return why `saved` does not fit `wanted`, else None. Torch's own loading refuses once it has copied some.

    Names and shapes must agree. Numbers must be floating-point ones, since a cast from another kind, such as 8-bit
    weights without their scales, changes what they mean. They and their squares must be finite in the dtypes of
    `wanted`: nothing can be computed with larger ones.
    """
    for name in {**wanted, **saved}:
        there, here = (tuple(of[name].shape) if name in of else "none" for of in (saved, wanted))
        if there != here:
            return f"{name} has shape {there}, not {here}"
        if not saved[name].is_floating_point():
            return f"{name} holds {str(saved[name].dtype).removeprefix('torch.')}, not floating-point numbers"
        if not saved[name].to(wanted[name].dtype).square().isfinite().all():
            return f"{name} holds numbers that are not finite or too large, {saved[name].abs().max():g}"
    return None


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Raise OSError for safetensors' own error if it cannot write to `folder`: a run then says how it is resumed."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(folder)) from error
