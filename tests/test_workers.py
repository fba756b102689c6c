"""The number of test processes, on machines and in containers of several sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workers import GB, MOST, cores_here, memory_here, workers


@pytest.mark.parametrize(
    ("cores", "gigabytes", "count"),
    [
        (1, 8, 0),  # no workers: pytest's own process
        (2, 8, 2),
        (2, 5, 0),
        (16, 128, MOST),
        (16, 16, 5),
        (1.5, 8, 0),  # the share of a container
        (4, None, 4),
    ],
)
def test_there_is_one_worker_per_core_within_the_memory(cores: float, gigabytes: int | None, count: int) -> None:
    assert workers(cores, None if gigabytes is None else gigabytes * GB) == count


def test_without_cgroup_limits_the_machines_own_numbers_count(tmp_path: Path) -> None:
    machine = tmp_path / "meminfo"
    machine.write_text("MemTotal:       24000000 kB\nMemAvailable:    8388608 kB\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    nowhere = tmp_path / "none"
    assert cores_here(tmp_path) == cores_here(nowhere) >= 1
    assert memory_here(tmp_path, machine) == memory_here(nowhere, machine) == 8 * GB
    assert memory_here(nowhere, nowhere) is None


def test_a_containers_limits_count(tmp_path: Path) -> None:
    machine = tmp_path / "meminfo"
    machine.write_text("MemAvailable:    8388608 kB\n")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{4 * GB}\n")
    assert cores_here(tmp_path) == 0.5
    assert memory_here(tmp_path, machine) == memory_here(tmp_path, tmp_path / "none") == 4 * GB
