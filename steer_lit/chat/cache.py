"""Replies kept on disk, so that an interrupted run pays for nothing twice: one small JSON file per request."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from steer_lit.chat.messages import MAX_TOKEN_COUNT, ChatReply, ChatRequest
from steer_lit.chat.settings import ChatSettings
from steer_lit.files.atomic import replace_text

_VERSION = 1  # raise it when the meaning of an entry changes


def request_key(request: ChatRequest, settings: ChatSettings) -> str:
    """Return a key that two requests share only if they ask the same of a model of the same name.

    Its address is not in it: a server that has moved, or a cluster job's own, is not paid again.
    """
    asked = {
        "version": _VERSION,
        "model": settings.model,
        "structured": settings.structured,
        "messages": [
            [message.role, message.text, [hashlib.sha256(image).hexdigest() for image in message.images]]
            for message in request.messages
        ],
        "schema": None if request.schema is None else [request.schema_name, request.schema],
        "max_tokens": request.max_tokens,
        "temperature": float(request.temperature),
        "seed": request.seed,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


class ReplyCache:
    """A folder of replies, each written whole or not at all; several processes may share it.

    An entry that cannot be read counts as absent: the request is asked again and the entry replaced.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def get(self, key: str) -> ChatReply | None:
        try:
            entry = json.loads(self._path(key).read_bytes())
            text, prompt, completion = entry["text"], entry["prompt_tokens"], entry["completion_tokens"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None
        counted = all(type(count) is int and 0 <= count <= MAX_TOKEN_COUNT for count in (prompt, completion))
        if not isinstance(text, str) or not counted:
            return None
        cut, model = entry.get("cut") is True, str(entry.get("answered_by", ""))  # older entries lack both
        return ChatReply(text, prompt_tokens=prompt, completion_tokens=completion, cached=True, cut=cut, model=model)

    def put(self, key: str, reply: ChatReply, model: str) -> None:
        """Store a reply that did not fail; `model`, which was asked, and seconds are for people to read.

        Raises OSError if that fails.
        """
        entry = {
            "model": model,
            "text": reply.text,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "seconds": round(reply.seconds, 3),
            "cut": reply.cut,
            "answered_by": reply.model,
        }
        replace_text(self._path(key), json.dumps(entry, ensure_ascii=False))

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"  # thousands of files in one folder are slow to list
