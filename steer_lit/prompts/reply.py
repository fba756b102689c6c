"""A parser that turns a model's reply into a checked record or says why it cannot; nothing is guessed.

A reply is one JSON object, maybe in a code fence, maybe with prose around it. A judge may repeat the hostile text that
it was shown. So a reply with a second object is refused, and so is an object that the shown text holds word for word
(TRAPS 36).
"""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar
from unicodedata import category, combining, normalize

from pydantic import BaseModel, ConfigDict, ValidationError

from steer_lit.files.lines import unique_keys
from steer_lit.prompts.fill import BAR, writable

_THOUGHT, _THOUGHT_ENDS = "<think>", "</think>"  # reasoning models may write their thoughts into the reply
_PROBLEMS_NAMED = 4
_LONGEST = 200_000  # characters, some 50,000 tokens; megabytes would be read for seconds, while other requests wait
_TRIES = 50  # ends of thoughts, most of them quoted; a server could send so many that reading them took hours
_MARKS = ("Cf", "Cc", "Mn", "Me")  # not Mc, vowel signs; but those of it that combine, which `normalize` has to sort
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0\ufffd"  # show nothing, though by their categories they would


class Reply(BaseModel):
    """The base of every shape of a reply: exact types ("10" and 10.0 do not pass for 10), no extra keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    _by: str = ""

    @property
    def by(self) -> str:
        """The model that wrote the reply, as its server names it; "" if that does not say."""
        return self._by

    @classmethod
    def schema_for_server(cls) -> dict[str, Any]:
        """Return the JSON schema for structured output: every key is required, as servers' strict modes want it."""
        schema = cls.model_json_schema()
        for field in schema["properties"].values():
            field.pop("default", None)
        return {**schema, "required": list(schema["properties"])}


Shape = TypeVar("Shape", bound=Reply)


class Unreadable(ValueError):
    """A reply that is not what was asked for. The message can be shown to the model that wrote it."""


def read_reply(text: str, shape: type[Shape], shown: str = "", by: str = "") -> Shape:
    """Return the one object in `text`, checked against `shape`, as written `by` a model.

    `shown` is the untrusted text that the model was asked about. Raises Unreadable, also for an object copied from it.
    """
    if len(text) > _LONGEST:
        raise Unreadable(f"{len(text):,} characters are too many")
    found, written = _only_object(text)
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:  # it can be read, but is too deep to be written
        raise Unreadable("the JSON object is nested too deeply") from None
    except UnicodeEncodeError:  # an escape such as \\ud83d: neither tokenizers nor files take it
        raise Unreadable("the JSON object holds half of a surrogate pair") from None
    if _squeezed(written) in _squeezed(writable(shown)):
        raise Unreadable("the JSON object was copied from the text to be judged")
    try:
        answer = shape.model_validate(found)
    except ValidationError as error:
        told = [_told(problem) for problem in error.errors(include_url=False, include_input=False)[:_PROBLEMS_NAMED]]
        raise Unreadable("; ".join(told)) from None
    answer._by = by
    return answer


def _only_object(text: str) -> tuple[dict[str, Any], str]:
    """Return the first object after which no thoughts end, and its text. A brace after it is refused: one of two
    objects may be the policy's. A `</think>` inside the object ends nothing: it may be quoted from the judged text.
    """
    start = text.find("{")
    for _ in range(_TRIES):
        found, end = _object_at(text, start)
        ended = text.find(_THOUGHT_ENDS, end)
        if start < 0 or ended < 0:
            break
        start = text.find("{", ended)
    else:
        raise Unreadable(f"its thoughts end {_TRIES} times")
    if start < 0:
        raise Unreadable("there is no JSON object in the reply")
    if _THOUGHT in text[:start].rpartition(_THOUGHT_ENDS)[2]:  # cut there: an object in thoughts is a draft
        raise Unreadable("the reply ends in its thoughts")
    if isinstance(found, Exception):
        raise Unreadable(f"the JSON cannot be read: {str(found) or type(found).__name__}")
    if "{" in text[end:]:
        raise Unreadable("there is more than one JSON object in the reply")
    return found, text[start:end]


def _object_at(text: str, start: int) -> tuple[dict[str, Any] | Exception, int]:
    """Return the object that begins at `start`, or why it cannot be read, and where it ends, or `start`."""
    try:
        return _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        return error, start


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(object_pairs_hook=unique_keys, parse_constant=_refuse, strict=False)


def _told(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    said = problem["msg"].removeprefix("Value error, ")  # pydantic's, of a validator of ours
    return f"{where}: {said}" if where else said


def _squeezed(text: str) -> str:
    """Return the text without whitespace, bars, invisible characters and accents, wide letters made plain.

    Fencing adds the first two, a policy may add the others, and a copy is a copy with or without them. Marks go first:
    normalising takes the square of their number in a row. Those that it makes itself, out of letters, go after it.
    """
    plain = normalize("NFKC", _without_marks(text.replace(BAR.strip(), "")))
    return _without_marks("".join(plain.split()))


def _without_marks(text: str) -> str:
    return "".join(c for c in text if not (c in _BLANKS or combining(c) or category(c) in _MARKS))
