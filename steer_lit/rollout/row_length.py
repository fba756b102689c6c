"""Checks that find rows longer than the base model's context when they are read, not hours later."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from steer_lit.numbers import counted
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.rollout.engine import renderer_of
from steer_lit.types import Dialogue, ImageRef, Message, Scenario

_AROUND = 16  # more than the template's tokens around one message's text, or around a picture


def too_long(policy: QwenVL, record: Dialogue | Scenario) -> str | None:
    """Return why the row is too long to learn from, else None. Only the user's side of a scenario counts."""
    messages = record.messages if isinstance(record, Dialogue) else [attack.message for attack in record.attacks]
    system = record.system if isinstance(record, Scenario) else None
    context_length = policy.parts.context_length
    if _all_bounds(policy, messages, system) <= context_length:
        return None
    if isinstance(record, Dialogue):
        tokens = len(renderer_of(policy).dialogue(record).token_ids)
    else:
        tokens = _asked(policy, messages, system)
    if tokens <= context_length:
        return None
    reads = f"model={policy.parts.name} reads {context_length:,}"
    return f"takes {tokens:,} tokens, {reads}: shorten it, or lower data.max_turns"


def no_room(policy: QwenVL, scenario: Scenario, max_turns: int, max_new_tokens: int) -> str | None:
    """Return why some turn up to `max_turns` has no room for `max_new_tokens` of answer; None if all have."""
    messages = [attack.message for attack in scenario.attacks[:max_turns]]
    context_length, answers = policy.parts.context_length, len(messages) * max_new_tokens
    if _all_bounds(policy, messages, scenario.system) + answers <= context_length:
        return None
    # A cut answer is closed by a token that it did not sample.
    asked = _asked(policy, messages, scenario.system) + len(messages) - 1
    if asked + answers <= context_length:
        return None
    said = f"over the {counted(len(messages), 'turn')} of row {scenario.id!r}, which takes {asked:,} tokens itself,"
    remedy = "lower it or bench.max_turns, or shorten the row"
    return f"{said} is more than the {context_length:,} tokens the model reads: {remedy}"


def _asked(policy: QwenVL, messages: Sequence[Message], system: str | None) -> int:
    """Count the tokens of a dialogue without its answers."""
    renderer, (first, *others) = renderer_of(policy), messages
    return len(renderer.opening(first, system)) + sum(len(renderer.following(message)) for message in others)


def _all_bounds(policy: QwenVL, messages: Sequence[Message], system: str | None) -> int:
    return sum(_bound(policy, message) for message in messages) + _bytes(system or policy.system_prompt)


def _bound(policy: QwenVL, message: Message) -> int:
    """Bound the message's tokens from above without opening pictures: a token of text has at least a byte."""
    parts = policy.parts
    picture = parts.max_pixels // (parts.patch_size * parts.merge_size) ** 2
    return _AROUND + sum(picture + _AROUND if isinstance(part, ImageRef) else _bytes(part) for part in message.parts)


def _bytes(text: str) -> int:
    """Return the larger size of the text as it is and in NFC: Qwen's tokenizer normalises, SmolLM2's does not."""
    return max(len(text.encode()), len(unicodedata.normalize("NFC", text).encode()))
