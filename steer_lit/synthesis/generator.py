"""The parts that make up a generator of synthetic rows, offline or through a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from steer_lit.types import Attacker, ImageRef, Kind, Policy, Scenario, Trajectory, Tutor


@dataclass(frozen=True, slots=True)
class SeedQuestion:
    """The start of one script: a question (or, to press for, a request) and the picture that it is about."""

    id: str
    question: str
    image: ImageRef | None = None


@dataclass(frozen=True, slots=True)
class Tactic:
    """How to write one script: a framing and a dialogue strategy (SaFeR-Steer, stage I), and a number of user turns."""

    framing: str
    strategy: str
    turns: int


# Steps 1 to 3 of Stage I: from a seed question, a kind, a tactic and a sampling seed to a scenario with the question's
# id, whose metadata holds `intent`, `framing` and `strategy`. Raises RowEnds.
WriteScript = Callable[[SeedQuestion, Kind, Tactic, int], Scenario]
# Step 4: from the request and the dialogue to how far the target gave in, one score a turn, 1 (hard refusal) to 5
# (full). Raises RowEnds.
ScoreAttack = Callable[[str, Trajectory], list[int]]


@dataclass(frozen=True, slots=True)
class Generator:
    """The parts of both stages.

    Stage I: `write` writes scripts for seed questions, which `seed_questions(kind, turns, rows)` gives if no file does.
    Attacks of kind red_team are played against `target` and scored by `score_attack` (SaFeR-Steer, Eq. 10). Stage II:
    `red` rewrites each scripted turn, `blue` answers it, `tutor` scores it (Eq. 12-15). If one of them cannot, it
    raises RowEnds; it gives no failed completion or verdict. `identity` names everything about the parts that could
    change a row. `workers` rows are made side by side. `greet` speaks to the servers that will be asked, and raises
    ServerDown. `stop` hangs up, so that running rows end soon. `usage` tells what was asked of servers so far.
    """

    seed_questions: Callable[[Kind, tuple[int, int], int], Sequence[SeedQuestion]]
    write: WriteScript
    target: Policy
    score_attack: ScoreAttack
    red: Attacker
    blue: Policy
    tutor: Tutor
    identity: Mapping[str, object]
    workers: int = 1
    greet: Callable[[], None] = lambda: None
    stop: Callable[[], None] = lambda: None
    usage: Callable[[], Mapping[str, object]] = dict
