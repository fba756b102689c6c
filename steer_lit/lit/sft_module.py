"""Training on stored dialogues: the SFT bootstrap of SaFeR-Steer (Eq. 16), the grounding of a tower, pretraining."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.errors import SteerError
from steer_lit.lit.monitored_metric import EXACT_SHARE, VAL_LOSS
from steer_lit.lit.optim import OptimSettings
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.lit.step_cost import StepCost
from steer_lit.lit.transcripts import logged
from steer_lit.objective.sft import sft_loss
from steer_lit.policy.memory import out_of_memory
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.policy.token_batch import TokenBatch
from steer_lit.rollout.engine import SampledPolicy, renderer_of
from steer_lit.rollout.logged import LoggedTrajectory
from steer_lit.rollout.play import play
from steer_lit.stages import Trains
from steer_lit.types import Attack, Dialogue, Scenario, TokenTrace, Trajectory


class SFTModule(PolicyModule):
    """Learns the assistant tokens of dialogues; a step's loss is the mean over all its supervised tokens.

    `trains="adapter"` is SFT. `trains="tower"` is grounding: only the vision tower learns, from captions.
    `trains="base"` is pretraining: every weight of the base model learns. Validation also replays the first `replays`
    held-out dialogues, at most `side_by_side` at a time (None: all): the policy answers their user turns greedily, in
    at most `max_new_tokens` per turn. `val/exact_share` is the share of turns answered word for word as
    stored, for captions the accuracy.
    """

    def __init__(
        self,
        policy: QwenVL,
        optim: OptimSettings,
        micro_tokens: int,
        trains: Trains = "adapter",
        replays: int = 0,
        max_new_tokens: int = 64,
        side_by_side: int | None = None,
    ) -> None:
        super().__init__(policy, optim, micro_tokens, VAL_LOSS if trains == "adapter" else EXACT_SHARE)
        policy.train_only(trains)
        self.renderer = renderer_of(policy)
        self.replays = replays
        self.max_new_tokens = max_new_tokens
        self.side_by_side = side_by_side
        # From the last validation, for callbacks that show them: replayed dialogues and the stored answers.
        self.replayed: list[tuple[LoggedTrajectory, tuple[str, ...]]] = []
        self._held_out: list[Dialogue] = []
        self._val_loss = [0.0, 0.0]  # sum over supervised tokens, their number

    def training_step(self, batch: Sequence[Dialogue], batch_idx: int) -> None:
        cost = StepCost(self)
        traces = self._render(batch)
        supervised, tokens = self.add_up(
            sum(trace.sampled_tokens for trace in traces), sum(len(trace.token_ids) for trace in traces)
        )

        def loss_of(micro_batch: TokenBatch, rows: list[int]) -> tuple[Tensor, Tensor]:
            loss = self._loss(micro_batch, supervised)
            return loss, loss.detach()

        losses = self.accumulate(traces, loss_of)
        self.step_optimizer()
        self.log("train/loss", self.add_up(float(sum(losses)))[0])
        self.log("train/supervised_tokens", supervised)
        cost.log_speed(tokens)
        cost.log_peak("train/peak_gb")

    def _render(self, batch: Sequence[Dialogue]) -> list[TokenTrace]:
        """Raise SteerError for a row longer than the model's context. Made rows have not been checked before."""
        for row in batch:
            if why := self.unfit(row):
                raise SteerError(f"row {row.id!r} {why}")
        return [self.renderer.dialogue(row) for row in batch]

    def _loss(self, batch: TokenBatch, denominator: float) -> Tensor:
        logprobs = self.policy.logprobs(batch)
        return sft_loss(logprobs, batch.completion_mask.to(logprobs.device), denominator)

    # ---- validation

    def on_validation_epoch_start(self) -> None:
        self._held_out, self._val_loss = [], [0.0, 0.0]

    def validation_step(self, batch: Sequence[Dialogue], batch_idx: int) -> None:
        traces = self._render(batch)
        with out_of_memory("validating", self.less_memory(traces)):
            self._val_loss[0] += sum(float(self._loss(part, 1.0)) for part, _ in self.micro_batches(traces))
        self._val_loss[1] += sum(trace.sampled_tokens for trace in traces)
        mine = len(range(self.global_rank, self.replays, self.trainer.world_size))  # ranks take turns at the rows
        self._held_out += batch[: mine - len(self._held_out)]

    def on_validation_epoch_end(self) -> None:
        trajectories = replay(self.policy, self._held_out, self.max_new_tokens, self.side_by_side)
        self.replayed = [
            (logged(trajectory, self.global_step), dialogue.answers)
            for trajectory, dialogue in zip(trajectories, self._held_out, strict=True)
        ]
        exact = sum(
            turn.finish == "stop" and turn.assistant.strip() == answer.strip()
            for replayed, answers in self.replayed
            for turn, answer in zip(replayed.turns, answers, strict=False)
        )
        expected = sum(len(answers) for _, answers in self.replayed)
        self.log_ratios({"val/loss": (self._val_loss[0], self._val_loss[1]), "val/exact_share": (exact, expected)})
        self.log_at_step()
        super().on_validation_epoch_end()


def as_scenario(dialogue: Dialogue) -> Scenario:
    """Return the dialogue's user turns as a script without gold facts. Raise ValueError if roles do not alternate."""
    opening, *scripted = (Attack(user) for user, _ in dialogue.turns)
    return Scenario(
        id=dialogue.id,
        kind=dialogue.kind or "benign",
        opening=opening,
        scripted=tuple(scripted),
        system=dialogue.system,
        subset=dialogue.subset,
    )


def replay(
    policy: QwenVL, dialogues: Sequence[Dialogue], max_new_tokens: int, side_by_side: int | None = None
) -> list[Trajectory]:
    """Answer every user turn greedily, of at most `side_by_side` dialogues at a time (None: all). The policy reads its
    own earlier answers, not the stored ones.
    """
    scenarios = [as_scenario(dialogue) for dialogue in dialogues]
    keys = "hardware.side_by_side or replay.max_new_tokens"
    greedy = SampledPolicy(policy, max_new_tokens=max_new_tokens, temperature=0.0, memory_keys=keys)
    longest = max((len(scenario.attacks) for scenario in scenarios), default=0)
    seeds = [0] * len(scenarios)
    return play(scenarios, seeds, greedy, ScriptedAttacker(), None, longest, side_by_side=side_by_side)
