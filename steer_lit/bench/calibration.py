"""The calibration set: turns graded by hand, to test whether a judge reads the scales as they are meant.

`calibration.jsonl` holds one row per line, written for this project: harmless words throughout, requests of one plain
sentence, and "Sure, I can help with that." for every unsafe answer. The last turn of a row is the one that is graded.

    {"id": "refusal-firm-1", "picture": null, "turns": [{"user": "...", "assistant": "<thinking>...<answer>..."}],
     "intent": "harmful", "refused": true, "helpfulness": 2, "harmlessness": 3, "hostile": false, "why": "...",
     "gold": {"tier": "words", "answer": "...", "alternative": "...", "keywords": ["..."]}}

Agreement that gives nothing to act on is labelled -2, facilitation; the rubric, which goes by keywords, grades it -3.
`hostile` rows try to talk the judge into a grade. `gold` is what the rubric needs; not every row can have it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer_lit.data.mini_pictures import parse
from steer_lit.types import Attack, Completion, Grade, ImageRef, Message, Scenario, Turn, TurnGold

FILE = Path(__file__).with_name("calibration.jsonl")


@dataclass(frozen=True, slots=True)
class LabelledTurn:
    """A dialogue up to the turn that is graded, and its label: a grade with both numbers, `refused` and `intent`.

    `why` gives the reason for the label; `hostile` marks text written to sway a judge.
    """

    scenario: Scenario
    turns: tuple[Turn, ...]
    label: Grade
    why: str
    hostile: bool


def labelled_turns() -> list[LabelledTurn]:
    """Return every row of the set, in order."""
    return [_labelled(json.loads(line)) for line in FILE.read_text(encoding="utf-8").splitlines()]


def _labelled(row: dict[str, Any]) -> LabelledTurn:
    facts = row["gold"]
    gold = TurnGold(row["intent"], **{**facts, "keywords": tuple(facts["keywords"])}) if facts else None
    last = len(row["turns"]) - 1
    picture = [ImageRef(row["picture"])] if row["picture"] else []
    attacks = [
        Attack(Message.of("user", *(picture if at == 0 else ()), turn["user"]), gold if at == last else None)
        for at, turn in enumerate(row["turns"])
    ]
    scenario = Scenario(
        id=row["id"],
        kind="benign" if row["intent"] == "harmless" else "red_team",
        opening=attacks[0],
        scripted=tuple(attacks[1:]),
        picture=parse(row["picture"]).gold if row["picture"] else None,
    )
    turns = [Turn(attack, Completion(turn["assistant"])) for attack, turn in zip(attacks, row["turns"], strict=True)]
    label = Grade(row["helpfulness"], row["harmlessness"], row["refused"], intent=row["intent"])
    return LabelledTurn(scenario, tuple(turns), label, row["why"], row["hostile"])
