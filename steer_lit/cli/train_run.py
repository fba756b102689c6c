"""Trains one stage from a composed config: check, instantiate, freeze, fit.

Nothing heavy is imported before the config has been checked. What takes libraries to see, rows and servers that cannot
be used, is told before the policy loads.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from steer_lit.checks.facts import TENSORBOARD, WANDB
from steer_lit.checks.programs import train_problems
from steer_lit.checks.rows import read_row_problems
from steer_lit.cli.closing import Result, closing, opening
from steer_lit.cli.going_on import (
    begin_at,
    earlier_than,
    finished,
    go_on,
    lies_in,
    make_room,
    mark_finished,
    validates_unlike,
    written_since,
)
from steer_lit.cli.players import PLAYERS, build, build_player, greet, hanging_up
from steer_lit.cli.quiet import quieten, say
from steer_lit.cli.run_folder import alone_in, children_read, freeze
from steer_lit.cli.stopping import resumable
from steer_lit.errors import ConfigError, MissingResource, Problem, SteerError
from steer_lit.files.run_files import BEST
from steer_lit.policy.model_facts import UNTRAINED
from steer_lit.ranks import not_alone
from steer_lit.terminal.commands import path_word, shown_path, sweeping, typed_words
from steer_lit.texts import first_lines

if TYPE_CHECKING:
    from lightning import Trainer

    from steer_lit.data.datamodule import SteerDataModule
    from steer_lit.lit.best_adapter import BestAdapter
    from steer_lit.lit.policy_module import PolicyModule


def run_training(config: DictConfig, run_dir: Path) -> float | None:
    """Train one stage as `config` says. Return the monitored metric, for sweepers.

    Raise ConfigError with every problem of the config at once, before anything heavy loads, and later with every
    problem of a file's rows, before the policy loads.
    """
    go_on(run_dir, config)  # before the check, which asks less of a resumed run
    if problems := train_problems(config):
        raise ConfigError(problems)
    with alone_in(run_dir, "training"):
        if result := finished(run_dir, config):
            say(f"finished already, left as it is: {shown_path(run_dir)}")
            for path in written_since(run_dir, config):
                say(f"{shown_path(path)} was written after it ended: name another folder if what it holds has changed")
            if not sweeping():  # the sweep was started again for its other runs
                say(closing(config, run_dir, result, typed_words()))
            return result.value
        go_on(run_dir, config)  # the run that had the folder may have saved since
        make_room(run_dir, config)
        say(opening(config, run_dir))
        import numpy  # noqa: F401 - before torch, whose C code imports it too and ignores a Ctrl-C meanwhile

        with _ending_wandbs_run():
            return _train(config, run_dir)


@contextmanager
def _ending_wandbs_run() -> Iterator[None]:
    """End the W&B run that a logger has begun, if any. Lightning leaves it open, and a sweep's next run would use it.

    Raise SteerError for what W&B refuses, such as a run without a key.
    """
    failed = True
    try:
        yield
        failed = False
    except Exception as error:
        if (wandb := sys.modules.get("wandb")) is None or not isinstance(error, wandb.Error):
            raise
        remedy = "log in, set WANDB_API_KEY, or keep it here with logger.wandb.offline=true"
        refused = SteerError(f"logger=wandb: {first_lines(error)} ({remedy})")
        refused.__notes__ = getattr(error, "__notes__", [])  # how to go on, of a run that had begun
        raise refused from error
    finally:
        if wandb := sys.modules.get("wandb"):
            wandb.finish(exit_code=int(failed))


def _train(config: DictConfig, run_dir: Path) -> float | None:
    from lightning import seed_everything

    from steer_lit.lit.training_checkpoint import PLACE, check_stage, read_checkpoint
    from steer_lit.lit.validation_schedule import at_end
    from steer_lit.policy.memory import out_of_memory

    quieten()
    at = None if config.ckpt_path is None else Path(config.ckpt_path)
    saved = begins_at = None
    if at is not None:
        saved = read_checkpoint(at)
        check_stage(saved, config.stage, at)
        begins_at = saved["global_step"]
    seed_everything(config.seed, verbose=False)
    trainer = _trainer(config, begins_at)
    through = saved is not None and at_end(trainer, saved[PLACE]["epoch"], saved["global_step"])
    if at is not None and validates_unlike(at, config):
        for keeper in _keepers(trainer):
            keeper.forgets = True
            say(f"{BEST}/ is chosen anew: {path_word('ckpt_path', at)} validated otherwise, or does not say how")
    datamodule = _datamodule(config, run_dir, saved)
    asked = {name: config.module[name] for name in (*PLAYERS, "reward") if name in config.module}
    players = {name: build_player(node, datamodule.open_image, name) for name, node in asked.items()}
    with hanging_up(*players.values()):
        greet(*players.values())
        module = _module(config, trainer, datamodule, players, saved)
        del saved
        earlier = [] if at is None or begins_at is None else earlier_than(begins_at, at, run_dir, config)
        frozen, words = freeze(config, run_dir, earlier), typed_words()
        if at is not None and lies_in(at, run_dir):
            begin_at(at, run_dir)
        elif at is not None:
            words.append(path_word("ckpt_path", at))

        def finish() -> str:
            """Record the run as finished, and return its last lines."""
            result = _result(trainer, module, begins_at)
            mark_finished(run_dir, result)
            return closing(config, run_dir, result, words)

        remedy = f"{module.policy.memory_advice}, or a lower model.lora.r"
        with (
            resumable(run_dir, words, trainer, finish),
            children_read(frozen),  # unsets Hydra's config
            out_of_memory("training", remedy),  # in what names no key of its own
        ):
            trainer.fit(module, datamodule, ckpt_path=config.ckpt_path, weights_only=True)
            if at is not None and through:
                say(_nothing_left(trainer, at))
            same = at is not None and lies_in(at, run_dir) and trainer.global_step == begins_at
            _validate_at_end(trainer, module, datamodule, logged=same)
    if trainer.is_global_zero:
        last_lines = finish()
        _show_held_out(config, module)
        print(last_lines)
    return _result(trainer, module, begins_at).value


def _validate_at_end(trainer: Trainer, module: PolicyModule, datamodule: SteerDataModule, *, logged: bool) -> None:
    """Validate, unless the fit did so after its last step: `check_val_every_n_epoch` may have left it out, and a run
    resumed at that step may lack the validation or the value that it gave. In the latter case it may be `logged`.
    """
    unvalidated = module.validated_at != trainer.global_step
    if logged and not unvalidated:
        trainer.loggers = []
    if datamodule.val_rows and (unvalidated or module.monitored.name not in trainer.callback_metrics):
        trainer.validate(module, datamodule, verbose=False)


def _nothing_left(trainer: Trainer, saved: Path) -> str:
    """Return the line on a run whose checkpoint `saved` had taken its last step already."""
    key = "max_steps" if trainer.global_step >= trainer.max_steps > 0 else "max_epochs"
    end = f"trainer.{key}={getattr(trainer, key)}"
    said = f"{path_word('ckpt_path', saved)} had taken step {trainer.global_step}, the last with {end}"
    return f"nothing was left to train: {said}; a higher one trains on from there"


def _datamodule(config: DictConfig, run_dir: Path, saved: Mapping[str, Any] | None) -> SteerDataModule:
    """Read the rows. Raise ConfigError or SteerError if they cannot be used, or not by the checkpoint `saved`."""
    from steer_lit.data.sources import FileSource
    from steer_lit.lit.training_checkpoint import PLACE

    datamodule: SteerDataModule = build(config.data, "data")
    plain: Any = OmegaConf.to_container(config, resolve=True)
    if isinstance(datamodule.source, FileSource) and (problems := list(read_row_problems(plain, datamodule.source))):
        raise ConfigError(problems)
    datamodule.read_files(run_dir)
    if saved is not None:
        datamodule.check_resumable(saved[PLACE])
    return datamodule


def _module(
    config: DictConfig,
    trainer: Trainer,
    datamodule: SteerDataModule,
    players: Mapping[str, Any],
    saved: dict[str, Any] | None,
) -> PolicyModule:
    """Load the policy and make what trains it. Raise SteerError if it is not that of the checkpoint `saved`."""
    device, resumed = str(trainer.strategy.root_device), saved is not None
    policy = build(config.model, "model", device=device, resumed=resumed, open_image=datamodule.open_image)
    settings = copy(config.module)
    with open_dict(settings):
        for name in players:
            del settings[name]
    # Given to the class itself: Hydra would take a part that is a dataclass for a config, and make it anew.
    module: PolicyModule = build(settings, "module", _partial_=True)(policy=policy, **players)
    if saved is not None:
        module.on_load_checkpoint(saved)  # `fit` calls it again; here it refuses before the run is touched
        if policy.start_is_gone:  # the checkpoint has confirmed that this init_from is its run's, not mistyped
            gone = f"init_from={config.init_from}: no adapter is there now, and none is needed"
            say(f"{gone}: {config.ckpt_path} goes on alone")
    datamodule.turns_played = OmegaConf.select(config, "rollout.max_turns")
    datamodule.unfit = module.unfit  # the policy knows which of a file's rows are too long for it
    return module


def _show_held_out(config: DictConfig, module: PolicyModule) -> None:
    """Print a held-out dialogue as the policy answers it, if its stage replays them."""
    from steer_lit.lit.transcripts import excerpt

    if config.stage != "grpo" and module.replayed:
        name = config.model.name
        noise = f" (model={name} has random weights, its words mean nothing)" if name == UNTRAINED else ""
        print(f"a held-out dialogue, as the policy answers it now{noise}:\n{excerpt(*module.replayed[0])}")


def _trainer(config: DictConfig, begins_at: int | None) -> Trainer:
    """Build the trainer. Raise MissingResource for a GPU that torch does not see, SteerError if Lightning refuses."""
    from hydra.errors import InstantiationException
    from lightning.pytorch.callbacks import Checkpoint
    from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry

    from steer_lit.policy.device import unseen_gpu

    callbacks = [build(node, f"callbacks.{name}") for name, node in config.callbacks.items() if node]
    loggers = _loggers(config, begins_at)
    accelerator = OmegaConf.select(config, "trainer.accelerator")
    if accelerator in ("gpu", "cuda") and (reason := unseen_gpu()):
        raise MissingResource(str(Problem("trainer.accelerator", accelerator, reason)))
    # Without a checkpoint callback Lightning would add one of its own, whose files no run resumes from.
    unsaved = {} if any(isinstance(callback, Checkpoint) for callback in callbacks) else {"enable_checkpointing": False}
    # torch's own timeout of 30 minutes kills a run in which one rank's tutor is slow: ranks meet after their rollouts.
    # Registered as `ddp`, which `auto` picks too for several devices.
    waits = timedelta(minutes=config.hardware.rank_timeout_minutes)
    StrategyRegistry.register("ddp", DDPStrategy, override=True, start_method="popen", timeout=waits)
    try:
        trainer: Trainer = build(config.trainer, "trainer", callbacks=callbacks, logger=loggers, **unsaved)
    except InstantiationException as error:
        raise SteerError(f"trainer: lightning.Trainer says: {first_lines(error.__cause__ or error)}") from error
    if trainer.world_size == 1 and (why := not_alone()):
        raise SteerError(why)
    return trainer


def _loggers(config: DictConfig, begins_at: int | None) -> list[Any]:
    """Build the loggers. Steps that a resumed run takes again are shown once, and a folder has one W&B run."""
    begun = sorted(path.name for path in Path(config.run_dir, "wandb").glob("*run-*-*"))
    ids = [name.partition("run-")[2].partition("-")[2] for name in begun]  # of offline-run-20260101_120000-<id>
    continued: dict[str, Any] = {
        TENSORBOARD: {} if begins_at is None else {"purge_step": begins_at + 1},
        WANDB: {"id": ids[0]} if ids else {},
    }
    nodes = {f"logger.{name}": node for name, node in config.logger.items() if node}
    return [build(node, key, **continued.get(node._target_, {})) for key, node in nodes.items()]


def _keepers(trainer: Trainer) -> list[BestAdapter]:
    from steer_lit.lit.best_adapter import BestAdapter

    return [callback for callback in trainer.callbacks if isinstance(callback, BestAdapter)]


def _result(trainer: Trainer, module: PolicyModule, begins_at: int | None) -> Result:
    """Return what came of a run that has ended. `begins_at` is the step at which it was resumed."""
    from steer_lit.lit.validation_schedule import at_end

    # A run that was stopped may have no validation but an earlier one.
    last = trainer.callback_metrics if module.validated_at == trainer.global_step else {}
    metric = last.get(module.monitored.name)
    value = None if metric is None else float(metric)
    best = next((keeper.before(trainer.global_step) for keeper in _keepers(trainer)), None)
    epochs = trainer.current_epoch if trainer.is_last_batch else 0  # Lightning counts one that was broken off, too
    early = trainer.global_step != begins_at and not at_end(trainer, epochs, trainer.global_step)
    steps = f"{trainer.global_step} of {trainer.max_steps}" if trainer.max_steps > 0 else str(trainer.global_step)
    return Result(
        metric=module.monitored.name,
        value=value,
        best=None if best is None or best.value == value else (best.step, best.value),
        early=f"at step {steps}" if early else "",
    )
