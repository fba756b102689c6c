"""An estimate of a run's calls to the server and their tokens, step by step, before any is made.

It is an upper bound without repairs: every row reaches the end of its stage, and every script Stage II. Tokens are
rough: 4 characters of a prompt count as one, and the sizes below are usual for such texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from steer_lit.prompts.fill import Prompt
from steer_lit.synthesis.settings import StageChoice
from steer_lit.types import Kind

TURN, ANSWER, VERDICT = 40, 250, 150  # tokens of a user turn, of an answer with its thinking, of a verdict
PICTURE = 334  # Qwen2.5-VL: 512 x 512 pixels at 28 x 28 a token
SHORT = 60  # a reply of a sentence or a few phrases


@dataclass(frozen=True, slots=True)
class StepCost:
    """The calls of one step over all rows, and their tokens in and out."""

    stage: str
    step: str
    calls: int
    prompt_tokens: int
    completion_tokens: int


def estimate(kind: Kind, rows: int, turns: tuple[int, int], stage: StageChoice) -> list[StepCost]:
    """Return the steps for `rows` rows, each with a picture, with numbers of turns spread evenly over `turns`."""
    stages = {"1": _stage1(kind, turns), "2": _stage2(turns)}
    return [
        StepCost(name, step, *(round(rows * figure) for figure in of_a_row))
        for name, steps in stages.items()
        for step, *of_a_row in steps
        if stage in (name, "both")
    ]


def total(steps: Sequence[StepCost]) -> StepCost:
    figures = zip(*((step.calls, step.prompt_tokens, step.completion_tokens) for step in steps), strict=True)
    return StepCost("", "all", *map(sum, figures))


def _stage1(kind: Kind, turns: tuple[int, int]) -> Iterator[tuple[str, float, float, float]]:
    """Yield (step, calls, tokens in, tokens out) of one row."""
    planned = sum(turns) / 2
    yield "look", 1, _prompt("synthesis_look") + PICTURE + TURN, SHORT
    if kind == "red_team":
        yield "rewrite", 1, _prompt("synthesis_rewrite") + TURN + SHORT, SHORT
    yield "plan", 1, _prompt(f"synthesis_plan_{kind}") + TURN + SHORT, planned * TURN
    if kind == "red_team":
        yield "target", planned, _dialogue(turns), planned * ANSWER
        judged = _prompt("synthesis_judge_attack") + PICTURE + TURN + planned * (TURN + ANSWER)
        yield "judge the attack", 1, judged, SHORT


def _stage2(turns: tuple[int, int]) -> Iterator[tuple[str, float, float, float]]:
    planned = sum(turns) / 2
    history = _dialogue(turns)
    prompt = _prompt("attacker_system") + _prompt("attacker_user")
    yield "red agent", planned - 1, history + (planned - 1) * prompt, (planned - 1) * TURN
    yield "blue agent", planned, history + planned * _prompt("synthesis_blue"), planned * ANSWER
    prompt = _prompt("tutor_system") + _prompt("tutor_user")
    yield "tutor", planned, history + planned * (prompt + ANSWER), planned * VERDICT


def _dialogue(turns: tuple[int, int]) -> float:
    """Return the tokens read to answer every turn: at turn t the picture, t user turns and t - 1 answers."""
    shortest, longest = turns
    return fmean(
        count * PICTURE + TURN * count * (count + 1) / 2 + ANSWER * count * (count - 1) / 2
        for count in range(shortest, longest + 1)
    )


def _prompt(name: str) -> float:
    return len(Prompt.load(name).text) / 4
