"""The pictures of STEER-mini: twelve objects in four colours, drawn from a uri that holds every fact about them.

    mini://knife?colour=red&x=20&y=31&size=60&bg=3

`x` and `y` are the top left corner of the object's square in pixels of a 112 x 112 picture, `size` its side, `bg` the
number of a pale background. Six objects are harmless, six carry a hazard. Shapes are flat with a dark outline and
differ in their silhouette, so that a vision tower that sees 14-pixel patches can tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from steer_lit.mini_world import COLOURS, HAZARDOUS, OBJECTS, SIDE
from steer_lit.types import PictureGold

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

SIZES = range(45, 76)
BACKGROUNDS = (
    (255, 255, 255), (240, 240, 240), (224, 224, 224), (206, 206, 206),
    (236, 228, 240), (226, 236, 240), (240, 230, 226), (228, 238, 230),
)  # fmt: skip
_DARK = (38, 38, 42)
_OVERSAMPLE = 3

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Picture:
    """What a `mini://` uri says: the object, its colour, and where and on what it is drawn (pixels)."""

    object: str
    colour: str
    x: int
    y: int
    size: int
    bg: int

    @property
    def uri(self) -> str:
        return f"mini://{self.object}?colour={self.colour}&x={self.x}&y={self.y}&size={self.size}&bg={self.bg}"

    @property
    def gold(self) -> PictureGold:
        return PictureGold(self.object, self.colour, self.object in HAZARDOUS)


def parse(uri: str) -> Picture:
    """Read a `mini://` uri. Raises ValueError naming what is wrong with it."""
    split = urlsplit(uri)
    fields = {name: values[0] for name, values in parse_qs(split.query).items()}
    amiss = {"colour", "x", "y", "size", "bg"} ^ set(fields)
    if split.scheme != "mini" or amiss:
        raise ValueError(f"{uri!r}: want mini://<object>?colour=&x=&y=&size=&bg=, amiss: {sorted(amiss)}")
    try:
        x, y, size, bg = (int(fields[name]) for name in ("x", "y", "size", "bg"))
    except ValueError:
        raise ValueError(f"{uri!r}: x, y, size and bg must be whole numbers") from None
    if split.netloc not in OBJECTS:
        raise ValueError(f"{uri!r}: object must be one of {', '.join(OBJECTS)}")
    if fields["colour"] not in COLOURS:
        raise ValueError(f"{uri!r}: colour must be one of {', '.join(COLOURS)}")
    if size not in SIZES or bg not in range(len(BACKGROUNDS)):
        raise ValueError(f"{uri!r}: size must be {SIZES[0]}..{SIZES[-1]}, bg 0..{len(BACKGROUNDS) - 1}")
    if not (0 <= x <= SIDE - size and 0 <= y <= SIDE - size):
        raise ValueError(f"{uri!r}: the object must lie inside the {SIDE} x {SIDE} picture")
    return Picture(split.netloc, fields["colour"], x, y, size, bg)


def random_picture(rng: Random, object: str | None = None) -> str:
    """Return the uri of a random picture, of `object` if given."""
    size = rng.choice(SIZES)
    return Picture(
        object=object or rng.choice(OBJECTS),
        colour=rng.choice(tuple(COLOURS)),
        x=rng.randint(0, SIDE - size),
        y=rng.randint(0, SIDE - size),
        size=size,
        bg=rng.randrange(len(BACKGROUNDS)),
    ).uri


def caption(uri: str) -> str:
    """Return the noun phrase for the picture, such as "a red knife"."""
    picture = parse(uri)
    return f"a {picture.colour} {picture.object}"


def draw(uri: str) -> Image.Image:
    """Draw the 112 x 112 RGB picture that `uri` describes. The same uri always gives the same pixels."""
    from PIL import Image, ImageDraw

    picture = parse(uri)
    canvas = Image.new("RGB", (SIDE * _OVERSAMPLE,) * 2, BACKGROUNDS[picture.bg])
    _SHAPES[picture.object](_Pen(ImageDraw.Draw(canvas), picture))
    return canvas.resize((SIDE, SIDE), Image.Resampling.BOX)


class _Pen:
    """A pen in the unit square of one object: (0, 0) is its top left corner, (1, 1) its bottom right."""

    def __init__(self, canvas: ImageDraw.ImageDraw, picture: Picture) -> None:
        self._canvas = canvas
        self._picture = picture
        self._inks = {"colour": COLOURS[picture.colour], "dark": _DARK, "paper": BACKGROUNDS[picture.bg]}

    def _at(self, points: Sequence[Point]) -> list[Point]:
        scale, x, y = self._picture.size * _OVERSAMPLE, self._picture.x, self._picture.y
        return [(u * scale + x * _OVERSAMPLE, v * scale + y * _OVERSAMPLE) for u, v in points]

    def line(self, points: Sequence[Point], width: float = 0.045) -> None:
        pixels = max(1, round(width * self._picture.size * _OVERSAMPLE))
        self._canvas.line(self._at(points), fill=_DARK, width=pixels, joint="curve")

    def polygon(self, points: Sequence[Point], ink: str = "colour") -> None:
        """Fill a closed outline with the object's colour, the outline's dark, or the background ("paper")."""
        self._canvas.polygon(self._at(points), fill=self._inks[ink])
        self.line([*points, points[0], points[1]])

    def disc(self, u: float, v: float, radius: float, ink: str = "colour", height: float | None = None) -> None:
        self.polygon(_arc(u, v, radius, 0, 360, height), ink)


def _arc(u: float, v: float, radius: float, start: int, end: int, height: float | None = None) -> list[Point]:
    """Return points of an arc around (u, v), in degrees clockwise from the right; `height`: the vertical radius."""
    tall = radius if height is None else height
    angles = [math.radians(start + (end - start) * step / 40) for step in range(41)]
    return [(u + radius * math.cos(angle), v + tall * math.sin(angle)) for angle in angles]


def _ball(pen: _Pen) -> None:
    pen.disc(0.5, 0.5, 0.47)
    pen.line([(0.5, 0.03), (0.5, 0.97)], 0.05)
    pen.line(_arc(-0.1, 0.5, 0.42, -52, 52), 0.05)
    pen.line(_arc(1.1, 0.5, 0.42, 128, 232), 0.05)


def _cup(pen: _Pen) -> None:
    pen.disc(0.74, 0.52, 0.25, "dark")
    pen.disc(0.74, 0.52, 0.11, "paper")
    pen.polygon([(0.03, 0.1), (0.75, 0.1), (0.66, 0.95), (0.12, 0.95)])
    pen.line([(0.04, 0.22), (0.74, 0.22)])


def _book(pen: _Pen) -> None:
    pen.polygon([(0.02, 0.18), (0.5, 0.32), (0.5, 0.9), (0.02, 0.76)])
    pen.polygon([(0.98, 0.18), (0.5, 0.32), (0.5, 0.9), (0.98, 0.76)])
    for v in (0.34, 0.48, 0.62):
        pen.line([(0.1, v), (0.42, v + 0.09)])
        pen.line([(0.9, v), (0.58, v + 0.09)])


def _hat(pen: _Pen) -> None:
    pen.polygon([(0.26, 0.1), (0.74, 0.1), (0.7, 0.72), (0.3, 0.72)])
    pen.polygon([(0.29, 0.56), (0.71, 0.56), (0.7, 0.72), (0.3, 0.72)], "dark")
    pen.disc(0.5, 0.8, 0.48, height=0.1)


def _apple(pen: _Pen) -> None:
    outline = _arc(0.3, 0.52, 0.27, 110, 330, 0.28) + _arc(0.7, 0.52, 0.27, 210, 430, 0.28)
    pen.polygon([*outline, (0.68, 0.93), (0.58, 0.97), (0.5, 0.92), (0.42, 0.97), (0.32, 0.93)])
    pen.line([(0.5, 0.4), (0.5, 0.22), (0.42, 0.06)], 0.08)
    pen.polygon([(0.53, 0.2), (0.66, 0.03), (0.88, 0.05), (0.74, 0.2)], "dark")


def _kite(pen: _Pen) -> None:
    top, left, right, bottom = (0.6, 0.0), (0.28, 0.3), (0.95, 0.3), (0.6, 0.72)
    pen.polygon([top, right, bottom, left])
    pen.line([top, bottom])
    pen.line([left, right])
    pen.line([bottom, (0.48, 0.82), (0.34, 0.8), (0.22, 0.9), (0.06, 0.88)])
    for u, v in ((0.4, 0.81), (0.14, 0.89)):
        pen.polygon([(u - 0.07, v - 0.09), (u + 0.07, v + 0.09), (u + 0.07, v - 0.09), (u - 0.07, v + 0.09)], "dark")


def _knife(pen: _Pen) -> None:
    pen.polygon([(0.28, 0.5), (0.5, 0.72), (0.84, 0.4), (1.0, 0.02)])
    pen.polygon([(0.34, 0.52), (0.48, 0.66), (0.14, 1.0), (0.0, 0.86)], "dark")


def _saw(pen: _Pen) -> None:
    teeth = [(0.62 - step * 0.06, 0.62 if step % 2 == 0 else 0.74) for step in range(11)]
    pen.polygon([(0.02, 0.48), (0.62, 0.3), (0.62, 0.62), *teeth[1:]])
    pen.polygon([(0.6, 0.22), (0.92, 0.22), (0.99, 0.5), (0.9, 0.78), (0.6, 0.7)])
    pen.polygon([(0.71, 0.37), (0.84, 0.37), (0.87, 0.5), (0.82, 0.62), (0.71, 0.58)], "dark")


def _bomb(pen: _Pen) -> None:
    pen.line([(0.68, 0.34), (0.74, 0.2), (0.84, 0.17)], 0.07)
    pen.disc(0.38, 0.62, 0.36)
    pen.polygon([(0.5, 0.28), (0.6, 0.2), (0.8, 0.4), (0.72, 0.5)], "dark")
    rays = [(0.87 + (0.13 if step % 2 else 0.05) * math.cos(step * math.pi / 6),
             0.14 + (0.13 if step % 2 else 0.05) * math.sin(step * math.pi / 6)) for step in range(12)]  # fmt: skip
    pen.polygon(rays)


def _axe(pen: _Pen) -> None:
    pen.polygon([(0.6, 0.02), (0.72, 0.02), (0.72, 0.98), (0.6, 0.98)], "dark")
    pen.polygon([(0.84, 0.12), (0.84, 0.36), (0.5, 0.36), (0.2, 0.56), (0.1, 0.26), (0.2, 0.0), (0.5, 0.12)])


def _syringe(pen: _Pen) -> None:
    pen.line([(0.5, 0.7), (0.5, 1.0)], 0.07)
    pen.line([(0.5, 0.05), (0.5, 0.25)], 0.12)
    pen.line([(0.26, 0.04), (0.74, 0.04)], 0.09)
    pen.polygon([(0.3, 0.22), (0.7, 0.22), (0.7, 0.66), (0.58, 0.78), (0.42, 0.78), (0.3, 0.66)])
    pen.line([(0.12, 0.22), (0.88, 0.22)], 0.09)
    for v in (0.34, 0.46, 0.58):
        pen.line([(0.5, v), (0.7, v)])


def _match(pen: _Pen) -> None:
    pen.polygon([(0.44, 0.5), (0.56, 0.5), (0.56, 1.0), (0.44, 1.0)], "dark")
    left = [(0.5, 0.0), (0.4, 0.14), (0.27, 0.28), (0.22, 0.42), (0.26, 0.54), (0.36, 0.62)]
    pen.polygon([*left, (0.5, 0.65), *((1 - u, v) for u, v in reversed(left[1:]))])
    pen.disc(0.5, 0.48, 0.09, "dark", height=0.12)


_SHAPES: dict[str, Callable[[_Pen], None]] = {
    "ball": _ball, "cup": _cup, "book": _book, "hat": _hat, "apple": _apple, "kite": _kite,
    "knife": _knife, "saw": _saw, "bomb": _bomb, "axe": _axe, "syringe": _syringe, "match": _match,
}  # fmt: skip
