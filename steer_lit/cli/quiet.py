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
    seeds = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    loggers = {one: (one.level, one.handlers[:], one.propagate) for one in _loggers()}
    raising, hook = logging.raiseExceptions, threading.excepthook
    try:
        with warnings.catch_warnings():
            yield
    finally:
        kept = [handler for _, handlers, _ in loggers.values() for handler in handlers]
        for handler in {handler for one in _loggers() for handler in one.handlers}.difference(kept):
            handler.close()  # the run's log
        for one, (level, handlers, propagate) in loggers.items():
            one.setLevel(level)
            one.handlers[:], one.propagate = handlers, propagate
        for handler in kept:  # Hydra has closed them, and one that writes anew would not open again
            if isinstance(handler, logging.FileHandler) and handler.mode == "w":
                handler.mode = "a"
        logging.raiseExceptions, threading.excepthook = raising, hook
        for name, seed in seeds.items():
            os.environ.pop(name, None)
            if seed is not None:
                os.environ[name] = seed


def _loggers() -> list[logging.Logger]:
    known = logging.root.manager.loggerDict.values()
    return [logging.getLogger(), *(one for one in known if isinstance(one, logging.Logger))]


def _unless_raised_again(show: Callable[[threading.ExceptHookArgs], object], ended: threading.ExceptHookArgs) -> None:
    """Show what ended a thread, unless it is TensorBoard's, whose next caller gets the error: the disk is full, say."""
    if not type(ended.thread).__module__.startswith("tensorboard."):
        show(ended)
