"""The vision tower's file, and its first layer as a matrix product: transformers' values, no convolution on a GPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from steer_lit.errors import SteerError
from steer_lit.policy.base_model import BaseModelSettings
from steer_lit.policy.lora import LoraSettings, attach_adapter
from steer_lit.policy.model_facts import nano_folder, tower_file
from steer_lit.policy.nano import build_nano
from steer_lit.policy.parts import ModelParts
from steer_lit.policy.pictures import to_patches
from steer_lit.policy.tiny import build_tiny
from steer_lit.policy.tower import embed_patches, load_tower, save_tower


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


def test_a_tower_is_unchanged_by_saving_and_loading(tmp_path):
    donor, receiver = build_tiny(), build_tiny().model
    with torch.no_grad():
        for parameter in donor.model.model.visual.parameters():
            parameter.add_(0.5)
    text_before = receiver.get_input_embeddings().weight.clone()
    save_tower(donor, tmp_path / "new" / "tower.safetensors")
    load_tower(receiver, tmp_path / "new" / "tower.safetensors")
    for (name, ours), theirs in zip(
        receiver.model.visual.named_parameters(), donor.model.model.visual.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs.bfloat16().float()), name
    assert torch.equal(receiver.get_input_embeddings().weight, text_before)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tower.safetensors"]


def test_a_tower_of_another_base_is_refused_and_changes_nothing(tmp_path):
    """The base is recognised with any adapter and in any number type. Shipped towers do not name their base."""
    path = tmp_path / "tower.safetensors"
    donor, same, other = build_tiny(), build_tiny(BaseModelSettings(dtype="bfloat16")), build_tiny().model
    with torch.no_grad():
        other.get_input_embeddings().weight.add_(1.0)
        donor.model.model.visual.patch_embed.proj.weight.add_(0.5)
    attach_adapter(donor.model, LoraSettings(r=4, alpha=8), seed=0)
    save_tower(donor, path)
    load_tower(same.model, path)
    before = other.model.visual.patch_embed.proj.weight.clone()
    with pytest.raises(SteerError, match=r"in front of base 'tiny' with language weights \w{12}, .* model\.tower$"):
        load_tower(other, path)
    assert torch.equal(other.model.visual.patch_embed.proj.weight, before)
    save_file(load_file(path), path, metadata={"format": "pt"})
    load_tower(other, path)
    assert not torch.equal(other.model.visual.patch_embed.proj.weight, before)


def test_a_tower_that_does_not_fit_is_refused_and_changes_nothing(tmp_path):
    parts = build_tiny()
    model = parts.model
    path = tmp_path / "tower.safetensors"
    save_tower(parts, path)
    good = load_file(path)
    before = model.model.visual.patch_embed.proj.weight.clone()
    key = "merger.mlp.2.bias"
    for bad, said in (
        ({k: v for k, v in good.items() if k != key}, rf"{key} has shape none, not \(128,\)"),
        ({**good, "blocks.9.norm1.weight": good[key].clone()}, r"blocks.9.norm1.weight has shape \(128,\), not none"),
        ({**good, key: good[key][:5].clone()}, rf"{key} has shape \(5,\), not \(128,\)"),
        ({**good, key: good[key] + 1e20}, rf"{key} holds numbers that are not finite or too large, [\d.]+e\+"),
    ):
        save_file({k: v + 1 for k, v in bad.items()}, path)
        with pytest.raises(SteerError, match=rf"{said}.*; name another model\.tower"):
            load_tower(model, path)
    assert torch.equal(model.model.visual.patch_embed.proj.weight, before)
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(SteerError, match="cannot be read"):
        load_tower(model, path)
