"""A policy of the benchmark whose dialogues open with a system prompt of its own: what a prompt alone achieves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steer_lit.bench.suite import BenchPolicy
from steer_lit.digests import digest
from steer_lit.types import Scenario, Session


class PromptedPolicy:
    """`policy` with `system_prompt` in place of the run's and the rows' own; "" for none (`BenchPolicy`)."""

    def __init__(self, policy: BenchPolicy, system_prompt: str) -> None:
        self._policy, self._system_prompt = policy, system_prompt
        self.fingerprint = digest(repr((policy.fingerprint, system_prompt)), 16)

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> Session:
        return self._policy.open(with_prompt(scenarios, self._system_prompt), seeds)


def with_prompt(scenarios: Sequence[Scenario], system_prompt: str) -> list[Scenario]:
    return [replace(scenario, system=system_prompt) for scenario in scenarios]
