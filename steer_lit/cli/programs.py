"""Entry points of the scripts and the installed commands. Small, so that Ctrl-C and SIGTERM print one line even while
libraries load.
"""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from functools import partial

from steer_lit.cli.signals import FROZEN, end_with_parent, heard_in_destructors, leave_other_ranks, sigterm_ends
from steer_lit.ranks import first_rank
from steer_lit.terminal.stdout import INTERRUPTED, printing

# torch's setting for how it takes GPU memory, by all its names: versions differ in which they read first.
_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
_DONE = {"train": "trained", "bench": "played", "synthesize": "made"}


def run(program: str) -> int:
    """Run `program`, one of train, bench and synthesize, with the command line's words. Return the exit code."""
    wsl = "microsoft" in platform.release().lower()  # there such segments may fail at once (pytorch#192330)
    if not wsl and not any(variable in os.environ for variable in _ALLOCATOR):
        # Read when torch first allocates, here and in the ranks that this process starts. The growing cache of a
        # rollout leaves gaps between segments of fixed size into which nothing fits.
        os.environ.update(dict.fromkeys(_ALLOCATOR, "expandable_segments:True"))
    # Charts become files. A notebook hands its own backend on to programs, in which `import matplotlib` may fail of it.
    os.environ["MPLBACKEND"] = "agg"
    with suppress(OSError):  # of a folder that was removed
        if not sys.flags.safe_path and (here := os.getcwd()) not in sys.path:
            sys.path.append(here)  # for classes of the user's own; last, so that no file there hides a library
    if sys.argv[1:2] and sys.argv[1].startswith(FROZEN):
        end_with_parent()
    with heard_in_destructors():
        try:
            code = printing(partial(_called, program))
        except BaseException as error:
            leave_other_ranks(error)
            raise
        leave_other_ranks(SystemExit(code))
        return code


def _called(program: str) -> int:
    said = f"stopped before anything was {_DONE[program]}: nothing is lost, give the same command again"
    try:
        with sigterm_ends(lambda: said):
            from steer_lit.cli import main
        return main.run(program)
    except KeyboardInterrupt:
        if first_rank():
            print(said, file=sys.stderr)
        return INTERRUPTED


train = partial(run, "train")  # `python train.py` and `steer-train`
bench = partial(run, "bench")
synthesize = partial(run, "synthesize")
