"""Which of a run's processes this one is, before Lightning has been asked, and whether a scheduler started it again."""

from __future__ import annotations

import os


def local_rank() -> int:
    """This process's number on its machine, from 0: Lightning and torchrun say LOCAL_RANK, Slurm SLURM_LOCALID."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)


def node_rank() -> int:
    """This machine's number, from 0: Lightning says NODE_RANK, torchrun GROUP_RANK, Slurm SLURM_NODEID."""
    return int(next(filter(None, map(os.environ.get, ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID"))), 0))


def first_rank() -> bool:
    """Whether this is the one process that writes and speaks for all."""
    return not (local_rank() or node_rank())


def restarted() -> bool:
    """Whether Slurm has started this job again, after a preemption for one: it counts in SLURM_RESTART_COUNT."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
