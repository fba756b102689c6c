"""Which of a run's processes this is, known before Lightning loads."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

_LOCAL = ("LOCAL_RANK", "SLURM_LOCALID")  # of Lightning and torchrun; of Slurm
_NODE = ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID")  # of Lightning; of torchrun; of Slurm
_GLOBAL = ("RANK", "SLURM_PROCID")  # by which Lightning, too, tells whether to log


def local_rank() -> int:
    """Return this process's number on its machine, from 0."""
    return _number(_LOCAL)


def node_rank() -> int:
    """Return this machine's number, from 0."""
    return _number(_NODE)


def first_rank() -> bool:
    """Return whether this is the one process that writes and prints for all."""
    return not (local_rank() or node_rank())


def not_alone() -> str:
    """Return why a run in one process cannot be this one, "" if it can: as a further rank it would write no logs."""
    given = [name for name in (*_LOCAL, *_NODE, *_GLOBAL) if _number([name])]
    said = f"{' '.join(f'{name}={os.environ[name]}' for name in given)} makes this process one of several"
    return f"{said}, but this run has only one: unset {' '.join(given)} if this is a separate run" if given else ""


def several_ranks() -> bool:
    """Return whether this process is connected to further ranks."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        return False
    return bool(distributed.get_world_size() > 1)


def _given(names: Sequence[str]) -> str:
    return next((name for name in names if os.environ.get(name, "").isdecimal()), "")


def _number(names: Sequence[str]) -> int:
    return int(os.environ.get(_given(names), 0))
