"""Short hashes of texts."""

from __future__ import annotations

import hashlib


def digest(text: str, length: int) -> str:
    """The first `length` hexadecimal digits of the text's SHA-256. Half of a surrogate pair counts as `?`.

    Files, caches and records keep them: another value for the same text would have old runs played again.
    """
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:length]
