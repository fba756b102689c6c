"""A function that unpacks a text of the page, as its script does."""

import base64
import gzip
import json
from typing import Any


def unpacked(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))
