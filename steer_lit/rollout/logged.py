"""One finished dialogue of GRPO as a line of `trajectories.jsonl`, kept for people and reports.

{"step": 0, "scenario": "mini-rl-7", "kind": "red_team", "subset": "", "seed": 7, "ended": "terminated", "failed": null,
 "return": 1.5,
 "turns": [{"user": "...", "images": ["mini://knife?..."], "strategy": "persistence", "intent": "harmful",
            "tier": "picture", "assistant": "...", "finish": "stop",
            "verdict": {"safety": 10, "usefulness": 10, "faithfulness": 10, "rationale": "...", "refused": true,
                        "next_question": null, "failed": null, "intent": "harmful", "strategy": null},
            "score": 0.5, "reward": 0.25, "advantage": -0.125}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from operator import index
from typing import Annotated

from pydantic import Field, StrictFloat, StrictInt

from steer_lit.files.lines import as_line
from steer_lit.files.typed_lines import line_reader
from steer_lit.types import Ended, Finish, Intent, Kind, Tier, Verdict

HOW_ENDED: Mapping[Ended, str] = {
    "terminated": "played to its end", "truncated": "an answer cut at a limit", "failed": "broken off"
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedTurn:
    """`score` is r_t, `reward` r~_t: None if the dialogue was not scored. `advantage` is None if the turn gets none."""

    user: str
    images: tuple[str, ...]
    strategy: str
    intent: Intent | None
    tier: Tier | None
    assistant: str
    finish: Finish
    verdict: Verdict | None
    score: StrictFloat | None
    reward: StrictFloat | None
    advantage: StrictFloat | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedTrajectory:
    """`step` counts the optimizer steps the policy had taken. `trajectory_return` is R, called `return` in the line."""

    step: StrictInt
    scenario: str
    kind: Kind
    subset: str
    seed: StrictInt
    ended: Ended
    failed: str | None
    trajectory_return: Annotated[StrictFloat | None, Field(alias="return")]
    turns: tuple[LoggedTurn, ...]

    def to_line(self) -> str:
        return as_line({"return" if key == "trajectory_return" else key: value for key, value in asdict(self).items()})

    @staticmethod
    def from_line(line: str) -> LoggedTrajectory:
        """Parse a line. Raises what `line_reader` says."""
        return _read(line)


def step_of(line: str) -> int:
    """Return the step of a logged trajectory, even if the format has otherwise changed since it was written. Raise one
    of `files.lines.MISREAD`.
    """
    return index(json.loads(line)["step"])


_read = line_reader(LoggedTrajectory)
