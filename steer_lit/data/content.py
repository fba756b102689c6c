"""What all row shapes share: messages, their contents and their pictures, checked field by field.

Messages come in two styles, `{role, content}` and `{from, value}`. A content is a string, in which each `<image>`
stands for the row's next picture, or a list of parts, which names pictures in their places and takes text literally.
A null counts as absent, because Parquet writes one for every key that another row has.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import groupby

from steer_lit.data.files import ONE_A_LINE
from steer_lit.data.images import picture_named
from steer_lit.errors import RowError
from steer_lit.numbers import counted
from steer_lit.types import ImageRef, Message, Part, Role

IMAGE_MARK = "<image>"
DATA_URL = "data:image/"  # begins a picture that is written out as text
_INSIDE = "is a picture inside the row: `python -m steer_lit.data.convert` saves it as a file that rows name"
_ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "system": "system",
}
_MARKS = 64  # in a row; normalising a text takes the square of their number
_CLOSE = 0.75  # `kidn` is `kind`, but `messages` is not `images`
PICTURES = ("images", "image", "metadata.image")  # a row of any shape names its pictures in one of these
MESSAGE_KEYS = frozenset({"role", "from", "content", "value", "images", "image", "strategy", "gold", "score"})
_PICTURE_TYPES = ("image", "image_url")
_UNREAD = ("videos", "video", "audios", "audio", "tools")


class Mark:
    """A place in a message that waits for the row's next picture."""


MARK = Mark()


@dataclass(frozen=True, slots=True)
class Draft:
    """A message before its `<image>` marks are filled.

    `path` names the message in errors, such as `messages[2]`; `item` is the row's own message, for its other keys.
    """

    role: Role
    parts: tuple[Part | Mark, ...]
    path: str
    item: Mapping[str, object] = field(default_factory=dict)

    @property
    def marks(self) -> int:
        return sum(part is MARK for part in self.parts)


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row and its place, so that every error names file, row and field."""

    values: Mapping[str, object]
    source: str
    number: int

    @classmethod
    def of(cls, value: object, source: str, number: int) -> RawRow:
        if not isinstance(value, Mapping):
            remedy = f": {ONE_A_LINE}" if isinstance(value, list) and source.lower().endswith(".jsonl") else ""
            raise RowError(source, number, "", f"a row must be an object, got {_kind(value)}{remedy}")
        row = cls(value, source, number)
        for name in _UNREAD:
            if row.get(name):
                raise row.error(name, "only text and pictures are read")
        return row

    def error(self, field: str, reason: str) -> RowError:
        return RowError(self.source, self.number, field, reason)

    def get(self, *path: str) -> object:
        """Return the value at `path`, None if it or a step is absent. Raises RowError if a step is not an object."""
        value: object = self.values
        for depth, name in enumerate(path):
            if absent(value):
                return None
            if not isinstance(value, Mapping):
                raise self.error(".".join(path[:depth]), f"must be an object, got {_kind(value)}")
            value = value.get(name)
        return None if absent(value) else value

    def first(self, names: Iterable[str]) -> str:
        """Return the first key that has a value; one with an empty list only if no other has any; "" if none has."""
        given = next((name for name in names if self.get(name) is not None), "")
        return next((name for name in names if self.get(name) not in (None, [])), given)

    def text(self, value: object, field: str) -> str:
        """Return `value` unchanged. Raises RowError unless it is a string that can be tokenized and written again."""
        if not isinstance(value, str):
            raise self.error(field, f"must be text, got {_kind(value)}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error(field, "holds half of a surrogate pair: the text was cut or decoded wrongly") from None
        if not value.isascii() and _many_marks(value):
            raise self.error(field, f"has more than {_MARKS} accents on one letter: no language does")
        return value

    def listed(self, value: object, field: str, wanted: str = "a list") -> Sequence[object]:
        if not isinstance(value, list | tuple):
            raise self.error(field, f"must be {wanted}, got {_kind(value)}")
        return value

    def frozen(self, value: object, field: str) -> object:
        """Return free-form facts as records keep them: tuples for lists, None for NaN, and no key without a value."""
        if absent(value):
            return None
        if isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self.text(value, field)
        if isinstance(value, list | tuple):
            return tuple(self.frozen(item, field) for item in value)
        if isinstance(value, Mapping):
            kept = {key: item for key, item in value.items() if not absent(item)}
            return {self.text(key, field): self.frozen(item, f"{field}.{key}") for key, item in kept.items()}
        raise self.error(field, f"must be text, a number, true or false, a list or an object, got {_kind(value)}")


def read_messages(
    row: RawRow, value: object, field: str, *, skip: Collection[str] = (), drop_incomplete: bool = False
) -> list[Draft]:
    """Read a list of messages in either style, without the roles to `skip`, whose contents are not asked for.

    A blank system message is left out. `drop_incomplete` also leaves out messages without a role or a content.
    """
    drafts = []
    for index, item in enumerate(row.listed(value, field)):
        path = f"{field}[{index}]"
        if not isinstance(item, Mapping):
            raise row.error(path, f"must be an object, got {_kind(item)}")
        named = _first(item, "role", "from")
        role = _ROLES.get(named) if isinstance(named, str) else None
        if role in skip:
            continue
        content = _first(item, "content", "value")
        here = next((name for name in ("images", "image") if says_something(item.get(name))), None)
        if here and not _held_in(row):
            raise row.error(f"{path}.{here}", "name pictures in the row's `images`, or as parts of the content")
        if drop_incomplete and not (named and content):
            continue
        if role is None:
            raise row.error(f"{path}.role", f"is {named!r}, must be one of {', '.join(_ROLES)}")
        if role == "system" and (not content or _blank(_parts(row, content, path))):
            continue
        drafts.append(Draft(role, read_content(row, content, f"{path}.content"), path, item))
    return drafts


def read_content(row: RawRow, content: object, field: str) -> tuple[Part | Mark, ...]:
    """Read one message's content, text with marks or a list of parts. Raises RowError if it is blank."""
    if _blank(parts := _parts(row, content, field)):
        raise row.error(field, "is empty")
    return parts


