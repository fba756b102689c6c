"""The number of processes that share the tests under `pytest -n auto`, as in `make test`."""

from __future__ import annotations

import os
import re
from pathlib import Path

GB = 1 << 30
MEMORY_EACH = 3 * GB  # bytes: a worker uses 1.5 GB with everything imported, a program that it starts about 1 GB
MOST = 8  # more would not help: the longest tests set the time


def workers(cores: float, memory: int | None) -> int:
    """Return one worker per core within `memory` bytes (None: unknown). 0 instead of 1: pytest's own process runs the
    tests.
    """
    most = min(int(cores), MOST) if memory is None else min(int(cores), MOST, memory // MEMORY_EACH)
    return most if most > 1 else 0


def cores_here(limits: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the cores this process may use: its CPU affinity, limited by a container's quota."""
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = re.fullmatch(r"(\d+) (\d+)\s*", _read(limits / "cpu.max"))  # quota and period, both in microseconds
    return min(known, int(quota[1]) / int(quota[2])) if quota else known


def memory_here(limits: Path = Path("/sys/fs/cgroup"), machine: Path = Path("/proc/meminfo")) -> int | None:
    """Return the bytes available to programs, at most a container's limit. None if neither is known."""
    told = [int(kb) << 10 for kb in re.findall(r"^MemAvailable: +(\d+) kB$", _read(machine), re.MULTILINE)]
    told += map(int, re.findall(r"^\d+$", _read(limits / "memory.max"), re.MULTILINE))
    return min(told, default=None)


def _read(file: Path) -> str:
    """Return the file's text, or "" if it does not exist: only Linux has these files."""
    try:
        return file.read_text()
    except OSError:
        return ""
