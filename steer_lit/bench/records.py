"""Graded dialogues, one per line of `records.jsonl`, and the file that holds them.

{"policy": "sft", "scenario": "mini-bench-7", "kind": "red_team", "subset": "", "image": "mini://knife?...",
 "ended": "terminated", "fingerprint": "...", "key": "...",
 "turns": [{"user": "...", "assistant": "...", "helpfulness": 3, "harmlessness": 3, "refused": true,
            "intent": "harmful", "tier": "picture", "strategy": "scripted", "rationale": "...", "failed": null,
            "images": ["mini://knife?..."]}],
 "judge": "gpt-5-nano", "judged": "...", "category": "", "twin": "mini-bench-8", "answered_by": [],
 "graded_by": ["gpt-5-nano-2025-08-07"]}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, StrictBool, StrictInt, with_config

from steer_lit.answer_format import cut_short
from steer_lit.errors import RowError, SteerError
from steer_lit.files.lines import MISREAD, append_lines, as_line, whole_lines
from steer_lit.files.run_files import RECORDS
from steer_lit.files.typed_lines import FieldError, line_reader
from steer_lit.numbers import counted
from steer_lit.types import Completion, Ended, Grade, Intent, Kind, Scenario, Tier, Trajectory, Turn
from steer_lit.verdict_scale import known_intent

WAY_OUT = "delete the line to have the dialogue played again, or move the file away"
BASE = "base"  # the policy without an adapter


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class GradedTurn:
    """One turn: its texts, the judge's grade and, if known, its intent and tier.

    Without gold facts, `intent` is "harmless" in a benign dialogue, else what the judge took the request for. `images`
    are the uris of the pictures in the user's message.
    """

    user: str
    assistant: str
    helpfulness: Annotated[StrictInt, Field(ge=0, le=3)] | None
    harmlessness: Annotated[StrictInt, Field(ge=-3, le=3)] | None
    refused: StrictBool | None
    intent: Intent | None
    tier: Tier | None
    strategy: str
    rationale: str = ""
    failed: str | None = None
    images: tuple[str, ...] = ()

    @property
    def graded(self) -> bool:
        return self.failed is None and self.helpfulness is not None and self.harmlessness is not None


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class GradedDialogue:
    """One dialogue of one policy, every turn graded. `image` is the first picture's uri.

    `fingerprint` is the policy's. `key` is a digest of everything that decides its answers (`Manifest.keys`), `judged`
    one of the judge, whose name is `judge`. `category` is the scenario's own, if it has one; `twin` is the scenario
    whose plan it shares. `answered_by` and `graded_by` are the models that servers say answered and graded.
    """

    policy: str
    scenario: str
    kind: str
    subset: str
    image: str | None
    ended: Ended
    fingerprint: str
    key: str
    turns: tuple[GradedTurn, ...]
    judge: str = ""
    judged: str = ""
    category: str = ""
    twin: str = ""
    answered_by: tuple[str, ...] = ()
    graded_by: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether any turn, or the dialogue as a whole, could not be graded. A failed dialogue counts in no rate."""
        return not self.turns or not all(turn.graded for turn in self.turns)

    @property
    def answered(self) -> bool:
        """Whether the policy has answered every turn."""
        return bool(self.turns) and self.ended != "failed"


Records = Mapping[str, Sequence[GradedDialogue]]  # by policy


def is_constant(dialogues: Iterable[GradedDialogue]) -> bool:
    """Return whether a constant policy played the dialogues."""
    return any(dialogue.fingerprint.startswith("constant:") for dialogue in dialogues)


def constants_last(records: Records) -> Records:
    """Return the records in order, with those of constant policies moved to the end."""
    return dict(sorted(records.items(), key=lambda item: is_constant(item[1])))


def ungraded(records: Records) -> dict[str, tuple[int, str]]:
    """Return, by policy with a dialogue that could not be graded, the number of these and the first reason."""
    found = {}
    for name, rows in records.items():
        if failed := [row for row in rows if row.failed]:
            reasons = [turn.failed for row in failed for turn in row.turns if turn.failed is not None]
            found[name] = (len(failed), reasons[0] if reasons else "no grades")
    return found


def graded(trajectory: Trajectory, grades: Sequence[Grade], **made_by: str) -> GradedDialogue:
    """Return the record of a played dialogue. `grades` holds one grade per turn, `made_by` the remaining fields.

    `ended` is "failed" if the policy gave no answer to some turn, else "truncated" if the token limit cut an answer
    part. A completion that is cut after its answer part does not count.
    """
    scenario = trajectory.scenario
    images = [ref for attack in scenario.attacks for ref in attack.message.images]
    completions = [turn.completion for turn in trajectory.turns]
    cut = any(completion.finish == "length" and cut_short(completion.text) for completion in completions)
    silent = any(completion.failed is not None for completion in completions)
    return GradedDialogue(
        **made_by,
        scenario=scenario.id,
        kind=scenario.kind,
        subset=scenario.subset,
        image=images[0].uri if images else None,
        ended="failed" if silent else "truncated" if cut else trajectory.ended,
        turns=tuple(
            _graded_turn(turn, grade, scenario.kind) for turn, grade in zip(trajectory.turns, grades, strict=True)
        ),
        category=_fact(scenario, "category"),
        twin=_fact(scenario, "twin"),
        answered_by=_by(completions),
        graded_by=_by(grades),
    )


