"""The dialogue loop: attacker, policy and tutor take turns until a dialogue ends.

    u_1 = opening;  a_t ~ policy(history);  s_t = tutor(history, a_t);  u_{t+1} = attacker(history, a_t, s_t)

(SaFeR-Steer, Eq. 17.) A truncated completion ends its dialogue (TRAPS 9), and so does a failed verdict: a dialogue
that cannot be scored teaches nothing. One that outgrew what the policy reads is truncated: it teaches up to there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from steer_lit.rollout.waves import Paused, in_turn, to_the_end
from steer_lit.types import (
    Attack,
    Attacker,
    Ended,
    Policy,
    Scenario,
    Trajectory,
    Turn,
    Tutor,
    Verdict,
)

log = logging.getLogger(__name__)


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

    `stop_when_truncated=False` lets a dialogue go on after a completion that hit the token limit or failed: the
    benchmark plays every turn of a dialogue, and tells such by their completions, not by `ended`. With more than one
    of `waves` the dialogues are played in so many parts, and the policy answers one while tutor and attacker, in a
    thread of their own, are busy with the others.
    """
    size = max(1, -(-len(scenarios) // waves))
    parts = [slice(start, start + size) for start in range(0, len(scenarios), size)]
    loop = partial(_loop, policy, attacker, tutor, max_turns, stop_when_truncated)
    loops = [loop(scenarios[part], seeds[part]) for part in parts]
    played = in_turn(loops) if len(loops) > 1 else map(to_the_end, loops)
    return [trajectory for part in played for trajectory in part]


def _loop(
    policy: Policy,
    attacker: Attacker,
    tutor: Tutor | None,
    max_turns: int,
    stop_when_truncated: bool,
    scenarios: Sequence[Scenario],
    seeds: Sequence[int],
) -> Paused[list[Trajectory]]:
    """Dialogues that are at the same turn, until the last one ends."""
    session = policy.open(scenarios, seeds)
    turns: list[list[Turn]] = [[] for _ in scenarios]
    attacks: dict[int, Attack] = {row: scenario.opening for row, scenario in enumerate(scenarios)}
    cut: set[int] = set()  # rows whose last answer was not whole
    while attacks:
        rows = list(attacks)
        completions = session.reply(rows, [attacks[row].message for row in rows])
        yield  # the policy is free
        answered = []
        for row, completion in zip(rows, completions, strict=True):
            if stop_when_truncated and (completion.failed is not None or completion.finish == "length"):
                cut.add(row)
            if completion.failed is None or not stop_when_truncated:
                turns[row].append(Turn(attacks[row], completion))
                answered.append(row)
            elif turns[row]:
                log.warning("scenario %r ends at turn %d: %s", scenarios[row].id, len(turns[row]), completion.failed)
            else:  # nothing to score
                turns[row].append(Turn(attacks[row], completion, Verdict(failed=completion.failed)))
        if tutor is not None and answered:
            verdicts = tutor.score([(scenarios[row], turns[row]) for row in answered])
            for row, verdict in zip(answered, verdicts, strict=True):
                turns[row][-1] = replace(turns[row][-1], verdict=verdict)
        whole = [row for row in answered if _ended(turns[row][-1], row in cut) == "terminated"]
        going = [row for row in whole if len(turns[row]) < max_turns]
        found = attacker.attack([(scenarios[row], turns[row]) for row in going])
        attacks = {row: attack for row, attack in zip(going, found, strict=True) if attack is not None}
        yield  # and is wanted again
    return [
        Trajectory(scenario, tuple(said), session.trace(row), seed, _ended(said[-1], row in cut), _failed(said[-1]))
        for row, (scenario, seed, said) in enumerate(zip(scenarios, seeds, turns, strict=True))
    ]


def _ended(last: Turn, cut: bool) -> Ended:
    """How a dialogue ends whose last turn this is: "terminated" where it could have gone on."""
    if _failed(last) is not None:
        return "failed"
    return "truncated" if cut else "terminated"


def _failed(last: Turn) -> str | None:
    return None if last.verdict is None else last.verdict.failed
