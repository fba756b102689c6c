"""Prints a run's first line, and silences what libraries would print."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
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


def _unless_raised_again(show: Callable[[threading.ExceptHookArgs], object], ended: threading.ExceptHookArgs) -> None:
    """Show what ended a thread, unless it is TensorBoard's, whose next caller gets the error: the disk is full, say."""
    if not type(ended.thread).__module__.startswith("tensorboard."):
        show(ended)
