"""Causal attention over packed rows, forward and back, for training on a CPU.

Each stretch's queries go in blocks, each against the keys it may see and no others; heads that share keys are one
matrix. Products have the inputs' dtype, as in generation; what is added up over blocks is float32. Backward needs
every block's probabilities: those of short stretches are kept, L^2 / 2 a head, those of long ones are computed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from steer_lit.policy.packing import Stretch

BLOCK = 128  # queries at a time
KEEPS = 2048  # keys up to which a stretch's probabilities are kept


class _PackedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, stretches: Sequence[Stretch]) -> Tensor:
        queries, keys, values = _by_key_head(query, key.shape[1]), key.transpose(0, 1), value.transpose(0, 1)
        out = torch.empty_like(queries)
        kept: list[Tensor | None] = []
        trains = any(ctx.needs_input_grad)
        for stretch in stretches:
            seen_keys, seen_values = _seen(stretch, keys), _seen(stretch, values)
            for block, visible in _blocks(stretch):
                shares = _shares(queries[:, block], seen_keys[:, :visible])
                out[:, block] = (shares @ seen_values[:, :visible]).view_as(out[:, block])
                kept.append(shares if trains and seen_keys.shape[1] <= KEEPS else None)
        mixed = _by_token(out)
        ctx.save_for_backward(query, key, value, mixed, *kept)
        ctx.stretches = stretches
        return mixed

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, mixed, *kept = ctx.saved_tensors
        # Softmax's backward takes from each score's slope the mean over its row, which is the output's own slope.
        mean = (upstream.float() * mixed).sum(-1, keepdim=True).to(query.dtype)
        queries, slopes, means = (_by_key_head(part, key.shape[1]) for part in (query, upstream, mean))
        keys, values = key.transpose(0, 1), value.transpose(0, 1)
        d_queries = torch.empty_like(queries)
        d_keys, d_values = (torch.zeros(keys.shape, device=keys.device) for _ in range(2))
        saved = iter(kept)
        scale = key.shape[-1] ** -0.5
        for stretch in ctx.stretches:
            seen_keys, seen_values = _seen(stretch, keys), _seen(stretch, values)
            d_seen_keys, d_seen_values = (torch.zeros(seen_keys.shape, device=keys.device) for _ in range(2))
            for block, visible in _blocks(stretch):
                asking, slope = queries[:, block], slopes[:, block].flatten(1, 2)
                shares = next(saved)
                if shares is None:
                    shares = _shares(asking, seen_keys[:, :visible])
                d_seen_values[:, :visible] += shares.transpose(-1, -2) @ slope
                d_scores = slope @ seen_values[:, :visible].transpose(-1, -2)
                d_scores.sub_(means[:, block].flatten(1, 2)).mul_(shares)
                d_queries[:, block] = (d_scores @ seen_keys[:, :visible]).mul_(scale).view_as(asking)
                d_seen_keys[:, :visible] += d_scores.transpose(-1, -2) @ asking.flatten(1, 2)
            for whole, seen in ((d_keys, d_seen_keys), (d_values, d_seen_values)):
                opening, own = seen.split((_size(stretch.opening), _size(stretch.own)), 1)
                whole[:, stretch.opening] += opening
                whole[:, stretch.own] += own
        d_key, d_value = (part.transpose(0, 1).to(key.dtype) for part in (d_keys.mul_(scale), d_values))
        return _by_token(d_queries), d_key, d_value, None


def packed_attention(query: Tensor, key: Tensor, value: Tensor, stretches: Sequence[Stretch]) -> Tensor:
    """softmax(query key^T / sqrt(d), what a stretch does not see left out) value.

    `query` [T, heads, d]; `key` and `value` [T, kv_heads, d], each shared by heads / kv_heads heads; [T, heads, d]
    comes back. The stretches cover all T tokens.
    """
    return _PackedAttention.apply(query, key, value, stretches)


def _by_key_head(heads: Tensor, kv_heads: int) -> Tensor:
    """[T, heads, d] to [kv_heads, T, heads / kv_heads, d]: any tokens' queries to a key head are one matrix."""
    return heads.unflatten(1, (kv_heads, -1)).transpose(0, 1).contiguous()


def _by_token(heads: Tensor) -> Tensor:
    return heads.transpose(0, 1).flatten(1, 2)


def _seen(stretch: Stretch, x: Tensor) -> Tensor:
    """What a stretch may look at of [kv_heads, T, d]."""
    return torch.cat((x[:, stretch.opening], x[:, stretch.own]), 1)


def _blocks(stretch: Stretch) -> Iterator[tuple[slice, int]]:
    """Places of some queries, and how many of the stretch's keys the last of them sees."""
    for start in range(stretch.own.start, stretch.own.stop, BLOCK):
        end = min(start + BLOCK, stretch.own.stop)
        yield slice(start, end), _size(stretch.opening) + end - stretch.own.start


def _size(part: slice) -> int:
    return part.stop - part.start


def _shares(queries: Tensor, keys: Tensor) -> Tensor:
    """Probabilities [kv_heads, n * group, keys] for [kv_heads, n, group, d] and [kv_heads, keys, d].

    The last n keys are the queries' own tokens.
    """
    kv_heads, size, group, dim = queries.shape
    scores = (queries * dim**-0.5).flatten(1, 2) @ keys.transpose(-1, -2)
    future = torch.ones(size, size, dtype=torch.bool, device=keys.device).triu_(1)
    scores.view(kv_heads, size, group, -1)[..., -size:].masked_fill_(future[:, None], -torch.inf)
    return scores.softmax(-1)
