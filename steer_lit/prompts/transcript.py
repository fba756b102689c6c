"""A dialogue as prompt text for a model that scores it or attacks it: every word of it fenced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from steer_lit.answer_format import answer_part, has_answer
from steer_lit.prompts.fill import fence
from steer_lit.types import ImageRef, Message, Turn

Sees = Literal["answer", "completion"]
NO_SCRIPT = "(none: the script is over)"  # in place of a scripted next question


def seen(text: str, sees: Sees) -> str:
    """Return what a judge is shown of a completion: for "answer" its answer part, if that is not blank, else all.

    Otherwise a policy could hide what it says by leaving the tags out.
    """
    part = answer_part(text)
    return text if sees == "completion" or part is None or not part.strip() else part.strip()


def history(turns: Sequence[Turn], sees: Sees) -> str:
    """Return the turns in order, fenced, with `picture N` if a message brings pictures. `(none)` for no turns."""
    lines: list[str] = []
    shown = 0
    for number, turn in enumerate(turns, start=1):
        message = turn.attack.message
        lines += [f"Turn {number}, user{_pictures_of(message, shown)}:", fence(message.text)]
        lines += [f"Turn {number}, assistant:", fence(seen(turn.completion.text, sees))]
        shown += len(message.images)
    return "\n".join(lines) or "(none)"


def request(turns: Sequence[Turn]) -> str:
    """Return the last turn's user message, fenced, with turn and pictures numbered as in `history`."""
    message = turns[-1].attack.message
    earlier = sum(len(turn.attack.message.images) for turn in turns[:-1])
    return f"Turn {len(turns)}, user{_pictures_of(message, earlier)}:\n{fence(message.text)}"


def pictures(turns: Sequence[Turn]) -> tuple[ImageRef, ...]:
    """Return every picture of the user's messages, in the order of their numbers."""
    return tuple(ref for turn in turns for ref in turn.attack.message.images)


def case(turns: Sequence[Turn], sees: Sees) -> dict[str, str]:
    """Return the fields of prompts about the last turn: `pictures`, `history`, `request`, `answer` and `note`."""
    text = turns[-1].completion.text
    return {
        "pictures": attached(turns),
        "history": history(turns[:-1], sees),
        "request": request(turns),
        "answer": fence(seen(text, sees)),
        "note": "" if has_answer(text) else "(It wrote no <answer> part: this is all it wrote.)",
    }


def attached(turns: Sequence[Turn]) -> str:
    """Return in words how many pictures are attached."""
    count = len(pictures(turns))
    return f"Pictures attached, in the order of their numbers: {count}." if count else "No picture is attached."


def everything(turns: Sequence[Turn]) -> str:
    """Return all text of user and policy, thinking included, and every answer as shown: a forged reply may stand in
    either. A shown answer leaves out text and so joins parts that lie apart in the completion.
    """
    return "\n".join(
        text
        for turn in turns
        for text in (turn.attack.message.text, turn.completion.text, seen(turn.completion.text, "answer"))
    )


def _pictures_of(message: Message, earlier: int) -> str:
    numbers = [str(earlier + count) for count, _ in enumerate(message.images, start=1)]
    if not numbers:
        return ""
    return f", with picture{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)}"
