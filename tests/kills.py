"""Processes that are killed with SIGKILL at a chosen call."""

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
    """Kill just before the `call`th call of `owner.name`, or just `after` it. `owner` is a module or `module:class`. At
    that point the path `left` must exist in the run's folder.
    """

    owner: str
    name: str
    call: int
    left: str = "."
    after: bool = False


def arm(kill: Kill) -> None:
    """Replace the function, such that this process kills itself at that call."""
    owner, calls = pkgutil.resolve_name(kill.owner), itertools.count(1)
    function = getattr(owner, kill.name)

    def dying(*arguments: Any, **named: Any) -> Any:
        now = next(calls) == kill.call
        result = function(*arguments, **named) if kill.after or not now else None
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, kill.name, dying)


def in_a_process(run: Callable[..., None], *arguments: Any, kill: Kill | None, folder: Path) -> None:
    """Call `run(*arguments, folder, kill)` in a new process. It must die at `kill`; without one it must end
    normally.
    """
    part = FORK.Process(target=run, args=(*arguments, folder, kill))
    part.start()
    part.join()
    assert part.exitcode == (0 if kill is None else -signal.SIGKILL)
    assert kill is None or (folder / kill.left).exists()
