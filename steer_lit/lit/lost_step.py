"""A GRPO step or validation that cannot be finished: every rank saves what was learned before, and stops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from lightning import Trainer
from lightning.pytorch.trainer.states import TrainerFn

from steer_lit.errors import ServerDown, TooManyFailures
from steer_lit.files.run_files import LAST
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.types import AsksServer, Trajectory


@contextmanager
def stopping_together(module: PolicyModule) -> Iterator[None]:
    """If a server has died on one rank, all ranks save and raise ServerDown, so that none waits for another."""
    down: ServerDown | None = None
    try:
        yield
    except ServerDown as error:
        down = error
    if module.add_up(down is not None)[0]:
        known = module.gather(None if down is None else str(down))
        reason = next(said for said in known if said is not None)
        saved = _save(module.trainer)
        raise ServerDown(reason + (f"\n{saved} once the server answers" if saved else "")) from down


def confirm_servers(*players: object) -> None:
    """Raise ServerDown if the server of a player has died during the rollout that has ended, however late."""
    for player in players:
        if isinstance(player, AsksServer) and hasattr(player.client, "confirm"):
            player.client.confirm()


def stop_when_too_many_failed(module: PolicyModule, trajectories: Sequence[Trajectory], max_failed_share: float) -> str:
    """Save and raise TooManyFailures if more than `max_failed_share` of all ranks' trajectories failed.

    Returns how many failed in words, "" if none. `trajectories` are those of a whole step, or of a whole validation:
    without its figures a run would end as if all were well, and could not tell which adapter is best.
    """
    failures = [trajectory.failed for trajectory in trajectories if trajectory.failed is not None]
    failed, played = module.add_up(len(failures), len(trajectories))
    if not failed:
        return ""
    first = next(chain.from_iterable(module.gather(failures[:1])))
    step = module.global_step
    where = f"the validation after step {step}" if module.trainer.validating else f"step {step + 1}"
    said = f"{failed:.0f} of {played:.0f} trajectories failed in {where}"
    if failed <= max_failed_share * played:
        return f"{said}, and are left out; the first: {first}"
    saved = _save(module.trainer)
    why = f"{said}, more than rollout.max_failed_share={max_failed_share:g}; the first: {first}"
    raise TooManyFailures(why + (f". {saved} once that is fixed" if saved else ""))


def _save(trainer: Trainer) -> str:
    """Save the run as it was before this step, and return words that say so; "" before the first step.

    A run that has learned nothing begins again: with other settings too, if one of these was the reason.
    """
    if not trainer.global_step:
        return ""
    batches = trainer.fit_loop.epoch_loop.batch_progress
    if not trainer.validating:  # the current batch will be played again, and its epoch has not ended
        batches.is_last_batch = False
        for counts in (batches.total, batches.current):
            counts.ready = counts.started = counts.processed = counts.completed
    elif trainer.state.fn == TrainerFn.FITTING:  # as in a checkpoint between a step and its validation
        for counts in (batches.total, batches.current):
            counts.completed = counts.ready - 1
    trainer.save_checkpoint(Path(trainer.default_root_dir) / LAST)
    return "The run is saved: resume it"
