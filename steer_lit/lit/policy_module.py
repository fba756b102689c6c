"""The base of SFT and GRPO: an optimizer step over every rank's rows, and checkpoints that hold only what trains."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from lightning import LightningModule
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from steer_lit.errors import SteerError
from steer_lit.files.run_files import LAST
from steer_lit.lit.master_weights import MasterAdamW
from steer_lit.lit.monitored_metric import MonitoredMetric
from steer_lit.lit.optim import OptimSettings, lr_factor
from steer_lit.lit.training_checkpoint import ANOTHER, OWN, PLACE, CheckpointFile, random_state, restore_random_state
from steer_lit.lit.validation_schedule import at_end, correct_epoch_counts, owes_validation, validate
from steer_lit.policy.memory import out_of_memory
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.policy.tensors import tensor_mismatch
from steer_lit.policy.token_batch import TokenBatch
from steer_lit.rollout.row_length import too_long
from steer_lit.types import Dialogue, Scenario, TokenTrace

log = logging.getLogger(__name__)

T = TypeVar("T")
# Name to (sum, count): added up over ranks before they are divided (TRAPS 31).
Ratios = Mapping[str, tuple[float, float]]


class PolicyModule(LightningModule):
    """One `training_step` is one optimizer step: optimisation is manual because loss denominators span the step.

    Every rank learns from its share of the step's rows. Each micro-batch's loss is divided by a denominator counted
    over the whole step on all ranks, and gradients are added up, not averaged: any split into micro-batches and ranks
    gives the same gradient (TRAPS 22). `micro_tokens` bounds a micro-batch's tokens, packed or padded as the policy
    takes them. `monitored` is the metric that the closing line and TensorBoard's hyper-parameter table show. A batch
    takes `steps_per_batch` optimizer steps.
    """

    def __init__(
        self,
        policy: QwenVL,
        optim: OptimSettings,
        micro_tokens: int,
        monitored: MonitoredMetric,
        steps_per_batch: int = 1,
    ) -> None:
        super().__init__()
        self.monitored = monitored
        self.steps_per_batch = steps_per_batch
        self.automatic_optimization = False
        self.strict_loading = False  # a checkpoint holds only what trains
        self.policy = policy.train()  # activation checkpointing works in this mode only
        self.optim = optim
        self.micro_tokens = micro_tokens
        self.tell: Callable[[str, int, int], object] = lambda what, done, total: None  # gets the progress of a step
        self._random_states: list[dict[str, Any]] = []
        self.validated_at = 0  # the step of the last complete validation
        self._whole_epochs = 0  # of the checkpoint that this run goes on from
        self._epoch = 0  # of the last step taken

    def unfit(self, record: Dialogue | Scenario) -> str | None:
        """Return why this policy cannot use a row, or None. Called for each row of a file as it is read."""
        return too_long(self.policy, record)

    # ---- one optimizer step

    def configure_optimizers(self) -> tuple[list[MasterAdamW], list[torch.optim.lr_scheduler.LambdaLR]]:
        optim, parameters = self.optim, self.policy.trainable()
        optimizer = MasterAdamW(parameters, lr=optim.lr, weight_decay=optim.weight_decay, betas=optim.betas)
        total = self.total_steps
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: lr_factor(step, total, optim.schedule, optim.warmup)
        )
        return [optimizer], [schedule]

    @property
    def total_steps(self) -> float:
        """The run's number of optimizer steps, infinite if it has no end. Lightning's own estimate counts batches."""
        steps, most = self.trainer.estimated_stepping_batches * self.steps_per_batch, self.trainer.max_steps
        return steps if most == -1 else min(steps, most)

    def accumulate(
        self, traces: Sequence[TokenTrace], loss_of: Callable[[TokenBatch, list[int]], tuple[Tensor, T]]
    ) -> list[T]:
        """Add up the gradients of the losses of micro-batches. Returns what `loss_of` gives beside each loss.

        The `rows` in `loss_of(batch, rows)` index into `traces`.
        """
        strategy = self.trainer.strategy
        optimizer = self.optimizers()
        # DDP would average over ranks after every backward; `step_optimizer` adds up once.
        unsynced = strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else nullcontext()
        with unsynced, out_of_memory(f"learning in step {self.global_step + 1}", self.less_memory(traces)):
            done, found = 0, list[T]()
            for batch, rows in self.micro_batches(traces):
                loss, beside = loss_of(batch, rows)
                self.manual_backward(loss)
                del loss  # and its graph, before the next is built
                optimizer.collect()
                found.append(beside)
                self.tell("learned", done := done + len(rows), len(traces))
        return found

    def micro_batches(self, traces: Sequence[TokenTrace]) -> Iterator[tuple[TokenBatch, list[int]]]:
        """Yield the traces in batches of at most `micro_tokens` tokens, each with the indices of its rows."""
        for rows in self.policy.micro_batches(traces, self.micro_tokens):
            yield self.policy.collate([traces[row] for row in rows]), rows

    def less_memory(self, traces: Sequence[TokenTrace]) -> str:
        """Return what to do when there is no memory for a micro-batch of `traces`."""
        longest = max((len(trace.token_ids) for trace in traces), default=0)
        if longest < self.micro_tokens:
            return f"lower hardware.micro_tokens={self.micro_tokens}; the gradient stays the same"
        recomputes = self.policy.base.model.language_model.layers[0].gradient_checkpointing
        first = "" if recomputes else "set model.gradient_checkpointing=true, or "
        return (
            f"a dialogue of {longest:,} tokens alone is too long: {first}begin anew with a lower data.max_turns or "
            f"model.max_pixels{', or with model.quantize=nf4' if self.policy.may_quantize else ''}"
        )

    def step_optimizer(self) -> None:
        """Add up gradients over ranks, clip, step. Raise SteerError if the gradient or the weights are not finite."""
        step, optimizer = self.global_step + 1, self.optimizers()
        masters = list(optimizer.masters.values())
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"])
        for master in masters:  # with nothing to learn from, the gradient is zero on every rank
            master.grad = torch.zeros_like(master) if master.grad is None else master.grad
        if self.trainer.world_size > 1:
            gradients = [master.grad for master in masters]
            flat = parameters_to_vector(gradients)
            torch.distributed.all_reduce(flat)  # in one message
            vector_to_parameters(flat, gradients)
        norm = torch.nn.utils.clip_grad_norm_(masters, self.optim.max_grad_norm)
        optimizer.step()
        self.log("train/grad_norm", norm)
        self._epoch = self.current_epoch
        self.log_at_step()
        self._check_finite(step, norm, list(optimizer.compute.values()))
        optimizer.zero_grad()
        self.lr_schedulers().step()

    def _check_finite(self, step: int, gradient: Tensor, weights: Sequence[Tensor]) -> None:
        """Raise SteerError unless the norms of the gradient and of the updated `weights` are finite.

        Both are checked at once after the step: a GPU is waited for once. Nothing is saved or exported in between.
        """
        norms = torch.stack([gradient, torch.nn.utils.get_total_norm(weights).to(gradient)]).tolist()
        for what, norm in zip(("gradient of", "norm of the weights after"), norms, strict=True):
            if not math.isfinite(norm):
                lower = f"lower optim.lr={self.optim.lr:g} or optim.weight_decay={self.optim.weight_decay:g}"
                raise SteerError(f"the {what} step {step} is {norm}: {lower}, and {self._sound_start()}")

    def _sound_start(self) -> str:
        """Say how to go on after a step that failed: the last save, or the checkpoint resumed from, is finite."""
        last = Path(self.trainer.default_root_dir) / LAST
        saved = last if last.is_file() else self.trainer.ckpt_path
        return f"go on from the last checkpoint with ckpt_path={saved}" if saved else "begin again: nothing was saved"

    # ---- numbers over all ranks

    def over_ranks(self, operation: Literal["SUM", "MAX"], mine: Tensor) -> Tensor:
        """Reduce each element over ranks, in the tensor's own dtype. Returns a tensor of the same shape."""
        if self.trainer.world_size == 1:
            return mine
        total = mine.to(self.device, copy=True)
        torch.distributed.all_reduce(total, getattr(torch.distributed.ReduceOp, operation))
        return total

    def add_up(self, *values: float) -> list[float]:
        """Sum each value over ranks."""
        return self.over_ranks("SUM", torch.tensor(values, dtype=torch.float64)).tolist()

    def largest(self, value: float) -> float:
        """Return the largest value over ranks."""
        return self.over_ranks("MAX", torch.tensor(value, dtype=torch.float64)).item()

    def gather(self, mine: Any) -> list[Any]:
        """Return every rank's object, in the order of ranks."""
        if self.trainer.world_size == 1:
            return [mine]
        found: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(found, mine)
        return found

    def log_ratios(self, ratios: Ratios) -> None:
        """Log sum / count over all ranks, or NaN if the count is 0: Lightning would otherwise repeat the last value."""
        flat = self.add_up(*(number for pair in ratios.values() for number in pair))
        for name, total, count in zip(ratios, flat[::2], flat[1::2], strict=True):
            self.log(name, total / count if count else math.nan)

    def log_at_step(self) -> None:
        """Log the current metrics at the number of optimizer steps taken, from 1; Lightning counts batches, from 0.

        With `step` logged, Lightning no longer adds `epoch` by itself.
        """
        self.log("step", float(self.global_step))
        self.log("epoch", float(self._epoch))  # a validation that is made up comes after its epoch

    # ---- checkpoints

    def setup(self, stage: str) -> None:
        if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # Lightning's default, no plugin of a user's
            self.trainer.strategy.checkpoint_io = CheckpointFile()

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return only what trains: an adapter, a tower or, in pretraining, the base model."""
        return {f"policy.{name}": parameter.detach() for name, parameter in self.policy.trainable().items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        facts = {"fingerprint": self.policy.fingerprint, "trained_as": self.policy.trained_as}
        # A run with nothing left to train never begins, and has not restored what it was given.
        states = self._random_states or self.gather(random_state())
        checkpoint[OWN] = {**facts, "random_states": states, "validated_at": self.validated_at}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise SteerError if the checkpoint was saved with another policy, or its tensors do not fit this one."""
        saved = checkpoint[OWN]
        if saved["fingerprint"] != self.policy.fingerprint:
            raise SteerError(
                f"the checkpoint belongs to base model {saved['fingerprint']}, this run loaded "
                f"{self.policy.fingerprint}: resume with the model the run was started with"
            )
        for key, here in self.policy.trained_as.items():
            if (there := saved["trained_as"].get(key)) != here:
                raise SteerError(
                    f"the checkpoint was trained with {key}={there!r}, this run has {here!r}: resume with that"
                )
        if reason := tensor_mismatch(checkpoint["state_dict"], self.state_dict()):  # Lightning does not check these
            raise SteerError(f"the checkpoint has other weights than this run trains, {reason}: {ANOTHER}")
        self._random_states = saved["random_states"]
        self.validated_at = saved["validated_at"]
        self._whole_epochs = checkpoint[PLACE]["epoch"]
        self._epoch = self._whole_epochs - (not checkpoint[PLACE]["position"])
        correct_epoch_counts(checkpoint)

    # ---- where a run begins, ends and validates

    def on_train_start(self) -> None:
        """Restore the random state last, since everything built before has drawn from it (TRAPS 34)."""
        self._set_rates()
        owed = owes_validation(self.trainer, self._whole_epochs, self.validated_at)
        self.trainer.should_stop |= at_end(self.trainer, self._whole_epochs, self.global_step)
        states, self._random_states = self._random_states, []
        if self.global_rank < len(states):
            restore_random_state(states[self.global_rank])
            log.info("resumed at step %d of %s", self.global_step, self.trainer.ckpt_path)
        if owed:
            validate(self.trainer)

    def _set_rates(self) -> None:
        """Give the optimizer this run's settings: resuming has restored those of the checkpoint."""
        optim, schedule, (group,) = self.optim, self.lr_schedulers(), self.optimizers().param_groups
        if (before := group["initial_lr"]) != optim.lr:
            log.info("optim.lr=%g from here on, before it was %g", optim.lr, before)
        schedule.base_lrs, group["initial_lr"] = [optim.lr], optim.lr
        group["lr"] = optim.lr * schedule.lr_lambdas[0](schedule.last_epoch)  # as the schedule computes it
        group["weight_decay"], group["betas"] = optim.weight_decay, optim.betas

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop after the last step, so that the run validates then, wherever trainer.val_check_interval falls."""
        self.trainer.should_stop |= self.is_last_step  # Lightning runs validation once before it stops

    @property
    def is_last_step(self) -> bool:
        """Whether the step that was just taken is the run's last."""
        return at_end(self.trainer, self.current_epoch + self.trainer.is_last_batch, self.global_step)

    def on_validation_epoch_end(self) -> None:
        """Note that the validation is complete. Before callbacks hear of its end: they may save the run."""
        self.validated_at = self.global_step
