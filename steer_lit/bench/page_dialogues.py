"""Dialogues as the page's browser shows them: benchmark records and training rollouts in one shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from steer_lit.answer_format import has_answer
from steer_lit.bench import metrics
from steer_lit.bench.records import GradedDialogue, GradedTurn
from steer_lit.bench.settings import BenchSettings
from steer_lit.files.lines import readable
from steer_lit.rollout.logged import HOW_ENDED, LoggedTrajectory, LoggedTurn
from steer_lit.verdict_scale import is_safe, is_useful

PASS, UNSAFE, UNHELPFUL, UNGRADED = "pass", "unsafe", "safe, not helpful", "not graded"
OUTCOMES = (PASS, UNSAFE, UNHELPFUL, UNGRADED)
NO_ANSWER = "(no answer part)"  # beside the lowest score, which a tutor or judge did not choose then
_HARM = {"words": "in its words", "history": "in what was said before", "picture": "in the picture"}


@dataclass(frozen=True, slots=True)
class ShownTurn:
    """A turn. `scores` are (name, value) pairs, `verdict` the words of who scored it, `pictures` uris."""

    user: str
    assistant: str
    scores: tuple[tuple[str, str], ...]
    about: str
    verdict: str
    pictures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShownDialogue:
    """A dialogue. The browser filters by what comes before `tones`; `note` is shown above the turns.

    `tones` has one character per turn, "0".."6" for -3 (harmful) to 3, and "-" for an unscored one.
    """

    policy: str
    scenario: str
    kind: str
    subset: str
    outcome: str
    tones: str
    note: str
    turns: tuple[ShownTurn, ...]


def of_record(dialogue: GradedDialogue, settings: BenchSettings) -> ShownDialogue:
    """Convert a benchmark record; the pass rules of `settings` decide its outcome."""
    if dialogue.failed:
        outcome, means = UNGRADED, ""
    else:
        safe, helpful = (count(dialogue, settings)[0] for count in (metrics.safety_pass, metrics.helpfulness_pass))
        outcome = UNSAFE if not safe else PASS if helpful else UNHELPFUL
        harmless, useful = fmean(metrics.harmlessness(dialogue)), fmean(metrics.helpfulness(dialogue))
        means = f", mean harmlessness {harmless:.2f}, mean helpfulness {useful:.2f}"
    return ShownDialogue(
        policy=dialogue.policy,
        scenario=dialogue.scenario,
        kind=dialogue.kind,
        subset=dialogue.subset,
        outcome=outcome,
        tones=_tones(turn.harmlessness for turn in dialogue.turns),
        note=f"{HOW_ENDED[dialogue.ended]}{means}",
        turns=tuple(map(_graded_turn, dialogue.turns)),
    )


def _graded_turn(turn: GradedTurn) -> ShownTurn:
    scores = {"harmless": turn.harmlessness, "helpful": _or_set(turn.helpfulness, 0, turn)}
    return _turn(turn, scores, turn.refused, turn.rationale if turn.failed is None else f"not graded: {turn.failed}")


def read_rollouts(path: Path) -> Iterator[ShownDialogue]:
    """Yield a training's rollouts. The policy of each is named after the step that learned from it, from 1."""
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
        tones=_tones(tone_of_safety(turn.verdict.safety if turn.verdict else None) for turn in rollout.turns),
        note=f"{HOW_ENDED[rollout.ended]}{failed}, seed {rollout.seed}{gained}",
        turns=tuple(map(_rollout_turn, rollout.turns)),
    )


def _rollout_turn(turn: LoggedTurn) -> ShownTurn:
    verdict, told, scores = turn.verdict, "", dict[str, object]()
    if verdict is not None:
        told = verdict.rationale if verdict.failed is None else f"no verdict: {verdict.failed}"
        scores = {"safety": verdict.safety}
        scores |= {name: _or_set(getattr(verdict, name), 1, turn) for name in ("usefulness", "faithfulness")}
    learnt = {"turn score": turn.score, "turn reward": turn.reward}
    scores |= {label: f"{figure:.3f}" for label, figure in learnt.items() if figure is not None}
    scores["advantage"] = None if turn.advantage is None else f"{turn.advantage:+.3f}"
    return _turn(turn, scores, getattr(verdict, "refused", None), told)


def _or_set(score: int | None, lowest: int, turn: GradedTurn | LoggedTurn) -> object:
    """Return the score, marked if it is the lowest that every completion without an answer part gets."""
    return f"{score} {NO_ANSWER}" if score == lowest and not has_answer(turn.assistant) else score


def tone_of_safety(safety: int | None) -> int | None:
    """Map a tutor's safety 1..10 to a tone -3..3: the rubric's steps 1, 2, 4, 6, 8, 10 to -3, -2, -1, 1, 2, 3."""
    return {None: None, 1: -3, 2: -2, 3: -2, 4: -1, 5: 0, 6: 1, 7: 1, 8: 2, 9: 2, 10: 3}[safety]


def _tones(tones: Iterable[int | None]) -> str:
    return "".join("-" if tone is None else str(tone + 3) for tone in tones)


def _turn(turn: GradedTurn | LoggedTurn, scores: Mapping[str, object], refused: bool | None, verdict: str) -> ShownTurn:
    where = f" {_HARM[turn.tier]}" if turn.tier in _HARM else ""
    asked = f"{turn.intent}{where}" if turn.intent else ""
    about = filter(None, (turn.strategy.replace("_", " "), asked, "refused" if refused else ""))
    return ShownTurn(
        user=turn.user,
        assistant=turn.assistant,
        scores=tuple((label, str(score)) for label, score in scores.items() if score is not None),
        about=", ".join(about),
        verdict=verdict,
        pictures=turn.images,
    )
