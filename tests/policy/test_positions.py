"""M-RoPE positions, compared with examples worked out by hand."""

import pytest

from steer_lit.policy.positions import rope_positions

P = 9  # the image token


def rows(ids, grids, start=0):
    positions, following = rope_positions(ids, P, grids, start)
    return positions.tolist(), following


def test_text_alone_counts():
    assert rows([1, 2, 3], []) == ([[0, 1, 2]] * 3, 3)


def test_trap_11_one_picture_spreads_over_height_and_width():
    # Two text tokens have 0 and 1. The 2 x 3 picture starts at 2 in all three axes. Text continues at 2 + max(2, 3) =
    # 5.
    positions, following = rows([1, 2, P, P, P, P, P, P, 3], [(2, 3)])
    assert positions == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5],
        [0, 1, 2, 2, 2, 3, 3, 3, 5],
        [0, 1, 2, 3, 4, 2, 3, 4, 5],
    ]
    assert following == 6


def test_trap_11_two_pictures_and_one_in_a_later_turn():
    positions, following = rows([P, 1, P, P, 2], [(1, 1), (2, 1)])
    assert positions == [[0, 1, 2, 2, 4], [0, 1, 2, 3, 4], [0, 1, 2, 2, 4]]
    assert following == 5


def test_positions_computed_in_two_parts_equal_the_whole():
    ids, grids = [1, P, P, P, P, 2, 3, P, P, 4], [(2, 2), (1, 2)]
    whole, end = rope_positions(ids, P, grids)
    first, middle = rope_positions(ids[:6], P, grids[:1])
    second, end_of_parts = rope_positions(ids[6:], P, grids[1:], start=middle)
    assert whole.tolist() == [a + b for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    assert end == end_of_parts


@pytest.mark.parametrize(
    ("ids", "grids", "message"),
    [([P], [], "more image tokens"), ([1], [(1, 1)], "no image tokens"), ([P, 1], [(1, 2)], "fewer image tokens")],
)
def test_pictures_and_image_tokens_must_agree(ids, grids, message):
    with pytest.raises(ValueError, match=message):
        rope_positions(ids, P, grids)
