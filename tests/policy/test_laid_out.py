"""Products with weights in oneDNN's layout equal plain ones, to the rounding of bfloat16."""

import pytest
import torch

from steer_lit.policy.laid_out import lay_out, product


@pytest.mark.parametrize("rows", [1, 16, 100])
@pytest.mark.parametrize("shift", ["none", "bias", "residual"])
def test_equals_the_plain_product(rows, shift):
    generator = torch.Generator().manual_seed(rows)
    x, weight, bias, residual = (
        torch.randn(*shape, generator=generator).bfloat16() for shape in ((rows, 48), (40, 48), (40,), (rows, 40))
    )
    layout = lay_out(weight)
    if layout is None:
        pytest.skip("this CPU or build of torch has no bfloat16 products of its own layout")
    add = {"none": None, "bias": bias, "residual": residual}[shift]
    plain = x.float() @ weight.float().T + (0.0 if add is None else add.float())
    assert torch.allclose(product(x, layout, add).float(), plain, rtol=2**-7, atol=2**-5)


def test_only_bfloat16_weights_are_laid_out():
    assert lay_out(torch.ones(4, 4)) is None


def test_a_build_without_the_operator_multiplies_plainly(monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert lay_out(torch.ones(4, 4, dtype=torch.bfloat16)) is None
