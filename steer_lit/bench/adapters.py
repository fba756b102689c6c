"""The policies under test: one base model, loaded once, with one adapter after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from steer_lit import __version__
from steer_lit.bench.records import BASE
from steer_lit.bench.suite import with_prompt
from steer_lit.digests import digest
from steer_lit.errors import SteerError
from steer_lit.policy.lora import AdapterFolder, LoraSettings
from steer_lit.policy.memory import out_of_memory
from steer_lit.policy.model_facts import ADAPTER_WEIGHTS
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.rollout.engine import SampledPolicy, SampledSession
from steer_lit.types import Scenario


class AdapterPolicies:
    """A maker of policies that share `qwen`, the base model under a fresh adapter of `lora`'s shape (a no-op).

    When a policy opens dialogues, its adapter replaces the previous one. A trained adapter keeps the rank, alpha and
    layers that its folder names, so one run can compare adapters of different shapes. `quantize` says how the base
    weights are stored, which the base model's fingerprint leaves out, as it does the types of numbers.
    """

    def __init__(
        self, qwen: QwenVL, *, lora: LoraSettings, quantize: str, max_new_tokens: int, temperature: float
    ) -> None:
        self.qwen = qwen
        self.precision = f"{quantize} {qwen.number_type} {qwen.trained_as['lora.dtype']}"
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self._lora = self._shape = lora  # the base's settings; those of the adapter that is on
        self._on: tuple[str, str] | None = (BASE, BASE)  # the adapter and its weights

    def policy(self, adapter: str, key: str = "policies", system_prompt: str | None = None) -> AdaptedPolicy:
        """Return the policy of `base` or of an adapter folder, named by the config's `key`.

        The adapter is put on once to check that it fits. Warns if it was trained under another prompt or resolution, or
        does not say what it belongs to; `system_prompt` is the policy's own, if its dialogues are to open with one.
        Raises what `put_on` raises.
        """
        policy = AdaptedPolicy(self, adapter, key, system_prompt)
        if adapter != BASE:
            shown = self.qwen.shown_as | ({} if system_prompt is None else {"system_prompt": system_prompt})
            AdapterFolder(Path(adapter), key).warn_of_other_showing(shown)
        return policy

    def is_on(self, adapter: str, weights: str) -> bool:
        return self._on == (adapter, weights)

    def put_on(self, adapter: str, key: str) -> str:
        """Put the adapter on. Return what identifies its weights. Raises as AdapterFolder, or MissingResource."""
        folder, lora, weights = AdapterFolder(Path(adapter), key), self._lora, BASE
        if adapter != BASE:
            lora = folder.settings(lora)
            weights = f"{hashlib.sha256((folder.path / ADAPTER_WEIGHTS).read_bytes()).hexdigest()} alpha {lora.alpha:g}"
        if not self.is_on(adapter, weights):
            self._on = None  # until loading has succeeded
            with out_of_memory(f"putting on {key}={adapter}", self.qwen.memory_advice):
                if lora != self._shape:
                    self.qwen.adapt(lora)
                    self._shape = lora
                if adapter == BASE:
                    self.qwen.clear_adapter()
                else:
                    folder.load_into(self.qwen.model, self.qwen.fingerprint)
            self._on = adapter, weights
        return weights


class AdaptedPolicy(SampledPolicy):
    """A sampled policy whose fingerprint covers its weights, its decoding and what it is shown (`BenchPolicy`).

    Its own `system_prompt`, "" for none, takes the place of the run's and the rows'.
    `open` raises SteerError if the adapter in its folder has changed since the policy was made.
    """

    def __init__(self, shared: AdapterPolicies, adapter: str, key: str, system_prompt: str | None) -> None:
        qwen, decoding = shared.qwen, (shared.max_new_tokens, shared.temperature)
        super().__init__(
            qwen,
            max_new_tokens=shared.max_new_tokens,
            temperature=shared.temperature,
            memory_keys="bench.chunk or rollout.max_new_tokens",
        )
        self._shared, self._adapter, self._key, self._prompt = shared, adapter, key, system_prompt
        self._weights = shared.put_on(adapter, key)
        named = __version__, qwen.fingerprint, shared.precision, self._weights, sorted(qwen.shown_as.items()), *decoding
        self.fingerprint = digest(repr(named), 16)
        if system_prompt is not None:
            self.fingerprint = digest(repr((self.fingerprint, system_prompt)), 16)

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> SampledSession:
        adapter, key = self._adapter, self._key
        if not self._shared.is_on(adapter, self._weights) and self._shared.put_on(adapter, key) != self._weights:
            raise SteerError(f"{key}={adapter!r}: that adapter changed while others were played: run the command again")
        return super().open(with_prompt(scenarios, self._prompt), seeds)
