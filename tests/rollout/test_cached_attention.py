"""Attention through a cache: the CPU's and the GPU's code give the same result."""

import pytest
import torch
import torch.nn.functional as F

from steer_lit.rollout import cached_attention


@pytest.mark.parametrize("queries", [1, 40])  # one, and more than the CPU code takes at a time
def test_attention_on_cpu_and_gpu_equals_the_formula_with_shared_key_heads(queries):
    generator = torch.Generator().manual_seed(2)
    query = torch.randn(3, 6, queries, 8, generator=generator)
    keys, values = torch.randn(2, 3, 2, 48, 8, generator=generator)
    mask = torch.ones(3, 1, queries, 48, dtype=torch.bool).tril(48 - queries - 4)
    mask[1, ..., 3:9] = False  # padding inside the cache
    scores = query @ keys.repeat_interleave(3, 1).transpose(-1, -2) / 8**0.5
    by_hand = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ values.repeat_interleave(3, 1)
    for mix in (cached_attention._on_cpu(mask, torch.float32), cached_attention._on_gpu(mask)):
        assert torch.allclose(mix(query, keys, values), by_hand, atol=1e-5)


@pytest.mark.parametrize("queries", [1, 5])
def test_a_gpu_kernel_may_store_its_output_token_by_token(queries, monkeypatch):
    """torch's memory-efficient kernel returns heads first, but stores [B, tokens, heads, d]."""
    plain = F.scaled_dot_product_attention

    def as_on_a_gpu(*given, **named):
        return plain(*given, **named).transpose(1, 2).contiguous().transpose(1, 2)

    query, keys, values = torch.randn(3, 6, queries, 8), *torch.randn(2, 3, 2, 48, 8)
    mix = cached_attention._on_gpu(torch.ones(3, 1, queries, 48, dtype=torch.bool))
    expected = mix(query, keys, values)
    monkeypatch.setattr(F, "scaled_dot_product_attention", as_on_a_gpu)
    assert torch.equal(mix(query, keys, values), expected)


@pytest.mark.parametrize(("queries", "rows"), [(1, 1), (5, 15)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_layers_on_a_gpu_share_one_float_mask(queries, rows, dtype, monkeypatch):
    plain, masks = F.scaled_dot_product_attention, []

    def watched(*given, attn_mask):
        masks.append(attn_mask)
        return plain(*given, attn_mask=attn_mask)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    mix = cached_attention._on_gpu(torch.ones(3, 1, queries, 48, dtype=torch.bool))
    for _ in range(3):
        mix(torch.randn(3, 6, queries, 8, dtype=dtype), *torch.randn(2, 3, 2, 48, 8, dtype=dtype))
    assert masks[0].dtype is dtype
    assert masks[0].shape == (3, 1, rows, 48)
    assert all(mask is masks[0] for mask in masks)
