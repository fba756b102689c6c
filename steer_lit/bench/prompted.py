"""Policies of the benchmark whose dialogues open with a system prompt of their own: what a prompt alone achieves.

It takes the place of the run's and of the rows' own; "" stands for none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from steer_lit.bench.suite import BenchPolicy
from steer_lit.digests import digest
from steer_lit.rollout.server_policy import ServerPolicy, ServerSession
from steer_lit.types import Scenario, Session


class PromptedPolicy:
    """`policy`, which this process plays, with `system_prompt` (`BenchPolicy`)."""

    def __init__(self, policy: BenchPolicy, system_prompt: str) -> None:
        self._policy, self._system_prompt = policy, system_prompt
        self.fingerprint = digest(repr((policy.fingerprint, system_prompt)), 16)

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> Session:
        return self._policy.open(with_prompt(scenarios, self._system_prompt), seeds)


class PromptedServer(ServerPolicy):
    """A policy behind a server, whose `system_prompt` opens every dialogue."""

    def __init__(self, *given: Any, **settings: Any) -> None:
        super().__init__(*given, **settings)
        self.fingerprint += ":prompted"

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> ServerSession:
        return super().open(with_prompt(scenarios, self.system_prompt), seeds)


def with_prompt(scenarios: Sequence[Scenario], system_prompt: str) -> list[Scenario]:
    return [replace(scenario, system=system_prompt) for scenario in scenarios]
