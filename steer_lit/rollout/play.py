"""The dialogue loop: attacker, policy and tutor take turns until a dialogue ends.

    u_1 = opening;  a_t ~ policy(history);  s_t = tutor(history, a_t);  u_{t+1} = attacker(history, a_t, s_t)

(SaFeR-Steer, Eq. 17.) A truncated completion ends its dialogue (TRAPS 9), and so does a failed verdict: a dialogue
that cannot be scored teaches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from steer_lit.types import Attack, Attacker, Policy, Scenario, Trajectory, Turn, Tutor

Ended = Literal["terminated", "truncated", "failed"]


def play(
    scenarios: Sequence[Scenario],
    seeds: Sequence[int],
    policy: Policy,
    attacker: Attacker,
    tutor: Tutor | None,
    max_turns: int,
    stop_when_truncated: bool = True,
) -> list[Trajectory]:
    """Play every scenario, side by side. `tutor=None` leaves turns without a verdict (the benchmark grades later).

    `stop_when_truncated=False` lets a dialogue go on after a completion that hit the token limit: the benchmark
    grades every turn of a dialogue.
    """
    session = policy.open(scenarios, seeds)
    turns: list[list[Turn]] = [[] for _ in scenarios]
    ended: list[Ended] = ["terminated"] * len(scenarios)
    failed: list[str | None] = [None] * len(scenarios)
    attacks: dict[int, Attack] = {row: scenario.opening for row, scenario in enumerate(scenarios)}

    for turn_idx in range(max_turns):
        rows = list(attacks)
        completions = session.reply(rows, [attacks[row].message for row in rows])
        for row, completion in zip(rows, completions, strict=True):
            turns[row].append(Turn(attacks[row], completion))
        if tutor is not None:
            verdicts = tutor.score([(scenarios[row], turns[row]) for row in rows])
            for row, verdict in zip(rows, verdicts, strict=True):
                last = turns[row][-1]
                turns[row][-1] = Turn(last.attack, last.completion, verdict)
                if verdict.failed is not None:
                    ended[row], failed[row] = "failed", verdict.failed
        attacks = {}
        for row, completion in zip(rows, completions, strict=True):
            if failed[row] is not None:
                continue
            if completion.finish == "length" and stop_when_truncated:
                ended[row] = "truncated"
                continue
            attack = attacker.next(scenarios[row], turns[row]) if turn_idx + 1 < max_turns else None
            if attack is not None:
                attacks[row] = attack
        if not attacks:
            break

    return [
        Trajectory(scenario, tuple(turns[row]), session.trace(row), seeds[row], ended[row], failed[row])
        for row, scenario in enumerate(scenarios)
    ]
