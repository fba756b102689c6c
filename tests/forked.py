"""Processes that start with the libraries imported. A fork server imports them once, and each process is forked from
that server, which does no other work.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from torch.multiprocessing.spawn import start_processes

FORK = multiprocessing.get_context("forkserver")
_LIBRARIES = ["lightning", "peft", "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl", "matplotlib.pyplot"]
_OURS = ["steer_lit.cli.main", "steer_lit.policy.load", "steer_lit.lit.grpo_module", "steer_lit.bench.run"]
FORK.set_forkserver_preload(_LIBRARIES + _OURS)


def on_two_ranks(run: Callable[..., None], *arguments: Any) -> None:
    """Call `run(rank, *arguments)` in two processes and wait for both. Raises what either of them raises."""
    start_processes(run, arguments, nprocs=2, start_method="forkserver")


def started(program: str, words: Sequence[str], errors: Path, output: Path = Path(os.devnull)) -> BaseProcess:
    """Start a program with these arguments, as its script does. Its standard output and errors go to the two files."""
    process = FORK.Process(target=_called, args=(program, list(words), errors, output))
    process.start()
    return process


def _called(program: str, words: list[str], errors: Path, output: Path) -> None:
    from steer_lit.cli import programs

    for number, path in ((1, output), (2, errors)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    sys.argv = [f"{program}.py", *words]
    sys.exit(programs.run(program))
