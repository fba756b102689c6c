"""The device and number type if the config leaves them open; GPUs unseen or old, and how torch computes attention."""

from __future__ import annotations

import logging
from typing import Literal

import torch

from steer_lit.policy import gpus
from steer_lit.policy.model_facts import NumberType
from steer_lit.ranks import local_rank

log = logging.getLogger(__name__)

_NATIVE = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch's own questions to an x86 CPU
_OLD = (
    "%s is older than Ampere: it has no FlashAttention and emulates bfloat16. Expect learning to be slow, and to take "
    "memory that grows with the square of a dialogue's length"
)


def default_device() -> str:
    """Return this rank's GPU, else the CPU. Models load before a strategy picks the device."""
    return f"cuda:{local_rank()}" if torch.cuda.is_available() else "cpu"


def unseen_gpu() -> str | None:
    """Return what is wrong if the driver, which the config check asks, shows a GPU but torch sees none; else None."""
    if torch.cuda.is_available() or not gpus.has_gpu():
        return None
    built = f"torch {torch.__version__} (CUDA {torch.version.cuda or 'none'})"
    return f"the driver sees an NVIDIA GPU, {built} does not: install a torch built for this driver, or a newer driver"


def choose_kernels(device: str) -> None:
    """Keep torch on a GPU from cuDNN's attention, which it prefers to FlashAttention on H100, H200 and B200.

    cuDNN plans each new shape for tenths of a second and keeps the plan; here nearly every row, and every 64 tokens of
    a cache, is a new shape. The setting holds for the whole process: torch's narrower ones cost time at each call.
    """
    if device.startswith("cuda"):
        torch.backends.cuda.enable_cudnn_sdp(False)


def warn_of_old_gpu(device: str) -> None:
    """Warn if `device` is a GPU older than Ampere: without FlashAttention all scores of a dialogue are written out."""
    if device.startswith("cuda") and torch.cuda.get_device_capability(device) < (8, 0):
        log.warning(_OLD, torch.cuda.get_device_name(device))


def number_type(dtype: Literal["auto"] | NumberType, device: str) -> NumberType:
    """Resolve `auto` to bfloat16 if `device` has instructions for its products, else to float32.

    A CPU without them emulates each bfloat16 product, which is several times slower than float32.
    """
    if dtype != "auto":
        return dtype
    return "bfloat16" if _multiplies_bfloat16(device) else "float32"


def _multiplies_bfloat16(device: str) -> bool:
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(getattr(torch.cpu, question, lambda: False)() for question in _NATIVE)
