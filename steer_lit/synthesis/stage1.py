"""Stage I: from a seed question to the user's side of a dialogue (SaFeR-Steer, Eq. 10).

Three disjoint kinds: `benign` keeps capability, `obfuscated` asks harmless things whose sum is not, `red_team` presses.
A script is written under a framing, a dialogue strategy and a number of turns drawn from the row's own seed. Scripts of
kind red_team are then played against a fixed target and kept if the target gave in at any turn.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.data.writers import rl_row, stage1_row
from steer_lit.mini_world import FRAMINGS, STRATEGIES
from steer_lit.rollout.play import play
from steer_lit.rollout.seeds import stable_hash
from steer_lit.synthesis.generator import Generator, SeedQuestion, Tactic
from steer_lit.synthesis.outcome import Outcome, RowEnds, as_row
from steer_lit.synthesis.settings import Stage1Settings
from steer_lit.types import Scenario

SCRIPTS = "stage1.jsonl"  # Stage I rows: what Stage II starts from
SCENARIOS = "rl.jsonl"  # the same scripts as RL rows: what GRPO starts from


def write_script(asked: SeedQuestion, generator: Generator, settings: Stage1Settings) -> Outcome:
    """Make one row of Stage I. Raises RowEnds if no script comes of it."""
    sampling_seed = stable_hash(settings.seed, "stage 1", asked.id)
    tactic = draw_tactic(sampling_seed, *settings.turns)
    scenario = generator.write(asked, settings.kind, tactic, sampling_seed)
    scores = _attack_scores(scenario, sampling_seed, generator, settings) if settings.kind == "red_team" else []
    judged = {"scores": scores, "max_score": max(scores)} if scores else {}
    script = replace(scenario, metadata={**scenario.metadata, **judged})
    return Outcome(
        id=asked.id,
        status="kept",
        detail=f"scores {scores}" if scores else "",
        rows={SCRIPTS: as_row(stage1_row, script), SCENARIOS: as_row(rl_row, scenario)},
        text="\n".join(attack.message.text for attack in scenario.attacks),
        picture=asked.image.uri if asked.image else "",
    )


def draw_tactic(seed: int, shortest: int, longest: int) -> Tactic:
    """Draw a framing, a strategy and a number of turns in shortest..longest, each equally likely."""
    rng = Random(seed)
    return Tactic(rng.choice(list(FRAMINGS)), rng.choice(list(STRATEGIES)), rng.randint(shortest, longest))


def _attack_scores(scenario: Scenario, sampling_seed: int, generator: Generator, settings: Stage1Settings) -> list[int]:
    """Return how far the target gave in at each turn, 1..5. Raises RowEnds if that was not far enough (Eq. 10)."""
    attacks = len(scenario.attacks)
    (trajectory,) = play(
        [scenario], [sampling_seed], generator.target, ScriptedAttacker(), None, attacks, stop_when_truncated=False
    )
    scores = generator.score_attack(str(scenario.metadata["intent"]), trajectory)
    if max(scores) < settings.success:
        raise RowEnds("rejected", "the attack did not succeed against the target", f"scores {scores}")
    return scores
