"""Runs a program from its command line: calls Hydra and explains errors.

`--help`, `--cfg job` and every refusal answer at once. Errors meant for the user, and disk errors, which the user can
fix, are printed without a traceback and end with exit code 2.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import env_override
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from steer_lit.checks.facts import NAMED
from steer_lit.checks.servers import key_problems
from steer_lit.cli.bench_run import run_benchmark
from steer_lit.cli.going_on import last_checkpoint, result_at_end
from steer_lit.cli.overrides import normalise_override, options_first
from steer_lit.cli.quiet import giving_back
from steer_lit.cli.refusals import explain, naming_own, refusal_in, unforeseen, unusable
from steer_lit.cli.run_folder import holds_a_run, leave_nothing
from steer_lit.cli.signals import FROZEN, leave_other_ranks, sigterm_ends
from steer_lit.cli.sweeps import SWEEPER, NotBegun, WholeSweep, name_sweeps_folders, runs_elsewhere
from steer_lit.cli.synthesis_run import run_synthesizing
from steer_lit.cli.train_run import run_training
from steer_lit.errors import ConfigError, Problem, ServerDown, SteerError
from steer_lit.ranks import several_ranks
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

# The function that each program calls with its config and its run's folder.
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
    debugging = os.environ.get(_FULL_ERROR) == "1"
    hydras, outer = HydraConfig.instance(), HydraConfig.instance().cfg
    try:
        if words and words[0].startswith(FROZEN):  # a further process's only word: a path, which no check may refuse
            config = OmegaConf.load(words[0].removeprefix(FROZEN))
            assert isinstance(config, DictConfig)  # `freeze` wrote it
            with naming_own(config):
                RUNS[program](config, Path(config.run_dir))
        else:
            options, words, folder = options_first(words)
            find_configs_in(folder)
            words = [normalise_override(word, program) for word in words]
            # Hydra names a log before the config is checked: with a slash it would lie outside of the run's folder.
            outside = [word.partition("=")[2] for word in words_setting(words, ["name"]) if "/" in word]
            named = (Problem("name", name, f"must be {NAMED}") for name in outside)
            own = (Problem("--config-dir", str(shown_path(path)), _NEVER_READ) for path in never_read())
            if problems := [*key_problems(words), *named, *own]:
                raise ConfigError(problems)
            _compose_and_run(program, options, words, debugging)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    # ValueError: raised by `logging` for a folder that cannot hold a log.
    except (SteerError, HydraException, OmegaConfBaseException, MarkedYAMLError, OSError, ValueError) as error:
        if debugging or (type(error) is ValueError and refusal_in(error) is None):
            raise
        print(visible(explain(error, program, words)), file=sys.stderr)
        return REFUSED
    finally:
        find_configs_in(None)
        hydras.cfg = outer  # Hydra leaves it set, and the next check in this process would take it for its own
    return 0


def _compose_and_run(program: str, options: Sequence[str], words: Sequence[str], debugging: bool) -> None:
    failed: list[str] = []  # the runs of a sweep
    begun: list[tuple[Path, list[str]]] = []  # folders of runs, and their words, which Hydra forgets during `fit`
    rest: list[str] = []  # the command that goes on with a sweep

    def stopped() -> str:
        if folder := WholeSweep.elsewhere:
            going = f"Runs that the launcher has started go on in {folder}; for the rest, later:"
            return f"stopped waiting for this sweep. {going}\n{next_step(resume_sweep_command(program, words, folder))}"
        return "\n".join([_stopped(*(begun[-1] if begun else (None, [])), alone=not rest), *map(next_step, rest)])

    def task(config: DictConfig) -> float | None:
        find_configs_in(folder_of_hydra())  # a launcher's process has not read the command line
        begun.append((folder := Path(HydraConfig.get().runtime.output_dir), typed_words()))
        if sweeping():
            rest[:] = [resume_sweep_command(program, words, Path(str(HydraConfig.get().sweep.dir)))]
        try:
            # The variable is for processes that the run starts.
            with sigterm_ends(stopped), env_override({_FULL_ERROR: full}), naming_own(config):
                return RUNS[program](config, folder)
        except (SteerError, InstantiationException, OmegaConfBaseException, OSError) as error:
            if debugging:
                raise
            _report(refusal_in(error) or error, folder, program, words)
            if sweeping() and not several_ranks():
                failed.append(f"#{HydraConfig.get().job.num}")  # the other runs may succeed
                settings = HydraConfig.get()
                if settings.sweeper._target_ == SWEEPER and not runs_elsewhere(settings):
                    return None
            _fail(REFUSED)
        except Exception as error:
            if sweeping() and (several_ranks() or runs_elsewhere(HydraConfig.get())):
                traceback.print_exc()  # Hydra would show it after the last run, of another process without its lines
                _fail(1)
            for note in map(next_step, rest):
                error.add_note(note)
            raise

    arguments, full = sys.argv, os.environ.get(_FULL_ERROR, "0")
    sys.argv = [sys.argv[0], *options, *words]
    name_sweeps_folders(words)
    try:
        # Hydra raises what it would print, so that `explain` can say it better.
        with sigterm_ends(stopped), env_override({_FULL_ERROR: "1"}):
            _hydra_calls(task, program, words, begun)
        if failed:
            raise AlreadyReported
    except KeyboardInterrupt:  # not from a run at work, which reports what it has saved and exits
        print(stopped(), file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except SystemExit:
        for line in map(next_step, rest):
            print(line, file=sys.stderr)
        raise
    except AlreadyReported:
        print(_not_finished(program, words, failed, rest), file=sys.stderr)
        raise SystemExit(REFUSED) from None
    finally:
        sys.argv, WholeSweep.elsewhere = arguments, None


def _fail(code: int) -> NoReturn:
    """End a run that has failed and has said why: with its process, which ends with `code`, or as one of a sweep."""
    # In another process, only Hydra can report the failure: it raises one run's error after the last run.
    if sweeping() and not several_ranks():  # else the next run would wait for ranks that this one has left
        raise AlreadyReported from None
    if runs_elsewhere(HydraConfig.get()):
        leave_other_ranks(SystemExit(code))  # as `programs.run` does, which is not around a launcher's process
    raise SystemExit(code) from None


def _report(refusal: BaseException, folder: Path, program: str, words: Sequence[str]) -> None:
    """Print why a run was refused. If it were raised further, Hydra would print every override around the message."""
    leave_nothing(folder)
    message = unusable(refusal, folder) if isinstance(refusal, OSError) else explain(refusal, program, words)
    notes = getattr(refusal, "__notes__", ())
    if isinstance(refusal, ServerDown) and not notes and not sweeping():  # from a training's greeting of its servers
        own = words_setting(given_words("hydra"), ["hydra.run.dir"])
        again = next_step(typed_command(folder if own else None))
        notes = ["stopped before the run began: nothing new was saved", again]
    print(visible("\n".join([message, *notes])), file=sys.stderr)


def _not_finished(program: str, words: Sequence[str], failed: Sequence[str], rest: Sequence[str]) -> str:
    """Return the last message of a sweep, of which `rest` are the commands that go on with it.

    A launcher that starts other processes does not say which runs failed, and leaves `rest` empty. It may have stopped
    waiting at the first that failed.
    """
    if folder := WholeSweep.elsewhere:
        logs = f"in the launcher's logs (submitit's are in {shown_path(folder / '.submitit')})"
        said = f"not finished, for the reasons above or {logs}: runs of this sweep; once no other is at work:"
        return f"{said}\n{next_step(resume_sweep_command(program, words, folder))}"
    again = "".join(f"\n{next_step(command)}" for command in rest) or "; then give this command again"
    return f"not finished, for the reasons above: {', '.join(failed) or 'runs'} of this sweep{again}"


def _hydra_calls(
    task: Callable[[DictConfig], float | None], program: str, words: Sequence[str], begun: Sequence[object]
) -> None:
    """Let Hydra call `task`. Raise SteerError for `words` that it fails on before a run has `begun`, and for a launcher
    that has lost a run, which was cancelled or killed.
    """
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=program)(task)()
        return
    except NotBegun as refused:
        error = refused.why
    except Exception as other:
        error = other
    if begun or isinstance(error, AlreadyReported) or not (said := unforeseen(error)):
        raise error
    if WholeSweep.elsewhere:
        lost = first_lines(error, 2)  # what submitit says next is the run's whole log
        said = f"{type(error).__name__}: {lost}\n{_not_finished(program, words, [], [])}"
    raise SteerError(said) from error


def _stopped(folder: Path | None, words: Sequence[str], *, alone: bool) -> str:
    """Return the message for a signal before a run had begun or after it was over. `alone` is False in a sweep."""
    if folder is not None:
        leave_nothing(folder, ended=False)
        if holds_a_run(folder):
            said = f"stopped: {shown_path(folder)} keeps what is in it"
            unfinished = alone and last_checkpoint(folder) and not result_at_end(folder)
            return f"{said}\n{next_step(resume_command('train', words, folder))}" if unfinished else said
    again = ", give the same command again" if alone else ""
    return f"stopped before the run began: nothing new was saved and nothing is lost{again}"
