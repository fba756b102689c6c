"""What ranks exchange: two processes over gloo, each with its own numbers."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule
from torch import distributed

from steer_lit.cli.stopping import resumable
from steer_lit.errors import ServerDown, SteerError
from steer_lit.lit import lost_step
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.lit.step_cost import StepCost
from tests.forked import on_two_ranks

SMALL, LARGE = 0.1, 0.1 + 1e-12  # equal in float32


class Bare(PolicyModule):
    """One of two ranks, whose policy claims to be on a GPU. Keeps what it logs."""

    def __init__(self, peak_gb: float) -> None:
        LightningModule.__init__(self)
        self._trainer = SimpleNamespace(world_size=2, global_step=7, validating=False)  # type: ignore[assignment]
        self.policy = SimpleNamespace(device=torch.device("cuda"))  # type: ignore[assignment]
        self.logged: dict[str, Any] = {}
        torch.cuda.max_memory_allocated = lambda device: int(peak_gb * 2**30)  # type: ignore[assignment]
        torch.cuda.reset_peak_memory_stats = lambda device: None

    def log(self, name: str, value: Any, *_: Any, **__: Any) -> None:
        self.logged[name] = value


def run_rank(rank: int, folder: str) -> None:
    group = {"init_method": f"file://{folder}/rendezvous", "rank": rank, "world_size": 2}
    distributed.init_process_group("gloo", timeout=timedelta(minutes=1), **group)  # fails where one rank waits forever
    module = Bare(peak_gb=(5.5, 3.0)[rank])
    mine = torch.tensor([1.0, 2.0]) * (rank + 1)
    found = {
        "sums": module.add_up(rank + 1, 0.25),
        "largest": module.largest((LARGE, SMALL)[rank]),
        "elements": [module.over_ranks(how, mine).tolist() for how in ("SUM", "MAX")],
        "unchanged": mine.tolist() == [rank + 1, 2 * (rank + 1)],
        "each": module.gather(f"rank {rank}"),
    }
    StepCost(module).log_peak("peak_gb")
    module.log_ratios({"share": (rank, 2), "nothing": (0, 0)})
    mishap: Any = SimpleNamespace(failed="silent" if rank else None)
    found["failures"] = lost_step.stop_when_too_many_failed(module, [mishap], 0.5)
    lost_step._save = lambda trainer: "Saved, to go on"

    @lost_step.stopping_together(module)
    def play() -> None:
        if rank:
            raise ServerDown("gone")

    with pytest.raises(ServerDown) as down:
        play()
    found["down"] = str(down.value)
    torch.save({**found, **module.logged}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_trap_31_both_ranks_get_the_sums_the_maximum_and_each_ranks_value(tmp_path: Path) -> None:
    on_two_ranks(run_rank, str(tmp_path))
    for rank in (0, 1):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == {
            "sums": [3.0, 0.5],
            "largest": LARGE,
            "elements": [[3.0, 6.0], [2.0, 4.0]],
            "unchanged": True,
            "each": ["rank 0", "rank 1"],
            "failures": "1 of 2 trajectories failed in step 8, and are left out; the first: silent",
            "down": "gone\nSaved, to go on once the server answers",
            "peak_gb": 5.5,
            "share": 0.25,
            "nothing": pytest.approx(float("nan"), nan_ok=True),
        }


def lose_a_rank(rank: int, folder: str) -> None:
    group = {"init_method": f"file://{folder}/rendezvous", "rank": rank, "world_size": 2}
    distributed.init_process_group("gloo", timeout=timedelta(minutes=1), **group)
    distributed.barrier()
    if rank:
        os._exit(0)
    trainer: Any = SimpleNamespace(is_global_zero=True, global_rank=0, world_size=2, global_step=3)
    with pytest.raises(SteerError) as lost, resumable(Path(folder), [], trainer, str):
        distributed.barrier()
    Path(folder, "said").write_text("\n".join([str(lost.value), *lost.value.__notes__]))


def test_a_rank_that_lost_another_says_so_instead_of_a_traceback(tmp_path: Path) -> None:
    """That of the other one, which says why, would stand far above it."""
    on_two_ranks(lose_a_rank, str(tmp_path))
    said, note = (tmp_path / "said").read_text().splitlines()
    assert said.startswith("rank 0 lost its connection to another rank, which was killed or whose error stands above (")
    assert note == "stopped at step 3, before anything was saved to resume from"


@pytest.mark.parametrize(
    ("raised_by", "said", "lost"),
    [
        ("torch.distributed.distributed_c10d", "NCCL: remote process exited or there was a network error", True),
        ("torch.distributed.distributed_c10d", "[pair.cc:1] Connection closed by peer [127.0.0.1]:1", True),
        ("torch.distributed.distributed_c10d", "writev: Broken pipe", True),
        ("torch.distributed.distributed_c10d", "Timed out waiting 1000ms for recv", False),
        ("mine", "my metrics server: remote end closed the connection", False),
    ],
)
def test_only_torch_tells_that_a_rank_is_lost(raised_by: str, said: str, lost: bool, tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=False, global_rank=1)
    kind, told = (SteerError, "which was killed") if lost else (RuntimeError, said[:9])
    with pytest.raises(kind, match=told), resumable(tmp_path, [], trainer, str):
        exec("raise RuntimeError(said)", {"__name__": raised_by, "said": said})
