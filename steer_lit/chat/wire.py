"""Request and reply bodies of an OpenAI-compatible server. Pure functions: no network here.

Servers take different subsets of one interface: one knows JSON schemas, the next refuses `response_format` with a 422,
a reasoning model wants `max_completion_tokens` and no temperature. The features that a server refuses form a set, so
that the lessons of two requests are joined by union.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Set
from email.utils import parsedate_to_datetime
from typing import Any

from steer_lit.chat.messages import MAX_TOKEN_COUNT, ChatMessage, ChatReply, ChatRequest
from steer_lit.chat.settings import Structured
from steer_lit.texts import encodable

Body = dict[str, Any]
_REASON_LENGTH = 200
_LOOKED_AT = 2000  # characters of foreign text, of which there may be megabytes
_OPTIONS = ("max_tokens", "temperature", "seed")
_NOT_TAKEN = re.compile(r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not permitted|forbidden", re.I)
# The `code` in errors of content filters: Azure's, OpenAI's and OpenRouter's, Alibaba's.
_FILTERS = ("content_filter", "content_policy_violation", "data_inspection_failed")
_START = 60  # bytes quoted of a body that is not JSON, such as a proxy's page


def request_body(request: ChatRequest, model: str, structured: Structured, refused: Set[str]) -> Body:
    """Return the arguments of `chat.completions.create`, without the features in `refused`."""
    body: Body = {"model": model, "messages": [_message(message) for message in request.messages]}
    limit = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
    body[limit] = request.max_tokens
    if "temperature" not in refused:
        body["temperature"] = request.temperature
    if request.seed is not None and "seed" not in refused:
        body["seed"] = request.seed
    form = _form(request, structured, refused)
    if form == "json_schema":
        schema = {"name": request.schema_name, "schema": dict(request.schema or {}), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif form == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body


def refused_feature(error: object, request: ChatRequest, structured: Structured, refused: Set[str]) -> str | None:
    """Return the feature to leave out after a 400 or 422, or None if the request itself is at fault.

    `error` is what `error_object` found. A sampling option is dropped only if the error names it as unsupported or
    unknown, as OpenAI's reasoning models and strict servers do. An `auto` response format is dropped on any refusal,
    because servers word theirs freely.
    """
    pointed, said = _faults(error)
    if _NOT_TAKEN.search(said):
        left = [option for option in _OPTIONS if option not in refused]
        named = [option for option in left if option in pointed]
        named += [option for option in left if not pointed and re.search(rf"\b{option}\b", said)]
        if named:
            return named[0]
    form = _form(request, structured, refused)
    return form if structured == "auto" else None


def _faults(error: object) -> tuple[set[str], str]:
    """Return the parameters that an error points at, and its text without the parts that repeat the request.

    A parameter stands in OpenAI's `param` or at the end of a validator's `loc`.
    """
    pointed: set[str] = set()
    said: list[str] = []
    found = [error]
    while found:
        part = found.pop()
        if isinstance(part, list):
            found += part
        elif isinstance(part, Mapping):
            place = part.get("loc")
            at = [part.get("param"), *(place[-1:] if isinstance(place, list) else ())]
            pointed |= {str(name) for name in at if name}
            found += [part[key] for key in ("message", "msg", "detail", "error", "code", "type") if key in part]
        elif isinstance(part, str):
            said.append(part)
    return pointed, " ".join(said)


def filtered(error: object) -> bool:
    """Return whether a filter before the model flagged the request's content."""
    if not isinstance(error, Mapping):
        return False
    code, metadata = error.get("code"), error.get("metadata")
    flagged = code == "invalid_prompt" and "flagged" in str(error.get("message"))  # OpenAI's reasoning models
    return code in _FILTERS or flagged or (isinstance(metadata, Mapping) and "flagged_input" in metadata)  # OpenRouter


