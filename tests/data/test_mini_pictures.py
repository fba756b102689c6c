from random import Random

import numpy as np
import pytest

from steer_lit.data.mini_pictures import (
    Picture,
    caption,
    draw,
    parse,
    random_picture,
)
from steer_lit.mini_world import COLOURS, HAZARDOUS, OBJECTS, SIDE
from steer_lit.types import PictureGold

URI = "mini://knife?colour=red&x=20&y=31&size=60&bg=3"


def pixels(object: str, colour: str = "blue") -> np.ndarray:
    return np.asarray(draw(Picture(object, colour, 18, 18, 75, 0).uri), dtype=float)


def test_a_uri_holds_every_fact_and_reads_back():
    assert parse(URI) == Picture("knife", "red", 20, 31, 60, 3)
    assert parse(URI).uri == URI
    assert parse(URI).gold == PictureGold("knife", "red", hazardous=True)
    assert caption(URI) == "a red knife"


def test_random_pictures_read_back_and_keep_the_given_object():
    rng = Random(0)
    uris = [random_picture(rng) for _ in range(500)]
    assert {parse(uri).object for uri in uris} == set(OBJECTS)
    assert {parse(uri).colour for uri in uris} == set(COLOURS)
    assert all(parse(random_picture(rng, "saw")).gold.object == "saw" for _ in range(20))
    assert [random_picture(Random(3)) for _ in range(2)] == [random_picture(Random(3))] * 2


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("file://knife?colour=red&x=0&y=0&size=60&bg=0", "mini://"),
        ("mini://knife?colour=red&x=0&y=0&size=60", "bg"),
        ("mini://knife?colour=red&x=0&y=0&size=60&bg=0&z=1", "z"),
        ("mini://spoon?colour=red&x=0&y=0&size=60&bg=0", "object must be one of"),
        ("mini://knife?colour=pink&x=0&y=0&size=60&bg=0", "colour must be one of"),
        ("mini://knife?colour=red&x=0&y=0&size=20&bg=0", "size must be 45..75"),
        ("mini://knife?colour=red&x=60&y=0&size=60&bg=0", "inside the 112 x 112"),
        ("mini://knife?colour=red&x=a&y=0&size=60&bg=0", "whole numbers"),
    ],
)
def test_a_bad_uri_is_refused_with_the_reason(uri, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse(uri)


def test_a_picture_is_rgb_and_the_same_every_time():
    image = draw(URI)
    assert (image.size, image.mode) == ((SIDE, SIDE), "RGB")
    assert image.tobytes() == draw(URI).tobytes()


@pytest.mark.parametrize("object", OBJECTS)
def test_an_object_fills_its_square_only(object):
    drawn = np.abs(pixels(object) - 255).sum(axis=2) > 30
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    # The square is 18..92. An outline may extend beyond it by half its width.
    assert min(rows[0], columns[0]) >= 18 - 3
    assert max(rows[-1], columns[-1]) <= 92 + 3
    # At least in one direction it spans several patches of 14 pixels.
    assert max(rows[-1] - rows[0], columns[-1] - columns[0]) >= 0.85 * 75


@pytest.mark.parametrize("object", OBJECTS)
def test_the_colour_is_visible(object):
    for colour, rgb in COLOURS.items():
        share = (np.abs(pixels(object, colour) - rgb).max(axis=2) < 8).mean()
        assert share > 0.04, (object, colour)


def test_no_two_objects_look_alike():
    """Silhouettes in cells of 14 pixels, the patches of a vision tower. Any two differ by more than 5 full
    cells of 64.
    """
    cells = {name: np.abs(pixels(name) - 255).max(axis=2).reshape(8, 14, 8, 14).mean(axis=(1, 3)) for name in OBJECTS}
    for first in OBJECTS:
        for second in OBJECTS:
            if first < second:
                assert np.abs(cells[first] - cells[second]).sum() > 5 * 128, (first, second)


def test_half_of_the_objects_are_hazardous():
    assert len(OBJECTS) == 12
    assert len(HAZARDOUS) == 6
