"""Runs a program from its command line: words -> compose -> check -> run -> how it ended.

`--help`, `--cfg job` and every refusal answer at once. `_run` names every way in which a command ends,
`Command.one_run` every way in which one run of it does, which may be one of a sweep.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import env_override
from omegaconf import DictConfig, OmegaConf

from steer_lit.checks.facts import NAMED
from steer_lit.checks.servers import key_problems
from steer_lit.cli.bench_run import run_benchmark
from steer_lit.cli.going_on import last_checkpoint, result_at_end
from steer_lit.cli.overrides import normalise_override, options_first
from steer_lit.cli.own_classes import naming_own
from steer_lit.cli.quiet import giving_back
from steer_lit.cli.refusals import explain, meant_for_user, refusal_in, unforeseen
from steer_lit.cli.run_folder import holds_a_run, leave_nothing
from steer_lit.cli.signals import FROZEN, leave_other_ranks, sigterm_ends
from steer_lit.cli.sweeps import SWEEPER, NotBegun, WholeSweep, name_sweeps_folders, runs_elsewhere
from steer_lit.cli.synthesis_run import run_synthesizing
from steer_lit.cli.train_run import run_training
from steer_lit.errors import ConfigError, Problem, ServerDown
from steer_lit.ranks import first_rank, several_ranks
from steer_lit.terminal.commands import (
    given_words,
    next_step,
    resume_command,
    resume_sweep_command,
    shown_path,
    sweeping,
    typed_command,
    typed_words,
)
from steer_lit.terminal.conf_files import conf_dir, find_configs_in, folder_of_hydra, never_read
from steer_lit.terminal.stdout import INTERRUPTED, REFUSED
from steer_lit.terminal.visible import visible
from steer_lit.terminal.words import words_setting
from steer_lit.texts import first_lines

# The function that each program calls with its config and its run's folder. It checks the config first.
RUNS: dict[str, Callable[[DictConfig, Path], float | None]] = {
    "train": run_training,
    "bench": run_benchmark,
    "synthesize": run_synthesizing,
}
_NEVER_READ = "is never read, since conf/ has a file of that name: give it another name"
_FULL_ERROR = "HYDRA_FULL_ERROR"  # "1": show tracebacks


class AlreadyReported(Exception):
    """A run of a sweep failed, and the reason has been printed."""


def run(program: str, arguments: Sequence[str] | None = None) -> int:
    """Run `program`, one of RUNS, with the words `arguments`, by default the command line's. Return the exit code."""
    if arguments is not None:
        with giving_back():
            return _run(program, list(arguments))
    return _run(program, sys.argv[1:])


def _run(program: str, words: list[str]) -> int:
    """Run the program, say how to go on if it was not done, and return the exit code."""
    hydras, outer = HydraConfig.instance(), HydraConfig.instance().cfg
    command = Command(program, words)
    try:
        if words and words[0].startswith(FROZEN):
            command.further_rank()
        else:
            command.read()
            command.compose_and_run()
        return _said(command.not_finished(), REFUSED) if command.failed else 0
    except KeyboardInterrupt:  # before a run began or after it was over
        return _said(command.stopped(), INTERRUPTED)
    except SystemExit as stop:  # of --help, or of a run that has said why, such as one stopped at work
        return _said(command.rest(), stop.code if isinstance(stop.code, int) else int(stop.code is not None))
    except AlreadyReported:  # by a run of a sweep
        return _said(command.not_finished(), REFUSED)
    except Exception as error:
        if command.debugging or not (why := command.why_refused(error)):
            raise  # shown with its traceback: a bug, say
        return _said(visible(why), REFUSED)
    finally:
        find_configs_in(None)
        hydras.cfg = outer  # Hydra leaves it set, and the next check in this process would take it for its own
        WholeSweep.elsewhere = None


def _said(message: str, code: int) -> int:
    if message:
        print(message, file=sys.stderr)
    return code


