"""Formats played dialogues: as lines of `trajectories.jsonl`, and for people to read."""

from __future__ import annotations

from dataclasses import dataclass, fields

from steer_lit.reward.reward import TrajectoryReward
from steer_lit.rollout.logged import HOW_ENDED, LoggedTrajectory, LoggedTurn, LoggedVerdict
from steer_lit.terminal.visible import markdown_line, visible
from steer_lit.types import ImageRef, Trajectory, Verdict


@dataclass(frozen=True, slots=True)
class Transcript:
    """A trajectory and what the run made of it. `step` counts the optimizer steps the policy had taken.

    `reward` is None where the trajectory failed or nothing scored it; `advantages` has one entry per turn, or none;
    `expected` holds the stored answer of each turn where there is one (SFT).
    """

    trajectory: Trajectory
    step: int
    reward: TrajectoryReward | None = None
    advantages: tuple[float, ...] = ()
    expected: tuple[str, ...] = ()


def logged(transcript: Transcript) -> LoggedTrajectory:
    """What `trajectories.jsonl` holds of it."""
    trajectory, reward = transcript.trajectory, transcript.reward
    return LoggedTrajectory(
        step=transcript.step,
        scenario=trajectory.scenario.id,
        kind=trajectory.scenario.kind,
        subset=trajectory.scenario.subset,
        seed=trajectory.seed,
        ended=trajectory.ended,
        failed=trajectory.failed,
        trajectory_return=reward.trajectory_return if reward else None,
        turns=tuple(_logged_turn(transcript, turn_idx) for turn_idx in range(len(trajectory.turns))),
    )


def _logged_turn(transcript: Transcript, turn_idx: int) -> LoggedTurn:
    turn, reward = transcript.trajectory.turns[turn_idx], transcript.reward
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
        advantage=transcript.advantages[turn_idx] if transcript.advantages else None,
    )


def _logged_verdict(verdict: Verdict) -> LoggedVerdict:
    return LoggedVerdict(**{field.name: getattr(verdict, field.name) for field in fields(LoggedVerdict)})


def page(transcript: Transcript) -> str:
    """The dialogue as Markdown. Texts stand in indented blocks, so that nothing in them is taken for markup, which
    could fetch a picture from anywhere when the page is opened.
    """
    trajectory = transcript.trajectory
    name = markdown_line(trajectory.scenario.id)
    kind = trajectory.scenario.kind.replace("_", " ")
    lines = [f"**{name}** ({kind}), seed {trajectory.seed}, {HOW_ENDED[trajectory.ended]}"]
    if transcript.reward is not None:
        lines.append(f"return {transcript.reward.trajectory_return:.3f}")
    for turn_idx, turn in enumerate(trajectory.turns):
        told = markdown_line(turn.attack.strategy.replace("_", " ")) + (f", {turn.intent}" if turn.intent else "")
        shown = "".join(f", picture {markdown_line(ref.uri)}" for ref in turn.attack.message.images)
        lines += [f"{_which(transcript, turn_idx)}, user ({told}){shown}:", _block(turn.attack.message.text)]
        lines += ["policy:" if turn.completion.finish == "stop" else "policy (cut):", _block(turn.completion.text)]
        if turn_idx < len(transcript.expected):
            lines += ["expected:", _block(transcript.expected[turn_idx])]
        if (judged := _judged(transcript, turn_idx)) is not None:
            lines.append(judged)
    return "\n\n".join(lines)


def excerpt(transcript: Transcript) -> str:
    """The last exchange of the dialogue for a terminal: which turn it is, the pictures it is about, what was said, and
    the stored answer where there is one.
    """
    turn_idx = len(transcript.trajectory.turns) - 1
    turn = transcript.trajectory.turns[turn_idx]
    shown = "".join(f", picture {ref.uri}" for ref in pictures(transcript))
    lines = [f"  {_which(transcript, turn_idx)} of {transcript.trajectory.scenario.id}{shown}"]
    lines += [f"  user:     {turn.attack.message.text.strip()}", f"  policy:   {turn.completion.text}"]
    if turn_idx < len(transcript.expected):
        lines.append(f"  expected: {transcript.expected[turn_idx]}")
    return visible("\n".join(lines))


def _which(transcript: Transcript, turn_idx: int) -> str:
    """Such as `turn 3 of 5`; a dialogue that was cut has as many as are stored."""
    return f"turn {turn_idx + 1} of {max(len(transcript.trajectory.turns), len(transcript.expected))}"


def pictures(transcript: Transcript) -> tuple[ImageRef, ...]:
    """The pictures shown, in order, each once."""
    refs = (ref for turn in transcript.trajectory.turns for ref in turn.attack.message.images)
    return tuple(dict.fromkeys(refs))


def _judged(transcript: Transcript, turn_idx: int) -> str | None:
    verdict = transcript.trajectory.turns[turn_idx].verdict
    if verdict is None:
        return None
    if verdict.failed is not None:
        return f"*no verdict: {markdown_line(verdict.failed)}*"
    scores = f"safety {verdict.safety}, usefulness {verdict.usefulness}, faithfulness {verdict.faithfulness}"
    text = f"*{scores} (1 to 10)*"
    if transcript.reward is not None:
        score, reward = transcript.reward.turn_scores[turn_idx], transcript.reward.turn_rewards[turn_idx]
        text += f", turn score {score:.2f}, turn reward {reward:.2f} (0 to 1)"
    if transcript.advantages:
        text += f", advantage {transcript.advantages[turn_idx]:+.3f}"
    return text


def _block(text: str) -> str:
    return "\n".join(f"    {line}" for line in (text or " ").splitlines())
