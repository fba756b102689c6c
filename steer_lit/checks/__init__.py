"""Checks of the whole config before anything heavy loads: every problem at once, each with its key and the way out.

These modules check the values that no owning module can check cheaply; `reward`, `model` and the benchmark's rules
check their own. Nothing here imports torch.
"""

from steer_lit.checks.programs import bench_problems, synthesis_problems, train_problems
from steer_lit.checks.rows import read_row_problems
from steer_lit.checks.servers import key_problems

__all__ = [
    "bench_problems",
    "key_problems",
    "read_row_problems",
    "synthesis_problems",
    "train_problems",
]
