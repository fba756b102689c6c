"""Graded dialogues, one per line of `records.jsonl`, and the file that holds them.

{"policy": "sft", "scenario": "mini-bench-7", "kind": "red_team", "subset": "", "image": "mini://knife?...",
 "ended": "terminated", "fingerprint": "...", "key": "...",
 "turns": [{"user": "...", "assistant": "...", "helpfulness": 3, "harmlessness": 3, "refused": true,
            "intent": "harmful", "tier": "picture", "strategy": "scripted", "rationale": "...", "failed": null,
            "images": ["mini://knife?..."]}],
 "judge": "gpt-5-nano", "conditions": "...", "category": "", "twin": "mini-bench-8", "answered_by": [],
 "graded_by": ["gpt-5-nano-2025-08-07"]}
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, StrictBool, StrictInt, with_config

from steer_lit.answer_format import cut_short
from steer_lit.digests import digest
from steer_lit.errors import RowError
from steer_lit.files.atomic import replace_text
from steer_lit.files.lines import MISREAD, append_lines, as_line, whole_lines
from steer_lit.files.typed_lines import FieldError, line_reader
from steer_lit.numbers import counted
from steer_lit.types import Completion, Ended, Grade, Intent, Kind, Scenario, Tier, Trajectory, Turn
from steer_lit.verdict_scale import known_intent

log = logging.getLogger(__name__)
WAY_OUT = "delete the line to have the dialogue played again, or move the file away"


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

    `fingerprint` is the policy's. `key` is a digest of everything that could change the record (`dialogue_key`).
    `category` is the scenario's own, if it has one; `twin` is the scenario whose plan it shares. `conditions` is a
    digest of what all records of a run share, data and decoding included: records with different conditions are not one
    result. `judge` is the judge's name. `answered_by` and `graded_by` are the models that servers say answered and
    graded. Older records lack these two, `judge`, `conditions` and `twin`.
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
    conditions: str = ""
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


def settings_digest(*settings: object) -> str:
    """Return a digest of the settings that dialogues are played and graded under, whichever policy plays."""
    return digest(repr(settings), 16)


def dialogue_key(scenario: Scenario, pictures: Sequence[str], fingerprint: str, procedure: str) -> str:
    """Return a digest of the scenario's content (not only its id) and of everything else that decides how it is played.

    `pictures` identifies what the names of its pictures do not (`Suite.digests`); `procedure` is a digest of how the
    run plays and grades.
    """
    facts = (scenario.id, scenario.kind, scenario.subset, scenario.system, scenario.picture, scenario.attacks)
    return digest(repr((*facts, *pictures, fingerprint, procedure)), 16)


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


class RecordFile:
    """The graded dialogues on disk, each once (see `read_graded`).

    A later row of the same policy and scenario, played with other settings, replaces an earlier one once it is graded.
    Until then both stay, unless the earlier holds no answers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        rows, clean = read_graded(path)
        self._rows = rows if clean else []
        self._rewrite(rows)

    @property
    def rows(self) -> Sequence[GradedDialogue]:
        """All records, in the file's order."""
        return self._rows

    def of(self, policy: str) -> list[GradedDialogue]:
        return [row for row in self._rows if row.policy == policy]

    def append(self, rows: Iterable[GradedDialogue]) -> None:
        """Append the rows. Only then remove the earlier ones that they replace."""
        before, new = self._rows.copy(), list(rows)
        for row in new:  # one at a time: rows that fit on a full disk are kept, and not graded again
            append_lines(self.path, [as_line(asdict(row))])
            self._rows.append(row)
        latest = {(row.policy, row.scenario): row for row in new}
        self._rewrite([*(row for row in before if not _replaced(row, latest)), *new])

    def claim(self, policy: str, fingerprint: str, keys: Container[str], conditions: str) -> None:
        """Mark the policy's rows with these keys as belonging to a run under `conditions`.

        All rows under `conditions` move to the end, where a reader looks for the latest, except this policy's rows with
        another `fingerprint`. Rows that the marked ones replace, but that a killed run left, are removed.
        """
        mine = [row.policy == policy and row.key in keys for row in self._rows]
        held = {(row.policy, row.scenario): row for row in compress(self._rows, mine)}
        rows = [
            replace(row, conditions=conditions) if own else row
            for row, own in zip(self._rows, mine, strict=True)
            if own or not _replaced(row, held)
        ]
        rows.sort(
            key=lambda row: row.conditions == conditions and (row.policy != policy or row.fingerprint == fingerprint)
        )
        self._rewrite(rows)

    def sort(self, policy: str, keys: Sequence[str]) -> None:
        """Sort the policy's rows with these keys into the keys' order. All other rows keep their places."""
        order = {key: at for at, key in enumerate(keys)}
        mine = [row.policy == policy and row.key in order for row in self._rows]
        in_order = iter(sorted(compress(self._rows, mine), key=lambda row: order[row.key]))
        self._rewrite([next(in_order) if own else row for row, own in zip(self._rows, mine, strict=True)])

    def _rewrite(self, rows: list[GradedDialogue]) -> None:
        """Make the file hold these rows, in one step: a run stopped here leaves the old file or the new one."""
        if rows != self._rows:
            replace_text(self.path, "".join(as_line(asdict(row)) for row in rows))
            self._rows = rows


def _replaced(row: GradedDialogue, latest: Mapping[tuple[str, str], GradedDialogue]) -> bool:
    """Return whether one of the `latest` rows, by policy and scenario, takes this earlier row's place.

    One that was graded does, or one under the same key. Any other costs neither grades nor answers that may be graded.
    """
    later = latest.get((row.policy, row.scenario))
    return later is not None and (not later.failed or later.key == row.key or not row.answered)


def read_graded(path: Path) -> tuple[list[GradedDialogue], bool]:
    """Return the dialogues of a records file, and whether the file holds each of them only once.

    Of several records of a dialogue, the first that was graded counts. Raises RowError for a line that is no record.
    """
    found: dict[tuple[str, str], GradedDialogue] = {}
    number = 0
    for number, line in enumerate(whole_lines(path), start=1):
        row = _parse(path, number, line)
        known = found.setdefault((row.policy, row.key), row)
        if known.failed and not row.failed:
            found[row.policy, row.key] = row
    if repeated := number - len(found):
        log.warning("%s: %s left out, of dialogues that stand there more than once", path, counted(repeated, "record"))
    return list(found.values()), not repeated


def _parse(path: Path, number: int, line: str) -> GradedDialogue:
    try:
        return _read(line.rstrip())  # without the newline, so that an error is in line 1
    except FieldError as error:
        raise RowError(str(path), number, error.field or "record", f"{error.reason}: {WAY_OUT}") from None
    except MISREAD as error:
        raise RowError(str(path), number, "record", f"not a graded dialogue ({error}): {WAY_OUT}") from None


_read = line_reader(GradedDialogue)
