"""The rank of this process, read from its launcher's environment variables."""

from collections.abc import Callable

import pytest

from steer_lit.ranks import local_rank, node_rank


@pytest.mark.parametrize(
    ("read", "said", "rank"),
    [
        (local_rank, {}, 0),
        (local_rank, {"LOCAL_RANK": "2"}, 2),
        (local_rank, {"SLURM_LOCALID": "3"}, 3),
        (local_rank, {"LOCAL_RANK": "1", "SLURM_LOCALID": "0"}, 1),
        (local_rank, {"LOCAL_RANK": "y", "SLURM_LOCALID": "2"}, 2),
        (node_rank, {}, 0),
        (node_rank, {"NODE_RANK": "0"}, 0),
        (node_rank, {"NODE_RANK": "2"}, 2),
        (node_rank, {"GROUP_RANK": "1"}, 1),
        (node_rank, {"SLURM_NODEID": "3"}, 3),
    ],
)
def test_a_rank_is_read_from_the_launchers_variables(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[], int], said: dict[str, str], rank: int
) -> None:
    for name in ("LOCAL_RANK", "SLURM_LOCALID", "NODE_RANK", "GROUP_RANK", "SLURM_NODEID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert read() == rank
