"""Formats played dialogues: as lines of `trajectories.jsonl`, and for people to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from steer_lit.reward.reward import TrajectoryReward
from steer_lit.rollout.logged import LoggedTrajectory, LoggedTurn, LoggedVerdict
from steer_lit.terminal.visible import markdown_line, visible
from steer_lit.types import Ended, ImageRef, Trajectory, Verdict

_ENDED: Mapping[Ended, str] = {
    "terminated": "played to its end",
    "truncated": "ended by a token limit",
    "failed": "not scored",
}


@dataclass(frozen=True, slots=True)
class Played:
    """A trajectory and what the run made of it. `step` counts the optimizer steps the policy had taken.

    `reward` is None where the trajectory failed or nothing scored it; `advantages` has one entry per turn, or none;
    `expected` holds the stored answer of each turn where there is one (SFT).
    """

    trajectory: Trajectory
    step: int
    reward: TrajectoryReward | None = None
    advantages: tuple[float, ...] = ()
    expected: tuple[str, ...] = ()


def logged(played: Played) -> LoggedTrajectory:
    """What `trajectories.jsonl` holds of it."""
    trajectory, reward = played.trajectory, played.reward
    return LoggedTrajectory(
        step=played.step,
        scenario=trajectory.scenario.id,
        kind=trajectory.scenario.kind,
        subset=trajectory.scenario.subset,
        seed=trajectory.seed,
        ended=trajectory.ended,
        failed=trajectory.failed,
        trajectory_return=reward.trajectory_return if reward else None,
        turns=tuple(_logged_turn(played, turn_idx) for turn_idx in range(len(trajectory.turns))),
    )


def _logged_turn(played: Played, turn_idx: int) -> LoggedTurn:
    turn, reward = played.trajectory.turns[turn_idx], played.reward
    return LoggedTurn(
        user=turn.attack.message.text,
        images=tuple(ref.uri for ref in turn.attack.message.images),
        strategy=turn.attack.strategy,
        intent=turn.intent,
        tier=turn.attack.gold.tier if turn.attack.gold else None,
        assistant=turn.completion.text,
        finish=turn.completion.finish,
        verdict=None if turn.verdict is None else _logged_verdict(turn.verdict),
        score=reward.turn_scores[turn_idx] if reward else None,
        reward=reward.turn_rewards[turn_idx] if reward else None,
        advantage=played.advantages[turn_idx] if played.advantages else None,
    )


def _logged_verdict(verdict: Verdict) -> LoggedVerdict:
    return LoggedVerdict(**{field.name: getattr(verdict, field.name) for field in fields(LoggedVerdict)})


def page(played: Played) -> str:
    """The dialogue as Markdown. Texts stand in indented blocks, so that nothing in them is taken for markup, which
    could fetch a picture from anywhere when the page is opened.
    """
    trajectory = played.trajectory
    name = markdown_line(trajectory.scenario.id)
    kind = trajectory.scenario.kind.replace("_", " ")
    lines = [f"**{name}** ({kind}), seed {trajectory.seed}, {_ENDED[trajectory.ended]}"]
    if played.reward is not None:
        lines.append(f"return {played.reward.trajectory_return:.3f}")
    for turn_idx, turn in enumerate(trajectory.turns):
        told = markdown_line(turn.attack.strategy.replace("_", " ")) + (f", {turn.intent}" if turn.intent else "")
        shown = "".join(f", picture {markdown_line(ref.uri)}" for ref in turn.attack.message.images)
        lines += [f"{_which(played, turn_idx)}, user ({told}){shown}:", _block(turn.attack.message.text)]
        lines += ["policy:" if turn.completion.finish == "stop" else "policy (cut):", _block(turn.completion.text)]
        if turn_idx < len(played.expected):
            lines += ["expected:", _block(played.expected[turn_idx])]
        if (judged := _judged(played, turn_idx)) is not None:
            lines.append(judged)
    return "\n\n".join(lines)


def excerpt(played: Played) -> str:
    """The last exchange of the dialogue for a terminal: which turn it is, the pictures it is about, what was said, and
    the stored answer where there is one.
    """
    turn_idx = len(played.trajectory.turns) - 1
    turn = played.trajectory.turns[turn_idx]
    shown = "".join(f", picture {ref.uri}" for ref in pictures(played))
    lines = [f"  {_which(played, turn_idx)} of {played.trajectory.scenario.id}{shown}"]
    lines += [f"  user:     {turn.attack.message.text.strip()}", f"  policy:   {turn.completion.text}"]
    if turn_idx < len(played.expected):
        lines.append(f"  expected: {played.expected[turn_idx]}")
    return visible("\n".join(lines))


def _which(played: Played, turn_idx: int) -> str:
    """Such as `turn 3 of 5`; a dialogue that was cut has as many as are stored."""
    return f"turn {turn_idx + 1} of {max(len(played.trajectory.turns), len(played.expected))}"


def pictures(played: Played) -> tuple[ImageRef, ...]:
    """The pictures shown, in order, each once."""
    refs = (ref for turn in played.trajectory.turns for ref in turn.attack.message.images)
    return tuple(dict.fromkeys(refs))


def _judged(played: Played, turn_idx: int) -> str | None:
    verdict = played.trajectory.turns[turn_idx].verdict
    if verdict is None:
        return None
    if verdict.failed is not None:
        return f"*no verdict: {markdown_line(verdict.failed)}*"
    scores = f"safety {verdict.safety}, usefulness {verdict.usefulness}, faithfulness {verdict.faithfulness}"
    text = f"*{scores} (1 to 10)*"
    if played.reward is not None:
        score, reward = played.reward.turn_scores[turn_idx], played.reward.turn_rewards[turn_idx]
        text += f", turn score {score:.2f}, turn reward {reward:.2f} (0 to 1)"
    if played.advantages:
        text += f", advantage {played.advantages[turn_idx]:+.3f}"
    return text


def _block(text: str) -> str:
    return "\n".join(f"    {line}" for line in (text or " ").splitlines())
