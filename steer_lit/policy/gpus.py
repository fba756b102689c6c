"""The number of NVIDIA GPUs visible to this process, without torch."""

from __future__ import annotations

import ctypes
import os
from itertools import takewhile


def has_gpu() -> bool:
    """Return whether an NVIDIA GPU is visible."""
    return visible_gpus() > 0


def visible_gpus() -> int:
    """Count the NVIDIA GPUs visible to this process.

    Asks NVML: initialising CUDA here would break processes forked later. Like CUDA, reads CUDA_VISIBLE_DEVICES up to
    the first number that no GPU has.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None and named.strip() in ("", "-1", "NoDevFiles"):
        return 0
    count = _gpus_of_the_driver()
    if named is None or count == 0:
        return count
    entries = [entry.strip() for entry in named.split(",")]
    named_or_counted = (one.startswith(("GPU-", "MIG-")) or (one.isdecimal() and int(one) < count) for one in entries)
    return sum(takewhile(bool, named_or_counted))


def _gpus_of_the_driver() -> int:
    try:
        nvml = ctypes.CDLL("nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1")
    except OSError:
        return 0
    count = ctypes.c_uint(0)
    if nvml.nvmlInit_v2() != 0:
        return 0
    try:
        return count.value if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0 else 0
    finally:
        nvml.nvmlShutdown()
