"""A policy from its config: which layers are in 4 bits, what trains, and how an adapter folder is checked."""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoTokenizer

from steer_lit.errors import MissingResource, SteerError
from steer_lit.policy import base_model, gpus, load, preflight
from steer_lit.policy import lora as lora_module
from steer_lit.policy.base_model import BaseModelSettings, open_checkpoint
from steer_lit.policy.load import load_policy
from steer_lit.policy.lora import LoraSettings, adapted_layers
from steer_lit.policy.model_facts import SHIPPED
from steer_lit.policy.nano import build_nano
from steer_lit.policy.parts import ModelParts
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.policy.tiny import build_tiny
from steer_lit.types import ImageRef, TokenTrace
from tests.policies import small_policy

RED = ImageRef("mini://red")
CONFS = sorted((Path(__file__).resolve().parents[2] / "conf" / "model").glob("*.yaml"))


def red_square(_: ImageRef) -> Image.Image:
    return Image.new("RGB", (112, 112), "red")


def policy(**changes: object) -> QwenVL:
    return small_policy(**{"system_prompt": "Be brief.", "open_image": red_square, **changes})


@pytest.fixture
def a_blind_torch(monkeypatch: pytest.MonkeyPatch) -> str:
    """Simulate a torch that cannot use the GPU that the driver counts. Return the message for this."""
    monkeypatch.setattr(gpus, "visible_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    built = f"torch {torch.__version__} (CUDA {torch.version.cuda or 'none'})"
    return f"the driver sees an NVIDIA GPU, {built} does not: install a torch built for this driver"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"name": "qwen2_5_vl_7b", "quantize": "nf4"}, "model.quantize='nf4'"),
        ({"name": "qwen2_5_vl_7b", "quantize": "nf4", "device": "cpu"}, "model.quantize='nf4'"),
        ({"device": "cuda:0"}, "model.device='cuda:0'"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_refused_with_the_reason(
    changes: dict[str, object], key: str, a_blind_torch: str
) -> None:
    source = {"source": str(SHIPPED)} if "name" in changes else {}
    with pytest.raises(MissingResource) as refused:
        policy(**changes, **source)
    assert str(refused.value).startswith(f"{key}: {a_blind_torch}")


def test_a_small_model_falls_back_to_the_cpu_with_one_warning(
    a_blind_torch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(load.log, "warning", lambda text, *values: said.append(text % values))
    assert policy(quantize="nf4").device.type == "cpu"
    policy(device="cpu")
    (once,) = said
    assert once.startswith(a_blind_torch)
    assert once.endswith("tiny computes on the CPU")


def logprobs(model: QwenVL) -> torch.Tensor:
    """Return log-probs of five completion tokens after a picture: float32 [1, L]."""
    opening = [*model.tokenizer("Look: <|vision_start|>").input_ids, *[model.parts.image_token_id] * 16, 40, 41]
    ids, turns = (*opening, 50, 51, 52, 53, model.eos_ids[0]), (-1,) * len(opening) + (0,) * 5
    trace = TokenTrace(ids, turns, (0.0,) * len(ids), (RED,))
    return model.logprobs(model.collate([trace]))


# ---- 4 bits


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_trap_42_language_layers_are_in_4_bits_tower_and_head_are_not(dtype):
    base = build_tiny(BaseModelSettings(quantize="nf4", dtype=dtype)).model
    four_bit = base_model.four_bit_modules(base)
    assert len(four_bit) == 2 * 7  # 2 decoder layers of q, k, v, o, gate, up, down
    assert all(name.startswith("model.language_model.layers.") for name in four_bit)
    layer = base.get_submodule(four_bit[0])
    assert layer.weight.dtype == torch.uint8
    assert layer.weight.quant_state.quant_type == "nf4"
    assert layer.compute_dtype == getattr(torch, dtype)
    assert base.lm_head.weight.dtype == getattr(torch, dtype)
    assert base.model.visual.blocks[0].attn.qkv.weight.dtype == getattr(torch, dtype)


def test_trap_42_a_skip_list_with_the_wrong_prefix_is_caught(monkeypatch):
    monkeypatch.setattr(base_model, "KEPT_WHOLE", ("visual", "lm_head"))
    with pytest.raises(SteerError, match=r"model\.visual\.blocks\.0\.attn\.proj"):
        build_tiny(BaseModelSettings(quantize="nf4"))


def test_an_unquantized_model_fails_the_four_bit_check():
    with pytest.raises(SteerError, match=r"^model\.quantize=nf4 .*14 language-model layers that are not"):
        base_model.check_four_bit(build_tiny().model)


def test_nf4_logprobs_are_close_to_the_unquantized_models():
    whole, four_bit = logprobs(policy()), logprobs(policy(quantize="nf4"))
    difference = (whole - four_bit)[whole != 0]
    assert 1e-4 < difference.abs().mean() < 0.3  # log-probs of about -6: close, but not equal


# ---- what trains


@pytest.mark.parametrize("quantize_to", ["none", "nf4"])
def test_trap_28_all_and_only_lora_gets_gradients_the_same_with_checkpointing(quantize_to, packs):
    gradients, kept = {}, {}
    for checkpointing in (False, True):
        model = policy(quantize=quantize_to, gradient_checkpointing=checkpointing).train()
        sizes: list[int] = []
        with saved_tensors_hooks(
            lambda tensor, sizes=sizes: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            total = logprobs(model).sum()
        total.backward()
        kept[checkpointing] = sum(sizes)
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == (".lora_" in name) == parameter.requires_grad, name
        gradients[checkpointing] = {name: p.grad for name, p in model.trainable().items()}
    assert kept[True] < kept[False] / 4  # backward computes the inside of a layer again
    assert len(gradients[True]) == 2 * 14  # A and B of every adapted layer
    for name, gradient in gradients[False].items():
        torch.testing.assert_close(gradients[True][name], gradient, atol=1e-6, rtol=0)
        assert (gradient.abs().max() > 0) == (".lora_B." in name), name  # B starts at 0, so A's first gradient is 0


def test_lora_adapts_the_language_model_only_and_starts_without_effect():
    model = policy()
    layers = adapted_layers(model.model)
    assert len(layers) == 14
    assert not [name for name in layers if "visual" in name or "lm_head" in name]  # the tower has a gate_proj too
    with model.model.disable_adapter():
        base = logprobs(model)
    assert torch.equal(logprobs(model), base)


@pytest.mark.parametrize(("dtype", "base"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_lora_has_its_own_dtype(dtype, base):
    model = policy(dtype=base, lora=LoraSettings(r=4, alpha=8, dtype=dtype))
    assert {p.dtype for p in model.trainable().values()} == {getattr(torch, dtype)}


def test_trap_34_loading_keeps_the_random_state_and_the_seed_decides_the_adapter():
    torch.manual_seed(20_240)  # a state that no load could leave behind
    before = torch.get_rng_state()
    one, same, other = (policy(seed=seed).adapter_state() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    a = next(name for name in one if "lora_A" in name)
    assert torch.equal(one[a], same[a])
    assert not torch.equal(one[a], other[a])


# ---- the adapter folder


def trained(model: QwenVL) -> QwenVL:
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.add_(0.05)
    return model


def test_an_adapter_comes_back_from_its_folder(tmp_path):
    saved = trained(policy())
    saved.save_adapter(tmp_path)
    loaded = policy(init_from=str(tmp_path), seed=5)
    assert torch.equal(logprobs(loaded), logprobs(saved))
    assert not torch.equal(logprobs(loaded), logprobs(policy()))
    assert all(p.requires_grad for p in loaded.adapter_parameters().values())


def test_peft_itself_reads_the_folder(tmp_path):
    from peft import PeftModel

    saved = trained(policy())
    saved.save_adapter(tmp_path)
    base = build_tiny()
    model = PeftModel.from_pretrained(base.model, str(tmp_path))
    plain = QwenVL(base, model, "Be brief.", red_square)
    assert torch.equal(logprobs(plain), logprobs(saved))


def test_trap_39_settings_from_omegaconf_are_saved_as_plain_types(tmp_path):
    config = OmegaConf.create(
        {"_target_": "steer_lit.policy.lora.LoraSettings", "r": 2, "alpha": 4, "targets": ["q_proj", "v_proj"]}
    )
    settings = instantiate(config)  # without _convert_, so the targets arrive as a ListConfig
    torch.save(dataclasses.asdict(settings), tmp_path / "settings.pt")
    assert torch.load(tmp_path / "settings.pt", weights_only=True)["targets"] == ("q_proj", "v_proj")
    model = policy(lora=settings)
    model.save_adapter(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 2
    assert len(adapted_layers(model.model)) == 2 * 2


def test_saving_names_the_base_and_no_path_of_this_machine(tmp_path):
    policy().save_adapter(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nbase_model: tiny\n")
    assert "More Information Needed" not in card  # as PEFT's card says
    facts = json.loads((tmp_path / "steer_lit.json").read_text())
    shown = {"system_prompt": "Be brief.", "min_pixels": 784, "max_pixels": 12544}
    assert facts == {"base": "tiny", "fingerprint": build_tiny().fingerprint, **shown}


def test_an_adapter_of_another_base_is_refused(tmp_path):
    policy().save_adapter(tmp_path)
    here = build_tiny().fingerprint
    facts = tmp_path / "steer_lit.json"
    facts.write_text(facts.read_text().replace(here, "0123456789abcdef"))
    said = f"trained on base 'tiny' with fingerprint 0123456789abcdef, this model's is {here}; choose the model, "
    with pytest.raises(SteerError, match=said):
        policy(init_from=str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (LoraSettings(r=8, alpha=8), r"set model\.lora\.r=4"),
        (LoraSettings(r=4, alpha=4), r"set model\.lora\.alpha=8"),
        (
            LoraSettings(r=4, alpha=8, targets=("q_proj",)),
            r"_proj\.lora_A\.weight has .*, not none; name another",
        ),
    ],
)
def test_an_adapter_of_another_shape_is_refused(tmp_path, settings, said):
    policy().save_adapter(tmp_path)
    with pytest.raises(SteerError, match=said):
        policy(init_from=str(tmp_path), lora=settings)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda tensor: tensor[:1].clone(),
            r"has shape \(1, \d+\), not \(\d+, \d+\)",
        ),  # would be broadcast
        (lambda tensor: tensor.to(torch.int8), r"base_model\..*lora_\w\.weight holds int8, not floating-point numbers"),
        (lambda tensor: tensor.to(torch.complex64), "holds complex64, not floating-point numbers"),
        (lambda tensor: tensor * float("nan"), "holds numbers that are not finite"),
        (lambda tensor: tensor.double() + 1e60, r"finite or too large, 1e\+60"),  # too large for the parameter's type
    ],
)
def test_an_adapter_with_unusable_tensors_is_refused(tmp_path, change, said):
    policy().save_adapter(tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    name = next(name for name in weights if "lora_A" in name)
    save_file({**weights, name: change(weights[name])}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(SteerError, match=said):
        policy(init_from=str(tmp_path))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"use_rslora": True}, "use_rslora=true"),
        ({"use_dora": True, "bias": "all"}, 'bias="all", use_dora=true'),
        ({"peft_type": "ADALORA"}, 'peft_type="ADALORA"'),
        ({"init_lora_weights": "pissa"}, 'init_lora_weights="pissa"'),
        ({"layers_to_transform": [0]}, r"layers_to_transform=\[0\]"),
        ({"modules_to_save": ["lm_head"]}, r'modules_to_save=\["lm_head"\]'),
    ],
)
def test_an_adapter_other_than_plain_lora_is_refused_even_if_its_tensors_fit(tmp_path, other, said):
    policy().save_adapter(tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **other}))
    with pytest.raises(SteerError, match=f"has {said}, and plain LoRA alone is read: train one without"):
        policy(init_from=str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"system_prompt": "Be long."}, "was trained with system_prompt='Be long.', not this run's 'Be brief.'"),
        ({"max_pixels": 3136}, "was trained with max_pixels=3136, not this run's 12544"),
    ],
)
def test_an_adapter_trained_with_another_prompt_or_resolution_loads_with_a_warning(tmp_path, caplog, changes, said):
    policy().save_adapter(tmp_path)
    facts = tmp_path / "steer_lit.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), **changes}))
    with caplog.at_level(logging.WARNING, logger=lora_module.__name__):
        policy(init_from=str(tmp_path))
    own = [record for record in caplog.records if record.name == lora_module.__name__]
    warned = [record.getMessage() for record in own if record.levelno >= logging.WARNING]
    assert said in warned[0]


