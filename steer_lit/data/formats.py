"""Readers of the authors' row shapes. Every fault raises a `RowError` that names file, row and field.

The shapes are those of SaFeR-Steer's public code (bench rows, RL rows and Stage I's output) and of LLaMA-Factory's
sharegpt (SFT rows). `writers.py` undoes each reader; `labels.py` holds what they share besides messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steer_lit.data.content import Draft, RawRow, place_pictures, read_content, read_messages
from steer_lit.data.labels import identity, read_labels, read_picture_gold, read_turn_gold
from steer_lit.types import Attack, Dialogue, Kind, Message, Scenario, system_of, turns_of

# The facts that each shape keeps in the row itself; all others are in its `metadata`.
FACTS = ("category", "source_category")
LABELLED_FACTS = (*FACTS, "label")
BENCH_FACTS = (*FACTS, "risk_trajectory")
STAGE1_FACTS = (*FACTS, "intent", "strategy", "max_score")
_PREFERENCES = ("chosen", "rejected", "kto_tag")
_SAFE = ("is_safe", "is_response_safe")  # keys by which a row or its `metadata` rates its answers
_YES = ("true", "yes", "1", "1.0")  # "1.0": a column with gaps is read as floats


def read_sft_row(value: object, source: str, number: int) -> Dialogue:
    """Read a sharegpt row: `messages` or `conversations`, `<image>` marks, `images` (or one `image`), maybe `system`.

    There must be as many pictures as marks. After an optional system message, user and assistant alternate, and the
    assistant speaks last.
    """
    row = RawRow.of(value, source, number)
    if preferring := [name for name in _PREFERENCES if row.get(name) is not None]:
        raise row.error(preferring[0], "a row of preferences is not a dialogue to learn from")
    field = row.first(("messages", "conversations")) or "conversations"
    drafts = read_messages(row, row.get(field), field)
    return dialogue_of(row, drafts, field, FACTS, in_front=False)


def read_bench_row(value: object, source: str, number: int, kind: Kind = "red_team") -> Scenario:
    """Read a STEER-Bench row: `question_id`, `messages_fixed`; optional `image`, categories, `risk_trajectory`.

    Only user messages are replayed; a leading system message becomes the scenario's own. A row that names no kind gets
    `kind`; the default is the strictest.
    """
    row = RawRow.of(value, source, number)
    if row.get("question_id") is None:
        raise row.error("question_id", "is missing")
    drafts = read_messages(row, row.get("messages_fixed"), "messages_fixed", skip=("assistant",))
    return scenario_of(row, drafts, "messages_fixed", BENCH_FACTS, kind)


def read_rl_row(value: object, source: str, number: int, kind: Kind = "red_team") -> Scenario:
    """Read a STEER-RL row: `question`, `images` or `metadata.image`, `label`, `metadata.{question_id, rest_messages}`.

    The attacks are the user messages of `question`, or that text, then those of `rest_messages`. Messages without a
    role or a content are dropped, as in the authors' code. A row that names no kind gets `kind`.
    """
    row = RawRow.of(value, source, number)
    question = row.get("question")
    if isinstance(question, str):
        drafts = [Draft("user", read_content(row, question, "question"), "question")]
    else:
        drafts = read_messages(row, question, "question", skip=("assistant",), drop_incomplete=True)
    rest = row.get("metadata", "rest_messages")
    if rest is not None:
        field = "metadata.rest_messages"
        drafts += read_messages(row, rest, field, skip=("assistant", "system"), drop_incomplete=True)
    return scenario_of(row, drafts, "question", LABELLED_FACTS, kind)


def read_stage1_row(value: object, source: str, number: int, kind: Kind = "red_team") -> Scenario:
    """Read a Stage I row: `question_id, intent, image, multiturn_qa: [{role, content, score}], max_score, strategy`.

    The scenario's metadata holds `intent`, `strategy` and `max_score` if the row has them. If any attack was judged,
    `scores` says how far each one succeeded (1..5, None if it was not judged).
    """
    row = RawRow.of(value, source, number)
    drafts = read_messages(row, row.get("multiturn_qa"), "multiturn_qa", skip=("assistant",))
    asked = [draft for draft in drafts if draft.role == "user"]
    scores = tuple(row.frozen(draft.item.get("score"), f"{draft.path}.score") for draft in asked)
    judged = {} if all(score is None for score in scores) else {"scores": scores}
    return scenario_of(row, drafts, "multiturn_qa", STAGE1_FACTS, kind, judged)


def scenario_of(
    row: RawRow,
    drafts: Sequence[Draft],
    field: str,
    facts: Sequence[str],
    kind: Kind,
    more: Mapping[str, object] | None = None,
) -> Scenario:
    """Return the scenario that the `drafts` of a row's `field` describe.

    `facts` are the names of facts that the row itself holds; `more` are facts computed from it.
    """
    messages = place_pictures(row, drafts, in_front=True)
    attacks = [
        Attack(message, read_turn_gold(row, draft.item, draft.path), _strategy(row, draft))
        for draft, message in zip(drafts, messages, strict=True)
        if message.role == "user"
    ]
    if not attacks:
        raise row.error(field, "holds no user message")
    named, subset, metadata = read_labels(row, facts)
    return Scenario(
        id=identity(row, "question_id", "metadata.question_id", "id"),
        kind=named or kind,
        opening=attacks[0],
        scripted=tuple(attacks[1:]),
        system=system_of(_with_system(row, messages, field)),
        subset=subset,
        picture=read_picture_gold(row),
        metadata={**metadata, **(more or {})},
    )


def dialogue_of(row: RawRow, drafts: Sequence[Draft], field: str, facts: Sequence[str], *, in_front: bool) -> Dialogue:
    """Return the dialogue to learn from that the `drafts` of a row's `field` form.

    The other parameters are those of `scenario_of` and `place_pictures`. Raises RowError unless user and assistant
    take turns, or if the row calls its answers unsafe.
    """
    messages = _with_system(row, place_pictures(row, drafts, in_front=in_front), field)
    _check_safe(row)
    try:
        turns_of(messages)
    except ValueError as error:
        raise row.error(field, str(error)) from None
    kind, subset, metadata = read_labels(row, facts)
    return Dialogue(identity(row, "question_id", "id"), tuple(messages), kind, subset, metadata)


def _with_system(row: RawRow, messages: Sequence[Message], field: str) -> Sequence[Message]:
    """Return the messages of `field`, after the row's `system` message if it has one."""
    system = row.get("system")
    if system is None or not row.text(system, "system").strip():
        return messages
    if system_of(messages) is not None:
        raise row.error("system", f"{field} opens with a system message already")
    return [Message.of("system", row.text(system, "system")), *messages]


def _check_safe(row: RawRow) -> None:
    for path in [(*above, name) for above in ((), ("metadata",)) for name in _SAFE]:
        said = row.frozen(row.get(*path), field := ".".join(path))
        if said is not None and str(said).lower() not in _YES:
            raise row.error(field, f"is {said!r}: an answer that is not safe is not learned from")


def _strategy(row: RawRow, draft: Draft) -> str:
    """Return how the attack was written: "scripted" unless the message says otherwise."""
    named = draft.item.get("strategy")
    return row.text(named, f"{draft.path}.strategy") if isinstance(named, str) and named else "scripted"
