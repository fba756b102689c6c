"""The authors' row shapes, read into records. Every problem is a `RowError` that names file, row and field.

The shapes are those of SaFeR-Steer's public code (bench and RL rows) and of LLaMA-Factory's sharegpt (SFT rows). The
files themselves were not public when this was written, so two readings are ours:

* **Kind.** `category`, `source_category` or, in RL rows, `label` may name it, in any spelling that contains "benign",
  "obfuscated" or "red team". A scenario whose row names none is taken for `red_team`, the strictest; a dialogue
  has none.
* **Subset.** `source_category` or `category` may name one of the five benchmark subsets, with or without "steer-".
  Otherwise a `category` that names no kind is the subset as it stands, so that a report can still group by it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from steer_lit.data.content import Row, place_pictures, read_messages, read_pictures
from steer_lit.types import Attack, Dialogue, Kind, Message, Scenario

SUBSETS = ("steer-beaver", "steer-mmsafe", "steer-vls", "steer-spa", "steer-dys")
_KIND_SPELLINGS: dict[str, Kind] = {"benign": "benign", "obfuscated": "obfuscated", "redteam": "red_team"}


def read_sft_row(value: object, source: str, number: int) -> Dialogue:
    """A sharegpt row: `messages` or `conversations`, `<image>` marks, `images` (or one `image`), maybe `system`.

    There must be as many pictures as marks. After an optional system message, user and assistant alternate and the
    assistant has the last word.
    """
    row = Row.of(value, source, number)
    field = "conversations" if row.get("messages") is None else "messages"
    drafts = read_messages(row, row.get(field), field)
    pictures_field = "images" if row.get("images") or not row.get("image") else "image"
    pictures = read_pictures(row, row.get(pictures_field), pictures_field)
    messages = place_pictures(row, drafts, pictures, pictures_field, in_front=False)
    if row.get("system"):
        if messages and messages[0].role == "system":
            raise row.error("system", f"{field} opens with a system message already")
        messages.insert(0, Message.of("system", row.text(row.get("system"), "system")))
    _check_alternation(row, messages, field)
    named = _named(row, "category", "source_category")
    return Dialogue(
        id=_identity(row, row.get("question_id"), row.get("id")),
        messages=tuple(messages),
        kind=_kind_of(named),
        subset=_subset_of(named),
        metadata=named,
    )


def read_bench_row(value: object, source: str, number: int) -> Scenario:
    """A STEER-Bench row: `question_id`, `messages_fixed`; optional `image`, categories, `risk_trajectory`.

    Only its user messages are replayed; a leading system message becomes the scenario's own.
    """
    row = Row.of(value, source, number)
    if row.get("question_id") is None:
        raise row.error("question_id", "is missing")
    drafts = read_messages(row, row.get("messages_fixed"), "messages_fixed", skip=("assistant",))
    pictures = read_pictures(row, row.get("image"), "image")
    messages = place_pictures(row, drafts, pictures, "image", in_front=True)
    risks = _risks(row)
    return _scenario(row, messages, "messages_fixed", _named(row, "category", "source_category"), risks)


def read_rl_row(value: object, source: str, number: int) -> Scenario:
    """A STEER-RL row: `question`, `images` or `metadata.image`, `label`, `metadata.{question_id, rest_messages}`.

    The user messages of `question` and then of `rest_messages` are the attacks, in order. Messages without a role or a
    content are dropped, as the authors' code does.
    """
    row = Row.of(value, source, number)
    drafts = read_messages(row, row.get("question"), "question", skip=("assistant",), drop_incomplete=True)
    rest = row.get("metadata", "rest_messages")
    if rest is not None:
        field = "metadata.rest_messages"
        drafts += read_messages(row, rest, field, skip=("assistant", "system"), drop_incomplete=True)
    field = "images" if row.get("images") else "metadata.image"
    pictures = read_pictures(row, row.get(*field.split(".")), field)
    messages = place_pictures(row, drafts, pictures, field, in_front=True)
    return _scenario(row, messages, "question", _named(row, "category", "source_category", "label"))


def _scenario(
    row: Row, messages: Sequence[Message], field: str, named: dict[str, object], risks: tuple[float, ...] = ()
) -> Scenario:
    system = messages[0].text if messages and messages[0].role == "system" else None
    attacks = tuple(Attack(message) for message in messages if message.role == "user")
    if not attacks:
        raise row.error(field, "holds no user message")
    return Scenario(
        id=_identity(row, row.get("question_id"), row.get("metadata", "question_id")),
        kind=_kind_of(named) or "red_team",
        opening=attacks[0],
        scripted=attacks[1:],
        system=system,
        subset=_subset_of(named),
        metadata={**named, "risk_trajectory": risks} if risks else named,
    )


def _check_alternation(row: Row, messages: Sequence[Message], field: str) -> None:
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or turns != ["user", "assistant"] * (len(turns) // 2):
        shown = ", ".join(roles[:6]) + (", ..." if len(roles) > 6 else "")
        raise row.error(field, f"user and assistant must alternate, the assistant last; got {shown or 'no message'}")


def _identity(row: Row, *candidates: object) -> str:
    """The first id the row brings, as text; its place in the file when it brings none."""
    for candidate in candidates:
        if isinstance(candidate, int) and not isinstance(candidate, bool):
            return str(candidate)
        if candidate is not None and row.text(candidate, "question_id").strip():
            return str(candidate)
    return f"row-{row.number}"


def _named(row: Row, *names: str) -> dict[str, object]:
    """Those of the fields that the row brings, top level first, then its metadata."""
    found = {name: row.get(name) if row.get(name) is not None else row.get("metadata", name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _kind_of(named: dict[str, object]) -> Kind | None:
    return next((kind for kind in map(_kind_in, named.values()) if kind), None)


def _kind_in(value: object) -> Kind | None:
    letters = re.sub(r"[^a-z]", "", value.lower()) if isinstance(value, str) else ""
    return next((kind for spelling, kind in _KIND_SPELLINGS.items() if spelling in letters), None)


def _subset_of(named: dict[str, object]) -> str:
    for value in (named.get("source_category"), named.get("category")):
        name = re.sub(r"[\s_]+", "-", value.strip().lower()) if isinstance(value, str) else ""
        for subset in SUBSETS:
            if name in (subset, subset.removeprefix("steer-")):
                return subset
    category = named.get("category")
    return category if isinstance(category, str) and not _kind_in(category) else ""


def _risks(row: Row) -> tuple[float, ...]:
    value = row.get("risk_trajectory")
    risks = [] if value is None else row.listed(value, "risk_trajectory")
    for index, risk in enumerate(risks):
        if isinstance(risk, bool) or not isinstance(risk, int | float) or not math.isfinite(risk):
            raise row.error(f"risk_trajectory[{index}]", f"must be a finite number, got {risk!r}")
    return tuple(float(risk) for risk in risks)  # type: ignore[arg-type]
