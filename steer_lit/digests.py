"""Short hashes of texts."""

from __future__ import annotations

import hashlib


def digest(text: str, length: int) -> str:
    """Return the first `length` hexadecimal digits of the text's SHA-256. Half of a surrogate pair counts as `?`.

    Files, caches and records store digests: if the value for a text changed, old runs would be played again.
    """
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:length]
