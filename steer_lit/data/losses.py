"""Which fields of a row are missing from its converted form, found by comparing values, not names.

A value is kept if the other row has it under the same key, from the same speaker. Keys that readers treat alike count
as the same: a text may move from `prompt` to `content`, a picture from `images` to where it is seen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from steer_lit.data.content import IMAGE_MARK
from steer_lit.data.labels import as_whole
from steer_lit.data.plain import ANSWERS, CATEGORIES, MORE, PROMPTS

KeyPath = tuple[str, ...]  # keys from the row down to a value

_CONTENT = ("content", "value")
_SAID = {*PROMPTS, MORE, *_CONTENT, "turns", "user", "bot", "system"}
_SAID |= {"images", "image", "image_url", "url", "path", "unsafe_image_id"}
_ANSWERS: set[KeyPath] = {(name,) for name in ANSWERS}  # deeper in a row, `answer` is a gold fact
_SAME = {**dict.fromkeys(CATEGORIES, "category"), "question_id": "id", "scores": "score"}
_SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "system": "system"}
_UNSAID = {("strategy", "scripted")}  # the default of an attack, which its row may omit
Leaf = tuple[str, object]


def lost(row: Mapping[str, object], made: Mapping[str, object]) -> list[str]:
    """Return where `row` holds what `made` does not, such as `note`, `messages[assistant]` or `messages[user].gold`."""
    kept = _kept(row, made)
    leaves = list(_leaves(row))
    known = {path[:depth] for path, leaf in leaves if leaf in kept for depth in range(len(path) + 1)}
    gone = (path for path, leaf in leaves if leaf not in kept)
    firsts = (next((path[:depth] for depth in range(len(path)) if path[:depth] not in known), path) for path in gone)
    return list(dict.fromkeys(".".join(path) for path in firsts))


def unread(row: Mapping[str, object], made: Mapping[str, object]) -> list[str]:
    """Return those of the row's keys (`note`) and its metadata's (`metadata.note`) of which `made` holds nothing."""
    kept = _kept(row, made)
    known: dict[str, bool] = {}
    for path, leaf in _leaves(row):
        first, *inner = (key.partition("[")[0] for key in path)
        name = f"{first}.{inner[0]}" if first == "metadata" and inner else first
        known[name] = known.get(name, False) or leaf in kept
    return [name for name, read in known.items() if not read]


def keys_said(row: Mapping[str, object]) -> list[str]:
    """Return those of the keys that `unread` tells apart whose values say something."""
    facts = row.get("metadata")
    inner = {f"metadata.{name}": value for name, value in facts.items()} if isinstance(facts, Mapping) else {}
    return [str(name) for name, value in {**row, **inner}.items() if next(_leaves(value), None) is not None]


def _kept(row: Mapping[str, object], made: Mapping[str, object]) -> set[Leaf]:
    """Return what `made` holds, with an `instruction` and its `input` apart, which readers join to one text."""
    kept = {leaf for _, leaf in _leaves(made)} | _UNSAID
    texts = [text for name in ("instruction", MORE) if isinstance(text := row.get(name), str)]
    if {leaf for _, leaf in _leaves({"instruction": "\n".join(texts)})} <= kept:
        kept |= {leaf for text in texts for _, leaf in _leaves({"instruction": text})}
    return kept


def _leaves(value: object, path: KeyPath = (), speaker: str = "user") -> Iterator[tuple[KeyPath, Leaf]]:
    """Yield (path, what is compared) for each value that says something."""
    key = path[-1].partition("[")[0] if path else ""
    if isinstance(value, Mapping):
        skipped: tuple[str, ...] = ("type",) if key in _CONTENT else ()  # the type of a part
        named = value.get("role", value.get("from"))
        if isinstance(named, str) and any(value.get(name) for name in _CONTENT):
            skipped, speaker = ("role", "from"), _SPEAKERS.get(named, named)
            path = (*path[:-1], f"{key}[{speaker}]")
        for name, item in value.items():
            if name not in skipped:
                inner = (*path, str(name))
                yield from _leaves(item, inner, "assistant" if inner in _ANSWERS else _SPEAKERS.get(name, speaker))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, path, speaker)
    elif isinstance(value, str) and (key in _SAID or path in _ANSWERS):
        yield from ((path, (speaker, piece)) for piece in value.split(IMAGE_MARK) if piece.strip())
    elif isinstance(value, str) and key == "kind":  # in any spelling
        yield path, (key, re.sub(r"[^a-z]", "", value.lower()))
    elif not (value is None or value == "" or (isinstance(value, float) and not math.isfinite(value))):
        same = _SAME.get(key, key)
        yield path, (same, str(as_whole(value)) if same == "id" else value)
