"""Products with weights in oneDNN's layout equal plain ones, up to rounding."""

from types import SimpleNamespace

import pytest
import torch

from steer_lit.policy.prepacked import can_prepack, prepack, prepacked_linear


@pytest.mark.parametrize("rows", [1, 16, 100])
@pytest.mark.parametrize("shift", ["none", "bias", "residual"])
@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 2**-5), (torch.float32, 1e-5)])
def test_equals_the_plain_product(rows, shift, dtype, error):
    generator = torch.Generator().manual_seed(rows)
    x, weight, bias, residual = (
        torch.randn(*shape, generator=generator).to(dtype) for shape in ((rows, 48), (40, 48), (40,), (rows, 40))
    )
    if not can_prepack(weight):
        pytest.skip(f"this CPU or build of torch has no {dtype} products of its own layout")
    layout = prepack(weight)
    add = {"none": None, "bias": bias, "residual": residual}[shift]
    plain = x.float() @ weight.float().T + (0.0 if add is None else add.float())
    assert torch.allclose(prepacked_linear(x, layout, add).float(), plain, rtol=error / 4, atol=error)


def test_bfloat16_is_not_prepacked_if_onednn_does_not_support_it(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert not can_prepack(torch.ones(4, 4, dtype=torch.bfloat16))


@pytest.mark.parametrize("missing", ["_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported"])
def test_nothing_is_prepacked_if_torch_lacks_an_operator(monkeypatch, missing):
    names = {"_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported"} - {missing}
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(**dict.fromkeys(names, lambda: True)))
    assert not can_prepack(torch.ones(4, 4))
