"""The dialogue loop: attacker, policy and tutor take turns until a dialogue ends.

    u_1 = opening;  a_t ~ policy(history);  s_t = tutor(history, a_t);  u_{t+1} = attacker(history, a_t, s_t)

(SaFeR-Steer, Eq. 17.) A truncated completion ends its dialogue (TRAPS 9), and so does a failed verdict: a dialogue
that cannot be scored teaches nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from steer_lit.types import Attack, Attacker, BatchAttacker, Policy, Scenario, Trajectory, Turn, Tutor

Ended = Literal["terminated", "truncated", "failed"]


def play(
    scenarios: Sequence[Scenario],
    seeds: Sequence[int],
    policy: Policy,
    attacker: Attacker,
    tutor: Tutor | None,
    max_turns: int,
    stop_when_truncated: bool = True,
    waves: int = 1,
) -> list[Trajectory]:
    """Play every scenario, side by side. `tutor=None` leaves turns without a verdict (the benchmark grades later).

    `stop_when_truncated=False` lets a dialogue go on after a completion that hit the token limit: the benchmark
    grades every turn of a dialogue. With more than one of `waves` the dialogues are played in so many parts, and the
    policy answers one while tutor and attacker, in a thread of their own, are busy with the others.
    """
    size = max(1, -(-len(scenarios) // waves))
    parts = [slice(start, start + size) for start in range(0, len(scenarios), size)]
    players = (policy, attacker, tutor, max_turns, stop_when_truncated)
    games = [_Game(scenarios[part], seeds[part], *players) for part in parts]
    pool = ThreadPoolExecutor(max_workers=max(1, len(games)))
    try:
        turns: deque[tuple[_Game, Future[bool] | None]] = deque((game, None) for game in games)
        while turns:
            game, goes_on = turns.popleft()
            if goes_on is None or goes_on.result():
                game.answer()
                turns.append((game, pool.submit(game.respond)))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # after an error or Ctrl-C nobody waits for a server
    return [trajectory for game in games for trajectory in game.trajectories()]


class _Game:
    """Dialogues that are at the same turn: `answer` and `respond` take turns as long as `respond` says so."""

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        seeds: Sequence[int],
        policy: Policy,
        attacker: Attacker,
        tutor: Tutor | None,
        max_turns: int,
        stop_when_truncated: bool,
    ) -> None:
        self.scenarios, self.seeds = scenarios, seeds
        self.session = policy.open(scenarios, seeds)
        self.attacker, self.tutor = attacker, tutor
        self.max_turns, self.stop_when_truncated = max_turns, stop_when_truncated
        self.attacks: dict[int, Attack] = {row: scenario.opening for row, scenario in enumerate(scenarios)}
        self.turns: list[list[Turn]] = [[] for _ in scenarios]
        self.ended: list[Ended] = ["terminated"] * len(scenarios)
        self.failed: list[str | None] = [None] * len(scenarios)

    def answer(self) -> None:
        """The policy's half of a turn."""
        rows = list(self.attacks)
        completions = self.session.reply(rows, [self.attacks[row].message for row in rows])
        for row, completion in zip(rows, completions, strict=True):
            self.turns[row].append(Turn(self.attacks[row], completion))

    def respond(self) -> bool:
        """The tutor's and the attacker's half. Returns whether any dialogue goes on."""
        rows = list(self.attacks)
        self._score(rows)
        going = []
        for row in rows:
            if self.failed[row] is not None:
                continue
            if self.turns[row][-1].completion.finish == "length" and self.stop_when_truncated:
                self.ended[row] = "truncated"
            elif len(self.turns[row]) < self.max_turns:
                going.append(row)
        found = _next_attacks(self.attacker, [(self.scenarios[row], self.turns[row]) for row in going])
        self.attacks = {row: attack for row, attack in zip(going, found, strict=True) if attack is not None}
        return bool(self.attacks)

    def _score(self, rows: Sequence[int]) -> None:
        if self.tutor is None:
            return
        verdicts = self.tutor.score([(self.scenarios[row], self.turns[row]) for row in rows])
        for row, verdict in zip(rows, verdicts, strict=True):
            last = self.turns[row][-1]
            self.turns[row][-1] = Turn(last.attack, last.completion, verdict)
            if verdict.failed is not None:
                self.ended[row], self.failed[row] = "failed", verdict.failed

    def trajectories(self) -> list[Trajectory]:
        return [
            Trajectory(
                scenario,
                tuple(self.turns[row]),
                self.session.trace(row),
                self.seeds[row],
                self.ended[row],
                self.failed[row],
            )
            for row, scenario in enumerate(self.scenarios)
        ]


def _next_attacks(attacker: Attacker, dialogues: Sequence[tuple[Scenario, Sequence[Turn]]]) -> Sequence[Attack | None]:
    """All at once where the attacker can: one behind a server takes seconds for each."""
    if isinstance(attacker, BatchAttacker):
        return attacker.next_of_all(dialogues)
    return [attacker.next(scenario, turns) for scenario, turns in dialogues]
