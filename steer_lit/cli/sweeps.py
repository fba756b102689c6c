"""Sweeps as a whole: every run's config is checked before the first begins; at the end, a benchmark compares them.

The folders of a sweep's runs are named after the values swept over, such as `0_reward.alpha-0.3_seed-1`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import env_override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from steer_lit.checks.idle import idle_in_sweep
from steer_lit.checks.programs import bench_problems, synthesis_problems, train_problems
from steer_lit.cli.going_on import finished, go_on, in_the_way
from steer_lit.cli.next_command import compared
from steer_lit.errors import SteerError
from steer_lit.files.run_files import ADAPTER
from steer_lit.numbers import counted
from steer_lit.terminal.words import key_of
from steer_lit.texts import first_lines

_CHECKS = {"train": train_problems, "bench": bench_problems, "synthesize": synthesis_problems}
# By the names in Hydra's configs. If another version of Hydra renames them, sweeps are not checked as a whole: each run
# is checked when it begins.
SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
# Launchers of this machine. Others may start runs where there is a GPU that this machine lacks.
_HERE = {
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
}
_LONGEST = 150  # letters of a folder's name: file systems allow 255 bytes


class NotBegun(BaseException):
    """Carries the reason `why` a sweep cannot begin. For an Exception of a callback Hydra would only warn and go on."""

    def __init__(self, why: Exception) -> None:
        self.why = why


class _Run(NamedTuple):
    """One run of a sweep."""

    swept: tuple[str, ...]  # its words that are swept over
    folder: Path
    config: DictConfig
    hydras: Any  # Hydra's config, for `${hydra:...}` in the run's


class WholeSweep(Callback):
    """Hydra callback around a sweep.

    Sweepers that choose runs as they go are not checked, nor launchers that run on other machines. `elsewhere` is the
    sweep's folder while other processes do its runs, else None: of the class, since Hydra makes the callback.
    """

    elsewhere: ClassVar[Path | None] = None

    def __init__(self) -> None:
        self.runs: list[_Run] = []
        self.common: list[str] = []  # words that all runs have

    def on_multirun_start(self, config: DictConfig, config_name: str | None = None, **_: object) -> None:
        """Raise NotBegun with every problem of every run, before the first run begins."""
        try:
            folder = Path.cwd() / str(config.hydra.sweep.dir)  # fixes its time of day for every run, and for Hydra
            if config.hydra.sweeper._target_ == SWEEPER:
                with env_override(dict(config.hydra.job.env_set)):
                    self._compose(config, str(config_name))
                    self._check(str(config_name), here=_launcher(config.hydra) in _HERE)
        except Exception as error:
            raise NotBegun(error) from error
        if runs_elsewhere(config.hydra):
            WholeSweep.elsewhere = folder

    def _compose(self, config: DictConfig, program: str) -> None:
        """Compose every run as Hydra is going to. Raise SteerError if there is none, or two would share a folder."""
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # exists, since the sweep will use it

        typed: Any = OmegaConf.to_container(config.hydra.overrides)  # `optim.lr=${rate}` refers to a key of the run
        params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        words = parser.parse_overrides([*params, *typed["task"]])
        if shuffled := [word.input_line for word in words if getattr(word.value(), "shuffle", False)]:
            raise SteerError(f"{shuffled[0]}: a resumed sweep finds its runs by their position: leave shuffle out")
        self.common = [str(word.input_line) for word in words if not word.is_sweep_override()]
        swept = {word.get_key_element() for word in words if word.is_sweep_override()}
        for number, given in enumerate(BasicSweeper.split_arguments(words, None)[0]):
            numbers = [f"hydra.job.num={number}", f"hydra.job.id={number}"]
            run, folder = _composed(config, program, [*typed["hydra"], *numbers, *given])
            if folder in [other.folder for other in self.runs]:
                remedy = "leave it out, or put ${hydra.job.num} into it"
                raise SteerError(f"hydra.sweep.subdir: several runs would write into one folder, {folder}: {remedy}")
            own = tuple(word for word in given if word.partition("=")[0] in swept)
            self.runs.append(_Run(own, folder, run, HydraConfig.instance().cfg))
        if not self.runs:
            raise SteerError("this sweep has no runs: one of its words gives no value")

    def _check(self, program: str, *, here: bool) -> None:
        """Raise SteerError with the problems of all runs if they run `here`, and with settings that take no part."""
        found: dict[str, list[int]] = {}  # the numbers of the runs that have each problem
        plain: list[Any] = []
        for number, run in enumerate(self.runs):
            HydraConfig.instance().cfg = run.hydras
            plain.append(OmegaConf.to_container(run.config))  # before it is told where its checkpoint is
            for problem in _problems(program, run.folder, run.config) if here else []:
                found.setdefault(problem, []).append(number)
            OmegaConf.update(run.config, "run_dir", str(run.folder), force_add=True)  # at its end Hydra has another
        for number, idle in idle_in_sweep(plain, self.common) if program == "train" else []:
            found.setdefault(str(idle), []).append(number)
        if found:
            total = len(self.runs)
            told = f"{counted(len(found), 'problem')} in this sweep of {counted(total, 'run')}, none was started:"
            for problem, (first, *others) in found.items():
                where = " ".join([f"#{first}", *self.runs[first].swept])
                told += f"\n  * {problem}" + (f" (first in {where})" if 1 + len(others) < total else "")
            raise SteerError(told)

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        """Print the benchmark command that compares the adapters of the finished trainings."""
        left: list[_Run] = []
        for run in self.runs:
            HydraConfig.instance().cfg = run.hydras
            if finished(run.folder, run.config):
                OmegaConf.resolve(run.config)
                left.append(run)
        adapters = {run.swept: at for run in left if (at := run.folder / ADAPTER).is_dir()}
        configs, unfinished = [run.config for run in left], len(self.runs) - len(left)
        if left:  # the command is for their model, whichever run was the last
            HydraConfig.instance().cfg = left[0].hydras
        if len(adapters) > 1 and (following := compared(configs, adapters, self.common, unfinished)):
            print(following)


def _composed(config: DictConfig, program: str, words: list[str]) -> tuple[DictConfig, Path]:
    """Return the config and the folder of the sweep's run that has `words`. It becomes Hydra's current run."""
    run = hydra.compose(program, words, return_hydra_config=True)
    OmegaConf.copy_cache(config, run)
    HydraConfig.instance().set_config(run)
    settings: Any = HydraConfig.get()
    with read_write(settings), open_dict(run):
        folder = Path.cwd() / str(settings.sweep.dir) / str(settings.sweep.subdir)
        settings.runtime.output_dir = str(folder)
        del run["hydra"]
    return run, folder


def _problems(program: str, folder: Path, config: DictConfig) -> list[str]:
    """List what is wrong with a run, with an interpolation that cannot be resolved: raised, it would hide the rest."""
    try:
        if program == "train":
            go_on(folder, config)
        found = list(map(str, _CHECKS[program](config)))
        if program == "train" and (occupied := in_the_way(folder, config)):
            found.append(occupied)
        return found
    except OmegaConfBaseException as error:
        return [f"{error.full_key}: {first_lines(error)}"]


def runs_elsewhere(settings: Any) -> bool:
    """Return whether Hydra's `settings` name a launcher that does runs in other processes: any but Hydra's own."""
    return _launcher(settings).startswith("hydra_plugins.")  # Hydra takes no others


def _launcher(settings: Any) -> str:
    return str(OmegaConf.select(settings, "launcher._target_"))  # null is Hydra's to refuse


def name_sweeps_folders(words: Sequence[str]) -> None:
    """Let `${swept:...}` in conf/hydra/default.yaml name folders by what `words` sweep over; by number only without."""
    OmegaConf.register_new_resolver("swept", partial(_swept, list(words)), replace=True)


def _swept(words: Sequence[str], of_run: Sequence[str]) -> str:
    """Return what follows the number in the name of a run's folder, such as `_reward.alpha-0.3_seed-1`.

    Values that a shell or Hydra would need quoted are left out, and so are parts that make the name too long.
    """
    parser = OverridesParser.create()
    fixed = {key_of(word) for word in words if not parser.parse_override(word).is_sweep_override()}
    name = ""
    for word in of_run if words else []:
        part = f"_{key_of(word)}-{word.partition('=')[2]}"
        if key_of(word) not in fixed and re.fullmatch(r"[\w.+-]+", part, re.ASCII) and len(name + part) <= _LONGEST:
            name += part
    return name


name_sweeps_folders([])  # for processes started by a launcher, which do not know the words
