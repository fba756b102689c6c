"""The framing and the dialogue strategy (SaFeR-Steer, stage I) that a script is written under."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

from steer_lit.digests import digest
from steer_lit.mini_world import FRAMINGS, STRATEGIES


@dataclass(frozen=True, slots=True)
class Tactic:
    """How to write one script: a framing and a dialogue strategy, both by name, and a number of user turns."""

    framing: str
    strategy: str
    turns: int


def draw_tactic(seed: int, shortest: int, longest: int) -> Tactic:
    """Draw a framing, a strategy and a number of turns in shortest..longest, each equally likely."""
    rng = Random(seed)
    return Tactic(rng.choice(list(FRAMINGS)), rng.choice(list(STRATEGIES)), rng.randint(shortest, longest))


def tactics_digest() -> str:
    """Return 12 hexadecimal digits that change with any line about a tactic: these lines are part of prompts."""
    return digest(json.dumps([FRAMINGS, STRATEGIES]), 12)
