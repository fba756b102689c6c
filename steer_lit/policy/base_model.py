"""Qwen2.5-VL checkpoints: opening a folder or hub id, whole or with its language model in NF4, and writing one."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from steer_lit.errors import MissingResource, SteerError
from steer_lit.mini_world import SIDE
from steer_lit.numbers import few
from steer_lit.policy.model_facts import BUILT_HERE, NumberType, Quantization
from steer_lit.policy.parts import ModelParts, own_random_state
from steer_lit.policy.tower import embed_as_product, load_tower
from steer_lit.texts import first_lines

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

log = logging.getLogger(__name__)

# Full names: a bare `visual` matches nothing where the module is `model.visual`, and the tower is quantized (TRAPS 42).
KEPT_WHOLE = ("model.visual", "lm_head")
LANGUAGE_MODEL = "model.language_model."


@dataclass(frozen=True, slots=True)
class BaseModelSettings:
    """How a base model is opened.

    `dtype` is the weights', or with NF4 the one computed in. Pictures are resized to an area between `min_pixels` and
    `max_pixels`; the defaults fit the small models.
    """

    quantize: Quantization = "none"
    dtype: NumberType = "float32"
    device: str = "cpu"
    min_pixels: int = 28 * 28
    max_pixels: int = SIDE * SIDE


PLAIN = BaseModelSettings()


def open_checkpoint(
    source: str,
    settings: BaseModelSettings,
    *,
    name: str,
    local_only: bool = True,
    tower: Path | None = None,
) -> ModelParts:
    """Load model and tokenizer in evaluation mode, with no parameter requiring gradients.

    Adapters will name `source` as their base, or `name` if the model is built here. `local_only` forbids the network.
    `tower` is a file of vision tower weights that replace the checkpoint's. Raises MissingResource if the checkpoint or
    the file is not there, SteerError if its tensors are not the model's, if the tower does not fit, or if not exactly
    the language model is in 4 bits.
    """
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    # On a CPU bitsandbytes looks for an optional package and warns; plain dequantization is wanted there.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    torch_dtype = getattr(torch, settings.dtype)
    quantization = {"quantization_config": _nf4_config(torch_dtype)} if settings.quantize == "nf4" else {}
    try:
        with own_random_state(0):  # loading initialises before it copies
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local_only)
            model, loaded = Qwen2_5_VLForConditionalGeneration.from_pretrained(
                source,
                dtype=torch_dtype,
                device_map={"": settings.device},
                local_files_only=local_only,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below
                **quantization,
            )
    except (OSError, ValueError) as error:  # of transformers: no such file, repository or network; no tokenizer
        remedy = "model.source names a hub id, or a folder with config.json, tokenizer and *.safetensors"
        raise MissingResource(
            f"model.source={source!r}: could not be loaded ({first_lines(error)}): {remedy}"
        ) from error
    _check_tensors(source, loaded)
    model.requires_grad_(False).eval()
    embed_as_product(model)
    model.name_or_path = model.config.name_or_path = name if name in BUILT_HERE else source
    if settings.quantize == "nf4":
        log.info("%s: %d language-model layers in NF4, tower and head whole", name, check_four_bit(model))
    if tower is not None:
        load_tower(model, tower)
    bounds = {"min_pixels": settings.min_pixels, "max_pixels": settings.max_pixels}
    return ModelParts.of(model, tokenizer, source=source, name=name, **bounds)


def _check_tensors(source: str, loaded: Mapping[str, Collection[Any]]) -> None:
    """Raise SteerError unless the files held exactly the model's tensors: transformers draws the others at random."""
    other = {
        "missing": loaded["missing_keys"],
        "of another shape": [name for name, *_ in loaded["mismatched_keys"]],
        "unknown to it": loaded["unexpected_keys"],
    }
    if found := [f"{len(names):,} {what} ({few(sorted(names), 2)})" for what, names in other.items() if names]:
        raise SteerError(
            f"checkpoint {source!r}: its tensors are not those of the Qwen2.5-VL in its config.json: "
            f"{', '.join(found)}; copy or export it again (an adapter merged), or name another model.source"
        )


def _nf4_config(compute_dtype: torch.dtype) -> BitsAndBytesConfig:
    """Ask for 4-bit NormalFloat with double quantization (QLoRA, arXiv 2305.14314), tower and head whole."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=list(KEPT_WHOLE),
    )


def four_bit_modules(model: torch.nn.Module) -> list[str]:
    """List the linear layers whose weights are really stored in 4 bits."""
    return [
        name
        for name, module in model.named_modules()
        if type(getattr(module, "weight", None)).__name__ == "Params4bit" and module.weight.quant_state is not None
    ]


def check_four_bit(model: torch.nn.Module) -> int:
    """Count the 4-bit layers. Raises SteerError unless they are exactly the language model's linear ones."""
    four_bit = set(four_bit_modules(model))
    expected = {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith(LANGUAGE_MODEL)
    }
    wrongly, missed = sorted(four_bit - expected), sorted(expected - four_bit)
    if wrongly or missed or not four_bit:
        raise SteerError(
            f"model.quantize=nf4 went wrong: {len(wrongly)} modules in 4 bits that must not be {wrongly[:3]}, "
            f"{len(missed)} language-model layers that are not {missed[:3]}, {len(four_bit)} in all: use none, or "
            "install the versions of bitsandbytes and transformers that pyproject.toml names"
        )
    return len(four_bit)


def save_base(parts: ModelParts, folder: Path) -> None:
    """Write the base under the adapter as a checkpoint folder of bfloat16 weights."""
    tied = "lm_head.weight" if parts.model.config.tie_word_embeddings else None
    state = {
        name.replace(".base_layer.", "."): tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in parts.model.state_dict().items()
        if ".lora_" not in name and name != tied
    }
    folder.mkdir(parents=True, exist_ok=True)
    parts.model.config.save_pretrained(folder)
    parts.model.generation_config.save_pretrained(folder)
    parts.tokenizer.save_pretrained(folder)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})  # last: it completes the checkpoint
