"""The adapter: LoRA on the language model's linear layers and nowhere else, and the folder it is kept in."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from steer_lit.errors import MissingResource, SteerError
from steer_lit.policy.device import number_type
from steer_lit.policy.model_facts import (
    ADAPTER_CONFIG,
    ADAPTER_FACTS,
    ADAPTER_WEIGHTS,
    LINEAR_LAYERS,
    LORA_ALPHA,
    LORA_RANK,
    NumberType,
    no_adapter,
    no_plain_lora,
)
from steer_lit.policy.parts import own_random_state
from steer_lit.policy.tensors import tensor_mismatch

if TYPE_CHECKING:
    from peft import PeftModel

log = logging.getLogger(__name__)

_CARD = f"""---
base_model: {{base}}
library_name: peft
---

A LoRA adapter for {{base}}, trained with steer_lit by the method of SaFeR-Steer (arXiv 2604.16358). {ADAPTER_FACTS}
says which base weights it belongs to, and the system prompt and picture sizes it was trained with.
"""


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Rank `r`, scale `alpha / r`, and the names of the linear layers in each decoder layer that get an adapter.

    `dropout` above 0 makes log-probabilities random in training mode (TRAPS 18). Values are turned into plain types,
    since anything of OmegaConf's left in them would end up in adapter_config.json and checkpoints (TRAPS 39).
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: Sequence[str] = LINEAR_LAYERS
    dtype: Literal["auto"] | NumberType = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(str(target) for target in self.targets))

    @property
    def pattern(self) -> str:
        """A regular expression for whole module names. It starts at the language model, so no tower layer fits."""
        return rf"model\.language_model\.layers\.\d+\.(?:self_attn|mlp)\.(?:{'|'.join(self.targets)})"


def attach_adapter(model: torch.nn.Module, settings: LoraSettings, seed: int) -> PeftModel:
    """Wrap the base model; B starts at zero, A is drawn from `seed` without touching the caller's random state.

    Raises SteerError when no layer matches, or a layer of the vision tower does.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.pattern,
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        with own_random_state(seed):
            wrapped = get_peft_model(model, config)
    except ValueError as error:  # PEFT's answer to a pattern that matches nothing
        raise SteerError(f"model.lora.targets={list(settings.targets)}: {error}") from error
    names = adapted_layers(wrapped)
    strangers = [name for name in names if ".language_model." not in name]
    if not names or strangers:
        found = f"{strangers[0]} lies outside it" if strangers else "none of its layers has such a name"
        raise SteerError(f"model.lora.targets={list(settings.targets)}: adapts the language model alone, and {found}")
    dtype = getattr(torch, number_type(settings.dtype, next(model.parameters()).device.type))
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    log.debug("LoRA r=%d on %d layers, the first is %s", settings.r, len(names), names[0])
    return wrapped


def adapted_layers(model: torch.nn.Module) -> list[str]:
    """Names of the layers that carry LoRA matrices."""
    from peft.tuners.lora import LoraLayer

    return [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]


