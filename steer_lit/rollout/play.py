"""The dialogue loop: attacker, policy and tutor take turns until a dialogue ends.

    u_1 = opening;  a_t ~ policy(history);  s_t = tutor(history, a_t);  u_{t+1} = attacker(history, a_t, s_t)

(SaFeR-Steer, Eq. 17.) A truncated completion ends its dialogue (TRAPS 9), and so does a failed verdict: a dialogue
that cannot be scored teaches nothing. One that outgrows the policy's context is truncated: it teaches up to there.

Every dialogue goes at its own pace: it goes on once the policy has answered it, whatever turn others are at.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from steer_lit.rollout.one_each import one_each
from steer_lit.rollout.threads import delayed_by_one
from steer_lit.types import (
    AsksServer,
    Attack,
    Attacker,
    Completion,
    Ended,
    Policy,
    Scenario,
    SoFar,
    TokenTrace,
    Trajectory,
    Turn,
    Tutor,
    Verdict,
)

log = logging.getLogger(__name__)


def playing(
    scenarios: Sequence[Scenario],
    seeds: Sequence[int],
    policy: Policy,
    attacker: Attacker,
    tutor: Tutor | None,
    max_turns: int,
    *,
    side_by_side: int | None = None,
    stop_when_truncated: bool = True,
) -> Iterator[tuple[int, Trajectory]]:
    """Play every scenario, at most `side_by_side` at a time (None: all). Yields indices and trajectories as they end.

    `tutor=None` leaves turns without a verdict (the benchmark grades later). `stop_when_truncated=False` lets a
    dialogue go on after a completion that hit the token limit or failed: the benchmark plays every turn of a dialogue,
    and marks such turns in their completions, not in `ended`. If attacker or tutor asks a server, both are called from
    a new thread each time, one call at a time, while the policy answers other dialogues.
    """
    if not scenarios:
        return
    rows = zip(scenarios, seeds, strict=True)
    dialogues = {row: _Dialogue(scenario, seed) for row, (scenario, seed) in enumerate(rows)}
    reaction = _Reaction(dialogues, attacker, tutor, max_turns, stop_when_truncated)
    session = policy.open(scenarios, seeds)
    react: Callable[[Mapping[int, Completion]], dict[int, Attack | None]] = reaction.to
    if len(scenarios) > 1 and any(isinstance(player, AsksServer) for player in (attacker, tutor)):
        react = delayed_by_one(react, {})
    asked: dict[int, Attack] = {}
    waiting, most = deque(dialogues), side_by_side or len(scenarios)
    while dialogues:
        under_way = len(dialogues) - len(waiting)
        new = [waiting.popleft() for _ in range(min(most - under_way, len(waiting)))]
        asked |= {row: dialogues[row].attack for row in new}
        answers = session.reply({row: attack.message for row, attack in asked.items()})
        found = react(answers)
        if not answers and not found:
            raise RuntimeError(f"{type(session).__name__} answers none of the dialogues {list(dialogues)[:most]}")
        asked = {row: attack for row, attack in found.items() if attack is not None}
        for row in (row for row in found if row not in asked):
            yield row, dialogues.pop(row).trajectory(session.end(row))


def play(
    scenarios: Sequence[Scenario],
    seeds: Sequence[int],
    policy: Policy,
    attacker: Attacker,
    tutor: Tutor | None,
    max_turns: int,
    *,
    side_by_side: int | None = None,
    stop_when_truncated: bool = True,
) -> list[Trajectory]:
    """Play as `playing` does. Returns the trajectories once all have ended, in the scenarios' order."""
    given = (scenarios, seeds, policy, attacker, tutor, max_turns)
    played = dict(playing(*given, side_by_side=side_by_side, stop_when_truncated=stop_when_truncated))
    return [played[row] for row in range(len(scenarios))]


@dataclass(slots=True)
class _Dialogue:
    """A dialogue in progress and the attack it is asked now."""

    scenario: Scenario
    seed: int
    turns: list[Turn] = field(default_factory=list)
    cut: bool = False  # whether its last answer was cut or failed
    attack: Attack = field(init=False)

    def __post_init__(self) -> None:
        self.attack = self.scenario.opening

    @property
    def so_far(self) -> SoFar:
        return self.scenario, tuple(self.turns)  # attacker and tutor may be a user's own, and change a list

    @property
    def failed(self) -> str | None:
        verdict = self.turns[-1].verdict
        return None if verdict is None else verdict.failed

    @property
    def ended(self) -> Ended:
        """How the dialogue ended, once it has."""
        if self.failed is not None:
            return "failed"
        return "truncated" if self.cut else "terminated"

    def trajectory(self, trace: TokenTrace | None) -> Trajectory:
        return Trajectory(self.scenario, tuple(self.turns), trace, self.seed, self.ended, self.failed)


@dataclass(frozen=True, slots=True)
class _Reaction:
    """The tutor's and the attacker's reaction to the policy's answers."""

    dialogues: Mapping[int, _Dialogue]
    attacker: Attacker
    tutor: Tutor | None
    max_turns: int
    stop_when_truncated: bool

    def to(self, answers: Mapping[int, Completion]) -> dict[int, Attack | None]:
        """Return the next attack of each dialogue that was answered; None if the dialogue has ended."""
        answered = [row for row, completion in answers.items() if self._take(self.dialogues[row], completion)]
        self._score([self.dialogues[row] for row in answered])
        going = [row for row in answered if self._goes_on(self.dialogues[row])]
        asked = [self.dialogues[row].so_far for row in going]
        attacks = one_each(asked, self.attacker, "attack", "Attack or None", Attack | None) if going else []
        found = {**dict.fromkeys(answers), **dict(zip(going, attacks, strict=True))}
        for row, attack in found.items():
            if attack is not None:
                self.dialogues[row].attack = attack
        return found

    def _take(self, dialogue: _Dialogue, completion: Completion) -> bool:
        """Record the completion. Returns whether it is to be scored."""
        if not self.stop_when_truncated:
            dialogue.turns.append(Turn(dialogue.attack, completion))
            return True
        dialogue.cut = completion.failed is not None or completion.finish == "length"
        if completion.failed is None:
            dialogue.turns.append(Turn(dialogue.attack, completion))
        elif dialogue.turns:
            log.warning("scenario %r ends at turn %d: %s", dialogue.scenario.id, len(dialogue.turns), completion.failed)
        else:  # nothing to score
            dialogue.turns.append(Turn(dialogue.attack, completion, Verdict(failed=completion.failed)))
        return completion.failed is None

    def _score(self, dialogues: Sequence[_Dialogue]) -> None:
        if self.tutor is None or not dialogues:
            return
        asked = [dialogue.so_far for dialogue in dialogues]
        verdicts = one_each(asked, self.tutor, "score", "Verdict", Verdict)
        for dialogue, verdict in zip(dialogues, verdicts, strict=True):
            dialogue.turns[-1] = replace(dialogue.turns[-1], verdict=verdict)

    def _goes_on(self, dialogue: _Dialogue) -> bool:
        return dialogue.failed is None and not dialogue.cut and len(dialogue.turns) < self.max_turns
