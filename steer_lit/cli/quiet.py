"""Prints a run's first line, and silences what libraries would print, for as long as the run takes."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from steer_lit.ranks import first_rank


def say(line: str) -> None:
    """Print the line at once, and only on the first rank: libraries then take seconds to load, more on a cold disk."""
    if first_rank():
        print(line, flush=True)


def quieten() -> None:
    """Leave the screen to the run: no banners from Lightning, no progress bars for files that load in an instant."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging as transformers_logging

    logging.raiseExceptions = False  # else each line that a full disk refuses would print a page about the log file
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # the table of +trainer.profiler=simple
    logging.getLogger("lightning").handlers.clear()  # Hydra's handlers print its messages too
    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # its reader tells every file that it looks for
    if getattr(threading.excepthook, "func", None) is not _unless_raised_again:
        threading.excepthook = partial(_unless_raised_again, threading.excepthook)
    transformers_logging.disable_progress_bar()
    enable_progress_bars()  # the line above disables the hub's too, and downloading a large model takes minutes
    for library in (r"transformers\.", r"lightning\."):  # these warnings are about versions, not about the run
        warnings.filterwarnings("ignore", category=FutureWarning, module=library)
        warnings.filterwarnings("ignore", message=".*treespec.*", module=library)
    # Without held-out rows nothing is validated, as asked.
    warnings.filterwarnings("ignore", message=".*across ranks is zero.*", module=r"lightning\.")
    # PolicyModule has already summed over ranks what it logs.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*", module=r"lightning\.")


@contextmanager
def giving_back() -> Iterator[None]:
    """Give a program that calls a run from Python its logging back at the end, its warnings and its seed: Hydra has put
    the run's own handlers in place of its, Lightning has noted the run's seed in the environment.
    """
    root, seeds = logging.getLogger(), ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
    handlers, level, raising, hook = root.handlers[:], root.level, logging.raiseExceptions, threading.excepthook
    before = {name: os.environ[name] for name in seeds if name in os.environ}
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for handler in [one for one in root.handlers if one not in handlers]:
            root.removeHandler(handler)
            handler.close()  # the run's log
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.raiseExceptions, threading.excepthook = raising, hook
        for name in seeds:
            os.environ.pop(name, None)
        os.environ.update(before)


def _unless_raised_again(show: Callable[[threading.ExceptHookArgs], object], ended: threading.ExceptHookArgs) -> None:
    """Show what ended a thread, unless it is TensorBoard's, whose next caller gets the error: the disk is full, say."""
    if not type(ended.thread).__module__.startswith("tensorboard."):
        show(ended)
