"""The message when a run is stopped before its end, and its exit code."""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING

from steer_lit.cli.going_on import last_checkpoint
from steer_lit.cli.run_folder import EXPORTED
from steer_lit.cli.signals import TERMINATED
from steer_lit.errors import ConfigError, NothingWritten, ServerDown, SteerError, TooManyFailures
from steer_lit.files.run_files import LAST
from steer_lit.terminal.commands import resuming_step, shown_path, typed_words
from steer_lit.terminal.stdout import CLOSED, INTERRUPTED
from steer_lit.texts import first_lines

if TYPE_CHECKING:
    from lightning import Trainer

# What gloo and NCCL say of a rank that has ended. Unless it was killed, it has said why: that is printed first.
_LOST = re.compile("by peer|remote |Broken pipe")


@contextmanager
def continuable(run_dir: Path, name: str, finished: Callable[[], bool]) -> Iterator[None]:
    """Say how to go on with a benchmark or synthesis, the program `name`, and whether anything was `finished`.

    A signal, a dead server, too many failures, a full disk or any other error may have stopped it. Of the last, only
    the way back to what was finished is said: the same command may fail again.
    """
    try:
        with _sigterm_raises():
            yield
    except (ConfigError, NothingWritten):  # the same command would end alike
        raise
    except (KeyboardInterrupt, SystemExit, Exception) as stop:
        stopped = not isinstance(stop, Exception) or isinstance(stop, ServerDown | TooManyFailures | OSError)
        if (done := finished()) or stopped:
            said = "stopped, what was finished is saved" if done else "stopped before anything was finished"
            _tell(stop, said + resuming_step(name, typed_words(), run_dir))
        if isinstance(stop, KeyboardInterrupt):
            raise SystemExit(INTERRUPTED) from None
        raise


def _tell(stop: BaseException, said: str) -> None:
    """Attach `said` to an error, which is going to be printed, or print it at once for a signal."""
    if isinstance(stop, Exception):
        stop.add_note(said)
    else:
        print(said, file=sys.stderr)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn a scheduler's SIGTERM into SystemExit, so that open files and connections are closed."""
    if threading.current_thread() is not threading.main_thread():  # signals reach only the main thread
        yield
        return

    def stop(*_: object) -> None:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def resumable(run_dir: Path, words: Sequence[str], trainer: Trainer, ended: Callable[[], str]) -> Iterator[None]:
    """Say how to go on with a training run, started with `words`, that was stopped; or what `ended` returns, if that
    was after its last step.

    Ctrl-C, a scheduler's SIGTERM, a dead server, failed verdicts, a full disk or a closed pipe may have stopped it.
    Nothing is saved after any other exception, for instance one of a user's callback: it may have left the policy half
    changed. The run goes on from the checkpoint before.
    """
    try:
        yield
    except (SystemExit, OSError, ServerDown, TooManyFailures) as stop:  # Lightning turns signals into SystemExit
        if trainer.is_global_zero:  # it reports for all ranks
            _tell(stop, _stopped(stop, run_dir, words, trainer, ended))
        if isinstance(stop, OSError) or (isinstance(stop, SteerError) and trainer.is_global_zero):
            raise
        raise SystemExit(_exit_code(stop, trainer)) from None
    except Exception as error:
        told = error
        if _lost_a_rank(error):
            said = f"rank {trainer.global_rank} lost its connection to another rank"
            told = SteerError(f"{said}, which was killed or whose error stands above ({first_lines(error)})")
        if trainer.is_global_zero and last_checkpoint(run_dir) is not None:
            told.add_note(_resuming(run_dir, words, trainer.global_step))
        elif trainer.is_global_zero and trainer.global_step:
            told.add_note(f"stopped at step {trainer.global_step}, before anything was saved to resume from")
        if told is error:
            raise
        raise told from error


def _exit_code(stop: BaseException, trainer: Trainer) -> int:
    """Return the exit code of a rank that was stopped; 0 of a further one if all were: Lightning kills the first rank
    if another fails.
    """
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    def noted(fact: str) -> bool:
        return any(getattr(callback, fact, False) for callback in trainer.checkpoint_callbacks)

    if noted("unread") or (isinstance(stop, SystemExit) and stop.code == CLOSED):
        return CLOSED
    terminated = isinstance(stop, SIGTERMException) and not noted("interrupted")
    if not trainer.is_global_zero and (terminated or noted("interrupted") or isinstance(stop, SteerError)):
        return 0
    return TERMINATED if terminated else INTERRUPTED


def _stopped(
    stop: BaseException, run_dir: Path, words: Sequence[str], trainer: Trainer, ended: Callable[[], str]
) -> str:
    """Return the message for a run that was stopped: what is saved, and the command that goes on."""
    if last_checkpoint(run_dir) is not None:
        at_end = _at_its_end(run_dir, words, trainer, ended) if isinstance(stop, SystemExit) else ""
        return at_end or _resuming(run_dir, words)
    whole = [name for name in EXPORTED if (run_dir / name).is_file()]  # the disk had room for these
    kept = f"; {shown_path(run_dir / Path(whole[0]).parts[0])} is whole" if whole else ""
    return f"stopped before anything was saved to resume from{kept}{resuming_step('train', words, run_dir)}"


def _lost_a_rank(error: Exception) -> bool:
    *_, (frame, _) = walk_tb(error.__traceback__)
    raised_by = str(frame.f_globals.get("__name__"))  # a user's class may say the like of its own connections
    return raised_by.startswith("torch.distributed.") and _LOST.search(str(error)) is not None


def _at_its_end(run_dir: Path, words: Sequence[str], trainer: Trainer, ended: Callable[[], str]) -> str:
    """Return the message for a run stopped after its last step, which lacks at most a validation; "" for another."""
    from steer_lit.lit.training_checkpoint import OWN, PLACE, read_checkpoint
    from steer_lit.lit.validation_schedule import at_end

    saved = read_checkpoint(run_dir / LAST)
    step = saved["global_step"]
    if not at_end(trainer, saved[PLACE]["epoch"], step):
        return ""
    said = f"stopped, step {step}, this run's last, is saved"
    validates = trainer.limit_val_batches and trainer.datamodule.val_rows
    if validates and saved[OWN]["validated_at"] != step:
        return f"{said}; only the last validation is missing{resuming_step('train', words, run_dir)}"
    return f"{said}\n{ended()}"


def _resuming(run_dir: Path, words: Sequence[str], reached: int = 0) -> str:
    """Return the message with the command that goes on from the last checkpoint. `reached` is the last step."""
    from steer_lit.lit.training_checkpoint import read_checkpoint

    step = read_checkpoint(run_dir / LAST)["global_step"]
    said = f"stopped{f' at step {reached}' if reached > step else ''}, step {step} is saved"
    return said + resuming_step("train", words, run_dir)
