"""Concatenated rows: the place of each token, shared openings, and the cut into micro-batches."""

from steer_lit.policy.token_batch import Segment, collate, pack, packed_batches
from steer_lit.types import ImageRef, TokenTrace


def trace(opening, rest, images=()):
    """Return a trace. In `rest`, sampled and given tokens alternate."""
    turns = (-1,) * len(opening) + tuple(-(place % 2) for place in range(len(rest)))
    return TokenTrace((*opening, *rest), turns, (0.0,) * len(turns), images)


def batch(*traces):
    return collate(traces, pad_id=0, image_token_id=99, grid_of=lambda _: (1, 1))


def test_a_shared_opening_is_packed_once():
    packing = pack(batch(trace([5, 6], [7, 8, 9]), trace([1], [2]), trace([5, 6], [3])))
    ids = [5, 6, 7, 8, 9, 1, 2, 0, 0, 0, 5, 6, 3, 0, 0]
    assert [ids[place] for place in packing.source] == [5, 6, 7, 8, 9, 1, 2, 3]
    assert packing.slots.tolist() == [[0, 1, 2, 3, 4], [5, 6, 0, 0, 0], [0, 1, 7, 0, 0]]
    assert packing.segments == (
        Segment(slice(0, 5), slice(0, 0)),
        Segment(slice(5, 7), slice(5, 5)),
        Segment(slice(7, 8), slice(0, 2)),
    )


def test_other_pictures_make_another_opening():
    red, blue = (ImageRef(f"mini://{colour}") for colour in ("red", "blue"))
    rows = [trace([99, 6], [7], (picture,)) for picture in (red, blue, red)]
    assert [segment.opening for segment in pack(batch(*rows)).segments] == [slice(0, 0), slice(2 + 1, 3), slice(0, 2)]


def test_micro_batches_count_a_shared_opening_once_and_keep_groups_whole():
    a, b = [1] * 10, [2] * 10
    rows = [trace(a, [7] * 5), trace(b, [7] * 5), trace(a, [7] * 6), trace(b, [7] * 6)]  # 21 packed tokens per group
    assert packed_batches(rows, 42) == [[0, 2, 1, 3]]
    assert packed_batches(rows, 41) == [[0, 2], [1, 3]]
    assert packed_batches(rows, 20) == [[0], [2], [1], [3]]
    assert packed_batches(rows, 1) == [[0], [2], [1], [3]]
    assert packed_batches([], 10) == []


def test_a_group_too_large_for_one_micro_batch_fills_several():
    rows = [trace([1] * 10, [7] * 5) for _ in range(5)]
    assert packed_batches(rows, 21) == [[0, 1], [2, 3], [4]]


def test_a_row_without_an_answer_adds_no_token():
    packing = pack(batch(trace([5, 6], []), trace([5, 6], [])))
    assert packing.source.tolist() == [0, 1]
    assert packing.slots.tolist() == [[0, 1], [0, 1]]
    assert packing.segments == (Segment(slice(0, 2), slice(0, 0)), Segment(slice(2, 2), slice(0, 2)))
