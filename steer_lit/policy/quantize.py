"""NF4 for the language model, and a check that nothing else was quantized."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from steer_lit.errors import SteerError

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

# Full names: a bare `visual` matches nothing where the module is `model.visual`, and the tower is quantized (TRAPS 42).
KEPT_WHOLE = ("model.visual", "lm_head")
LANGUAGE_MODEL = "model.language_model."


def nf4_config(compute_dtype: torch.dtype) -> BitsAndBytesConfig:
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
