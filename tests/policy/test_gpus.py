"""GPUs are counted as CUDA counts them, but without CUDA."""

from __future__ import annotations

import os
from typing import Any

import pytest

from steer_lit.policy import gpus
from steer_lit.policy.preflight import preflight


@pytest.mark.parametrize(
    ("status", "count", "visible", "found"),
    [
        (0, 1, "0", True),
        (0, 0, "0", False),
        (9, 1, "0", False),  # status 9: the driver is not loaded
        (0, 1, "", False),
        (0, 1, "-1", False),
    ],
)
def test_a_gpu_must_be_counted_by_the_driver_and_visible(monkeypatch, status, count, visible, found):
    a_driver(monkeypatch, count, status)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus.has_gpu() is found


def a_driver(monkeypatch: pytest.MonkeyPatch, count: int, status: int = 0) -> None:
    """Simulate a driver with `count` GPUs that answers with `status`. CUDA_VISIBLE_DEVICES is not changed."""

    class Driver:
        def nvmlInit_v2(self) -> int:
            return status

        def nvmlDeviceGetCount_v2(self, out: Any) -> int:
            out._obj.value = count
            return 0

        def nvmlShutdown(self) -> int:
            return 0

    monkeypatch.setattr(gpus.ctypes, "CDLL", lambda _: Driver())


def test_no_test_sees_a_gpu_of_the_machine(monkeypatch):
    a_driver(monkeypatch, 2)
    assert gpus.visible_gpus() == 0
    assert {os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")} == {""}  # torch's ways to ask


@pytest.mark.parametrize(
    ("visible", "device", "said"),
    [
        (None, None, None),
        (None, "cpu", None),
        (None, "cuda", None),
        (None, "cuda:1", None),
        (None, "cuda:9", "the last NVIDIA GPU visible here is cuda:1"),
        ("1", "cuda:0", None),
        ("1", "cuda:1", "the last NVIDIA GPU visible here is cuda:0"),
        ("0,-1,1", "cuda:1", "the last NVIDIA GPU visible here is cuda:0"),  # as CUDA reads it
        ("7,0", "cuda", "no NVIDIA GPU is visible"),
        ("GPU-1a,MIG-2b", "cuda:1", None),
        ("", "cuda", "no NVIDIA GPU is visible"),
        ("", "cpu", None),
        (None, "gpu", "must be null, cpu, cuda or cuda:<number>"),
        (None, "cuda:x", "must be null, cpu, cuda or cuda:<number>"),
        (None, 0, "must be null, cpu, cuda or cuda:<number>"),
    ],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch, visible, device, said):
    a_driver(monkeypatch, 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    problems = preflight({"name": "tiny", "device": device})
    assert [problem.key for problem in problems] == (["model.device"] if said else [])
    assert all(said in problem.remedy for problem in problems)