class Command:
    """A command line, and what has come of it so far. A launcher hands its other processes a copy."""

    def __init__(self, program: str, words: Sequence[str]) -> None:
        self.program = program
        self.options: Sequence[str] = []  # Hydra's
        self.words = words
        self.debugging = os.environ.get(_FULL_ERROR) == "1"
        self.run_dir: Path | None = None  # of the latest run that has begun
        self.typed: list[str] = []  # its own words, which Hydra forgets during `fit`
        self.sweep_dir: Path | None = None  # of the sweep that it is part of
        self.failed: list[str] = []  # the sweep's runs that have said why

    def further_rank(self) -> None:
        """Run one of a run's further processes. Its only word names a config that the first one has checked."""
        config: Any = OmegaConf.load(self.words[0].removeprefix(FROZEN))
        self.run_dir = Path(config.run_dir)
        with naming_own(config):
            RUNS[self.program](config, self.run_dir)

    def read(self) -> None:
        """Make the words fit for Hydra. Raise SteerError for what it would save, or use, before a config is checked."""
        self.options, self.words, folder = options_first(self.words)
        find_configs_in(folder)
        self.words = [normalise_override(word, self.program) for word in self.words]
        # Hydra names a log before the config is checked: with a slash it would lie outside of the run's folder.
        outside = [word.partition("=")[2] for word in words_setting(self.words, ["name"]) if "/" in word]
        found = [*key_problems(self.words), *(Problem("name", name, f"must be {NAMED}") for name in outside)]
        found += [Problem("--config-dir", str(shown_path(path)), _NEVER_READ) for path in never_read()]
        if found:
            raise ConfigError(found)

    def compose_and_run(self) -> None:
        """Let Hydra compose the config, or each of a sweep's, and call `one_run` with it."""
        arguments, sys.argv = sys.argv, [sys.argv[0], *self.options, *self.words]
        name_sweeps_folders(self.words)
        try:
            # Hydra raises what it would print, so that `explain` can say it better.
            with sigterm_ends(self.stopped), env_override({_FULL_ERROR: "1"}):
                hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=self.program)(self.one_run)()
        except NotBegun as refused:
            raise refused.why from refused.why.__cause__  # keeps its cause, and leaves NotBegun out of its traceback
        finally:
            sys.argv = arguments

    def one_run(self, config: DictConfig) -> float | None:
        """Check and run one config that Hydra has composed, perhaps in a launcher's process. Return the monitored
        metric, for sweepers, None also of a sweep's run that failed and has said why.
        """
        find_configs_in(folder_of_hydra())  # a launcher's process has not read the command line
        self.run_dir, self.typed = Path(HydraConfig.get().runtime.output_dir), typed_words()
        self.sweep_dir = Path(str(HydraConfig.get().sweep.dir)) if sweeping() else None
        try:
            # The variable is for processes that the run starts.
            full_error = {_FULL_ERROR: "1" if self.debugging else "0"}
            with sigterm_ends(self.stopped), env_override(full_error), naming_own(config):
                return RUNS[self.program](config, self.run_dir)
        except Exception as error:
            self._failed(error, self.run_dir)
            return None

    def _failed(self, error: Exception, run_dir: Path) -> None:
        """Say why a run has failed, unless Hydra is to show the error itself, and end it.

        Alone, or as one of several ranks, it ends with its process. In a sweep the other runs may succeed: Hydra's own
        sweeper goes on with them as this returns; any other, or a launcher's process, has to hear of AlreadyReported.
        """
        settings, ranks = HydraConfig.get(), several_ranks()
        elsewhere = runs_elsewhere(settings)
        if meant_for_user(error) and not self.debugging:  # Hydra would print every override around it
            leave_nothing(run_dir)
            code = _said(visible(self._why_run_refused(refusal_in(error) or error, run_dir)), REFUSED)
        elif self.sweep_dir and (elsewhere or ranks):
            traceback.print_exc()  # Hydra would show it after the last run, of another process without its lines
            code = 1
        else:
            if self.sweep_dir:
                error.add_note(self.rest())
            raise error
        if ranks or not self.sweep_dir:  # a sweep's next run would wait for ranks that this one has left
            if elsewhere:
                leave_other_ranks(SystemExit(code))  # as `programs.run` does, which is not around a launcher's process
            raise SystemExit(code) from None
        self.failed.append(f"#{settings.job.num}")
        if elsewhere or settings.sweeper._target_ != SWEEPER:
            raise AlreadyReported from None

    def _why_run_refused(self, refusal: BaseException, run_dir: Path) -> str:
        message, notes = explain(refusal, self.program, self.words, run_dir), getattr(refusal, "__notes__", ())
        if isinstance(refusal, ServerDown) and not notes and not self.sweep_dir:  # greeted before a training began
            own = words_setting(given_words("hydra"), ["hydra.run.dir"])
            again = next_step(typed_command(run_dir if own else None))
            notes = ["stopped before the run began: nothing new was saved", again]
        return "\n".join([message, *notes])

    def why_refused(self, error: Exception) -> str:
        """Return what is wrong with the words, "" if the error says nothing of them, such as a bug of ours."""
        if meant_for_user(error):
            return explain(error, self.program, self.words)
        said = "" if self.run_dir else unforeseen(error)
        if said and WholeSweep.elsewhere:  # a launcher has lost a run, which was cancelled or killed
            lost = first_lines(error, 2)  # what submitit says next is the run's whole log
            return f"{type(error).__name__}: {lost}\n{self.not_finished()}"
        return said

    def stopped(self) -> str:
        """Return the message for a signal before a run had begun or after it was over; "" on another rank."""
        if not first_rank():
            return ""
        if WholeSweep.elsewhere:
            going = f"Runs that the launcher has started go on in {WholeSweep.elsewhere}; for the rest, later:"
            return f"stopped waiting for this sweep. {going}\n{self.rest()}"
        said = "stopped before the run began: nothing new was saved and nothing is lost"
        again = ", give the same command again"
        if self.run_dir is not None:
            leave_nothing(self.run_dir, ended=False)
            if holds_a_run(self.run_dir):
                said, again = f"stopped: {shown_path(self.run_dir)} keeps what is in it", ""
                if last_checkpoint(self.run_dir) and not result_at_end(self.run_dir):
                    again = f"\n{next_step(resume_command('train', self.typed, self.run_dir))}"
        return f"{said}\n{self.rest()}" if self.sweep_dir else said + again

    def not_finished(self) -> str:
        """Return the last message of a sweep of which runs have failed.

        A launcher that starts other processes does not say which. It may have stopped waiting at the first.
        """
        if folder := WholeSweep.elsewhere:
            logs = f"in the launcher's logs (submitit's are in {shown_path(folder / '.submitit')})"
            said = f"not finished, for the reasons above or {logs}: runs of this sweep; once no other is at work:"
        else:
            said = f"not finished, for the reasons above: {', '.join(self.failed)} of this sweep"
        return f"{said}\n{self.rest()}"

    def rest(self) -> str:
        """Return the line with the command that goes on with the sweep, "" if none has begun."""
        folder = WholeSweep.elsewhere or self.sweep_dir
        return next_step(resume_sweep_command(self.program, self.words, folder)) if folder else ""
