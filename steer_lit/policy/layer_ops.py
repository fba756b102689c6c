"""RMSNorm, SwiGLU and LoRA as autograd functions that keep little for backward and recompute the rest.

Left to autograd, the norm and the gate are ten kernels each way and keep most intermediate results. Here each is one
node of the graph that keeps only its input, and an adapter behind one of them keeps nothing further.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Adapter = tuple[Tensor, Tensor]  # A [R, in] and scale * B^T [R, out]
Make = Callable[[Tensor], Tensor]  # the norm or the gate


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return F.rms_norm(x, weight.shape, weight, eps)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_()
        scale = square.div_(x.shape[-1]).add_(ctx.eps).rsqrt_()  # 1 / rms, [M, 1]
        grad = upstream.float() * weight
        along = (grad * x).mean(-1, keepdim=True).mul_(scale.square())
        return grad.addcmul_(along, x.float(), value=-1).mul_(scale).to(x.dtype), None, None


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        return _swiglu(gate_up)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:  # type: ignore[override]
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, -1)
        grad = torch.empty_like(gate_up)
        d_gate, d_up = grad.chunk(2, -1)
        torch.mul(upstream, F.silu(gate), out=d_up)
        torch.ops.aten.silu_backward.grad_input(upstream * up, gate, grad_input=d_gate)
        return grad


class _LowRank(torch.autograd.Function):
    """x A^T. Backward needs x = make(source) for A's gradient and recomputes it: `source` is kept in any case."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, down: Tensor, make: Make, source: Tensor) -> Tensor:
        ctx.make = make
        ctx.save_for_backward(down, source)
        return x.to(down.dtype) @ down.T

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        down, source = ctx.saved_tensors
        made = ctx.make(source)
        return (upstream @ down).to(made.dtype), upstream.T @ made.to(down.dtype), None, None


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return x [M, H] normalised by its RMS, computed in float32, times the frozen `weight` [H]."""
    return _Norm.apply(x, weight, eps) if torch.is_grad_enabled() else F.rms_norm(x, weight.shape, weight, eps)


def swiglu(gate_up: Tensor) -> Tensor:
    """Return silu(gate) * up, [M, I], for `gate_up` [M, 2 I]."""
    return _SwiGLU.apply(gate_up) if torch.is_grad_enabled() else _swiglu(gate_up)


def adapted(y: Tensor, x: Tensor, adapter: Adapter | None, made: tuple[Make, Tensor] | None = None) -> Tensor:
    """Add (x A^T) (scale * B^T) to `y` [M, out] in place. The adapter's dtype may differ from the rest.

    `made` is (function, input) with x = function(input): then only the input is kept, and backward recomputes x.
    """
    if adapter is None:
        return y
    down, up = adapter
    low = _LowRank.apply(x, down, *made) if made and torch.is_grad_enabled() else x.to(down.dtype) @ down.T
    return y.addmm_(low, up) if up.dtype == y.dtype else y.add_(low @ up)


def _swiglu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate).mul_(up)
