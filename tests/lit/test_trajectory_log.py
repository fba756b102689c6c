"""A resumed run's file of rollouts holds every step once."""

import json
from types import SimpleNamespace

import pytest

from steer_lit.lit.trajectory_log import TrajectoryLog


def first_rank(folder, step, of=1):
    return SimpleNamespace(
        default_root_dir=str(folder), is_global_zero=True, global_rank=0, world_size=of, global_step=step
    )


@pytest.mark.parametrize(
    ("cut_short", "step", "left"), [(b"", 2, [0, 0, 1]), (b'{"step": 2, "text": "\xc3', 3, [0, 0, 1, 2])]
)
def test_later_steps_and_a_cut_line_are_removed(tmp_path, cut_short, step, left):
    """A text may contain a Unicode line separator, which does not end a row."""
    rows = [{"step": step, "text": "a\u2028b"} for step in (0, 0, 1, 2)]
    path = tmp_path / "trajectories.jsonl"
    path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode() + cut_short)
    trainer = first_rank(tmp_path, step)
    TrajectoryLog().on_train_start(trainer, None)
    kept = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    assert [json.loads(row) for row in kept] == [row for row in rows if row["step"] in left]
    assert len(kept) == len(left)


@pytest.mark.parametrize("damaged", ["7", "{}", '{"step": "1"}', '{"step": null}'])
def test_a_damaged_line_in_the_middle_is_removed_and_logged(tmp_path, damaged, caplog):
    path = tmp_path / "trajectories.jsonl"
    path.write_text(f'{{"step": 0}}\n{damaged}\n{{"step": 1}}\n')
    trainer = first_rank(tmp_path, 2)
    TrajectoryLog().on_train_start(trainer, None)
    assert path.read_text() == '{"step": 0}\n{"step": 1}\n'
    assert "1 of 3 lines are no rollouts and are left out, such as line 2: " in caplog.text


def test_the_first_rank_shortens_the_files_of_ranks_that_no_longer_exist(tmp_path):
    """Each rank shortens its own file, so that no rank writes to a file that another one shortens."""
    for name in ("trajectories.jsonl", "trajectories.rank1.jsonl", "trajectories.rank2.jsonl"):
        (tmp_path / name).write_text('{"step": 0}\n{"step": 1}\n')
    trainer = first_rank(tmp_path, 1, of=2)
    TrajectoryLog().on_train_start(trainer, None)
    assert [len(path.read_text().splitlines()) for path in sorted(tmp_path.iterdir())] == [1, 2, 1]
    trainer.is_global_zero, trainer.global_rank = False, 1
    TrajectoryLog().on_train_start(trainer, None)
    assert [len(path.read_text().splitlines()) for path in sorted(tmp_path.iterdir())] == [1, 1, 1]


def test_a_new_run_has_nothing_to_remove(tmp_path):
    trainer = first_rank(tmp_path, 0)
    TrajectoryLog().on_train_start(trainer, None)
    assert not list(tmp_path.iterdir())
