"""The policies under test: one base model, loaded once, with one adapter after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from steer_lit import __version__
from steer_lit.digests import digest
from steer_lit.errors import SteerError
from steer_lit.policy.lora import LoraSettings, load_adapter, settings_of, warn_of_other_showing
from steer_lit.policy.model_facts import ADAPTER_WEIGHTS
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.rollout.engine import SampledPolicy, SampledSession
from steer_lit.types import Scenario

BASE = "base"


class AdaptedPolicy(SampledPolicy):
    """A sampled policy that says which weights it plays with, how it decodes and what it is shown (`BenchPolicy`).

    Others play with the same model: `put_on` gives it this policy's `weights`, whatever it has.
    """

    def __init__(
        self,
        qwen: QwenVL,
        weights: str,
        put_on: Callable[[], None],
        *,
        precision: str,
        max_new_tokens: int,
        temperature: float,
    ) -> None:
        super().__init__(qwen, max_new_tokens=max_new_tokens, temperature=temperature)
        self._put_on = put_on
        shown_as = sorted(qwen.shown_as.items())
        named = (__version__, qwen.fingerprint, precision, weights, shown_as, max_new_tokens, temperature)
        self.fingerprint = digest(repr(named), 16)

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> SampledSession:
        self._put_on()
        return super().open(scenarios, seeds)


class AdapterPolicies:
    """Makes policies that share `qwen`, the base model under a fresh adapter of `lora`'s shape, which changes nothing.

    Whichever opens dialogues has its adapter put in place of the one before. Rank, alpha and layers of a trained
    adapter are those in its folder, so one run compares adapters of any. `quantize` is how the base's weights are held,
    which its fingerprint leaves out.
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
        self.qwen, self._quantize = qwen, quantize
        self._lora = self._shape = lora  # of the base; of what is on
        self._on: tuple[str, str] | None = (BASE, BASE)  # the adapter and its weights
        self._max_new_tokens, self._temperature = max_new_tokens, temperature

    def policy(self, adapter: str, key: str = "policies") -> AdaptedPolicy:
        """The policy of `base` or of an adapter folder, which the config's `key` names. The adapter is put on once, to
        see whether it fits, and what is odd about it is warned of.

        Raises what `load_adapter` and `settings_of` raise. The policy raises SteerError where it opens dialogues and
        its folder holds another adapter by then.
        """
        weights = self._put_on(adapter, key)
        if adapter != BASE:
            warn_of_other_showing(Path(adapter), self.qwen.shown_as, key)
        return AdaptedPolicy(
            self.qwen,
            weights,
            partial(self._put_on_again, adapter, key, weights),
            precision=f"{self._quantize} {self.qwen.number_type}",
            max_new_tokens=self._max_new_tokens,
            temperature=self._temperature,
        )

    def _put_on_again(self, adapter: str, key: str, weights: str) -> None:
        if self._on != (adapter, weights) and self._put_on(adapter, key) != weights:
            raise SteerError(f"{key}={adapter!r}: that adapter changed while others were played: run the command again")

    def _put_on(self, adapter: str, key: str) -> str:
        """Returns what tells its weights from others."""
        folder, lora, weights = Path(adapter), self._lora, BASE
        if adapter != BASE:
            lora = settings_of(folder, lora, key)
            weights = f"{hashlib.sha256((folder / ADAPTER_WEIGHTS).read_bytes()).hexdigest()} alpha {lora.alpha:g}"
        if self._on != (adapter, weights):
            self._on = None  # until all went well
            if lora != self._shape:
                self.qwen.adapt(lora)
                self._shape = lora
            if adapter == BASE:
                self.qwen.clear_adapter()
            else:
                load_adapter(self.qwen.model, folder, self.qwen.fingerprint, key)
            self._on = adapter, weights
        return weights