def _pictures(row: RawRow, field: str) -> list[ImageRef]:
    """Read one path or a list of paths; return no picture if the field is absent or empty."""
    value = row.get(*field.split("."))
    if value is None or value == "":
        return []
    if isinstance(value, Mapping):
        return [_picture(row, value, field)]
    paths = [value] if isinstance(value, str) else row.listed(value, field)
    return [_picture(row, path, f"{field}[{index}]") for index, path in enumerate(paths)]


def place_pictures(row: RawRow, drafts: Sequence[Draft], *, in_front: bool) -> list[Message]:
    """Return the messages with each mark replaced by the next picture.

    The pictures come from the first of the row's fields PICTURES that has any. Raises RowError unless there are as many
    pictures as marks. With `in_front`, a row may also have no marks: its pictures
    then open the first user message, except those that a part already names, by a longer or shorter path.
    """
    held_in = _held_in(row) or PICTURES[0]
    pictures = _pictures(row, held_in)
    marks = sum(draft.marks for draft in drafts)
    opening: list[ImageRef] = []
    if in_front and marks == 0:
        named = {_path(part) for draft in drafts for part in draft.parts if isinstance(part, ImageRef)}
        ends = {path[at:] for path in named for at in range(len(path))}
        opening, pictures = [one for one in pictures if not _is_named(_path(one), named, ends)], []
    if len(pictures) != marks:
        rule = f"every picture has one {IMAGE_MARK} in a user's text, where it belongs"
        have, wanted = counted(len(pictures), "picture"), counted(marks, f"{IMAGE_MARK} mark")
        others = [name for name, value in row.values.items() if name not in PICTURES and not absent(value)]
        near = [f"; {name!r} is not read. Did you mean {found}?" for name in others if (found := meant(name, PICTURES))]
        raise row.error(held_in, f"{have} for {wanted}: {rule}{near[0] if near and not pictures else ''}")
    waiting = iter(pictures)
    messages = []
    for draft in drafts:
        parts = [next(waiting) if isinstance(part, Mark) else part for part in draft.parts]
        if opening and draft.role == "user":
            parts, opening = [*opening, *parts], []
        if draft.role != "user" and any(isinstance(part, ImageRef) for part in parts):
            raise row.error(draft.path, f"only user messages hold pictures, this one is from the {draft.role}")
        messages.append(Message(draft.role, tuple(parts)))
    return messages


