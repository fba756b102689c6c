"""Hand-written gradients equal those of autograd on the plain formulas."""

import pytest
import torch
import torch.nn.functional as F

from steer_lit.policy.layer_ops import adapted, norm, swiglu


def compare(found, expected, inputs, tolerance=1e-5):
    assert torch.allclose(found, expected, atol=tolerance)
    grad = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9)).to(expected.dtype)
    got, wanted = (torch.autograd.grad(out, inputs, grad) for out in (found, expected))
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == other.dtype
        assert torch.allclose(one, other, atol=tolerance, rtol=tolerance)


def random(*shape, grad=True, dtype=torch.float32):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).to(dtype).requires_grad_(grad)


def test_norm():
    x, weight = random(5, 12), random(12, grad=False)
    plain = x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt() * weight
    compare(norm(x, weight, 0.1), plain, [x])


def test_norm_of_bfloat16_is_computed_in_float32():
    x, weight = random(5, 12, dtype=torch.bfloat16), random(12, grad=False, dtype=torch.bfloat16)
    wide = x.detach().float().requires_grad_()
    plain = wide / (wide.square().mean(-1, keepdim=True) + 0.1).sqrt() * weight.float()
    grad = torch.ones_like(x)
    (got,) = torch.autograd.grad(norm(x, weight, 0.1), x, grad)
    (wanted,) = torch.autograd.grad(plain, wide, grad.float())
    assert torch.equal(got, wanted.bfloat16())


def test_gated():
    x = random(5, 12)
    compare(swiglu(x), F.silu(x[:, :6]) * x[:, 6:], [x])


def test_adapters_are_added_in_place_and_may_have_another_dtype():
    x, y, down, up = random(5, 12, dtype=torch.bfloat16), random(5, 7, grad=False), random(3, 12), random(3, 7)
    plain = y + x.float() @ down.T @ up
    compare(adapted(y.clone(), x, (down, up)), plain, [x, down, up])
    rounded = y.bfloat16()
    assert adapted(rounded, x, (down, up)) is rounded
    assert torch.equal(rounded, (y.bfloat16() + x.float() @ down.T @ up).bfloat16())
    assert adapted(y, x, None) is y


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["alike", "base in bfloat16"])
def test_an_adapter_after_the_gate_recomputes_its_input_instead_of_keeping_it(dtype):
    gates, down, up, y = random(5, 24, dtype=dtype), random(3, 12), random(3, 7), random(5, 7, grad=False)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        found = adapted(y.clone(), swiglu(gates), (down, up), (swiglu, gates))
    plain = y + swiglu(gates).float() @ down.T @ up
    assert not any(tensor.shape == (5, 12) for tensor in kept)
    compare(found, plain, [gates, down, up], tolerance=1e-5 if dtype == torch.float32 else 1e-2)


def test_without_gradients_the_results_are_the_same():
    x, weight = random(5, 12), random(12, grad=False)
    training = swiglu(norm(x, weight, 0.1))
    with torch.no_grad():
        assert torch.equal(swiglu(norm(x, weight, 0.1)), training)
        y, adapter = random(5, 7, grad=False), (random(3, 6), random(3, 7))
        assert torch.equal(adapted(y.clone(), training, adapter, (swiglu, x)), adapted(y.clone(), training, adapter))
