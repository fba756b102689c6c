"""The policies under test: one base model, loaded once, with one adapter after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch

from steer_lit import __version__
from steer_lit.policy.lora import WEIGHTS, load_adapter
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.rollout.engine import SampledPolicy

BASE = "base"


class AdaptedPolicy(SampledPolicy):
    """A sampled policy that says which weights and decoding settings it plays with (`BenchPolicy`)."""

    def __init__(self, qwen: QwenVL, adapter: str, *, precision: str, max_new_tokens: int, temperature: float) -> None:
        super().__init__(qwen, max_new_tokens=max_new_tokens, temperature=temperature)
        named = (__version__, qwen.fingerprint, precision, adapter, qwen.system_prompt, max_new_tokens, temperature)
        self.fingerprint = hashlib.sha256(repr(named).encode()).hexdigest()[:16]


class AdapterPolicies:
    """Makes policies one at a time: making the next one swaps the adapter under the one before.

    `load` makes the base model under a fresh adapter, which changes nothing; it is called when first needed.
    `precision` names how its weights are held, which the base's fingerprint leaves out.
    """

    def __init__(self, load: Callable[[], QwenVL], *, precision: str, max_new_tokens: int, temperature: float) -> None:
        self._load = load
        self._precision = precision
        self._max_new_tokens, self._temperature = max_new_tokens, temperature
        self._qwen: QwenVL | None = None
        self._fresh: dict[str, torch.Tensor] = {}

    def policy(self, adapter: str) -> AdaptedPolicy:
        """The policy of `base` or of an adapter folder. Raises what `load_adapter` raises."""
        if self._qwen is None:
            self._qwen = self._load()
            self._fresh = self._qwen.adapter_state()
        if adapter == BASE:
            self._qwen.load_adapter_state(self._fresh)
            digest = BASE
        else:
            load_adapter(self._qwen.model, Path(adapter), self._qwen.fingerprint, self._qwen.system_prompt)
            digest = hashlib.sha256((Path(adapter) / WEIGHTS).read_bytes()).hexdigest()
        return AdaptedPolicy(
            self._qwen,
            digest,
            precision=self._precision,
            max_new_tokens=self._max_new_tokens,
            temperature=self._temperature,
        )
