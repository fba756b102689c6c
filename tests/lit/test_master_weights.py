"""AdamW with float32 master weights: what bfloat16 alone would lose, and what a checkpoint must keep."""

import io

import pytest
import torch
from torch import nn

from steer_lit.lit.master_weights import MasterAdamW

SETTINGS = {"lr": 1e-4, "weight_decay": 0.01, "betas": (0.9, 0.999)}


def parameter(dtype: torch.dtype, value: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.full((3,), value, dtype=dtype))


def step(optimizer: MasterAdamW, weight: nn.Parameter, gradient: float) -> None:
    weight.grad = torch.full_like(weight, gradient)
    optimizer.collect()
    optimizer.step()
    optimizer.zero_grad()


def test_updates_smaller_than_a_bf16_step_add_up() -> None:
    # AdamW moves a weight by about lr = 1e-4 a step. Just below 1.0 bfloat16's step is 2^-8 = 0.0039, so that each
    # single update rounds to nothing. After 60 steps the master is near 1 - 60e-4 = 0.994, which rounds to less than 1.
    kept, plain = parameter(torch.bfloat16), parameter(torch.bfloat16)
    masters = MasterAdamW({"w": kept}, **SETTINGS)
    bare = torch.optim.AdamW([plain], **SETTINGS)
    for _ in range(60):
        step(masters, kept, 1.0)
        plain.grad = torch.ones_like(plain)
        bare.step()
    assert kept[0].item() < 1.0
    assert masters.masters["w"][0].item() == pytest.approx(1 - 60e-4 - 60 * 1e-6, abs=1e-5)
    assert plain[0].item() == 1.0  # every update was rounded away


def test_float32_parameters_are_their_own_masters() -> None:
    ours, theirs = parameter(torch.float32), parameter(torch.float32)
    optimizer, reference = MasterAdamW({"w": ours}, **SETTINGS), torch.optim.AdamW([theirs], **SETTINGS)
    assert optimizer.masters["w"] is ours
    for gradient in (1.0, -0.5, 0.25):
        step(optimizer, ours, gradient)
        theirs.grad = torch.full_like(theirs, gradient)
        reference.step()
    assert torch.equal(ours, theirs)


def test_micro_batch_gradients_are_summed_in_float32() -> None:
    # 1 + 256 times 2^-9 = 1.5. Just above 1 bfloat16's step is 2^-7, so each of the small gradients would be lost.
    weight = parameter(torch.bfloat16)
    optimizer = MasterAdamW({"w": weight}, **SETTINGS)
    for gradient in [1.0] + [2.0**-9] * 256:
        weight.grad = torch.full_like(weight, gradient)
        optimizer.collect()
        assert weight.grad is None
    assert optimizer.masters["w"].grad[0].item() == 1.5


def test_resuming_continues_bit_for_bit() -> None:
    straight, first, second = (parameter(torch.bfloat16) for _ in range(3))
    whole, half = MasterAdamW({"w": straight}, **SETTINGS), MasterAdamW({"w": first}, **SETTINGS)
    for gradient in (1.0, 0.3, -0.2, 0.7):
        step(whole, straight, gradient)
    for gradient in (1.0, 0.3):
        step(half, first, gradient)
    file = io.BytesIO()
    torch.save(half.state_dict(), file)
    file.seek(0)
    resumed = MasterAdamW({"w": second}, **SETTINGS)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for gradient in (-0.2, 0.7):
        step(resumed, second, gradient)
    assert torch.equal(resumed.masters["w"], whole.masters["w"])
