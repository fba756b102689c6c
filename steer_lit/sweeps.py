"""Sweeps as a whole: every run's config is checked before the first begins, and the end names what all have left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from steer_lit.checks import bench_problems, synthesis_problems, train_problems
from steer_lit.closing import compared
from steer_lit.errors import Problem
from steer_lit.run_files import ADAPTER
from steer_lit.stopping import REFUSED
from steer_lit.terminal import visible

_CHECKS: dict[str, Callable[[DictConfig], list[Problem]]] = {
    "train": train_problems,
    "bench": bench_problems,
    "synthesize": synthesis_problems,
}
_NAMED = 3  # runs with a problem


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a sweep: the overrides that are its own, its config, and its folder."""

    words: tuple[str, ...]
    config: DictConfig
    folder: Path


class WholeSweep(Callback):
    """Hydra calls it around a sweep. Sweepers that choose runs as they go are left alone."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def on_multirun_start(self, config: DictConfig, config_name: str | None = None, **_: object) -> None:
        """Ends the program with all that is wrong with any run, before the first begins."""
        found: dict[str, list[str]] = {}
        for point in _points(config):
            for problem in _CHECKS[str(config_name)](point.config):
                found.setdefault(str(problem), []).append(" ".join(point.words))
            self.points.append(point)
        if found:
            print(visible(_told(found, len(self.points))), file=sys.stderr)
            raise SystemExit(REFUSED)  # what is raised as an error here, Hydra takes for a warning

    def on_multirun_end(self, config: DictConfig, config_name: str | None = None, **_: object) -> None:
        """Says which benchmark compares the adapters that the runs have left."""
        left = {point.words: at for point in self.points if (at := point.folder / ADAPTER).is_dir()}
        if config_name == "train" and len(left) > 1:
            following = compared(self.points[0].config, left, list(config.hydra.overrides.task))
            print(following, end="\n" if following else "")


def _points(config: DictConfig) -> Iterator[Point]:
    """The runs of Hydra's own sweeper, each the current one while it is looked at; of another sweeper none."""
    if config.hydra.sweeper._target_.rpartition(".")[2] != BasicSweeper.__name__:
        return
    loader, outer = GlobalHydra.instance().config_loader(), HydraConfig.instance().cfg
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    words = OverridesParser.create(config_loader=loader).parse_overrides([*params, *config.hydra.overrides.task])
    swept = {word.get_key_element() for word in words if word.is_sweep_override()}
    try:
        for number, given in enumerate(BasicSweeper.split_arguments(words, None)[0]):
            run = loader.load_sweep_config(config, list(given))
            with read_write(run), read_write(run.hydra.runtime), open_dict(run):  # as Hydra's launcher and `run_job` do
                run.hydra.job.id = run.hydra.job.num = number
                HydraConfig.instance().set_config(run)
                folder = Path.cwd() / str(run.hydra.sweep.dir) / str(run.hydra.sweep.subdir)
                run.hydra.runtime.output_dir = str(folder)
                HydraConfig.instance().set_config(run)
                del run["hydra"]
            yield Point(tuple(word for word in given if word.partition("=")[0] in swept), run, folder)
    finally:
        HydraConfig.instance().cfg = outer


def _told(found: Mapping[str, Sequence[str]], runs: int) -> str:
    """Each problem once, with the runs that have it where not all do."""
    lines = [
        f"{len(found)} problem{'s' if len(found) != 1 else ''} in the {runs} runs of this sweep, none was started:"
    ]
    for problem, having in found.items():
        which = "" if len(having) == runs else f" (in {' | '.join(having[:_NAMED])}{' ...' if having[_NAMED:] else ''})"
        lines.append(f"  * {problem}{which}")
    return "\n".join(lines)
