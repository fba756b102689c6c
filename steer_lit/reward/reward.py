"""The reward of a scored trajectory: its return, and the credit of each of its turns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from steer_lit.allowed import Share, record_problems
from steer_lit.errors import ConfigError, Problem
from steer_lit.reward.score import Combine, turn_score, verdict_score
from steer_lit.reward.tcsr import gains, returns_to_go, tcsr
from steer_lit.types import Trajectory, Verdict

Returns = Literal["sum", "final", "mean"]
Credit = Literal["trajectory", "turn", "gain", "score"]


@dataclass(frozen=True, slots=True)
class TrajectoryReward:
    """Everything the reward says about one trajectory; the three tuples have one entry per turn.

    `turn_scores` is r_t in [0, 1], `turn_rewards` is r~_t in [0, 1], `trajectory_return` is R (0..T for `sum`, else
    0..1). `turn_credits` is the credit of each turn's tokens: R, the return-to-go, the turn's own part of that, or r_t.
    What is learned comes from R with `credit=trajectory`, from `turn_credits` otherwise; the rest is logged.
    """

    turn_scores: tuple[float, ...]
    turn_rewards: tuple[float, ...]
    trajectory_return: float
    turn_credits: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reward:
    """The settings of the `reward` config group. Defaults are the paper's, where it gives one.

    `returns` (config key `return`) makes R of the turn rewards r~: their `sum` (SaFeR-Steer, Eq. 20), the `final`
    one (the authors' code) or their `mean`.

    `credit=trajectory` gives R to every turn. `credit=turn` gives turn t the return-to-go, the sum of r~ from t on;
    `credit=gain` subtracts from that the part earlier turns had settled (see `tcsr.gains`). Both need `returns=sum`:
    `final` pays everything at the end, so its return-to-go is R at every turn; `mean` divides by a length that is only
    known later, so rewards paid before a turn do not cancel from its gradient. `credit=score` gives a turn its own r_t
    and nothing from later turns or TCSR: it has the lowest variance, but ignores an answer's effect on later turns.
    Ours, not the paper's.

    Raises ConfigError with every problem at once.
    """

    w_safe: Share = 0.4
    w_use: Share = 0.4
    w_faith: Share = 0.2
    combine: Combine = "weighted"
    w_format: Share = 0.1
    w_rep: Share = 0.1
    alpha: Share = 0.3
    returns: Returns = "sum"
    credit: Credit = "trajectory"

    def __post_init__(self) -> None:
        found = record_problems(self)
        bad = {problem.key for problem in found}
        weights = (self.w_safe, self.w_use, self.w_faith)
        if bad.isdisjoint(("w_safe", "w_use", "w_faith")) and not math.isclose(math.fsum(weights), 1.0, abs_tol=1e-6):
            remedy = f"w_safe + w_use + w_faith must be 1, they sum to {math.fsum(weights):g}"
            found.append(Problem("w_safe", self.w_safe, remedy))
        if "returns" not in bad and self.credit in ("turn", "gain") and self.returns != "sum":
            remedy = f"is defined for reward.return=sum only, not {self.returns}; use credit=trajectory or score"
            found.append(Problem("credit", self.credit, remedy))
        if found:
            raise ConfigError([replace(each, key=f"reward.{each.key}".replace("returns", "return")) for each in found])

    @classmethod
    def from_config(cls, **settings: Any) -> Reward:
        """Build from the `reward` config group, whose key `return` is a keyword in Python."""
        return cls(**{("returns" if key == "return" else key): value for key, value in settings.items()})

    def of(self, trajectory: Trajectory) -> TrajectoryReward | None:
        """Return the trajectory's reward, or None if the trajectory or a verdict failed: a failure is never a number.

        Raises ValueError for a trajectory that did not fail but has an unscored turn.
        """
        if trajectory.failed is not None:
            return None
        scores = []
        for turn_idx, turn in enumerate(trajectory.turns):
            if turn.verdict is None:
                raise ValueError(f"turn {turn_idx} of scenario {trajectory.scenario.id!r} was never scored")
            if turn.verdict.failed is not None:
                return None
            scores.append(self._turn_score(turn.verdict, turn.completion.text))
        rewards = tcsr(scores, self.alpha)
        whole = self._return(rewards)
        return TrajectoryReward(tuple(scores), tuple(rewards), whole, tuple(self._credits(scores, rewards, whole)))

    def _turn_score(self, verdict: Verdict, text: str) -> float:
        score = verdict_score(verdict, (self.w_safe, self.w_use, self.w_faith), self.combine)
        return turn_score(score, text, self.w_format, self.w_rep)

    def _credits(self, scores: list[float], rewards: list[float], trajectory_return: float) -> list[float]:
        match self.credit:
            case "trajectory":
                return [trajectory_return] * len(rewards)
            case "turn":
                return returns_to_go(rewards)
            case "gain":
                return gains(scores, self.alpha)
            case "score":
                return scores

    def _return(self, rewards: list[float]) -> float:
        match self.returns:
            case "sum":
                return math.fsum(rewards)
            case "final":
                return rewards[-1]
            case "mean":
                return math.fsum(rewards) / len(rewards)
