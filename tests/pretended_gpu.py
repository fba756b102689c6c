"""A simulated GPU. Its tensors lie in the CPU's memory, report the device cuda:0, and raise the error of a real GPU
when they are mixed with CPU tensors. Code that forgets to move a tensor fails here as it would on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.nn.attention.bias import causal_lower_right
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from steer_lit.policy import packed_attention

GPU = torch.device("cuda:0")
_CPU = torch.device("cpu")
_aten = torch.ops.aten
_INDEXING = {_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default}  # indices may be on the CPU


class OnGpu(torch.Tensor):
    """Wraps a CPU tensor. torch's autograd sees a meta tensor, whose gradients need no CUDA."""

    held: torch.Tensor
    device = property(lambda self: GPU)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnGpu:
        made: Any = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device="meta",
            requires_grad=held.requires_grad,
        )
        made.held = held
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGpu({self.held!r})"

    @property
    def data(self) -> OnGpu:  # type: ignore[override]
        return self.detach()  # type: ignore[return-value]

    @data.setter
    def data(self, value: OnGpu) -> None:
        torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.held = value.held

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(_indices(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_indices(index), value)

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _PretendedGpu(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, OnGpu)]
    asked = kwargs.get("device")
    to = None if asked is None else "cpu" if torch.device(asked).type == "cpu" else "gpu"
    may_mix = func is _aten.copy_.default or (func in _INDEXING and isinstance(args[0], OnGpu))
    if (
        there
        and to is None
        and not may_mix
        and any(not isinstance(tensor, OnGpu) and tensor.ndim for tensor in tensors)
    ):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, found cuda:0 and cpu")
    inner = {**kwargs, "device": _CPU} if to == "gpu" else kwargs
    out = func(*tree_map(_held, args), **tree_map(_held, inner))
    if to == "cpu" or not (there or to == "gpu"):
        return out
    if func is _aten.copy_.default and not isinstance(args[0], OnGpu):
        return args[0]
    moved = tree_map(lambda leaf: OnGpu(leaf) if isinstance(leaf, torch.Tensor) else leaf, out)
    return return_and_correct_aliasing(func, args, kwargs, moved) if there and to is None else moved


def _indices(index: Any) -> Any:
    """Turn lists into tensors. torch would turn them into meta tensors, which hold no values."""
    if isinstance(index, tuple):
        return tuple(map(_indices, index))
    return torch.tensor(index, device=GPU) if isinstance(index, list) else index


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, OnGpu) else leaf


def _lower_right(queries: int, keys: int) -> torch.Tensor:
    """Return torch's mask object. It is a tensor subclass, and the dispatch mode would make a plain tensor of it."""
    with _disable_current_modes():
        return causal_lower_right(queries, keys)


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Simulate cuda:0 inside the context: models load onto it and tensors move to it."""
    lifted = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # else torch.tensor(..., device=) bypasses the mode and needs CUDA
    try:
        with pytest.MonkeyPatch.context() as patch, _PretendedGpu():
            patch.setattr(torch.cuda, "_lazy_init", lambda: None)
            patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
            patch.setattr(torch.cuda, "mem_get_info", lambda device=None: (2**33, 2**33))  # for older versions
            patch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
            patch.setattr(torch.cuda, "max_memory_allocated", lambda device: 0)
            patch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
            patch.setattr(packed_attention, "causal_lower_right", _lower_right)
            patch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # the mode holds for its own thread only
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)
