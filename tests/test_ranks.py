"""The rank of this process, read from its launcher's environment variables."""

import pytest

from steer_lit.ranks import local_rank, node_rank


@pytest.mark.parametrize(
    ("said", "rank"),
    [({}, 0), ({"LOCAL_RANK": "2"}, 2), ({"SLURM_LOCALID": "3"}, 3), ({"LOCAL_RANK": "1", "SLURM_LOCALID": "0"}, 1)],
)
def test_the_local_rank_is_read_from_the_launchers_variables(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str], rank: int
) -> None:
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert local_rank() == rank


@pytest.mark.parametrize(
    ("said", "rank"),
    [({}, 0), ({"NODE_RANK": "0"}, 0), ({"NODE_RANK": "2"}, 2), ({"GROUP_RANK": "1"}, 1), ({"SLURM_NODEID": "3"}, 3)],
)
def test_the_node_rank_is_read_from_the_launchers_variables(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str], rank: int
) -> None:
    for name in ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert node_rank() == rank