def test_an_adapter_without_our_facts_loads_with_a_warning(tmp_path, caplog):
    trained(policy()).save_adapter(tmp_path)
    (tmp_path / "steer_lit.json").unlink()
    with caplog.at_level(logging.WARNING, logger=lora_module.__name__):
        policy(init_from=str(tmp_path))
    assert "cannot be checked" in caplog.text


# ---- sources and configs


def test_a_checkpoint_folder_is_a_source(tmp_path):
    parts = build_tiny()
    parts.model.save_pretrained(tmp_path)
    parts.tokenizer.save_pretrained(tmp_path)
    model = policy(name="mine", source=str(tmp_path))
    assert model.fingerprint == parts.fingerprint
    assert torch.equal(logprobs(model), logprobs(policy()))


def copy_of_nano(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> str:
    """Copy nano's checkpoint with its tensors changed."""
    shutil.copytree(SHIPPED, folder)
    save_file(change(load_file(SHIPPED / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
    return str(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda all_: {name: tensor for name, tensor in all_.items() if ".layers.1.mlp." not in name},
            r"3 missing \(model\.language_model\.layers\.1\.mlp\.down_proj\.weight, .* and 1 more\); copy or export",
        ),
        (
            lambda all_: {f"base_model.model.{name}": tensor for name, tensor in all_.items()},  # as PEFT names them
            r"9[23] missing \(.*\), 92 unknown to it \(base_model\.model\.model\.language_model\.",
        ),
        (
            lambda all_: {**all_, "model.language_model.norm.weight": torch.ones(3)},
            r"config\.json: 1 of another shape \(model\.language_model\.norm\.weight\)",
        ),
        (lambda all_: {**all_, "v_head.weight": torch.ones(3)}, r"config\.json: 1 unknown to it \(v_head\.weight\)"),
    ],
)
def test_a_checkpoint_of_other_tensors_than_the_models_is_refused(tmp_path, change, said):
    with pytest.raises(SteerError, match=said):
        open_checkpoint(copy_of_nano(tmp_path / "other", change), BaseModelSettings(), name="x")


def test_the_names_of_qwens_own_files_and_a_tied_head_are_known(tmp_path):
    def as_published(tensors):
        named = {name.replace("model.visual.", "visual."): tensor for name, tensor in tensors.items()}
        named = {name.replace("model.language_model.", "model."): tensor for name, tensor in named.items()}
        return {**named, "lm_head.weight": named["model.embed_tokens.weight"].clone()}

    published = open_checkpoint(copy_of_nano(tmp_path / "other", as_published), BaseModelSettings(), name="x")
    assert published.fingerprint == build_nano(SHIPPED).fingerprint


def test_an_empty_folder_is_a_missing_resource(tmp_path):
    with pytest.raises(MissingResource, match="could not be loaded"):
        policy(name="mine", source=str(tmp_path))


def test_an_error_without_a_message_is_named_with_the_key(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(MissingResource, match=r"^model\.source='x': could not be loaded \(OSError\): model\.source"):
        open_checkpoint("x", BaseModelSettings(), name="x")


def test_a_model_without_an_end_token_is_refused(tmp_path):
    parts = build_tiny()
    parts.model.generation_config.eos_token_id = None
    with pytest.raises(SteerError, match=r"names no end token: add eos_token_id .*model\.source"):
        ModelParts.of(parts.model, parts.tokenizer, source="x", name="mine", min_pixels=784, max_pixels=784)


@pytest.mark.parametrize("path", CONFS, ids=lambda path: path.stem)
def test_each_model_config_fits_the_function_and_the_check(path):
    with initialize_config_dir(str(path.parents[1]), version_base="1.3"):
        config = compose(f"model/{path.stem}").model
    keys = set(config) - {"_target_", "_convert_"}
    parameters = inspect.signature(load_policy).parameters
    assert keys <= set(parameters)
    needed = {name for name, p in parameters.items() if p.default is inspect.Parameter.empty}
    assert keys >= needed - {"open_image"}  # the data module gives it
    assert config.name == path.stem
    whole = OmegaConf.create({"model": config, "seed": 0, "system_prompt": "", "init_from": None})
    plain = OmegaConf.to_container(whole, resolve=True)["model"]
    assert preflight.value_problems(plain) == []
    assert LoraSettings(**{key: value for key, value in plain["lora"].items() if key != "_target_"}).targets


def test_there_are_five_model_configs():
    assert [path.stem for path in CONFS] == ["nano", "qwen2_5_vl_3b", "qwen2_5_vl_7b", "smol", "tiny"]
