"""The default device and number type, where the config leaves them open; a GPU's kernels, and one that is not seen."""

from __future__ import annotations

from typing import Literal

import torch

from steer_lit.policy import gpus
from steer_lit.policy.model_facts import NumberType
from steer_lit.ranks import local_rank

_NATIVE = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch's own questions to an x86 CPU


def default_device() -> str:
    """This rank's GPU if there is one. Models load before a strategy picks the device."""
    return f"cuda:{local_rank()}" if torch.cuda.is_available() else "cpu"


def unseen_gpu() -> str | None:
    """What is wrong where the driver, which the config check asks, has a GPU to show and torch sees none; else None."""
    if torch.cuda.is_available() or not gpus.has_gpu():
        return None
    built = f"torch {torch.__version__} (CUDA {torch.version.cuda or 'none'})"
    return f"the driver sees an NVIDIA GPU, {built} does not: install a torch built for this driver, or a newer driver"


def choose_kernels(device: str) -> None:
    """Keep torch's attention on a GPU from cuDNN, which H100, H200 and B200 prefer to FlashAttention: it plans each new
    shape for tenths of a second and keeps the plan, and here nearly every row, and every 64 tokens of a cache, is a
    new one. For all of the process: torch offers nothing narrower that costs nothing at each call.
    """
    if device.startswith("cuda"):
        torch.backends.cuda.enable_cudnn_sdp(False)


def number_type(dtype: Literal["auto"] | NumberType, device: str) -> NumberType:
    """`auto` is bfloat16 where `device` has instructions for its products, else float32.

    A CPU without them takes each bfloat16 product apart, which is several times slower than float32.
    """
    if dtype != "auto":
        return dtype
    return "bfloat16" if _multiplies_bfloat16(device) else "float32"


def _multiplies_bfloat16(device: str) -> bool:
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(getattr(torch.cpu, question, lambda: False)() for question in _NATIVE)
