"""Dialogues as the page's browser shows them: benchmark records and training rollouts in one shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from steer_lit.bench import metrics
from steer_lit.bench.records import GradedDialogue, GradedTurn
from steer_lit.bench.settings import BenchSettings
from steer_lit.files.lines import readable
from steer_lit.rollout.logged import HOW_ENDED, LoggedTrajectory, LoggedTurn
from steer_lit.verdict_scale import is_safe, is_useful

PASS, UNSAFE, UNHELPFUL, UNGRADED = "pass", "unsafe", "safe, not helpful", "not graded"
OUTCOMES = (PASS, UNSAFE, UNHELPFUL, UNGRADED)
_HARM = {"words": "in its words", "history": "in what was said before", "picture": "in the picture"}


@dataclass(frozen=True, slots=True)
class ShownTurn:
    """One turn. `tone` colours it: -3 (harmful) to 3, None if unscored. `scores` are (label, value) texts."""

    user: str
    assistant: str
    tone: int | None
    scores: tuple[tuple[str, str], ...] = ()
    about: str = ""
    verdict: str = ""
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShownDialogue:
    """One dialogue with the facts that the browser filters by. `note` is shown above its turns."""

    policy: str
    scenario: str
    kind: str
    subset: str
    outcome: str
    note: str
    turns: tuple[ShownTurn, ...]


def of_record(dialogue: GradedDialogue, settings: BenchSettings) -> ShownDialogue:
    """Convert a benchmark record; the pass rules of `settings` decide its outcome."""
    if dialogue.failed:
        outcome, means = UNGRADED, ""
    else:
        safe, helpful = (count(dialogue, settings)[0] for count in (metrics.safety_pass, metrics.helpfulness_pass))
        passed = PASS if helpful else UNHELPFUL
        outcome = passed if safe else UNSAFE
        harmless, useful = fmean(metrics.harmlessness(dialogue)), fmean(metrics.helpfulness(dialogue))
        means = f", mean harmlessness {harmless:.2f}, mean helpfulness {useful:.2f}"
    return ShownDialogue(
        policy=dialogue.policy,
        scenario=dialogue.scenario,
        kind=dialogue.kind,
        subset=dialogue.subset,
        outcome=outcome,
        note=f"{HOW_ENDED[dialogue.ended]}{means}",
        turns=tuple(map(_of_turn, dialogue.turns)),
    )


def _of_turn(turn: GradedTurn) -> ShownTurn:
    scores = [("harmless", turn.harmlessness), ("helpful", turn.helpfulness)]
    return ShownTurn(
        user=turn.user,
        assistant=turn.assistant,
        tone=turn.harmlessness,
        scores=tuple((label, str(value)) for label, value in scores if value is not None),
        about=_about(turn.strategy, turn.intent, turn.tier, turn.refused),
        verdict=turn.rationale if turn.failed is None else f"not graded: {turn.failed}",
        pictures=turn.images,
    )


def read_rollouts(path: Path) -> Iterator[ShownDialogue]:
    """Yield the rollouts of a training run's trajectories.jsonl.

    The policy changes with every step, so each rollout's policy is named after the step that learned from it, from 1.
    """
    return readable(path, lambda line: of_rollout(LoggedTrajectory.from_line(line)), "rollouts")


def of_rollout(rollout: LoggedTrajectory) -> ShownDialogue:
    """Convert a training rollout; it passes if every turn is safe and useful."""
    verdicts = [turn.verdict for turn in rollout.turns if turn.verdict is not None and turn.verdict.failed is None]
    if rollout.failed is not None or len(verdicts) < len(rollout.turns):
        outcome = UNGRADED
    elif not all(is_safe(verdict.safety) for verdict in verdicts):
        outcome = UNSAFE
    else:
        outcome = PASS if all(is_useful(verdict.usefulness) for verdict in verdicts) else UNHELPFUL
    gained = "" if rollout.trajectory_return is None else f", return {rollout.trajectory_return:.3f}"
    failed = "" if rollout.failed is None else f": {rollout.failed}"
    return ShownDialogue(
        policy=f"step {rollout.step + 1}",
        scenario=rollout.scenario,
        kind=rollout.kind,
        subset=rollout.subset,
        outcome=outcome,
        note=f"{HOW_ENDED[rollout.ended]}{failed}, seed {rollout.seed}{gained}",
        turns=tuple(map(_of_rollout_turn, rollout.turns)),
    )


def _of_rollout_turn(turn: LoggedTurn) -> ShownTurn:
    scores: list[tuple[str, str]] = []
    tone, refused, told = None, None, ""
    if (verdict := turn.verdict) is not None:
        refused = verdict.refused
        told = verdict.rationale if verdict.failed is None else f"no verdict: {verdict.failed}"
        tone = None if verdict.safety is None else tone_of_safety(verdict.safety)
        given = {"safety": verdict.safety, "usefulness": verdict.usefulness, "faithfulness": verdict.faithfulness}
        scores += [(label, str(score)) for label, score in given.items() if score is not None]
    learnt = {"turn score": turn.score, "turn reward": turn.reward}
    scores += [(label, f"{figure:.3f}") for label, figure in learnt.items() if figure is not None]
    scores += [] if turn.advantage is None else [("advantage", f"{turn.advantage:+.3f}")]
    return ShownTurn(
        user=turn.user,
        assistant=turn.assistant,
        tone=tone,
        scores=tuple(scores),
        about=_about(turn.strategy, turn.intent, turn.tier, refused),
        verdict=told,
        pictures=turn.images,
    )


def tone_of_safety(safety: int) -> int:
    """Map a tutor's safety 1..10 to a tone -3..3: the rubric's steps 1, 2, 4, 6, 8, 10 to -3, -2, -1, 1, 2, 3."""
    return {1: -3, 2: -2, 3: -2, 4: -1, 5: 0, 6: 1, 7: 1, 8: 2, 9: 2, 10: 3}[safety]


def _about(strategy: str, intent: str | None, tier: str | None, refused: bool | None) -> str:
    where = f" {_HARM[tier]}" if tier in _HARM else ""
    words = (strategy.replace("_", " "), f"{intent}{where}" if intent else "", "refused" if refused else "")
    return ", ".join(filter(None, words))
