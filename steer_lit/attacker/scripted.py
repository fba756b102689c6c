"""The attacker that asks the row's questions, whatever is answered.

By default the benchmark replays a row's user messages and nothing else, so that every policy meets the same attacks and
two policies can be compared dialogue by dialogue. In training it is the ablation "without feedback dynamics"
(SaFeR-Steer, Table 5: safety / helpfulness 51.09 / 63.96 against 55.54 / 70.24).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from steer_lit.types import Attack, SoFar


class ScriptedAttacker:
    """Turn `t` of a dialogue gets attack `t` of its row; after the last one there is nothing left to say."""

    keeps_to_script: ClassVar[bool] = True  # it needs no verdicts

    def attack(self, dialogues: Sequence[SoFar]) -> list[Attack | None]:
        return [scenario.attack_at(len(turns)) for scenario, turns in dialogues]