def read_answer(content: bytes, request: ChatRequest) -> ChatReply:
    """Return the reply in the body of a 200. Raises ValueError for a body that no working server would send."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        start = brief(content[:_START].decode("utf-8", "replace"))
        raise ValueError(f"the body is not JSON but {start!r}" if start else "the body is empty") from None
    if not isinstance(body, dict) or not isinstance(choices := body.get("choices"), list) or not choices:
        inner = f": {brief(body['error'])}" if isinstance(body, dict) and body.get("error") else ""
        raise ValueError(f"the body holds no choices{inner}")
    usage = body.get("usage")
    # No more than one was asked for. A server that sends several may have them in any order.
    choice = next((one for one in choices if isinstance(one, Mapping) and one.get("index") == 0), choices[0])
    text, failed = _text_or_reason(choice, request)
    counts = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    cut = choice.get("finish_reason") == "length"
    model = brief(named) if isinstance(named := body.get("model"), str) else ""
    return ChatReply(text, failed, *counts, cut=cut, declined=failed is not None and not cut, model=model)


def error_object(content: bytes) -> object:
    """Return what a refusal says: the `error` or `detail` of its JSON body, else the JSON, else the body as text."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return content.decode("utf-8", "replace").strip()
    if isinstance(body, list) and len(body) == 1 and isinstance(body[0], dict):  # Gemini's
        body = body[0]
    return body.get("error") or body.get("detail") or body if isinstance(body, dict) else body


def retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds to wait by a `Retry-After` header, which holds seconds or an HTTP date; `now` is Unix time.

    Never negative. None if there is no such header or it cannot be read.
    """
    if value is None:
        return None
    try:
        seconds = float(value) if value.strip()[:1].isdigit() else parsedate_to_datetime(value).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return max(seconds, 0.0)


def brief(value: object) -> str:
    """Return foreign text as one short line, fit for a log."""
    text = value.get("message") or json.dumps(value, default=str) if isinstance(value, Mapping) else value
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)[:_LOOKED_AT]).split())
    line = re.sub(r"(?<!\.)\.$", "", line)  # it is put into sentences
    return line if len(line) <= _REASON_LENGTH else f"{line[:_REASON_LENGTH]}..."


def _message(message: ChatMessage) -> Body:
    text = encodable(message.text)
    if not message.images:
        return {"role": message.role, "content": text}
    pictures = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(image).decode()}"}}
        for image in message.images
    ]
    return {"role": message.role, "content": [*pictures, {"type": "text", "text": text}]}


def _form(request: ChatRequest, structured: Structured, refused: Set[str]) -> str | None:
    """Return the response format to ask for: the strictest one that is wanted and not refused."""
    if request.schema is None or structured == "off":
        return None
    if structured != "auto":
        return structured
    return next((form for form in ("json_schema", "json_object") if form not in refused), None)


def _text_or_reason(choice: object, request: ChatRequest) -> tuple[str | None, str | None]:
    if not isinstance(choice, Mapping) or not isinstance(message := choice.get("message"), Mapping):
        raise ValueError("the first choice holds no message")
    finish, text = choice.get("finish_reason"), _text(message.get("content"))
    if finish in ("error", "abort") or choice.get("error"):  # OpenRouter and vLLM, with a status of 200
        raise ValueError(f"the answer broke off: {brief(choice.get('error') or finish)}")
    if finish == "content_filter":
        return None, "stopped by the server's content filter"
    if refusal := message.get("refusal"):
        return None, f"the model refused: {brief(refusal)}"
    said = text if isinstance(text, str) and text.strip() else None
    if said is None and message.get("tool_calls"):  # which may hold all that it said
        raise ValueError("the model called a tool, though it was offered none: the server's tool parser is at work")
    thought = message.get("reasoning_content") or message.get("reasoning")
    if finish == "length" and (request.schema is not None or not text):
        spent = ", which went into thinking" if thought and not text else ""
        return None, f"cut off at max_tokens={request.max_tokens}{spent}"
    if thought and not text:  # a reasoning parser on a model that does not think
        raise ValueError("the answer is all in its reasoning: the server's reasoning parser is not this model's")
    return (None, "the answer holds no text") if said is None else (encodable(said), None)


def _text(content: object) -> object:
    """Return the text of a message, which some servers give in parts, thoughts among them."""
    if not isinstance(content, list):
        return content
    said = (part for part in content if isinstance(part, Mapping) and part.get("type") in ("text", "output_text", None))
    return "".join(text for part in said if isinstance(text := part.get("text"), str))


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if type(value) is int and 0 <= value <= MAX_TOKEN_COUNT else 0
