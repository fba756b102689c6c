"""Attention in blocks equals torch's, forward and backward, at every kind of length."""

import pytest
import torch
import torch.nn.functional as F

from steer_lit.policy import causal_attention as module
from steer_lit.policy.causal_attention import BLOCK, causal_attention


@pytest.mark.parametrize("length", [1, 7, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 2), (4, 4), (3, 1)])
def test_equals_torchs_kernel_and_its_gradients(length, heads, kv_heads):
    generator = torch.Generator().manual_seed(length)
    query, key, value, slope = (
        torch.randn(2, number, length, 16, generator=generator, requires_grad=True)
        for number in (heads, kv_heads, kv_heads, heads)
    )
    expected = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3, enable_gqa=True)
    found = causal_attention(query, key, value, 0.3)
    assert torch.allclose(found, expected, atol=1e-6)
    wanted = torch.autograd.grad(expected, (query, key, value), slope.detach())
    got = torch.autograd.grad(found, (query, key, value), slope.detach())
    for one, other in zip(got, wanted, strict=True):
        assert torch.allclose(one, other, atol=5e-6)


def test_a_position_does_not_see_later_ones():
    query, key, value = (torch.randn(1, 2, 200, 8) for _ in range(3))
    before = causal_attention(query, key, value, 1.0)
    key[:, :, 150:], value[:, :, 150:] = 100.0, -100.0
    after = causal_attention(query, key, value, 1.0)
    assert torch.equal(before[:, :, :150], after[:, :, :150])
    assert not torch.equal(before[:, :, 150:], after[:, :, 150:])


def test_rows_too_long_to_keep_probabilities_go_to_torchs_kernel(monkeypatch):
    query = torch.randn(1, 2, 33, 8)
    blockwise = causal_attention(query, query, query, 1.0)
    monkeypatch.setattr(module, "LONGEST", 32)
    monkeypatch.setattr(module._CausalAttention, "apply", None)
    assert torch.allclose(causal_attention(query, query, query, 1.0), blockwise, atol=1e-6)
