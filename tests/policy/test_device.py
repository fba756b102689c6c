"""The number type that a policy computes in."""

import pytest
import torch

from steer_lit.policy import device
from steer_lit.policy.device import number_type
from steer_lit.policy.lora import LoraSettings
from tests.policies import small_policy
from tests.pretended_gpu import pretended_gpu


@pytest.fixture
def processor(monkeypatch):
    """Return a function that gives the CPU exactly these instructions."""

    def make(*instructions: str) -> None:
        for question in device._NATIVE:
            found = question in instructions
            monkeypatch.setattr(torch.cpu, question, lambda found=found: found, raising=False)

    return make


@pytest.mark.parametrize("instructions", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_auto_is_bfloat16_on_a_cpu_with_bfloat16_products(processor, instructions):
    processor(instructions)
    assert number_type("auto", "cpu") == "bfloat16"


def test_auto_is_float32_on_a_cpu_without_bfloat16_products(processor):
    processor()
    assert number_type("auto", "cpu") == "float32"


def test_auto_is_float32_if_torch_cannot_tell(monkeypatch):
    for question in device._NATIVE:
        monkeypatch.delattr(torch.cpu, question, raising=False)
    assert number_type("auto", "cpu") == "float32"


@pytest.mark.parametrize(("native", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_asks_a_gpu_for_real_instructions_not_for_emulation(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert number_type("auto", "cuda:0") == expected


@pytest.mark.parametrize("named", ["bfloat16", "float32"])
def test_a_named_type_is_used_on_any_cpu(processor, named):
    processor(*([] if named == "bfloat16" else device._NATIVE))
    assert number_type(named, "cpu") == named


@pytest.mark.parametrize(("instructions", "expected"), [((), torch.float32), (device._NATIVE, torch.bfloat16)])
def test_base_and_adapter_are_loaded_in_the_type_of_auto(processor, instructions, expected):
    processor(*instructions)
    policy = small_policy(dtype="auto", lora=LoraSettings(r=2, alpha=4, dtype="auto"))
    assert {parameter.dtype for parameter in policy.parameters()} == {expected}


@pytest.mark.parametrize(("where", "allowed"), [("cpu", True), ("cuda:0", False)])
def test_a_gpu_does_not_plan_attention_again_for_each_shape(where, allowed):
    """cuDNN does. On an H100 torch would choose it."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)
    try:
        with pretended_gpu():
            small_policy(device=where)
        assert torch.backends.cuda.cudnn_sdp_enabled() is allowed
        assert torch.backends.cuda.flash_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


@pytest.mark.parametrize(("where", "capability", "warned"), [("cuda:0", 7.5, 1), ("cuda:0", 8.0, 0), ("cpu", 7.5, 0)])
def test_a_gpu_without_flash_attention_is_named_once(monkeypatch, caplog, where, capability, warned):
    with pretended_gpu():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: divmod(int(capability * 10), 10))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
        small_policy(device=where)
    said = [record.getMessage() for record in caplog.records if "FlashAttention" in record.getMessage()]
    assert len(said) == warned
    assert all(one.startswith("Tesla T4 is older than Ampere") for one in said)
