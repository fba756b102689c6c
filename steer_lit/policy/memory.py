"""What is said when memory runs out: while doing what, and what would take less."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from steer_lit.errors import MissingResource

# What torch raises as a plain RuntimeError: for a CPU's memory, and from libraries that allocate by themselves.
_SIGNS = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "'out of memory'",  # NCCL
)
_SIZES = re.compile(r"ried to (allocate [\d.]+ \w+)|(capacity of [\d.]+ \w+ of which [\d.]+ \w+ is free)")


def memory_advice(*, may_quantize: bool) -> str:
    """Return what to do if a model itself leaves too little memory."""
    return f"free what other programs hold, or take {'model.quantize=nf4 or ' if may_quantize else ''}a smaller model"


@contextmanager
def out_of_memory(doing: str, remedy: str) -> Iterator[None]:
    """Raise MissingResource, with what the block was `doing` and the `remedy`, if no memory is left for it."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and not any(sign in str(error) for sign in _SIGNS):
            raise
        sizes = ", ".join(found[1] or found[2] for found in _SIZES.finditer(str(error)))
        raise MissingResource(f"out of memory while {doing}{f' ({sizes})' if sizes else ''}: {remedy}") from error
