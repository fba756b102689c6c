"""Tutor-in-the-loop GRPO (SaFeR-Steer, Eq. 17-21): play groups of dialogues, score them, learn from the difference."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from steer_lit.errors import ConfigError, Problem, SteerError
from steer_lit.lit.credit import AssignedCredit, assign_credit, checked_credit, rewards_of
from steer_lit.lit.lost_step import confirm_servers, stop_when_too_many_failed, stopping_together
from steer_lit.lit.monitored_metric import RIGHT_SHARE
from steer_lit.lit.optim import OptimSettings
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.lit.rollout_metrics import rollout_ratios, turn_variances
from steer_lit.lit.step_batch import StepBatch, stacked
from steer_lit.lit.step_cost import StepCost
from steer_lit.lit.training_checkpoint import ANOTHER, OWN
from steer_lit.lit.transcripts import logged
from steer_lit.objective.choices import KlEstimator, Normaliser, Scale
from steer_lit.objective.grpo import GrpoStats, grpo_loss
from steer_lit.objective.normalise import StepCounts, denominator
from steer_lit.policy.lora import same_adapter
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.policy.tensors import tensor_mismatch
from steer_lit.policy.token_batch import TokenBatch
from steer_lit.reward.reward import Reward, TrajectoryReward
from steer_lit.rollout.answer_length import answers_too_long
from steer_lit.rollout.engine import SampledPolicy
from steer_lit.rollout.logged import LoggedTrajectory
from steer_lit.rollout.play import playing
from steer_lit.rollout.seeds import stable_hash
from steer_lit.types import Attacker, Scenario, Trajectory, Tutor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How groups are played: `group_size` dialogues per scenario (K), at most `side_by_side` at a time.

    When more than `max_failed_share` of a step's or a validation's trajectories fail, the run stops.
    """

    group_size: int
    max_turns: int
    max_new_tokens: int
    temperature: float
    side_by_side: int
    max_failed_share: float


@dataclass(frozen=True, slots=True)
class ObjectiveSettings:
    """See `objective`. With one epoch per batch the ratio is exactly 1 and the clip never acts."""

    scale: Scale
    normaliser: Normaliser
    kl_coef: float
    kl_estimator: KlEstimator
    clip_low: float
    clip_high: float
    epochs: int