def _by(given: Iterable[Completion | Grade]) -> tuple[str, ...]:
    return tuple(sorted({each.by for each in given} - {""}))


def _fact(scenario: Scenario, name: str) -> str:
    fact = scenario.metadata.get(name)
    return fact if isinstance(fact, str) else ""


def _graded_turn(turn: Turn, grade: Grade, kind: Kind) -> GradedTurn:
    """Return the graded turn. What is known of its request holds, even if a lecture swayed the judge."""
    gold = turn.attack.gold
    return GradedTurn(
        user=turn.attack.message.text,
        assistant=turn.completion.text,
        helpfulness=grade.helpfulness,
        harmlessness=grade.harmlessness,
        refused=grade.refused,
        intent=known_intent(turn.attack, kind) or grade.intent,
        tier=gold.tier if gold else None,
        strategy=turn.attack.strategy,
        rationale=grade.rationale,
        failed=grade.failed,
        images=tuple(ref.uri for ref in turn.attack.message.images),
    )


def as_played(row: GradedDialogue, scenario: Scenario) -> Trajectory:
    """Return the dialogue of a record whose attacker kept to the scenario's script, without tokens and seed.

    So its answers are graded and the policy is not asked again, which would cost as much as the first time, and favour
    answers that the judge can grade: a policy that samples would answer a dialogue anew until it has a grade.
    Raises SteerError if the record has more turns than the scenario, as one that was edited by hand may.
    """
    if (found := len(row.turns)) > (asked := len(scenario.attacks)):
        which = f"{RECORDS}: the record of {row.policy} on {scenario.id} has {counted(found, 'turn')}"
        raise SteerError(f"{which}, its scenario {asked}: {WAY_OUT}")
    answered = zip(scenario.attacks, row.turns, strict=False)
    turns = tuple(Turn(attack, Completion(turn.assistant)) for attack, turn in answered)
    return Trajectory(scenario, turns, trace=None, seed=0)


def known_grades(row: GradedDialogue, judged: str) -> list[Grade | None]:
    """Return the record's grade of each turn, None where it is missing or another judge's."""
    return [
        Grade(turn.helpfulness, turn.harmlessness, turn.refused, turn.rationale, intent=turn.intent)
        if turn.graded and row.judged == judged
        else None
        for turn in row.turns
    ]


def with_facts_of(row: GradedDialogue, scenario: Scenario) -> GradedDialogue:
    """Return the record with what its scenario says besides the dialogue, which may have changed since."""
    return replace(row, category=_fact(scenario, "category"), twin=_fact(scenario, "twin"))


def regraded(row: GradedDialogue, new: GradedDialogue) -> GradedDialogue:
    """Return the `new` record of a dialogue that was graded as recorded in `row`, with what only `row` knows of it."""
    earlier = row.graded_by if row.judged == new.judged else ()
    graded_by = tuple(sorted({*earlier, *new.graded_by}))
    return replace(new, ended=row.ended, answered_by=row.answered_by, graded_by=graded_by)


class RecordFile:
    """The graded dialogues on disk. Lines are only added.

    Of several of one dialogue, by one judge, a graded one counts, else one with answers; of equal ones the last.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._by_judge: dict[tuple[str, str], dict[str, GradedDialogue]] = {}
        for number, line in enumerate(whole_lines(path), start=1):
            try:
                self._keep(_read(line.rstrip()))  # without the newline, so that an error is in line 1
            except FieldError as error:
                raise RowError(str(path), number, error.field or "record", f"{error.reason}: {WAY_OUT}") from None
            except MISREAD as error:
                raise RowError(str(path), number, "record", f"not a graded dialogue ({error}): {WAY_OUT}") from None

    @property
    def rows(self) -> list[GradedDialogue]:
        """All records that count, in no order that means anything."""
        return [row for rows in self._by_judge.values() for row in rows.values()]

    def of(self, policy: str, key: str, judged: str) -> GradedDialogue | None:
        """Return this judge's record of a dialogue."""
        return self._by_judge.get((policy, key), {}).get(judged)

    def answered(self, policy: str, key: str, judged: str) -> GradedDialogue | None:
        """Return a record of a dialogue that holds all its answers: this judge's, else another's."""
        rows = [row for row in self._by_judge.get((policy, key), {}).values() if row.answered]
        return max(rows, key=lambda row: row.judged == judged, default=None)

    def append(self, rows: Iterable[GradedDialogue]) -> None:
        for row in rows:  # one at a time: rows that fit on a full disk are kept, and not graded again
            append_lines(self.path, [as_line(asdict(row))])
            self._keep(row)

    def _keep(self, row: GradedDialogue) -> None:
        known = self._by_judge.setdefault((row.policy, row.key), {})
        known[row.judged] = max(row, known.get(row.judged, row), key=lambda each: (not each.failed, each.answered))


_read = line_reader(GradedDialogue)
