"""A check that a dialogue's answers alone fit the model's context; without torch, for config checks."""

from __future__ import annotations

from steer_lit.errors import Problem


def answers_too_long(
    max_turns: int, max_new_tokens: int, context_length: int, turns_key: str = "rollout.max_turns"
) -> list[Problem]:
    """Return a problem if a dialogue's answers alone may exceed the model's `context_length` tokens."""
    if max_turns * max_new_tokens <= context_length:
        return []
    remedy = f"over {turns_key}={max_turns} is more than the {context_length:,} tokens the model reads: lower either"
    return [Problem("rollout.max_new_tokens", max_new_tokens, remedy)]