class GRPOModule(PolicyModule):
    """One `training_step`: play K dialogues of every scenario with the live policy, then `epochs` optimizer steps.

    The reference is the adapter the run started from (TRAPS 19), and is stored in the checkpoint. A trajectory with a
    failed verdict is left out of baseline, loss, KL and every denominator. A group with fewer than two valid
    trajectories is skipped. `seed` and a trajectory's step, scenario and place in its group fix everything random about
    it. Raises ConfigError if the answers alone may exceed the model's context.
    """

    def __init__(
        self,
        policy: QwenVL,
        attacker: Attacker,
        tutor: Tutor,
        reward: Reward,
        rollout: RolloutSettings,
        objective: ObjectiveSettings,
        optim: OptimSettings,
        micro_tokens: int,
        seed: int,
    ) -> None:
        super().__init__(policy, optim, micro_tokens, RIGHT_SHARE, objective.epochs)
        if problems := answers_too_long(rollout.max_turns, rollout.max_new_tokens, policy.parts.context_length):
            raise ConfigError(problems)
        self.attacker, self.tutor, self.reward = attacker, tutor, reward
        self.rollout, self.objective = rollout, objective
        self.seed = seed
        self.rollouts: list[LoggedTrajectory] = []  # of the last step, for callbacks that show or store them
        self._resumed_reference: dict[str, Tensor] | None = None
        self._warned = False  # of failed trajectories
        self._warned_of_memory = False
        self._validated: list[tuple[Trajectory, TrajectoryReward | None]] = []

    # ---- one step

    def training_step(self, batch: Sequence[Scenario], batch_idx: int) -> None:
        cost = StepCost(self)
        members = [(scenario, number) for scenario in batch for number in range(self.rollout.group_size)]
        seeds = [stable_hash(self.seed, self.global_step, scenario.id, number) for scenario, number in members]
        trajectories = self.play([scenario for scenario, _ in members], seeds, self.rollout.temperature)
        rewards = rewards_of(self.reward, trajectories)
        credit = checked_credit(self.credit_of(rewards), self, rewards)
        cost.log_part("rollout")
        self._log_rollouts(trajectories, rewards, credit)
        self._check_failures(trajectories)
        self._learn(self._step_batch(trajectories, credit))
        tokens = sum(len(trajectory.trace.token_ids) for trajectory in trajectories if trajectory.trace is not None)
        cost.log_speed(self.add_up(tokens)[0])
        cost.log_part("learn")

    def credit_of(self, rewards: Sequence[TrajectoryReward | None]) -> AssignedCredit:
        """Return every turn's advantage. `rewards` holds this rank's groups in order, None for failed trajectories.

        For a subclass to override: what it returns is learned from, logged and written down.
        """
        return assign_credit(rewards, self.rollout.group_size, self.objective.scale, self.reward.credit)

    def play(self, scenarios: Sequence[Scenario], seeds: Sequence[int], temperature: float) -> list[Trajectory]:
        """Return one trajectory per scenario, in order. `temperature` 0 is greedy.

        If a server dies, however late, every rank saves the run and raises ServerDown: what it did not answer would be
        missing from the step.
        """
        rollout = self.rollout
        policy = SampledPolicy(self.policy, max_new_tokens=rollout.max_new_tokens, temperature=temperature)
        shortage = policy.cache_shortage(min(rollout.side_by_side, len(scenarios)), rollout.max_turns)
        if shortage and not self._warned_of_memory and self.trainer.is_global_zero:
            log.warning("memory may run out: %s", shortage)
            self._warned_of_memory = True
        what = "validated" if self.trainer.validating else "played"
        self.tell(what, 0, len(scenarios))
        played: dict[int, Trajectory] = {}
        given = (scenarios, seeds, policy, self.attacker, self.tutor, rollout.max_turns)
        with stopping_together(self):
            for row, trajectory in playing(*given, side_by_side=rollout.side_by_side):
                played[row] = trajectory
                self.tell(what, len(played), len(scenarios))
            confirm_servers(self.attacker, self.tutor)
        return [played[row] for row in range(len(scenarios))]

    def _step_batch(self, trajectories: Sequence[Trajectory], credit: AssignedCredit) -> StepBatch:
        """Gather the rows to learn from. Rows whose gradient is exactly zero (no advantage, no KL) are only counted."""
        usable = [
            (trajectory.trace, advantages)
            for trajectory, advantages in zip(trajectories, credit.advantages, strict=True)
            if advantages and trajectory.trace is not None
        ]
        dialogues, tokens = self.add_up(len(usable), sum(trace.sampled_tokens for trace, _ in usable))
        rows = [row for row in usable if self.objective.kl_coef or any(row[1])]
        return StepBatch.of(rows, StepCounts(dialogues, tokens))

    def _learn(self, step_batch: StepBatch) -> None:
        for epoch in range(self.objective.epochs):
            stats = self.accumulate(step_batch.traces, partial(self._loss, step_batch, first=epoch == 0))
            self.step_optimizer()
        # Only the last epoch's are logged, furthest from the policy that sampled: in the first every ratio is 1.
        self._log_learning(step_batch, sum(stats, start=GrpoStats.none(self.policy.device)))

    def _loss(
        self, step_batch: StepBatch, batch: TokenBatch, rows: list[int], *, first: bool
    ) -> tuple[Tensor, GrpoStats]:
        """Return the loss of a micro-batch. In the `first` epoch, the policy is still the one that sampled."""
        objective, policy = self.objective, self.policy
        mask = batch.completion_mask.to(policy.device)
        logprobs = policy.logprobs(batch, self.rollout.temperature)
        if first:  # scored once, in the micro-batch that the gradient uses (TRAPS 16)
            step_batch.remember(batch, rows, logprobs.detach())
            if objective.kl_coef:
                with policy.reference():
                    step_batch.ref.update(zip(rows, policy.logprobs(batch, self.rollout.temperature), strict=True))
        turns = batch.turn_ids.clamp_min(0)
        return grpo_loss(
            logprobs,
            None if first else stacked(step_batch.old, rows),
            stacked(step_batch.ref, rows) if objective.kl_coef else None,
            step_batch.advantages[rows].gather(1, turns).to(policy.device),
            mask,
            clip_low=objective.clip_low,
            clip_high=objective.clip_high,
            kl_coef=objective.kl_coef,
            kl_estimator=objective.kl_estimator,
            denominator=denominator(
                mask, objective.normaliser, step_batch.counts, self.rollout.max_turns * self.rollout.max_new_tokens
            ),
        )

    # ---- validation: every held-out scenario once, greedily

    def on_validation_epoch_start(self) -> None:
        self._validated = []

    def validation_step(self, batch: Sequence[Scenario], batch_idx: int) -> None:
        trajectories = self.play(batch, [0] * len(batch), temperature=0.0)
        self._validated += zip(trajectories, rewards_of(self.reward, trajectories), strict=True)
        if batch_idx + 1 == sum(self.trainer.num_val_batches):  # not later: a resumed run repeats what had not ended
            self._check_failures([trajectory for trajectory, _ in self._validated])

    def on_validation_epoch_end(self) -> None:
        trajectories = [trajectory for trajectory, _ in self._validated]
        rewards = [reward for _, reward in self._validated]
        ratios = rollout_ratios(trajectories, rewards)
        self.log_ratios({f"val/{name}": pair for name, pair in ratios.items()})
        self.log_at_step()
        super().on_validation_epoch_end()

    def _check_failures(self, trajectories: Sequence[Trajectory]) -> None:
        """Stop the run if too many failed. Warn of the first that did: later ones are in the metrics."""
        said = stop_when_too_many_failed(self, trajectories, self.rollout.max_failed_share)
        if said and not self._warned and self.trainer.is_global_zero:
            log.warning("%s", said)
        self._warned |= bool(said)

    # ---- numbers

    def _log_rollouts(
        self, trajectories: Sequence[Trajectory], rewards: Sequence[TrajectoryReward | None], credit: AssignedCredit
    ) -> None:
        self.rollouts = [
            logged(trajectory, self.global_step, reward, advantages)
            for trajectory, reward, advantages in zip(trajectories, rewards, credit.advantages, strict=True)
        ]
        groups = len(trajectories) / self.rollout.group_size
        ratios = {
            **rollout_ratios(trajectories, rewards),
            "skipped_groups": (credit.skipped, groups),
            "flat_groups": (credit.flat, groups),
        }
        variances = turn_variances(rewards, self.rollout.group_size, self.rollout.max_turns)
        ratios |= {f"turn_variance/{turn}": pair for turn, pair in enumerate(variances, start=1)}
        self.log_ratios({f"train/{name}": pair for name, pair in ratios.items()})
        numbers = [number for advantages in credit.advantages for number in advantages]
        square, count = self.add_up(math.fsum(number**2 for number in numbers), len(numbers))
        self.log("train/advantage_std", math.sqrt(square / count) if count else math.nan)

    def _log_learning(self, step_batch: StepBatch, stats: GrpoStats) -> None:
        gaps, tokens = self.add_up(step_batch.gap_sum, step_batch.tokens)
        gap_max = self.largest(step_batch.gap_max)
        self.log("train/ratio_gap", gaps / tokens if tokens else math.nan)
        self.log("train/ratio_gap_max", gap_max if tokens else math.nan)
        together = GrpoStats(self.over_ranks("SUM", stats.sums), self.over_ranks("MAX", stats.ratio_max))
        for name, value in together.means().items():
            self.log(f"train/{name}", value)

    # ---- the reference

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.policy.freeze_reference(self._resumed_reference)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[OWN] |= {"reference": self.policy.reference_state, "init_from": self.policy.started_from}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise SteerError as `PolicyModule` does, and if the run did not start from this policy's adapter."""
        super().on_load_checkpoint(checkpoint)
        self._resumed_reference = _saved_reference(checkpoint[OWN], self.policy)


def _saved_reference(own: Mapping[str, Any], policy: QwenVL) -> dict[str, Tensor]:
    """Return the reference. Raise SteerError if it does not fit, or if `policy` started from another adapter."""
    reference: dict[str, Tensor] = own["reference"]
    if reason := tensor_mismatch(reference, policy.adapter_state()):
        raise SteerError(f"the checkpoint has a reference that does not fit, {reason}: {ANOTHER}")
    if not _started_alike(own, policy):
        there = f"init_from={own['init_from'] or 'null'}"
        remedy = f"the checkpoint's run started from another adapter, {there} as it was: resume with that, or a copy"
        raise SteerError(str(Problem("init_from", policy.started_from, remedy)))
    return reference


def _started_alike(own: Mapping[str, Any], policy: QwenVL) -> bool:
    """Return whether the saved run began with this policy's adapter.

    The weights are compared, as the folder may have been moved; if the folder is gone, its path.
    """
    if not policy.start_is_gone:
        return same_adapter(own["reference"], policy.adapter_state())
    here, there = policy.started_from, own["init_from"]
    return here is not None and there is not None and os.path.abspath(here) == os.path.abspath(there)
