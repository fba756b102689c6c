"""Which of a run's processes this is, known before Lightning loads."""

from __future__ import annotations

import os
import sys
from typing import Any


def local_rank() -> int:
    """Return this process's number on its machine, from 0: LOCAL_RANK of Lightning and torchrun, or SLURM_LOCALID."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)


def node_rank() -> int:
    """Return this machine's number, from 0. Lightning sets NODE_RANK, torchrun GROUP_RANK, Slurm SLURM_NODEID."""
    given = os.environ.get
    return int(given("NODE_RANK") or given("GROUP_RANK") or given("SLURM_NODEID") or 0)


def first_rank() -> bool:
    """Return whether this is the one process that writes and prints for all."""
    return not (local_rank() or node_rank())


def several_ranks() -> bool:
    """Return whether this process is connected to further ranks."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        return False
    return bool(distributed.get_world_size() > 1)
