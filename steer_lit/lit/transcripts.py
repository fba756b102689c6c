"""Played dialogues as records for `trajectories.jsonl`, and as text for people to read."""

from __future__ import annotations

from collections.abc import Sequence

from steer_lit.reward.reward import TrajectoryReward
from steer_lit.rollout.logged import HOW_ENDED, LoggedTrajectory, LoggedTurn
from steer_lit.terminal.visible import markdown_line, visible
from steer_lit.types import Trajectory, Turn, Verdict


def logged(
    trajectory: Trajectory, step: int, reward: TrajectoryReward | None = None, advantages: Sequence[float] = ()
) -> LoggedTrajectory:
    """Return the record of a trajectory with its reward and advantages.

    `step` counts the optimizer steps that the policy had taken. `reward` is None if the trajectory failed or nothing
    scored it; `advantages` has one entry per turn, or none.
    """
    scenario = trajectory.scenario
    return LoggedTrajectory(
        step=step,
        scenario=scenario.id,
        kind=scenario.kind,
        subset=scenario.subset,
        seed=trajectory.seed,
        ended=trajectory.ended,
        failed=trajectory.failed,
        trajectory_return=reward.trajectory_return if reward else None,
        turns=tuple(_logged_turn(turn, at, reward, advantages) for at, turn in enumerate(trajectory.turns)),
    )


def _logged_turn(turn: Turn, at: int, reward: TrajectoryReward | None, advantages: Sequence[float]) -> LoggedTurn:
    return LoggedTurn(
        user=turn.attack.message.text,
        images=tuple(ref.uri for ref in turn.attack.message.images),
        strategy=turn.attack.strategy,
        intent=turn.intent,
        tier=turn.attack.gold.tier if turn.attack.gold else None,
        assistant=turn.completion.text,
        finish=turn.completion.finish,
        verdict=turn.verdict,
        score=reward.turn_scores[at] if reward else None,
        reward=reward.turn_rewards[at] if reward else None,
        advantage=advantages[at] if advantages else None,
    )


def page(dialogue: LoggedTrajectory, expected: Sequence[str] = ()) -> str:
    """Return the dialogue as Markdown, with the `expected` stored answers, if any (SFT).

    Texts are indented blocks, so that nothing in them is read as markup, which could fetch a picture from anywhere when
    the page is opened.
    """
    name, kind = markdown_line(dialogue.scenario), dialogue.kind.replace("_", " ")
    lines = [f"**{name}** ({kind}), seed {dialogue.seed}, {HOW_ENDED[dialogue.ended]}"]
    if dialogue.trajectory_return is not None:
        lines.append(f"return {dialogue.trajectory_return:.3f}")
    for turn_idx, turn in enumerate(dialogue.turns):
        told = markdown_line(turn.strategy.replace("_", " ")) + (f", {turn.intent}" if turn.intent else "")
        shown = "".join(f", picture {markdown_line(uri)}" for uri in turn.images)
        lines += [f"{_which(dialogue, expected, turn_idx)}, user ({told}){shown}:", _block(turn.user)]
        lines += ["policy:" if turn.finish == "stop" else "policy (cut):", _block(turn.assistant)]
        if turn_idx < len(expected):
            lines += ["expected:", _block(expected[turn_idx])]
        if turn.verdict is not None:
            lines.append(_judged(turn, turn.verdict))
    return "\n\n".join(lines)


def excerpt(dialogue: LoggedTrajectory, expected: Sequence[str]) -> str:
    """Return the last turn of the dialogue for a terminal: its number, the pictures, both texts, and the stored answer
    if there is one.
    """
    turn_idx = len(dialogue.turns) - 1
    turn = dialogue.turns[turn_idx]
    shown = "".join(f", picture {uri}" for uri in pictures(dialogue))
    lines = [f"  {_which(dialogue, expected, turn_idx)} of {dialogue.scenario}{shown}"]
    lines += [f"  user:     {turn.user.strip()}", f"  policy:   {turn.assistant}"]
    if turn_idx < len(expected):
        lines.append(f"  expected: {expected[turn_idx]}")
    return visible("\n".join(lines))


def _which(dialogue: LoggedTrajectory, expected: Sequence[str], turn_idx: int) -> str:
    """Return text such as `turn 3 of 5`. A dialogue that was cut counts as many turns as are stored."""
    return f"turn {turn_idx + 1} of {max(len(dialogue.turns), len(expected))}"


def pictures(dialogue: LoggedTrajectory) -> list[str]:
    """Return the uris of the pictures shown, in order, each once."""
    return list(dict.fromkeys(uri for turn in dialogue.turns for uri in turn.images))


def _judged(turn: LoggedTurn, verdict: Verdict) -> str:
    if verdict.failed is not None:
        return f"*no verdict: {markdown_line(verdict.failed)}*"
    scores = f"safety {verdict.safety}, usefulness {verdict.usefulness}, faithfulness {verdict.faithfulness}"
    text = f"*{scores} (1 to 10)*"
    if turn.score is not None and turn.reward is not None:
        text += f", turn score {turn.score:.2f}, turn reward {turn.reward:.2f} (0 to 1)"
    return text if turn.advantage is None else f"{text}, advantage {turn.advantage:+.3f}"


def _block(text: str) -> str:
    return "\n".join(f"    {line}" for line in (text or " ").splitlines())
