"""From a composed config to a finished run: check, freeze, instantiate, go.

Nothing heavy is imported before the config has been checked, so that every refusal comes at once.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import timedelta
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from steer_lit.checks import bench_problems, read_row_problems, synthesis_problems, train_problems
from steer_lit.checks.leaves import makes_rows, reacts
from steer_lit.cli.closing import closing, opening
from steer_lit.cli.run_folder import alone_in, check_own, check_unused, children_read, freeze, leave_nothing, requeued
from steer_lit.cli.stopping import continuable, resumable
from steer_lit.errors import ConfigError, MissingResource, Problem, SteerError
from steer_lit.files.run_files import QUARANTINE, RECORDS
from steer_lit.ranks import first_rank
from steer_lit.terminal.commands import shown_path, typed_words
from steer_lit.terminal.visible import first_lines
from steer_lit.types import AsksServer, ImageRef, Judge, Scenario

if TYPE_CHECKING:
    from lightning import Callback, Trainer
    from lightning.pytorch.loggers import Logger

    from steer_lit.bench.policies import Policies
    from steer_lit.bench.suite import BenchSettings, MakePolicy
    from steer_lit.data.bench_rows import BenchRows

log = logging.getLogger(__name__)

PLAYERS = ("attacker", "tutor")


def run_training(config: DictConfig, run_dir: Path) -> float | None:
    """Train one stage as `config` says. Returns the headline metric, for sweepers.

    Raises ConfigError with every problem at once, before anything heavy loads.
    """
    if problems := train_problems(config):
        raise ConfigError(problems)
    with alone_in(run_dir):
        check_own(run_dir, "training")
        config.ckpt_path = config.ckpt_path or requeued(run_dir)
        if config.ckpt_path is None or not Path(config.ckpt_path).resolve().is_relative_to(run_dir.resolve()):
            check_unused(run_dir, typed_words())
        _say(opening(config, run_dir))
        return _train(config, run_dir)


def _train(config: DictConfig, run_dir: Path) -> float | None:
    from hydra.utils import instantiate
    from lightning import seed_everything

    from steer_lit.data.sources import FileSource
    from steer_lit.lit.checkpoint_file import PLACE, read_checkpoint
    from steer_lit.lit.transcripts import excerpt

    _quieten()
    saved = None if config.ckpt_path is None else read_checkpoint(Path(config.ckpt_path))
    begins_at = None if saved is None else saved["global_step"]
    seed_everything(config.seed, verbose=False)
    callbacks = [instantiate(callback) for callback in config.callbacks.values() if callback]
    loggers = [instantiate(logger) for logger in config.logger.values() if logger]
    trainer = _trainer(config, callbacks, loggers)
    datamodule = instantiate(config.data, run_dir=_aside(config, run_dir))
    plain: Any = OmegaConf.to_container(config, resolve=True)
    if isinstance(datamodule.source, FileSource) and (problems := list(read_row_problems(plain, datamodule.source))):
        raise ConfigError(problems)
    datamodule.read_files()
    if saved is not None and (place := saved.get(PLACE)) is not None:
        datamodule.check_resumable(place)
    device = str(trainer.strategy.root_device)
    players = {name: seeing(config.module[name], datamodule.open_image) for name in PLAYERS if name in config.module}
    with hanging_up(*players.values()):
        greet(*players.values())
        policy = instantiate(config.model, device=device, open_image=datamodule.open_image)
        module = instantiate(config.module, policy=policy, **players)
        if saved is not None:
            module.on_load_checkpoint(saved)  # as `fit` will: what it refuses, it refuses before the run is touched
            del saved
        datamodule.unfit = module.unfit  # the policy knows which of a file's rows are too long for it
        frozen, words = freeze(config, run_dir), typed_words()  # while Hydra still tells
        with children_read(frozen), resumable(run_dir, words, trainer):
            trainer.fit(module, datamodule, ckpt_path=config.ckpt_path, weights_only=True)
            # Not validated where it was resumed from its last step.
            if datamodule.val_rows and module.headline.name not in trainer.callback_metrics:
                trainer.validate(module, datamodule, verbose=False)
    headline = trainer.callback_metrics.get(module.headline.name)
    if trainer.is_global_zero:
        if trainer.global_step == begins_at:
            longer = "max_steps" if config.trainer.max_steps > 0 else "max_epochs"
            print(f"step {begins_at} was this run's last, nothing was left to train: raise trainer.{longer} for more")
        if config.stage != "grpo" and module.replayed:
            noise = " (model=tiny has random weights, its words mean nothing)" if config.model.name == "tiny" else ""
            print(f"a held-out dialogue, as the policy answers it now{noise}:\n{excerpt(module.replayed[0])}")
        print(closing(config, run_dir, module.headline.name, headline, words, best=_better(trainer)))
    return None if headline is None else float(headline)


def _trainer(config: DictConfig, callbacks: list[Callback], loggers: list[Logger]) -> Trainer:
    """Raises MissingResource for a GPU that torch does not see, SteerError for what Lightning does not take."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from lightning.pytorch.callbacks import Checkpoint
    from lightning.pytorch.strategies import DDPStrategy

    from steer_lit.policy.device import unseen_gpu

    accelerator = OmegaConf.select(config, "trainer.accelerator")
    if accelerator in ("gpu", "cuda") and (reason := unseen_gpu()):
        raise MissingResource(str(Problem("trainer.accelerator", accelerator, reason)))
    # Without a checkpoint callback Lightning would add one of its own, whose files no run resumes from.
    unsaved = {} if any(isinstance(callback, Checkpoint) for callback in callbacks) else {"enable_checkpointing": False}
    try:
        trainer: Trainer = instantiate(config.trainer, callbacks=callbacks, logger=loggers, **unsaved)
    except InstantiationException as error:
        raise SteerError(f"trainer: lightning.Trainer says: {first_lines(error.__cause__ or error)}") from error
    if isinstance(trainer.strategy, DDPStrategy):  # which `auto` makes of several devices; it takes no time-out there
        # torch's own 30 minutes kill a run in which one rank's judge is slow: ranks meet after their rollouts.
        trainer.strategy._timeout = timedelta(minutes=config.hardware.rank_timeout_minutes)
    return trainer


