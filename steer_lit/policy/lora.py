"""The adapter: LoRA on the language model's linear layers and nowhere else, and its folder."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import load_file

from steer_lit.allowed import type_problems
from steer_lit.errors import SteerError
from steer_lit.policy.device import number_type
from steer_lit.policy.model_facts import (
    ADAPTER_CONFIG,
    ADAPTER_FACTS,
    ADAPTER_WEIGHTS,
    LINEAR_LAYERS,
    LoraAlpha,
    LoraRank,
    NumberType,
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

    `dropout` above 0 makes log-probabilities random in training mode (TRAPS 18). `targets` become plain strings, since
    OmegaConf's types would end up in adapter_config.json and checkpoints (TRAPS 39).
    """

    r: int
    alpha: int
    dropout: float = 0.0
    targets: Sequence[str] = LINEAR_LAYERS
    dtype: Literal["auto"] | NumberType = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(str(target) for target in self.targets))

    @property
    def pattern(self) -> str:
        """A regular expression for whole module names. It starts at the language model, so no tower layer matches."""
        return rf"model\.language_model\.layers\.\d+\.(?:self_attn|mlp)\.(?:{'|'.join(self.targets)})"


def attach_adapter(model: torch.nn.Module, settings: LoraSettings, seed: int) -> PeftModel:
    """Wrap the base model. B starts at zero; A is drawn from `seed` without touching the caller's random state."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.pattern,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with own_random_state(seed):
        wrapped = get_peft_model(model, config)
    dtype = getattr(torch, number_type(settings.dtype, next(model.parameters()).device.type))
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    names = adapted_layers(wrapped)
    alike = dict.fromkeys(re.sub(r"\d+", "*", name) for name in names)
    log.debug("LoRA r=%d on %d layers: %s", settings.r, len(names), ", ".join(alike))
    return wrapped


def adapted_layers(model: torch.nn.Module) -> list[str]:
    """List the names of the layers that carry LoRA matrices."""
    from peft.tuners.lora import LoraLayer

    return [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]


def same_adapter(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Return whether two adapters of the same names and shapes do the same, as any two with zero B matrices do."""
    if not any(state[name].any() for state in (one, other) for name in state if ".lora_B." in name):
        return True
    return all(torch.equal(one[name].to(tensor), tensor) for name, tensor in other.items())


def save_adapter(model: PeftModel, fingerprint: str, shown_as: Mapping[str, Any], folder: Path) -> None:
    """Write a standard PEFT folder and, last, the facts about the adapter: its base and how dialogues were shown."""
    # Left to "auto", PEFT asks the hub whether the vocabulary was resized.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    base = model.peft_config["default"].base_model_name_or_path
    (folder / "README.md").write_text(_CARD.format(base=base), encoding="utf-8")  # PEFT's is an empty form
    facts = {"base": base, "fingerprint": fingerprint, **shown_as}
    (folder / ADAPTER_FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """The folder of a saved adapter, which the config names under `key`.

    The config check has found that it is whole. `settings` and `load_into` raise SteerError if it is not plain LoRA.
    """

    path: Path
    key: str = "init_from"

    def __str__(self) -> str:
        return f"{self.key}={str(self.path)!r}"

    def settings(self, settings: LoraSettings) -> LoraSettings:
        """Return `settings` with the rank, alpha and layers that the adapter was trained with.

        Raises SteerError if its config has no valid rank or alpha.
        """
        saved = self._config()
        kinds = {"r": LoraRank, "lora_alpha": LoraAlpha}
        for problem in type_problems({name: saved.get(name) for name in kinds}, kinds):
            raise SteerError(f"{self.path / ADAPTER_CONFIG} has {problem}: copy the adapter again")
        named = str(saved.get("target_modules"))  # a list or a pattern
        targets = tuple(name for name in LINEAR_LAYERS if name in named)
        return replace(settings, r=saved["r"], alpha=saved["lora_alpha"], targets=targets or settings.targets)

    def load_into(self, model: PeftModel, fingerprint: str) -> None:
        """Copy the adapter into the trainable one of `model`, whose base has this fingerprint.

        Raises SteerError if the adapter has another base, rank, scale or shape than `model`'s, covers other layers, or
        holds numbers that are not finite or too large.
        """
        from peft import get_peft_model_state_dict

        saved, facts, own = self._config(), self._facts(), model.peft_config["default"]
        if facts is not None and (there := facts.get("fingerprint")) != fingerprint:
            raise SteerError(
                f"{self}: that adapter was trained on base {facts.get('base')!r} with fingerprint {there}, this "
                f"model's is {fingerprint}; choose the model, model.tower and model.weights it belongs to"
            )
        for name, option in (("r", "model.lora.r"), ("lora_alpha", "model.lora.alpha")):
            if saved.get(name) != getattr(own, name):
                raise SteerError(
                    f"{self}: that adapter has {name}={saved.get(name)}, this run asks for {getattr(own, name)}; "
                    f"set {option}={saved.get(name)}"
                )
        weights = load_file(self.path / ADAPTER_WEIGHTS)
        live = get_peft_model_state_dict(model, save_embedding_layers=False)  # shares memory with the live parameters
        if reason := tensor_mismatch(weights, live):
            remedy = "name another adapter, or see model.lora.targets"
            raise SteerError(f"{self}: the adapter does not fit this model: {reason}; {remedy}")
        with torch.no_grad():
            for name, tensor in live.items():
                tensor.copy_(weights[name])

    def warn_of_other_showing(self, shown_as: Mapping[str, Any]) -> None:
        """Warn if the adapter was trained with another prompt or picture size than those in `shown_as`.

        Also warn if the folder does not say which base the adapter belongs to.
        """
        named = f"{self.key}={self.path}"
        if (facts := self._facts()) is None:
            said = "%s: no %s, so whether it fits this base model cannot be checked"
            log.warning(said, named, ADAPTER_FACTS)
            return
        for name, here in shown_as.items():
            if (trained := facts.get(name)) != here:
                log.warning("%s: that adapter was trained with %s=%r, not this run's %r", named, name, trained, here)

    def _config(self) -> dict[str, Any]:
        """Read the adapter's config. Raises SteerError if it is not plain LoRA, which would load at another scale."""
        config = dict(json.loads((self.path / ADAPTER_CONFIG).read_text(encoding="utf-8")))
        if reason := no_plain_lora(config):
            raise SteerError(f"{self}: {reason}")
        return config

    def _facts(self) -> dict[str, Any] | None:
        """Return the facts that `save_adapter` wrote; None if there are none."""
        path = self.path / ADAPTER_FACTS
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
