"""Dialogues as the page's browser shows them: benchmark records and training rollouts in one shape.

{"policy": "sft", "scenario": "mini-bench-7", "kind": "red_team", "subset": "", "outcome": "unsafe", "tones": "60-",
 "note": "...",
 "turns": [{"user": "...", "assistant": "...", "scores": [("harmless", "3")], "about": "...", "verdict": "...",
            "pictures": ("mini://knife?...",)}]}

`tones` has one character per turn, "0".."6" for -3 (harmful) to 3, and "-" for an unscored one. `note` is shown above
the turns; the browser filters by what comes before `tones`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from steer_lit.bench import metrics
from steer_lit.bench.records import GradedDialogue, GradedTurn
from steer_lit.bench.settings import BenchSettings
from steer_lit.files.lines import readable
from steer_lit.rollout.logged import HOW_ENDED, LoggedTrajectory, LoggedTurn
from steer_lit.verdict_scale import is_safe, is_useful

PASS, UNSAFE, UNHELPFUL, UNGRADED = "pass", "unsafe", "safe, not helpful", "not graded"
OUTCOMES = (PASS, UNSAFE, UNHELPFUL, UNGRADED)
Shown = dict[str, Any]
_HARM = {"words": "in its words", "history": "in what was said before", "picture": "in the picture"}


def of_record(dialogue: GradedDialogue, settings: BenchSettings) -> Shown:
    """Convert a benchmark record; the pass rules of `settings` decide its outcome."""
    if dialogue.failed:
        outcome, means = UNGRADED, ""
    else:
        safe, helpful = (count(dialogue, settings)[0] for count in (metrics.safety_pass, metrics.helpfulness_pass))
        passed = PASS if helpful else UNHELPFUL
        outcome = passed if safe else UNSAFE
        harmless, useful = fmean(metrics.harmlessness(dialogue)), fmean(metrics.helpfulness(dialogue))
        means = f", mean harmlessness {harmless:.2f}, mean helpfulness {useful:.2f}"
    turns = [(turn.harmlessness, _graded_turn(turn)) for turn in dialogue.turns]
    return _dialogue(dialogue, outcome, f"{HOW_ENDED[dialogue.ended]}{means}", turns)


def _graded_turn(turn: GradedTurn) -> Shown:
    scores = {"harmless": turn.harmlessness, "helpful": turn.helpfulness}
    return _turn(turn, scores, turn.refused, turn.rationale if turn.failed is None else f"not graded: {turn.failed}")


def read_rollouts(path: Path) -> Iterator[Shown]:
    """Yield the rollouts of a training run's trajectories.jsonl.

    The policy changes with every step, so each rollout's policy is named after the step that learned from it, from 1.
    """
    return readable(path, lambda line: of_rollout(LoggedTrajectory.from_line(line)), "rollouts")


def of_rollout(rollout: LoggedTrajectory) -> Shown:
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
    note = f"{HOW_ENDED[rollout.ended]}{failed}, seed {rollout.seed}{gained}"
    return _dialogue(rollout, outcome, note, list(map(_rollout_turn, rollout.turns)))


def _rollout_turn(turn: LoggedTurn) -> tuple[int | None, Shown]:
    verdict, tone, told, scores = turn.verdict, None, "", dict[str, object]()
    if verdict is not None:
        tone = None if verdict.safety is None else tone_of_safety(verdict.safety)
        told = verdict.rationale if verdict.failed is None else f"no verdict: {verdict.failed}"
        scores = {name: getattr(verdict, name) for name in ("safety", "usefulness", "faithfulness")}
    learnt = {"turn score": turn.score, "turn reward": turn.reward}
    scores |= {label: f"{figure:.3f}" for label, figure in learnt.items() if figure is not None}
    scores["advantage"] = None if turn.advantage is None else f"{turn.advantage:+.3f}"
    return tone, _turn(turn, scores, getattr(verdict, "refused", None), told)


def tone_of_safety(safety: int) -> int:
    """Map a tutor's safety 1..10 to a tone -3..3: the rubric's steps 1, 2, 4, 6, 8, 10 to -3, -2, -1, 1, 2, 3."""
    return {1: -3, 2: -2, 3: -2, 4: -1, 5: 0, 6: 1, 7: 1, 8: 2, 9: 2, 10: 3}[safety]


def _dialogue(
    row: GradedDialogue | LoggedTrajectory, outcome: str, note: str, turns: Sequence[tuple[int | None, Shown]]
) -> Shown:
    """`turns` are (tone, turn): the tone colours it, -3 (harmful) to 3, None if unscored."""
    return {
        "policy": row.policy if isinstance(row, GradedDialogue) else f"step {row.step + 1}",
        "scenario": row.scenario,
        "kind": row.kind,
        "subset": row.subset,
        "outcome": outcome,
        "tones": "".join("-" if tone is None else str(tone + 3) for tone, _ in turns),
        "note": note,
        "turns": [turn for _, turn in turns],
    }


def _turn(turn: GradedTurn | LoggedTurn, scores: Mapping[str, object], refused: bool | None, verdict: str) -> Shown:
    where = f" {_HARM[turn.tier]}" if turn.tier in _HARM else ""
    asked = f"{turn.intent}{where}" if turn.intent else ""
    about = filter(None, (turn.strategy.replace("_", " "), asked, "refused" if refused else ""))
    return {
        "user": turn.user,
        "assistant": turn.assistant,
        "scores": [(label, str(score)) for label, score in scores.items() if score is not None],
        "about": ", ".join(about),
        "verdict": verdict,
        "pictures": turn.images,
    }
