"""The order of rows, their division into steps, and the cursor, without a Trainer."""

from __future__ import annotations

from itertools import pairwise

import pytest

from steer_lit.data.steps import (
    Cursor,
    SliceLoader,
    StepLoader,
    blocks_of,
    count_steps,
    epoch_order,
    hold_out,
    hold_out_least,
    shuffled,
)


def loader(cursor: Cursor, rows: int = 37, batch_size: int = 8, rank: int = 0, world: int = 1) -> StepLoader[int]:
    return StepLoader(lambda row: row, blocks_of(rows, 10), cursor, batch_size, rank, world)


def test_the_order_of_rows_is_fixed() -> None:
    """With another order, every existing checkpoint would resume with other rows than those it was saved with."""
    assert shuffled(6, "epoch", 0, 0) == [0, 3, 5, 1, 4, 2]
    assert shuffled(6, "epoch", 0, 1) == [3, 0, 4, 2, 1, 5]
    assert shuffled(6, "epoch", 1, 0) == [5, 1, 4, 0, 3, 2]


def test_an_epoch_has_every_row_once_and_keeps_blocks_together() -> None:
    blocks = blocks_of(37, 10)
    assert [len(block) for block in blocks] == [10, 10, 10, 7]
    order = epoch_order(blocks, seed=3, epoch=1)
    assert sorted(order) == list(range(37))
    breaks = [later for earlier, later in pairwise(order) if later != earlier + 1]
    assert all(row % 10 == 0 for row in breaks)
    assert len({tuple(epoch_order(blocks, seed, epoch)) for seed in range(3) for epoch in range(3)}) > 6


def test_held_out_rows_are_whole_blocks_and_never_trained_on() -> None:
    train, val = hold_out(blocks_of(97, 10), 30, seed=5)
    assert [len(block) for block in val] == [10, 10, 10]
    assert sorted(row for block in [*train, *val] for row in block) == list(range(97))
    assert (train, val) == hold_out(blocks_of(97, 10), 30, seed=5)
    assert val != hold_out(blocks_of(97, 10), 30, seed=6)[1]


