"""How many processes share the tests under `pytest -n auto`, as `make test` runs them."""

from __future__ import annotations

import os
import re
from pathlib import Path

GB = 1 << 30
MEMORY_EACH = 3 * GB  # a worker has 1.5 GB once it has loaded everything, and a program that it starts about 1
MOST = 8  # beyond it, the longest tests are what is waited for


def workers(cores: float, memory: int | None) -> int:
    """One for each core, as far as the bytes of memory go (None: unknown); instead of 1, 0: pytest's own process."""
    most = min(int(cores), MOST) if memory is None else min(int(cores), MOST, memory // MEMORY_EACH)
    return most if most > 1 else 0


def cores_here(limits: Path = Path("/sys/fs/cgroup")) -> float:
    """The cores this process may use: a machine's that it is not kept from, or a container's share of them."""
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = re.fullmatch(r"(\d+) (\d+)\s*", _read(limits / "cpu.max"))  # microseconds in every so many; "max" for none
    return min(known, int(quota[1]) / int(quota[2])) if quota else known


def memory_here(limits: Path = Path("/sys/fs/cgroup"), machine: Path = Path("/proc/meminfo")) -> int | None:
    """The bytes that are free for programs, at most what a container may have; None where nothing says it."""
    told = [int(kb) << 10 for kb in re.findall(r"^MemAvailable: +(\d+) kB$", _read(machine), re.MULTILINE)]
    told += map(int, re.findall(r"^\d+$", _read(limits / "memory.max"), re.MULTILINE))
    return min(told, default=None)


def _read(file: Path) -> str:
    """Its text, or none where there is no such file: only Linux has these."""
    try:
        return file.read_text()
    except OSError:
        return ""