def _better(trainer: Trainer) -> tuple[int, float] | None:
    """Step and headline of the best adapter that was kept, where the last step's is another."""
    from steer_lit.lit.best_adapter import BestAdapter

    keepers = (callback for callback in trainer.callbacks if isinstance(callback, BestAdapter))
    best = next((keeper.before(trainer.global_step) for keeper in keepers), None)
    return None if best is None else (best.step, best.value)


def run_benchmark(config: DictConfig, run_dir: Path) -> None:
    """Play the benchmark with every named policy and the constant ones. Raises ConfigError as `run_training` does."""
    if problems := bench_problems(config):
        raise ConfigError(problems)
    with alone_in(run_dir):
        check_own(run_dir, "benchmark")
        if config.from_run is None and config.from_raw_eval is None:
            _say(f"benchmark with model={config.model.name}, into {shown_path(run_dir)}; libraries load first")
        _bench(config, shown_path(run_dir))  # which is said wherever a file is named


def _bench(config: DictConfig, run_dir: Path) -> None:
    from steer_lit.bench.policies import greet_served
    from steer_lit.bench.records import holds_grades, read_records
    from steer_lit.bench.reread import report_on, used
    from steer_lit.bench.run import run_bench
    from steer_lit.bench.suite import BenchSettings, Suite, check_gold, check_worth, planned

    settings = BenchSettings(**{field.name: config.bench[field.name] for field in fields(BenchSettings)})
    plain: Any = OmegaConf.to_container(config, resolve=True)
    if config.from_run is not None or config.from_raw_eval is not None:
        report_on(plain, settings, run_dir)
        freeze(OmegaConf.create(used(plain)), run_dir)
        return
    _quieten()
    rows, scenarios = _bench_rows(config, run_dir)
    judge = seeing(config.judge, rows.open_image)
    if config.judge_check:
        _check_judge(config, judge, rows, scenarios, settings, run_dir)
        return
    whole = config.bench.limit is None and makes_rows(plain)
    if whole:
        check_worth(config.model.name, plain["policies"], len(scenarios))
    # Who asks: the rows themselves, or an attacker that goes by a tutor's verdicts.
    asking = {name: seeing(config[name], rows.open_image) for name in PLAYERS} if reacts(plain) else {}
    for section, player in (("judge", judge), *asking.items()):
        check_gold(section, player, scenarios, settings.turns_played)
    policies, makers = _bench_policies(config, rows, scenarios)
    players, finished = (judge, *asking.values()), partial(holds_grades, run_dir / RECORDS)
    with hanging_up(*players), continuable(run_dir, "bench", finished):
        recorded = bool(read_records(run_dir / RECORDS)[0])  # a line that cannot be read is told before a model loads
        if not recorded:  # else all may be graded already
            greet(*players)
            greet_served(plain["policies"], plain["server"])
        log.info("%s", planned(len(scenarios), makers, recorded=recorded, hint=whole))
        policies.check(scenarios, settings.turns_played)
        played_on = (*rows.facts(), plain["system_prompt"], *sorted(plain["rollout"].items()))
        suite = Suite(scenarios, rows.open_image, rows.picture_digest, **asking)
        told_by = {"config": plain, "freeze": partial(freeze, config, run_dir)}
        run_bench(makers, suite, judge, settings, run_dir, played_on=played_on, **told_by)


def _check_judge(
    config: DictConfig,
    judge: Judge,
    rows: BenchRows,
    scenarios: Sequence[Scenario],
    settings: BenchSettings,
    run_dir: Path,
) -> None:
    """On its own turns. What the benchmark would play is only counted, for what it would cost."""
    from steer_lit.bench.judge_check import check_judge

    if not (run_dir / RECORDS).is_file():  # else the folder is a benchmark's, and this no part of it
        freeze(config, run_dir)
    _, makers = _bench_policies(config, rows, scenarios)
    with hanging_up(judge), continuable(run_dir, "bench", lambda: False):
        greet(judge)
        check_judge(judge, scenarios, len(makers), settings, run_dir)


