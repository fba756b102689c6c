"""Dialogues with answers known in advance: for constant policies and the offline agents of synthesis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from steer_lit.errors import SteerError
from steer_lit.types import Completion, Message, Scenario


@dataclass(frozen=True, slots=True)
class KnownPolicy:
    """A policy that gives a scenario's `known` completions, whatever it is asked. A benchmark needs `fingerprint`."""

    known: Callable[[Scenario], Iterable[str]]
    fingerprint: str = ""

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> KnownAnswers:
        return KnownAnswers(scenarios, map(self.known, scenarios))


class KnownAnswers:
    """Dialogues in progress; `answers[i]` are the completions of dialogue i, whatever it is asked.

    Each is drawn when its turn is played, so an unknown answer matters only if its turn is played.
    """

    def __init__(self, scenarios: Sequence[Scenario], answers: Iterable[Iterable[str]]) -> None:
        self._scenarios = tuple(scenarios)
        self._left = [iter(each) for each in answers]

    def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
        """Return the next answers. Raises SteerError for a turn beyond the script."""
        return {row: Completion(self._next(row)) for row in asked}

    def _next(self, row: int) -> str:
        said = next(self._left[row], None)
        if said is None:
            scenario = self._scenarios[row]
            raise SteerError(
                f"scenario {scenario.id!r} has {len(scenario.attacks)} scripted turns and another was asked: answers "
                "that are known beforehand need an attacker that keeps to the script"
            )
        return said

    def end(self, row: int) -> None:
        """Return no tokens: nothing here can be trained on."""
