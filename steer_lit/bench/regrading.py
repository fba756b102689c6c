"""Dialogues of which only grades are missing: their recorded answers are graded, and the policy is not asked again.

Asking again would cost as much as the first time. It would also favour answers that the judge can grade: a policy that
samples would answer a dialogue anew until it has a grade.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from steer_lit.bench.records import WAY_OUT, GradedDialogue
from steer_lit.errors import SteerError
from steer_lit.files.run_files import RECORDS
from steer_lit.numbers import counted
from steer_lit.types import Attacker, Completion, Grade, Scenario, Trajectory, Turn


def holds_work(rows: Iterable[GradedDialogue], attacker: Attacker) -> bool:
    """Return whether any of the dialogues need not be played again: it was graded, or lacks nothing else."""
    return any(not row.failed or lacks_only_grades(row, attacker) for row in rows)


def lacks_only_grades(row: GradedDialogue, attacker: Attacker) -> bool:
    """Return whether the record holds a whole dialogue that some grade is missing of, and how the judge saw it.

    A record names neither the gold facts nor the order of text and pictures of a question that is not the row's own.
    """
    scripted = getattr(attacker, "keeps_to_script", False)
    return scripted and row.failed and row.answered


def as_played(row: GradedDialogue, scenario: Scenario) -> Trajectory:
    """Return the dialogue of a record that `lacks_only_grades`, without tokens and seed.

    Raises SteerError if the record has more turns than the scenario, as one that was edited by hand may.
    """
    if (found := len(row.turns)) > (asked := len(scenario.attacks)):
        which = f"{RECORDS}: the record of {row.policy} on {scenario.id} has {counted(found, 'turn')}"
        raise SteerError(f"{which}, its scenario {asked}: {WAY_OUT}")
    answered = zip(scenario.attacks, row.turns, strict=False)
    turns = tuple(Turn(attack, Completion(turn.assistant)) for attack, turn in answered)
    return Trajectory(scenario, turns, trace=None, seed=0)


def known_grades(row: GradedDialogue) -> list[Grade | None]:
    """Return the record's grade of each turn, None where it is missing."""
    return [
        Grade(turn.helpfulness, turn.harmlessness, turn.refused, turn.rationale, intent=turn.intent)
        if turn.graded
        else None
        for turn in row.turns
    ]


def regraded(row: GradedDialogue, new: GradedDialogue) -> GradedDialogue:
    """Return the `new` record of a dialogue that was graded as recorded in `row`, with what only `row` knows of it."""
    graded_by = tuple(sorted({*row.graded_by, *new.graded_by}))
    return replace(new, ended=row.ended, answered_by=row.answered_by, graded_by=graded_by)
