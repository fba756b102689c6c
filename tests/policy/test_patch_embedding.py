"""The tower's first layer as a matrix product: transformers' values, its gradient, and no convolution on a GPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from PIL import Image

from steer_lit.policy.base_model import BaseModelSettings
from steer_lit.policy.model_facts import nano_folder, tower_file
from steer_lit.policy.nano import build_nano
from steer_lit.policy.parts import ModelParts
from steer_lit.policy.patch_embedding import embed_patches
from steer_lit.policy.pictures import to_patches


@pytest.fixture(scope="module")
def nano() -> ModelParts:
    return build_nano(nano_folder("shipped"), tower_file("nano", "trained"), BaseModelSettings(device="cpu"))


@pytest.fixture
def embedding(nano: ModelParts) -> Any:
    return nano.model.model.visual.patch_embed


@pytest.fixture
def patches(nano: ModelParts) -> torch.Tensor:
    """Return the patches of a picture in which no two patches are alike."""
    picture = Image.radial_gradient("L").resize((112, 112))
    return to_patches(
        Image.merge("RGB", [picture, picture.rotate(90), picture.transpose(Image.Transpose.ROTATE_180)]), nano
    )[0]


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_product_equals_transformers_convolution_and_its_gradient(
    embedding: Any, patches: torch.Tensor, dtype: torch.dtype, most: float
) -> None:
    own = copy.deepcopy(embedding).to(dtype).requires_grad_()
    kernel = own.proj.weight.detach().clone().requires_grad_()
    theirs, ours = type(own).forward(own, patches), embed_patches(patches, kernel)
    generator = torch.Generator().manual_seed(0)
    sown = torch.randn(theirs.shape, dtype=dtype, generator=generator)
    (theirs * sown).sum().backward()
    (ours * sown).sum().backward()
    assert kernel.grad is not None
    for found, expected in ((ours, theirs), (kernel.grad, own.proj.weight.grad)):
        assert (found - expected).abs().max() <= most * expected.abs().max()


def test_off_the_cpu_there_is_no_convolution_and_parameters_keep_their_names(
    embedding: Any, patches: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = type(embedding).forward(embedding, patches)
    assert torch.equal(embedding(patches), expected)  # on the CPU bit for bit, as in the published figures

    def refuse(*_: object) -> None:
        raise AssertionError("a convolution")

    monkeypatch.setattr(torch.nn.Conv3d, "forward", refuse)
    elsewhere = copy.deepcopy(embedding).to("meta")  # meta tensors have shapes only
    assert elsewhere(patches.to("meta")).shape == expected.shape
    assert list(elsewhere.state_dict()) == ["proj.weight"]
    assert elsewhere.proj.weight.shape == (128, 3, 2, 14, 14)