def _held_in(row: RawRow) -> str | None:
    """Return which of the fields PICTURES names the row's pictures. What else `metadata` calls image is a fact."""
    found = ((name, row.get(*name.split("."))) for name in PICTURES)
    return next((name for name, value in found if value and ("." not in name or _like_a_picture(value))), None)


def _like_a_picture(value: object) -> bool:
    return isinstance(value, str | list) or (isinstance(value, Mapping) and "bytes" in value)


def _path(ref: ImageRef) -> tuple[str, ...]:
    return tuple(name for name in re.split(r"[/\\]", ref.uri) if name not in ("", "."))


def _is_named(path: tuple[str, ...], named: Container[tuple[str, ...]], ends: Container[tuple[str, ...]]) -> bool:
    """Return whether one path ends with the other: `a.png` may be `/there/a.png`, but `/here/a.png` is not."""
    return path in ends or any(path[at:] in named for at in range(len(path)))


def _parts(row: RawRow, content: object, field: str) -> tuple[Part | Mark, ...]:
    if isinstance(content, str):
        return split_marks(row.text(content, field))
    parts: list[Part | Mark] = []
    for index, item in enumerate(row.listed(content, field, "text or a list of parts")):
        path = f"{field}[{index}]"
        if isinstance(item, str):
            item = {"type": "text", "text": item}
        if not isinstance(item, Mapping):
            raise row.error(path, f"must be text or an object, got {_kind(item)}")
        kind = item.get("type")
        if kind == "text":
            parts.append(row.text(_first(item, "text", "value"), path))
        elif kind in _PICTURE_TYPES:
            named = _first(item, "image", "image_url", "value", "path")
            if isinstance(named, Mapping):  # OpenAI's {"image_url": {"url": ...}}
                named = named.get("url")
            parts.append(MARK if not named else _picture(row, named, path))
        else:
            raise row.error(f"{path}.type", f"is {kind!r}, must be one of text, {', '.join(_PICTURE_TYPES)}")
    return tuple(part for part in parts if part != "")


def split_marks(text: str) -> tuple[Part | Mark, ...]:
    """Split text at its `<image>` marks and change nothing else: a newline beside a mark stays in the text."""
    parts: list[Part | Mark] = []
    for index, piece in enumerate(text.split(IMAGE_MARK)):
        if index:
            parts.append(MARK)
        if piece:
            parts.append(piece)
    return tuple(parts)


def _blank(parts: Sequence[Part | Mark]) -> bool:
    return not any(part.strip() if isinstance(part, str) else part for part in parts)


def _picture(row: RawRow, value: object, field: str) -> ImageRef:
    if isinstance(value, Mapping) and "bytes" in value:  # how `datasets` keeps pictures in Parquet
        raise row.error(field, _INSIDE)
    path = row.text(value, field)
    if path.startswith(DATA_URL):
        raise row.error(field, _INSIDE)
    if not path.strip():
        raise row.error(field, "is empty")
    return picture_named(path)


def _first(item: Mapping[str, object], *names: str) -> object:
    """Return the first value that is not absent."""
    return next((item[name] for name in names if not absent(item.get(name))), None)


def meant(key: str, names: Collection[str]) -> str:
    """Return the one of `names` that a key nobody reads is spelt like, or "". A `prompt_id` is no `prompt`.

    But a key such as `image_path` means pictures, without which a dialogue would be played unnoticed.
    """
    close = [name for name in get_close_matches(key, names, 1, _CLOSE) if not key.startswith(f"{name}_")]
    pictures = [name for name in ("images", "image") if name in names and key.startswith("image")]
    return next(iter([*close, *pictures]), "")


def absent(value: object) -> bool:
    """Return whether a value counts as null: pandas writes NaN for a missing number, and JSON has no infinity."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def says_something(value: object) -> bool:
    return not absent(value) and value not in ("", [], {})


def _kind(value: object) -> str:
    """Return a value's type in the words of JSON."""
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "an object" if isinstance(value, Mapping) else type(value).__name__)


def _many_marks(text: str) -> bool:
    runs = groupby(map(unicodedata.combining, text), bool)
    return any(combining and len(list(run)) > _MARKS for combining, run in runs)
