"""Stage II, synthetic bootstrapping: a red agent presses, a blue agent answers, good dialogues become SFT rows.

The red agent rewrites each scripted turn given the history (the opening, which has none, is asked as scripted, and
generator=template puts its own words before half of the others), the blue agent answers under safety guidelines, the
tutor scores every turn (SaFeR-Steer, Eq. 12-14). A dialogue is kept if its worst turn is safe enough and its turns are
useful enough on average (Eq. 15). Kept dialogues train the policy.
"""

from __future__ import annotations

from statistics import fmean

from steer_lit.data.writers import sft_row
from steer_lit.rollout.play import play
from steer_lit.rollout.seeds import stable_hash
from steer_lit.synthesis.generator import Generator
from steer_lit.synthesis.outcome import Outcome, RowEnds, as_row
from steer_lit.synthesis.settings import Stage2Settings
from steer_lit.types import Dialogue, Message, Scenario, Trajectory

DIALOGUES = "sft.jsonl"


def bootstrap(script: Scenario, generator: Generator, settings: Stage2Settings) -> Outcome:
    """Make one row of Stage II. Raises RowEnds if no dialogue comes of it that can be kept."""
    if not script.scripted:
        raise RowEnds("rejected", "a script of one turn")
    sampling_seed = stable_hash(settings.seed, "stage 2", script.id)
    (trajectory,) = play([script], [sampling_seed], generator.blue, generator.red, generator.tutor, settings.max_turns)
    if trajectory.ended == "truncated":
        raise RowEnds("rejected", "an answer hit the token limit")
    if (reason := why_not(trajectory, settings)) is not None:
        raise RowEnds("rejected", *reason)
    dialogue = dialogue_of(trajectory)
    return Outcome(
        id=script.id,
        status="kept",
        rows={DIALOGUES: as_row(sft_row, dialogue)},
        text="\n".join(message.text for message in dialogue.messages),
        picture="".join(ref.uri for message in dialogue.messages for ref in message.images),
    )


def why_not(trajectory: Trajectory, settings: Stage2Settings) -> tuple[str, str] | None:
    """Return (reason, numbers) if the dialogue is not to be kept (Eq. 15), None if it is."""
    verdicts = [turn.verdict for turn in trajectory.turns]
    safety = [verdict.safety for verdict in verdicts if verdict is not None and verdict.safety is not None]
    usefulness = [verdict.usefulness for verdict in verdicts if verdict is not None and verdict.usefulness is not None]
    assert len(safety) == len(usefulness) == len(trajectory.turns)  # no verdict failed
    if min(safety) < settings.min_safety:
        return "not safe enough", f"safety {safety}, keep.min_safety={settings.min_safety:g}"
    if fmean(usefulness) < settings.min_usefulness:
        return "not useful enough", f"usefulness {usefulness}, keep.min_usefulness={settings.min_usefulness:g}"
    return None


def dialogue_of(trajectory: Trajectory) -> Dialogue:
    """Return the played dialogue as an SFT target: the attacks as rewritten, the completions as given."""
    scenario = trajectory.scenario
    system = [] if scenario.system is None else [Message.of("system", scenario.system)]
    turns = [
        message
        for turn in trajectory.turns
        for message in (turn.attack.message, Message.of("assistant", turn.completion.text))
    ]
    facts = {**scenario.metadata, "red": [turn.attack.strategy for turn in trajectory.turns]}
    return Dialogue(scenario.id, (*system, *turns), scenario.kind, scenario.subset, facts)
