"""One graded dialogue as a line of `records.jsonl`, and the file that holds them.

{"policy": "sft", "scenario": "mini-bench-7", "kind": "red_team", "subset": "", "image": "mini://knife?...",
 "ended": "terminated", "fingerprint": "...", "key": "...",
 "turns": [{"user": "...", "assistant": "...", "helpfulness": 3, "harmlessness": 3, "refused": true,
            "intent": "harmful", "tier": "picture", "strategy": "scripted", "rationale": "...", "failed": null}]}
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from steer_lit.errors import RowError
from steer_lit.types import Grade, Scenario, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class GradedTurn:
    """One turn's texts, the judge's grade of it and, where the row knows them, its intent and tier."""

    user: str
    assistant: str
    helpfulness: int | None
    harmlessness: int | None
    refused: bool | None
    intent: str | None
    tier: str | None
    strategy: str
    rationale: str = ""
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class GradedDialogue:
    """One dialogue of one policy, every turn graded. `image` is the first picture's uri.

    `fingerprint` is the policy's; `key` stands for everything that could change the row: see `dialogue_key`.
    """

    policy: str
    scenario: str
    kind: str
    subset: str
    image: str | None
    ended: str
    fingerprint: str
    key: str
    turns: tuple[GradedTurn, ...]

    @property
    def failed(self) -> bool:
        """Whether any turn (or the dialogue as a whole) could not be graded: it counts in no rate."""
        return not self.turns or any(turn.failed is not None for turn in self.turns)


def dialogue_key(scenario: Scenario, *settings: object) -> str:
    """A digest of the scenario's content (not only its id) and of everything else that decides how it is played."""
    content = (scenario.id, scenario.kind, scenario.subset, scenario.system, scenario.attacks, settings)
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def graded(trajectory: Trajectory, grades: Sequence[Grade], policy: str, fingerprint: str, key: str) -> GradedDialogue:
    """The record of a played dialogue. `grades` holds one grade a turn.

    `ended` is "truncated" where any completion hit the token limit.
    """
    scenario = trajectory.scenario
    images = [ref for attack in scenario.attacks for ref in attack.message.images]
    cut = any(turn.completion.finish == "length" for turn in trajectory.turns)
    return GradedDialogue(
        policy=policy,
        scenario=scenario.id,
        kind=scenario.kind,
        subset=scenario.subset,
        image=images[0].uri if images else None,
        ended="truncated" if cut else trajectory.ended,
        fingerprint=fingerprint,
        key=key,
        turns=tuple(_graded_turn(turn, grade) for turn, grade in zip(trajectory.turns, grades, strict=True)),
    )


def _graded_turn(turn: Turn, grade: Grade) -> GradedTurn:
    gold = turn.attack.gold
    return GradedTurn(
        user=turn.attack.message.text,
        assistant=turn.completion.text,
        helpfulness=grade.helpfulness,
        harmlessness=grade.harmlessness,
        refused=grade.refused,
        intent=gold.intent if gold else None,
        tier=gold.tier if gold else None,
        strategy=turn.attack.strategy,
        rationale=grade.rationale,
        failed=grade.failed,
    )


class RecordFile:
    """The graded dialogues on disk. Opening reads what is there and drops a last line that a stopped run left half."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[GradedDialogue] = []
        if path.exists():
            # Not splitlines(): it also breaks at U+2028 and its like, which JSON leaves inside strings.
            *lines, unfinished = path.read_text(encoding="utf-8", errors="replace").split("\n")
            self._rows = [_parse(path, number, line) for number, line in enumerate(lines, start=1)]
            if unfinished:
                self._rewrite()

    def of(self, policy: str) -> list[GradedDialogue]:
        return [row for row in self._rows if row.policy == policy]

    def append(self, rows: Iterable[GradedDialogue]) -> None:
        new = list(rows)
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(_line(row) for row in new)
        self._rows += new

    def drop(self, stale: Callable[[GradedDialogue], bool]) -> int:
        """Remove the rows that are `stale` and say how many."""
        kept = [row for row in self._rows if not stale(row)]
        dropped = len(self._rows) - len(kept)
        if dropped:
            self._rows = kept
            self._rewrite()
        return dropped

    def _rewrite(self) -> None:
        """Replace the file in one step: a run stopped here leaves the old file or the new one, never a mixture."""
        part = self.path.with_name(self.path.name + ".part")
        part.write_text("".join(_line(row) for row in self._rows), encoding="utf-8")
        os.replace(part, self.path)


def _line(row: GradedDialogue) -> str:
    return json.dumps(asdict(row), ensure_ascii=False) + "\n"


def _parse(path: Path, number: int, line: str) -> GradedDialogue:
    try:
        row = json.loads(line)
        return GradedDialogue(**{**row, "turns": tuple(GradedTurn(**turn) for turn in row["turns"])})
    except (ValueError, TypeError, KeyError) as error:
        raise RowError(str(path), number, "record", f"not a graded dialogue ({error}): move the file away") from None
