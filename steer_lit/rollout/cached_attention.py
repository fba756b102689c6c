"""Attention of a dialogue's new tokens to its key/value cache, with one kernel for GPUs and one for CPUs."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from steer_lit.policy.text_stack import Attend
from steer_lit.rollout.cache import NewTokens, TurnCache

BLOCK = 16  # queries whose scores a CPU holds at a time: the fastest of 8 to 128
Mix = Callable[[Tensor, Tensor, Tensor], Tensor]  # queries [B, heads, q, d], keys and values [B, kv_heads, columns, d]


def through_cache(cache: TurnCache, new: NewTokens, dtype: torch.dtype) -> Attend:
    """Return an `Attend` from the `new` tokens to their rows of `cache`. `dtype` is the queries'."""
    rows, _, queries, _ = new.mask.shape
    mix = _on_cpu(new.mask, dtype) if new.mask.device.type == "cpu" else _on_gpu(new.mask)
    full = len(new.row) == rows * queries

    def attend(query: Tensor, key: Tensor, value: Tensor, layer: int) -> Tensor:
        keys, values = cache.update(key, value, new, layer)
        if full:
            padded = query.unflatten(0, (rows, queries))
        else:
            padded = query.new_zeros(rows, queries, *query.shape[1:])
            padded[new.among, new.place] = query
        out = mix(padded.transpose(1, 2), keys, values).transpose(1, 2)
        return out.flatten(0, 1) if full else out[new.among, new.place]

    return attend


def _on_gpu(mask: Tensor) -> Mix:
    """Use torch's kernel, with heads that share keys end to end as if they were further queries."""
    bar: Tensor | None = None  # made once for all layers: torch would convert a bool mask in each of them

    def mix(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        nonlocal bar
        rows, heads, queries, dim = query.shape
        if bar is None:
            bar = _barred(mask, query.dtype)
            bar = bar if queries == 1 else bar.repeat(1, 1, heads // keys.shape[1], 1)
        grouped = query.reshape(rows, keys.shape[1], -1, dim)
        # Not a view: some kernels put tokens before heads in memory, which no view of this shape fits.
        return F.scaled_dot_product_attention(grouped, keys, values, attn_mask=bar).reshape(query.shape)

    return mix


def _on_cpu(mask: Tensor, dtype: torch.dtype) -> Mix:
    """Use plain products: torch's kernel for CPUs takes twice as long to read a cache."""
    barred = [_barred(look, dtype) for look in mask.split(BLOCK, 2)]

    def mix(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        (rows, kv_heads, columns, dim), queries = keys.shape, query.shape[2]
        flat_keys, flat_values = keys.flatten(0, 1).transpose(1, 2), values.flatten(0, 1)
        out = []
        for part, bar in zip((query * dim**-0.5).split(BLOCK, 2), barred, strict=True):
            scores = torch.bmm(part.reshape(rows * kv_heads, -1, dim), flat_keys)
            probs = scores.view(rows, -1, part.shape[2], columns).add_(bar).softmax(-1)
            out.append(torch.bmm(probs.view(rows * kv_heads, -1, columns), flat_values).view(part.shape))
        return out[0] if queries <= BLOCK else torch.cat(out, 2)

    return mix


def _barred(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the mask to add to scores: 0 where `mask` is true, else minus infinity."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -torch.inf)
