"""Processes that die by SIGKILL at a chosen call."""

from __future__ import annotations

import itertools
import os
import pkgutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.forked import FORK


class Kill(NamedTuple):
    """Before the `call`th call of `name` in `owner`, a module or `module:class`, when `left` is in the run's folder."""

    owner: str
    name: str
    call: int
    left: str = "."


def arm(kill: Kill) -> None:
    """Make this process die there."""
    owner, calls = pkgutil.resolve_name(kill.owner), itertools.count(1)
    function = getattr(owner, kill.name)

    def dying(*arguments: Any, **named: Any) -> Any:
        if next(calls) == kill.call:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)

    setattr(owner, kill.name, dying)


def in_a_process(run: Callable[..., None], *arguments: Any, kill: Kill | None, folder: Path) -> None:
    """Call `run(*arguments, folder, kill)` in a process of its own, which dies at `kill` unless that is None."""
    part = FORK.Process(target=run, args=(*arguments, folder, kill))
    part.start()
    part.join()
    assert part.exitcode == (0 if kill is None else -signal.SIGKILL)
    assert kill is None or (folder / kill.left).exists()