def same_adapter(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Whether two adapters of the same names and shapes do the same: any two do whose B matrices are all zero."""
    if not any(state[name].any() for state in (one, other) for name in state if ".lora_B." in name):
        return True
    return all(torch.equal(one[name].to(tensor), tensor) for name, tensor in other.items())


def save_adapter(model: PeftModel, fingerprint: str, shown_as: Mapping[str, Any], folder: Path) -> None:
    """Write a standard PEFT folder and, last, what the adapter belongs to: its base and how dialogues were shown."""
    # Left to "auto", PEFT asks the hub whether the vocabulary was resized.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    base = model.peft_config["default"].base_model_name_or_path
    (folder / "README.md").write_text(_CARD.format(base=base), encoding="utf-8")  # PEFT's is an empty form
    facts = {"base": base, "fingerprint": fingerprint, **shown_as}
    (folder / ADAPTER_FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load_adapter(model: PeftModel, folder: Path, fingerprint: str, key: str = "init_from") -> None:
    """Copy a saved adapter into the trainable one. The config names the folder under `key`.

    Raises MissingResource when the folder is not an adapter's, SteerError when it is of another kind or base, has
    another shape or scale, covers other layers than `model` does, or holds numbers that are not finite.
    """
    saved_config = _saved_config(folder, key)
    _check_base(folder, fingerprint, key)
    own = model.peft_config["default"]
    for name, option in (("r", "model.lora.r"), ("lora_alpha", "model.lora.alpha")):
        if saved_config.get(name) != getattr(own, name):
            raise SteerError(
                f"{key}={str(folder)!r}: that adapter has {name}={saved_config.get(name)}, this run asks for "
                f"{getattr(own, name)}; set {option}={saved_config.get(name)}"
            )
    _copy_weights(model, folder, key)


def settings_of(folder: Path, settings: LoraSettings, key: str = "init_from") -> LoraSettings:
    """`settings` with the rank, the alpha and the layers that the adapter in `folder` was trained with.

    Raises MissingResource when the folder is not an adapter's, SteerError when it is of another kind or names no such
    numbers.
    """
    saved = _saved_config(folder, key)
    for name, bound in (("r", LORA_RANK), ("lora_alpha", LORA_ALPHA)):
        if not bound.fits(number := saved.get(name)):
            raise SteerError(
                f"{folder / ADAPTER_CONFIG} has {name}={number!r}, {bound.allowed}: copy the adapter again"
            )
    targets = tuple(name for name in LINEAR_LAYERS if name in str(saved.get("target_modules")))  # a list or a pattern
    return replace(settings, r=saved["r"], alpha=saved["lora_alpha"], targets=targets or settings.targets)


def _saved_config(folder: Path, key: str) -> dict[str, Any]:
    if reason := no_adapter(folder):
        raise MissingResource(f"{key}={str(folder)!r}: {reason}")
    config = dict(json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")))
    if reason := no_plain_lora(config):
        raise SteerError(f"{key}={str(folder)!r}: {reason}")
    return config


def _facts(folder: Path) -> dict[str, Any] | None:
    """What the adapter says it belongs to; None where it says nothing."""
    path = folder / ADAPTER_FACTS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _check_base(folder: Path, fingerprint: str, key: str) -> None:
    facts = _facts(folder)
    if facts is not None and (there := facts.get("fingerprint")) != fingerprint:
        raise SteerError(
            f"{key}={str(folder)!r}: that adapter was trained on base {facts.get('base')!r} with fingerprint "
            f"{there}, this model's is {fingerprint}; choose the model, model.tower and model.weights it belongs to"
        )


def warn_of_other_showing(folder: Path, shown_as: Mapping[str, Any], key: str = "init_from") -> None:
    """Warn of an adapter that was trained under another prompt or resolution than dialogues are now `shown_as`, and of
    one that does not say what it belongs to.
    """
    if (facts := _facts(folder)) is None:
        log.warning("%s=%s: no %s, so whether it fits this base model cannot be checked", key, folder, ADAPTER_FACTS)
        return
    for name, here in shown_as.items():
        if (trained := facts.get(name)) != here:
            said = "%s=%s: that adapter was trained with %s=%r, not this run's %r"
            log.warning(said, key, folder, name, trained, here)


def _copy_weights(model: PeftModel, folder: Path, key: str) -> None:
    from peft import get_peft_model_state_dict

    try:
        saved = load_file(folder / ADAPTER_WEIGHTS)
    except SafetensorError as error:
        raise SteerError(f"{key}={str(folder)!r}: {ADAPTER_WEIGHTS} cannot be read: {error}") from error
    own = get_peft_model_state_dict(model, save_embedding_layers=False)  # shares memory with the live parameters
    if reason := tensor_mismatch(saved, own):
        raise SteerError(
            f"{key}={str(folder)!r}: the adapter does not fit this model: {reason}; name another adapter, or see "
            "model.lora.targets"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])
