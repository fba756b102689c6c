"""Sweeps as a whole: every run's config is checked before the first begins; at the end, a benchmark compares them.

The folders of a sweep's runs are named after the values swept over, such as `0_reward.alpha-0.3_seed-1`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import env_override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from steer_lit.checks import bench_problems, synthesis_problems, train_problems
from steer_lit.cli.going_on import finished, go_on
from steer_lit.cli.next_command import compared
from steer_lit.errors import Problem, SteerError
from steer_lit.files.run_files import ADAPTER
from steer_lit.numbers import counted
from steer_lit.terminal.words import key_of
from steer_lit.texts import first_lines

_CHECKS: dict[str, Callable[[DictConfig], list[Problem]]] = {
    "train": train_problems,
    "bench": bench_problems,
    "synthesize": synthesis_problems,
}
# Hydra's own, by the names in its configs. If another version of Hydra renames them, sweeps are not checked as a whole:
# each run is checked when it begins.
_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
# Launchers of this machine. Others may start runs where there is a GPU that this machine lacks.
_HERE = {
    _LAUNCHER,
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
}
_MOST = 1000  # runs of a sweep
_NAMED = 3  # runs that are named per problem
_LONGEST = 150  # letters of a folder's name: file systems allow 255 bytes


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a sweep: the overrides that it does not share, its config, and its folder."""

    words: tuple[str, ...]
    config: DictConfig
    folder: Path


class NotBegun(BaseException):
    """Carries the reason `why` a sweep cannot begin.

    Not an Exception: if a callback raises one of those, Hydra only warns and goes on.
    """

    def __init__(self, why: Exception) -> None:
        self.why = why


class WholeSweep(Callback):
    """Hydra callback around a sweep.

    Sweepers that choose runs as they go are not checked, nor launchers that run on other machines. `elsewhere` is the
    sweep's folder while other processes do its runs, else None.
    """

    elsewhere: ClassVar[Path | None] = None

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.common: list[str] = []  # words that all runs have

    def on_multirun_start(self, config: DictConfig, config_name: str | None = None, **_: object) -> None:
        """Raise NotBegun with every problem of every run, before the first run begins."""
        try:
            self._check(config, str(config_name))
        except Exception as error:
            raise NotBegun(error) from error
        launcher = str(OmegaConf.select(config, "hydra.launcher._target_"))  # null is Hydra's to refuse
        if launcher.startswith("hydra_plugins."):  # Hydra takes no others beside its own
            WholeSweep.elsewhere = Path.cwd() / str(config.hydra.sweep.dir)

    def _check(self, config: DictConfig, program: str) -> None:
        from rich.console import Console

        from steer_lit.terminal.bars import running_count

        found: dict[str, list[str]] = {}
        here = OmegaConf.select(config, "hydra.launcher._target_") in _HERE
        self.common = _not_swept(_typed(config))
        with running_count(Console(stderr=True), "configs of this sweep checked") as checked:
            for point in _points(config):
                problems = _problems(program, point) if here else []
                for problem in problems:
                    found.setdefault(problem, []).append(" ".join(point.words))
                if not problems:
                    OmegaConf.resolve(point.config)  # as long as Hydra knows the run's folder
                self.points.append(point)
                checked()
        if found:
            raise SteerError(_describe_problems(found, len(self.points)))
        for folder, runs in Counter(point.folder for point in self.points).items():
            if runs > 1:
                remedy = "leave it out, or put ${hydra.job.num} into it"
                raise SteerError(f"hydra.sweep.subdir: {runs} runs would write into one folder, {folder}: {remedy}")

    def on_multirun_end(self, config: DictConfig, config_name: str | None = None, **_: object) -> None:
        """Print the benchmark command that compares the adapters of the finished runs."""
        if config_name != "train":
            return
        left = [each for each in self.points if finished(each.folder, each.config)]
        adapters = {each.words: at for each in left if (at := each.folder / ADAPTER).is_dir()}
        if len(adapters) > 1:
            following = compared([each.config for each in left], adapters, self.common, len(self.points) - len(left))
            print(following, end="\n" if following else "")


def _problems(program: str, point: Point) -> list[str]:
    """List the problems of one run's config.

    An interpolation that cannot be resolved is listed too: if it were raised, Hydra would only warn and go on.
    """
    try:
        if program == "train":
            go_on(point.folder, point.config)
        return list(map(str, _CHECKS[program](point.config)))
    except OmegaConfBaseException as error:
        return [f"{error.full_key}: {first_lines(error)}"]


def runs_in_process(settings: Any) -> bool:
    """Return whether Hydra's `settings` name its own sweeper and its launcher that runs in this process."""
    return (settings.sweeper._target_, settings.launcher._target_) == (_SWEEPER, _LAUNCHER)


