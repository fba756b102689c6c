"""The paper's tables, stored as data in published.json: the paper's policies, its judge, its dialogues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """Pass rates in percent. `rows` gives each policy a (Safety, Helpfulness) pair per column: a subset or "mean"."""

    title: str
    source: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[tuple[float, float], ...]]


@cache
def published() -> Mapping[str, PublishedTable]:
    """Return every table by name."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        table["name"]: PublishedTable(
            title=table["title"],
            source=stored["source"],
            columns=tuple(table["columns"]),
            rows={policy: tuple((safe, helpful) for safe, helpful in cells) for policy, cells in table["rows"].items()},
        )
        for table in stored["tables"]
    }
