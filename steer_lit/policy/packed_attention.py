"""Causal attention over packed rows, forward and backward.

A GPU uses torch's own kernels, one call a segment. They are slow on a CPU, where each segment's queries go in blocks
instead, each against only the keys it may see; heads that share keys are one matrix. Products have the inputs' dtype,
as in generation; sums over blocks are float32. Backward needs every block's probabilities: those of short segments are
kept, L^2 / 2 a head, and those of long ones are recomputed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from steer_lit.policy.token_batch import Segment

BLOCK = 128  # queries at a time
KEEPS = 2048  # keys up to which a segment's probabilities are kept


class _PackedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, segments: Sequence[Segment]) -> Tensor:
        queries, keys, values = _by_key_head(query, key.shape[1]), key.transpose(0, 1), value.transpose(0, 1)
        outs = torch.empty_like(queries)
        kept: list[Tensor | None] = []
        trains = any(ctx.needs_input_grad)
        for segment in segments:
            seen_keys, seen_values = _seen(segment, keys), _seen(segment, values)
            for block, visible in _blocks(segment):
                probs = _probs(queries[:, block], seen_keys[:, :visible])
                outs[:, block] = (probs @ seen_values[:, :visible]).view_as(outs[:, block])
                kept.append(probs if trains and seen_keys.shape[1] <= KEEPS else None)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.segments = segments
        return _by_token(outs)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, *kept = ctx.saved_tensors
        queries, grads = (_by_key_head(part, key.shape[1]) for part in (query, upstream))
        keys, values = key.transpose(0, 1), value.transpose(0, 1)
        d_queries = torch.empty_like(queries)
        d_keys, d_values = (torch.zeros(keys.shape, device=keys.device) for _ in range(2))
        saved = iter(kept)
        scale = key.shape[-1] ** -0.5
        for segment in ctx.segments:
            seen_keys, seen_values = _seen(segment, keys), _seen(segment, values)
            d_seen_keys, d_seen_values = (torch.zeros(seen_keys.shape, device=keys.device) for _ in range(2))
            for block, visible in _blocks(segment):
                q, grad = queries[:, block], grads[:, block].flatten(1, 2)
                probs = next(saved)
                if probs is None:
                    probs = _probs(q, seen_keys[:, :visible])
                d_seen_values[:, :visible] += probs.transpose(-1, -2) @ grad
                d_probs = grad @ seen_values[:, :visible].transpose(-1, -2)
                d_scores = torch._softmax_backward_data(d_probs, probs, -1, probs.dtype)
                d_queries[:, block] = (d_scores @ seen_keys[:, :visible]).mul_(scale).view_as(q)
                d_seen_keys[:, :visible] += d_scores.transpose(-1, -2) @ q.flatten(1, 2)
            for whole, seen in ((d_keys, d_seen_keys), (d_values, d_seen_values)):
                opening, own = seen.split((_size(segment.opening), _size(segment.own)), 1)
                whole[:, segment.opening] += opening
                whole[:, segment.own] += own
        d_key, d_value = (part.transpose(0, 1).to(key.dtype) for part in (d_keys.mul_(scale), d_values))
        return _by_token(d_queries), d_key, d_value, None


def packed_attention(query: Tensor, key: Tensor, value: Tensor, segments: Sequence[Segment]) -> Tensor:
    """Return softmax(query key^T / sqrt(d)) value, [T, heads, d], over the tokens each segment sees.

    `query` is [T, heads, d]; `key` and `value` are [T, kv_heads, d], each shared by heads / kv_heads heads. The
    segments cover all T tokens.
    """
    if query.device.type == "cpu":
        return _PackedAttention.apply(query, key, value, segments)
    # A row that was never answered may have no tokens of its own; no kernel is called for it.
    owns = zip(query.split([_size(segment.own) for segment in segments]), segments, strict=True)
    return torch.cat([_by_torch(own, key, value, segment) for own, segment in owns if len(own)])


def _by_torch(own: Tensor, key: Tensor, value: Tensor, segment: Segment) -> Tensor:
    """Attend from a segment's queries, by FlashAttention if the GPU and the dtype have it."""
    queries = own.transpose(0, 1)[None]
    keys, values = (_seen(segment, part.transpose(0, 1))[None] for part in (key, value))
    future = causal_lower_right(len(own), keys.shape[2])
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=future, enable_gqa=True)[0].transpose(0, 1)


def _by_key_head(heads: Tensor, kv_heads: int) -> Tensor:
    """Turn [T, heads, d] into [kv_heads, T, heads / kv_heads, d]: any tokens' queries to a key head are one matrix."""
    return heads.unflatten(1, (kv_heads, -1)).transpose(0, 1).contiguous()


def _by_token(heads: Tensor) -> Tensor:
    return heads.transpose(0, 1).flatten(1, 2)


def _seen(segment: Segment, x: Tensor) -> Tensor:
    """Select what a segment sees of x [kv_heads, T, d]."""
    return torch.cat((x[:, segment.opening], x[:, segment.own]), 1)


def _blocks(segment: Segment) -> Iterator[tuple[slice, int]]:
    """Yield the slice of a block's queries, and how many of the segment's keys the last of them sees."""
    for start in range(segment.own.start, segment.own.stop, BLOCK):
        end = min(start + BLOCK, segment.own.stop)
        yield slice(start, end), _size(segment.opening) + end - segment.own.start


def _size(part: slice) -> int:
    return part.stop - part.start


def _probs(queries: Tensor, keys: Tensor) -> Tensor:
    """Return probabilities [kv_heads, n * group, keys] for [kv_heads, n, group, d] and [kv_heads, keys, d].

    The last n keys are the queries' own tokens.
    """
    kv_heads, size, group, dim = queries.shape
    scores = (queries * dim**-0.5).flatten(1, 2) @ keys.transpose(-1, -2)
    scores.view(kv_heads, size, group, -1)[..., -size:].add_(_future(size, scores.dtype, scores.device))
    return scores.softmax(-1)


@lru_cache(maxsize=BLOCK)
def _future(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the mask [n, 1, n], minus infinity where a token would look ahead: adding it is faster than filling."""
    return torch.full((size, size), -torch.inf, dtype=dtype, device=device).triu_(1)[:, None]