def _points(config: DictConfig) -> Iterator[Point]:
    """Yield the runs of Hydra's own sweeper. Each is Hydra's current run until the next is asked for."""
    if config.hydra.sweeper._target_ != _SWEEPER:
        return
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # exists, since the sweep will use it

    loader, outer = GlobalHydra.instance().config_loader(), HydraConfig.instance().cfg
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    words = OverridesParser.create(config_loader=loader).parse_overrides([*params, *_typed(config)])
    swept = [word for word in words if word.is_sweep_override()]
    if math.prod(map(len, map(_values, swept))) > _MOST:
        raise SteerError(f"this sweep comes to more than {_MOST:,} runs: give fewer values, or run it in parts")
    runs = BasicSweeper.split_arguments(words, None)[0]
    str(config.hydra.sweep.dir)  # resolving it fixes its time of day for every run, and for Hydra
    keys = {word.get_key_element() for word in swept}
    try:
        for number, given in enumerate(runs):
            run = loader.load_sweep_config(config, given)
            with read_write(run), read_write(run.hydra.runtime), open_dict(run):  # as Hydra's launcher and `run_job` do
                run.hydra.job.id = run.hydra.job.num = number
                HydraConfig.instance().set_config(run)
                folder = Path.cwd() / str(run.hydra.sweep.dir) / str(run.hydra.sweep.subdir)
                run.hydra.runtime.output_dir = str(folder)
                HydraConfig.instance().set_config(run)
                del run["hydra"]
            with env_override(dict(config.hydra.job.env_set)):
                yield Point(tuple(word for word in given if word.partition("=")[0] in keys), run, folder)
    finally:
        HydraConfig.instance().cfg = outer


def _values(word: Override) -> list[str]:
    """Return the values that a word sweeps over, no more than show that they are too many.

    Raise SteerError if Hydra's own sweeper can make no runs of them: none, one twice, or none that it can list.
    """
    if getattr(word.value(), "shuffle", False):  # Hydra draws again, now and each time the sweep goes on
        raise SteerError(f"{word.input_line}: runs are found again by their place among them: leave shuffle out")
    if word.is_interval_sweep():
        raise SteerError(f"{word.input_line}: goes with a sweeper that chooses, hydra/sweeper=optuna")
    try:
        values = list(islice(word.sweep_string_iterator(), _MOST + 1))
    except (ValueError, ArithmeticError):  # of nan
        raise SteerError(f"{word.input_line}: has values that cannot be listed") from None
    if not values:
        raise SteerError(f"{word.input_line}: stands for no value, so that no run is in this sweep")
    if twice := [value for value, count in Counter(values).items() if count > 1]:
        raise SteerError(f"{word.input_line}: has {twice[0]} twice, which would be the same run: leave one out")
    return values


def _typed(config: DictConfig) -> list[str]:
    """Return the sweep's words unresolved: `optim.lr=${rate}` refers to a key of the run, not of Hydra's config."""
    words: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    return list(words)


def _not_swept(words: Sequence[str]) -> list[str]:
    """Return the words that have one value in all runs."""
    parser = OverridesParser.create()
    return [word for word in words if not parser.parse_override(word).is_sweep_override()]


def _describe_problems(found: Mapping[str, Sequence[str]], runs: int) -> str:
    """List each problem once, followed by the runs that have it unless all do."""
    lines = [f"{counted(len(found), 'problem')} in this sweep of {counted(runs, 'run')}, none was started:"]
    for problem, having in found.items():
        which = "" if len(having) == runs else f" (in {' | '.join(having[:_NAMED])}{' ...' if having[_NAMED:] else ''})"
        lines.append(f"  * {problem}{which}")
    return "\n".join(lines)


def name_sweeps_folders(words: Sequence[str]) -> None:
    """Let `${swept:...}` in conf/hydra/default.yaml name the folders by what `words` sweep over.

    In processes started by a launcher `words` are unknown: their folders are named by number only.
    """
    OmegaConf.register_new_resolver("swept", partial(_swept, list(words)), replace=True)


def _swept(words: Sequence[str], of_run: Sequence[str]) -> str:
    """Return what follows the number in the name of a run's folder, such as `_reward.alpha-0.3_seed-1`.

    Values that a shell or Hydra would need quoted are left out, and so are parts that make the name too long.
    """
    fixed = set(map(key_of, _not_swept(words)))
    name = ""
    for word in of_run if words else []:
        key, value = key_of(word), word.partition("=")[2]
        if word.startswith("~") or key in fixed:
            continue
        part = f"_{key}-{value}"
        if re.fullmatch(r"[\w.+-]+", part, re.ASCII) and len(name + part) <= _LONGEST:
            name += part
    return name


name_sweeps_folders([])
