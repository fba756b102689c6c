"""An estimate of a run's calls to the server and their tokens, step by step, before any is made.

It is an upper bound without repairs: every row reaches the end of its stage, and every script Stage II. Tokens are
rough: 4 characters of a prompt count as one, and the sizes below are usual for such texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from steer_lit.prompts.fill import Prompt
from steer_lit.synthesis.settings import StageChoice
from steer_lit.types import Kind

TURN, ANSWER, VERDICT = 40, 250, 150  # tokens of a user turn, of an answer with its thinking, of a verdict
PICTURE = 334  # Qwen2.5-VL: 512 x 512 pixels at 28 x 28 a token
SHORT = 60  # a reply of a sentence or a few phrases
_OF_RED_TEAM = ("rewrite", "target", "judge the attack")  # steps of this kind alone


@dataclass(frozen=True, slots=True)
class StepCost:
    """The calls of one step over all rows, and their tokens in and out."""

    stage: str
    step: str
    calls: int
    prompt_tokens: int
    completion_tokens: int


def estimate(
    kind: Kind, rows: int, written: Sequence[int], played: Sequence[int], stages: StageChoice
) -> list[StepCost]:
    """Return the steps for `rows` rows, each with a picture. Scripts have as many turns as `written` lists, each as
    often as the others, and dialogues of Stage II as many as `played` does.
    """
    planned, history, asked, heard = fmean(written), _dialogue(written), fmean(played), _dialogue(played)
    judged = PICTURE + TURN + planned * (TURN + ANSWER)
    red, blue = _prompt("attacker_system", "attacker_user"), _prompt("synthesis_blue")
    tutor = _prompt("tutor_system", "tutor_user")
    # Stage, step, and of one row: calls, tokens in, tokens out.
    steps: list[tuple[str, str, float, float, float]] = [
        ("1", "look", 1, _prompt("synthesis_look") + PICTURE + TURN, SHORT),
        ("1", "rewrite", 1, _prompt("synthesis_rewrite") + TURN + SHORT, SHORT),
        ("1", "plan", 1, _prompt(f"synthesis_plan_{kind}") + TURN + SHORT, planned * TURN),
        ("1", "target", planned, history, planned * ANSWER),
        ("1", "judge the attack", 1, _prompt("synthesis_judge_attack") + judged, SHORT),
        ("2", "red agent", asked - 1, heard + (asked - 1) * red, (asked - 1) * TURN),
        ("2", "blue agent", asked, heard + asked * blue, asked * ANSWER),
        ("2", "tutor", asked, heard + asked * (tutor + ANSWER), asked * VERDICT),
    ]
    pressed = kind == "red_team"
    return [
        StepCost(stage, step, *(round(rows * figure) for figure in of_a_row))
        for stage, step, *of_a_row in steps
        if stages in (stage, "both") and (pressed or step not in _OF_RED_TEAM)
    ]


def total(steps: Sequence[StepCost]) -> StepCost:
    figures = zip(*((step.calls, step.prompt_tokens, step.completion_tokens) for step in steps), strict=True)
    return StepCost("", "all", *map(sum, figures))


def _dialogue(turns: Sequence[int]) -> float:
    """Return the tokens read to answer every turn: at turn t the picture, t user turns and t - 1 answers."""
    return fmean(count * PICTURE + TURN * count * (count + 1) / 2 + ANSWER * count * (count - 1) / 2 for count in turns)


def _prompt(*names: str) -> float:
    return sum(len(Prompt.load(name).text) for name in names) / 4
