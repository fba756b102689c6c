"""Attention over packed rows equals torch's attention over each row alone, forward and backward."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F

from steer_lit.policy import packed_attention as module
from steer_lit.policy.packed_attention import BLOCK, packed_attention
from steer_lit.policy.token_batch import Segment
from tests.pretended_gpu import GPU, pretended_gpu

# Packed places of each row's tokens. Two rows share the first 5 tokens, the third shares none.
OWN = (slice(0, 12), slice(12, 20), slice(20, 29))
SHARED = [Segment(own, opening) for own, opening in zip(OWN, (slice(0, 0), slice(0, 5), slice(20, 20)), strict=True)]


def of_each_row(query, key, value, segments):
    """Run torch's kernel row by row. A shared opening is computed again, and its output is left out."""
    out = []
    for segment in segments:
        places = [*range(segment.opening.start, segment.opening.stop), *range(segment.own.start, segment.own.stop)]
        row = (part[places].transpose(0, 1)[None] for part in (query, key, value))
        mixed = F.scaled_dot_product_attention(*row, is_causal=True, enable_gqa=True)
        out.append(mixed[0].transpose(0, 1)[segment.opening.stop - segment.opening.start :])
    return torch.cat(out)


@pytest.mark.parametrize("way", ["kept", "computed again", "on a GPU"])
@pytest.mark.parametrize("length", [0, 1, 7, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 2), (4, 4), (3, 1)])
def test_equals_torchs_kernel_and_its_gradients(length, heads, kv_heads, way, monkeypatch):
    monkeypatch.setattr(module, "KEEPS", 6 if way == "computed again" else 10_000)
    segments = [*SHARED, Segment(slice(29, 29 + length), slice(0, 5))]
    generator = torch.Generator().manual_seed(length)
    query, key, value, grad = (
        torch.randn(29 + length, number, 16, generator=generator, requires_grad=True)
        for number in (heads, kv_heads, kv_heads, heads)
    )
    expected = of_each_row(query, key, value, segments)
    wanted = torch.autograd.grad(expected, (query, key, value), grad.detach())
    with pretended_gpu() if way == "on a GPU" else nullcontext():
        device = GPU if way == "on a GPU" else torch.device("cpu")
        given = [part.detach().to(device).requires_grad_() for part in (query, key, value)]
        found = packed_attention(*given, segments)
        got = [found, *torch.autograd.grad(found, given, grad.detach().to(device))]
        got = [one.detach().cpu() for one in got]
    for one, other in zip(got, (expected, *wanted), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    ("keeps", "expected"), [(10_000, [(12, 12), (8, 13), (9, 9)]), (12, [(12, 12), (9, 9)]), (6, [])]
)
def test_probabilities_of_short_segments_are_kept(keeps, expected, monkeypatch):
    monkeypatch.setattr(module, "KEEPS", keeps)
    query, key, value = (torch.randn(29, 2, 8, requires_grad=True) for _ in range(3))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(tuple(one.shape)) or one, lambda one: one):
        packed_attention(query, key, value, SHARED)
    assert kept[:3] == [query.shape, key.shape, value.shape]
    assert kept[3:] == [(2, *size) for size in expected]


def test_a_token_sees_no_later_token_and_no_other_row():
    query, key, value = (torch.randn(29, 2, 8) for _ in range(3))
    before = packed_attention(query, key, value, SHARED)
    key[8:12], value[8:12] = 100.0, -100.0  # the first row's tokens after the part that the second row shares
    after = packed_attention(query, key, value, SHARED)
    changed = (before != after).any(-1).any(-1)
    assert changed.tolist() == [8 <= place < 12 for place in range(29)]