def _bench_rows(config: DictConfig, run_dir: Path) -> tuple[BenchRows, list[Scenario]]:
    """Where they come from, and those that are played."""
    from hydra.utils import instantiate

    from steer_lit.bench.suite import choose
    from steer_lit.data.bench_rows import BenchRows

    aside = _aside(config, run_dir)
    asked = {name: config.data[name] for name in ("max_turns", "blank_images", "max_bad_rows") if name in config.data}
    asked |= {"part": config.bench.part, "system_prompt": config.system_prompt, "run_dir": aside}
    rows = BenchRows(instantiate(config.data.source), **asked)
    scenarios = choose(rows, config.bench.limit)
    if count := rows.quarantined:
        print(f"{count:,} row{'s' if count > 1 else ''} put aside, see {Path(aside, QUARANTINE)}")
    return rows, scenarios


def _aside(config: DictConfig, run_dir: Path) -> str:
    """The folder for rows that cannot be used."""
    return OmegaConf.select(config, "data.run_dir") or str(run_dir)


def _bench_policies(
    config: DictConfig, rows: BenchRows, scenarios: Sequence[Scenario]
) -> tuple[Policies, dict[str, MakePolicy]]:
    """Those that the config names; and what makes each, and the constant ones, which know the answers to the script
    alone.
    """
    from hydra.utils import instantiate

    from steer_lit.bench.policies import Policies
    from steer_lit.bench.suite import with_constants

    plain: Any = OmegaConf.to_container(config, resolve=True)
    policies = Policies(plain, partial(instantiate, config.model, open_image=rows.open_image), rows.open_image)
    constants = config.bench.constants and not reacts(plain)
    return policies, with_constants(policies.makers(), scenarios) if constants else policies.makers()


def run_synthesizing(config: DictConfig, run_dir: Path) -> None:
    """Make training data by Stage I, Stage II or both. Raises ConfigError as `run_training` does."""
    if problems := synthesis_problems(config):
        raise ConfigError(problems)
    with alone_in(run_dir):
        check_own(run_dir, "synthesis")
        _synthesize(config, shown_path(run_dir))
    if config.dry_run:
        leave_nothing(run_dir)


def _synthesize(config: DictConfig, run_dir: Path) -> None:
    from hydra.utils import instantiate
    from rich.console import Console

    from steer_lit.synthesis.run import run_synthesis
    from steer_lit.synthesis.screen import next_steps, tell_plan
    from steer_lit.synthesis.settings import SynthesisSettings
    from steer_lit.synthesis.work import any_finished

    plain: Any = OmegaConf.to_container(config, resolve=True)
    settings, console = SynthesisSettings.of(plain), Console()
    tell_plan(settings, config.generator.name, console)
    if config.dry_run:
        print("dry_run=true: nothing was made")
        return
    generator = instantiate(config.generator)
    freeze(config, run_dir)
    try:
        with continuable(run_dir, "synthesize", partial(any_finished, run_dir)):
            manifest = run_synthesis(generator, settings, run_dir, console)
    finally:
        generator.stop()  # its clients hang up, and log what they used
    print(next_steps(manifest, settings, run_dir, typed_words()))


def _say(line: str) -> None:
    """At once, and once for all ranks: loading the libraries takes seconds, on a cold disk many."""
    if first_rank():
        print(line, flush=True)


def seeing(node: DictConfig, open_image: Callable[[ImageRef], Any]) -> Any:
    """Build an attacker, tutor or judge. One that asks for `open_image` is given it, and sees the true pictures also
    where the policy is shown blank ones.
    """
    from hydra.utils import instantiate

    from steer_lit.data.images import original

    made = instantiate({"_target_": node["_target_"]}, _partial_=True)
    if "open_image" not in signature(made).parameters:
        return instantiate(node)
    return instantiate(node, open_image=lambda ref: open_image(original(ref)))


def greet(*players: Any) -> None:
    """Ask every server that the players will ask. Raises ServerDown where one cannot be spoken to."""
    for player in players:
        if isinstance(player, AsksServer) and hasattr(player.client, "greet"):
            player.client.greet()


@contextmanager
def hanging_up(*players: Any) -> Iterator[None]:
    """Close the clients of those that ask a server, whatever happens; each logs what it used."""
    try:
        yield
    finally:
        for player in players:
            if isinstance(player, AsksServer) and hasattr(player.client, "close"):
                player.client.close()


def _quieten() -> None:
    """Leave the screen to the run: no banners of Lightning's, no bars for files that load in an instant."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging as transformers_logging

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    transformers_logging.disable_progress_bar()
    enable_progress_bars()  # the line above takes the hub's too, and a large model is fetched for minutes
    for library in (r"transformers\.", r"lightning\."):  # about each other's versions, not about the run
        warnings.filterwarnings("ignore", category=FutureWarning, module=library)
        warnings.filterwarnings("ignore", message=".*treespec.*", module=library)
    # PolicyModule has added up over ranks what it logs.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*", module=r"lightning\.")
