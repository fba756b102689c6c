"""Which errors mean that no memory is left, and what is said then."""

from __future__ import annotations

import pytest
import torch

from steer_lit.errors import MissingResource
from steer_lit.policy.memory import out_of_memory


def test_the_errors_of_a_cpu_are_known_and_others_pass() -> None:
    said = r"^out of memory while trying \(allocate 4000000000000000 bytes\): less$"
    with pytest.raises(MissingResource, match=said), out_of_memory("trying", "less"):
        torch.empty(10**15)
    with pytest.raises(RuntimeError, match=r"^shapes$"), out_of_memory("trying", "less"):
        raise RuntimeError("shapes")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA error: out of memory\nCUDA kernel"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("NCCL error: unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'"),
    ],
)
def test_other_ways_to_say_it_are_known(error: Exception) -> None:
    with pytest.raises(MissingResource, match=r"^out of memory while trying: less$"), out_of_memory("trying", "less"):
        raise error
