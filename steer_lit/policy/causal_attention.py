"""Causal attention for training on a CPU, where torch's own kernel takes twice as long going forward and back.

Queries go in blocks, each against the keys it may see and no others; heads that share keys are one matrix. Scores and
softmax are float32; the products around them have the inputs' dtype. What backward needs is kept: L^2 / 2
probabilities a head, so rows longer than `LONGEST` go to torch's kernel, which keeps none.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NAME = "steer_lit_causal"
BLOCK = 128
LONGEST = 2048


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        rows, heads, length, dim = query.shape
        pairs, group = rows * key.shape[1], heads // key.shape[1]  # (row, key head) pairs, query heads of each
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        mixed = out.view(pairs, group, length, dim)
        queries = (query.float() * scale).reshape(pairs, group, length, dim)
        keys = key.float().transpose(-1, -2).reshape(pairs, dim, length)
        values = value.reshape(pairs, length, dim)
        kept = []
        for start in range(0, length, BLOCK):
            end = min(start + BLOCK, length)
            size = end - start
            scores = queries[:, :, start:end].reshape(pairs, group * size, dim) @ keys[:, :, :end]
            scores = scores.view(pairs, group, size, end)
            future = torch.ones(size, size, dtype=torch.bool, device=query.device).triu_(1)
            scores[..., start:].masked_fill_(future, -torch.inf)
            shares = scores.softmax(-1).to(query.dtype).view(pairs, group * size, end)
            mixed[:, :, start:end] = (shares @ values[:, :end]).view(pairs, group, size, dim)
            kept.append(shares)
        ctx.save_for_backward(query, key, value, out, *kept)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, out, *kept = ctx.saved_tensors
        rows, heads, length, dim = query.shape
        pairs, group = rows * key.shape[1], heads // key.shape[1]
        queries, slopes = (part.reshape(pairs, group, length, dim) for part in (query, upstream))
        keys, values = (part.reshape(pairs, length, dim) for part in (key, value))
        # Softmax's backward takes from each score's slope the mean over its row, which is the output's own slope.
        means = (upstream.float() * out).sum(-1).view(pairs, group, length).to(query.dtype)
        d_query = torch.empty_like(queries)
        d_key = torch.zeros(pairs, length, dim, device=query.device)
        d_value = torch.zeros_like(d_key)
        for shares, start in zip(kept, range(0, length, BLOCK), strict=True):
            end = min(start + BLOCK, length)
            size = end - start
            slope = slopes[:, :, start:end].reshape(pairs, group * size, dim)
            d_value[:, :end] += shares.transpose(-1, -2) @ slope
            d_scores = slope @ values[:, :end].transpose(-1, -2)
            d_scores.sub_(means[:, :, start:end].reshape(pairs, group * size, 1)).mul_(shares)
            d_query[:, :, start:end] = (d_scores @ keys[:, :end]).view(pairs, group, size, dim)
            d_key[:, :end] += d_scores.transpose(-1, -2) @ queries[:, :, start:end].reshape(pairs, group * size, dim)
        return (
            d_query.mul_(ctx.scale).view(query.shape),
            d_key.mul_(ctx.scale).to(key.dtype).view(key.shape),
            d_value.to(value.dtype).view(value.shape),
            None,
        )


def causal_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """softmax(scale * query key^T, no later positions) value.

    `query` [B, heads, L, d]; `key` and `value` [B, kv_heads, L, d], each shared by heads / kv_heads heads.
    """
    if query.shape[2] > LONGEST:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=True)
    return _CausalAttention.apply(query, key, value, scale)


def use_causal_attention(text_model: Any) -> None:
    """Make it what `text_model`, transformers' language model, attends with: no mask is built and none is heeded."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _for_transformers)
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)
    text_model.config._attn_implementation = NAME


def _for_transformers(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    return causal_attention(query, key, value, scaling).transpose(1, 2), None