@pytest.mark.parametrize(
    ("rows", "size", "count", "reason"),
    [
        (97, 10, 25, "must be a multiple of 10, such as 20 or 30: STEER-mini's rows come in blocks of 10 that belong"),
        (47, 10, 2, "such as 0 or 10:"),
        (20, 10, 15, "such as 10:"),
        (5, 10, 2, "such as 0:"),
        (30, 10, 30, "nothing to train on: of 30 rows, at most 20 can be held out$"),
        (37, 10, 40, "nothing to train on: of 37 rows, at most 30 can be held out$"),
        (20, 1, 64, "nothing to train on: of 20 rows, at most 19 can be held out$"),
    ],
)
def test_impossible_numbers_of_held_out_rows_are_refused(rows: int, size: int, count: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        hold_out(blocks_of(rows, size), count, seed=0)


def test_rows_of_one_mark_are_held_out_together() -> None:
    rows = ["b", "c", "a", "b"]
    assert hold_out_least(rows, 2, rows) == ([range(1, 2)], [range(1), range(2, 3), range(3, 4)])
    assert hold_out_least(["b", "a"], 0, ["b", "a"]) == ([range(1), range(1, 2)], [])
    for read, fit, reason in (
        ("aa", "aa", "nothing to train on: what the user says decides which rows are held out, here 2 of 2"),
        ("ab", "a", "nothing to train on: .* here 1 of 1"),
        ("abc", "bc", "nothing held out: .* here 0 of 2"),
        ("a", "a", "of 1 row"),
    ):
        with pytest.raises(ValueError, match=reason):
            hold_out_least(read, 1, fit)


def test_rows_that_cannot_be_used_put_no_others_in_their_place() -> None:
    """A stage that can use them holds them out, and must not have trained on what another stage holds out."""
    assert hold_out_least("dcba", 2, "dcb") == ([range(1), range(1, 2)], [range(2, 3)])


@pytest.mark.parametrize(
    ("rows", "batch_size", "world", "steps"),
    [
        (40, 8, 1, 5),
        (37, 8, 1, 5),  # the last step has 5 rows
        (33, 8, 2, 4),  # with the one row left over, one of two ranks would have none
        (34, 8, 2, 5),
        (5, 8, 1, 1),
    ],
)
def test_steps_of_an_epoch(rows: int, batch_size: int, world: int, steps: int) -> None:
    assert count_steps(rows, batch_size, world) == steps
    for rank in range(world):
        epoch = list(loader(Cursor(0), rows, batch_size, rank, world))
        assert len(epoch) == len(loader(Cursor(0), rows, batch_size, rank, world)) == steps
        assert all(epoch)


@pytest.mark.parametrize("world", [2, 3, 8])
def test_ranks_share_the_rows_of_each_step(world: int) -> None:
    whole = list(loader(Cursor(0), rows=40))
    ranks = [list(loader(Cursor(0), 40, 8, rank, world)) for rank in range(world)]
    for step, rows in enumerate(whole):
        slices = [epoch[step] for epoch in ranks]
        assert sorted(row for part in slices for row in part) == sorted(rows)
        assert max(map(len, slices)) - min(map(len, slices)) <= 1


@pytest.mark.parametrize(
    ("rows", "world", "sizes"),
    [
        (20, 1, [[8, 8, 4]]),
        (20, 2, [[4, 4, 2], [4, 4, 2]]),
        (17, 3, [[3, 3, 0], [3, 2, 1], [2, 3, 0]]),  # one row is left over
        (2, 3, [[1], [1], [0]]),  # fewer rows than ranks
        (0, 2, [[], []]),
    ],
)
def test_each_held_out_row_is_validated_on_one_rank(rows: int, world: int, sizes: list[list[int]]) -> None:
    """All ranks take the same number of steps. Otherwise one would wait for a rank that has none left."""
    loaders = [SliceLoader(lambda row: row, blocks_of(rows, 1), 8, rank, world) for rank in range(world)]
    assert [[len(step) for step in loader] for loader in loaders] == sizes
    assert {len(loader) for loader in loaders} == {len(sizes[0])}
    assert sorted(row for loader in loaders for step in loader for row in step) == list(range(rows))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [3, 4, 8])
def test_the_first_rows_of_all_ranks_are_the_first_held_out(world: int, batch_size: int) -> None:
    """`SFTModule` replays these. Others on another number of ranks would give the same policy another exact share."""
    replayed = set()
    for rank in range(world):
        mine = [row for step in SliceLoader(lambda row: row, blocks_of(20, 1), batch_size, rank, world) for row in step]
        replayed |= set(mine[: len(range(rank, 7, world))])
    assert replayed == set(range(7))


def test_the_cursor_counts_finished_steps_only() -> None:
    steps = loader(cursor := Cursor(seed=0))
    assert steps.finished() == Cursor(0, 0, 0)
    epoch = iter(steps)
    next(epoch)
    assert steps.finished() == Cursor(0, 0, 0)  # not finished
    next(epoch)
    assert steps.finished() == Cursor(0, 0, 8)  # the second step was asked for, so the first is finished
    assert cursor == Cursor(0, 0, 0)
    list(epoch)
    assert steps.finished() == Cursor(0, 1, 0)  # all 37 rows are finished: the start of the next epoch


def test_an_unused_iterator_does_not_move_the_cursor() -> None:
    """Lightning makes one iterator at setup and another at each epoch's start."""
    first = list(loader(Cursor(0)))
    steps = loader(Cursor(0))
    iter(steps), iter(steps)
    assert list(steps) == first
    iter(steps)
    assert list(steps) == list(loader(Cursor(0, epoch=1)))


def test_a_settled_cursor_continues_within_the_epoch() -> None:
    whole = list(loader(Cursor(0)))
    steps = loader(Cursor(0))
    for seen, _ in enumerate(steps):
        if seen == 2:
            break
    steps.settle()
    assert list(steps) == whole[2:]
