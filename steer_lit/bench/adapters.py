"""The policies under test: one base model, loaded once, with one adapter after the other."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from steer_lit import __version__
from steer_lit.digests import digest
from steer_lit.policy.known import ADAPTER_WEIGHTS
from steer_lit.policy.lora import LoraSettings, attach_adapter, load_adapter, settings_of, warn_of_other_showing
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.rollout.engine import SampledPolicy

BASE = "base"


class AdaptedPolicy(SampledPolicy):
    """A sampled policy that says which weights it plays with, how it decodes and what it is shown (`BenchPolicy`)."""

    def __init__(self, qwen: QwenVL, adapter: str, *, precision: str, max_new_tokens: int, temperature: float) -> None:
        super().__init__(qwen, max_new_tokens=max_new_tokens, temperature=temperature)
        shown_as = sorted(qwen.shown_as.items())
        named = (__version__, qwen.fingerprint, precision, adapter, shown_as, max_new_tokens, temperature)
        self.fingerprint = digest(repr(named), 16)


class AdapterPolicies:
    """Makes policies one at a time: making the next one swaps the adapter under the one before.

    `qwen` is the base model under the adapter of the latest: given is a fresh one of `lora`'s shape, which changes
    nothing. Rank and alpha of a trained adapter are those in its folder, so one run compares adapters of any.
    `quantize` is how the base's weights are held, which its fingerprint leaves out.
    """

    def __init__(
        self,
        qwen: QwenVL,
        *,
        lora: LoraSettings,
        quantize: str,
        max_new_tokens: int,
        temperature: float,
    ) -> None:
        self.qwen, self._fresh = qwen, qwen.adapter_state()
        self._lora, self._quantize = lora, quantize
        self._max_new_tokens, self._temperature = max_new_tokens, temperature

    def fit(self, adapter: str, key: str) -> None:
        """Put it on the base model as `policy` does, and warn of what is odd about it."""
        self.policy(adapter, key)
        if adapter != BASE:
            warn_of_other_showing(Path(adapter), self.qwen.shown_as, key)

    def policy(self, adapter: str, key: str = "policies") -> AdaptedPolicy:
        """The policy of `base` or of an adapter folder, which the config's `key` names.

        Raises what `load_adapter` and `settings_of` raise.
        """
        if adapter == BASE:
            self.qwen.load_adapter_state(self._fresh)
            weights = BASE
        else:
            folder = Path(adapter)
            if (lora := settings_of(folder, self._lora, key)) != self._lora:
                self.qwen = _reshaped(self.qwen, lora)
                self._lora, self._fresh = lora, self.qwen.adapter_state()
            load_adapter(self.qwen.model, folder, self.qwen.fingerprint, key)
            weights = f"{hashlib.sha256((folder / ADAPTER_WEIGHTS).read_bytes()).hexdigest()} alpha {lora.alpha:g}"
        return AdaptedPolicy(
            self.qwen,
            weights,
            precision=f"{self._quantize} {self.qwen.number_type}",
            max_new_tokens=self._max_new_tokens,
            temperature=self._temperature,
        )


def _reshaped(qwen: QwenVL, lora: LoraSettings) -> QwenVL:
    """The same base under a fresh adapter of another rank or alpha."""
    model: Any = qwen.model
    adapted = attach_adapter(model.unload(), lora, seed=0)
    return QwenVL(qwen.parts, adapted, qwen.system_prompt, qwen.pictures.open_image)
