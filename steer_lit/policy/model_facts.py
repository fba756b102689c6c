"""Facts about models and adapters known before any is loaded: names, files, layers, sizes and their bounds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

Quantization = Literal["nf4", "none"]
NumberType = Literal["bfloat16", "float32"]
_WEIGHTS = Path(__file__).with_name("weights")  # in the package
SHIPPED = _WEIGHTS / "nano"  # nano's checkpoint folder
BUILT_HERE = ("tiny", "nano", "smol")
UNTRAINED = "tiny"  # has random weights: its words mean nothing
CONTEXT_LENGTH = {"tiny": 4096, "nano": 4096, "smol": 8192}  # tokens; smol: SmolLM2-135M's
LinearLayer = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LINEAR_LAYERS: tuple[LinearLayer, ...] = get_args(LinearLayer)
ADAPTER_CONFIG, ADAPTER_WEIGHTS, ADAPTER_FACTS = "adapter_config.json", "adapter_model.safetensors", "steer_lit.json"
# No linear layer of these models has a rank above 4096. The scale is alpha / r: 2 is usual, no adapter has 1e30.
LoraRank = Annotated[int, Field(ge=1, le=4096)]
LoraAlpha = Annotated[float, Field(gt=0, le=10_000)]
# Keys that PEFT's other kinds of adapter set, and the values that mean plain LoRA: one rank, one scale, this base.
_OTHER_KINDS = (
    "use_dora", "use_rslora", "use_qalora", "use_bdlora", "lora_bias", "modules_to_save", "rank_pattern",
    "alpha_pattern", "layers_to_transform", "layer_replication", "trainable_token_indices",
    "alora_invocation_tokens", "target_parameters", "arrow_config", "monteclora_config",
)  # fmt: skip
_PLAIN: Mapping[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),  # others change the base: pissa, olora, ...
    **dict.fromkeys(_OTHER_KINDS, (None, False, [], {})),
}


def tower_file(name: str, tower: str | None) -> Path | None:
    """Return the file that `model.tower` names: the package's for `trained`, no file for None."""
    if tower == "trained":
        return _WEIGHTS / f"{name}_tower.safetensors"
    return Path(tower) if tower else None


def nano_folder(weights: str | None) -> Path | None:
    """Return the checkpoint that `model.weights` names: the package's for `shipped`, no checkpoint for None."""
    if weights == "shipped":
        return SHIPPED
    return Path(weights) if weights else None


def start_is_gone(init_from: object, *, resumed: bool) -> bool:
    """Return whether a resumed run's adapter folder is gone; the run's checkpoint holds all that was read from it."""
    return resumed and isinstance(init_from, str) and no_adapter(Path(init_from)) is not None


def no_adapter(folder: Path) -> str | None:
    """Return why a folder is not a PEFT adapter's, else None: a file is missing."""
    missing = [name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if not (folder / name).is_file()]
    return f"is no adapter folder, {missing[0]} is not there" if missing else None


def no_plain_lora(config: Mapping[str, Any]) -> str | None:
    """Return why this config is not a plain LoRA's, else None.

    The tensors need not tell: use_rslora scales the same ones differently.
    """
    other = [name for name, plain in _PLAIN.items() if name in config and config[name] not in plain]
    found = ", ".join(f"{name}={json.dumps(config[name]):.80}" for name in other)
    return f"{ADAPTER_CONFIG} has {found}, and plain LoRA alone is read: train one without" if other else None
