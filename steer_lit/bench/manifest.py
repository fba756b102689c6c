"""What a benchmark's report shows, `played.json` in its folder: which dialogues and policies, played and graded how.

Records of other settings, weights or judges stay beside them, and are shown again once a command selects them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from steer_lit.bench.records import RecordFile, Records
from steer_lit.digests import digest
from steer_lit.files.atomic import replace_text
from steer_lit.files.lines import MISREAD
from steer_lit.files.run_files import PLAYED
from steer_lit.files.typed_lines import line_reader
from steer_lit.types import Fingerprinted

Facts = tuple[tuple[str, str], ...]
JUDGE = "judge"  # the condition that decides grades; all others decide answers


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a report shows.

    `conditions` holds whatever all its records share, by the key of the config, a player as a digest. `policies` holds
    the fingerprints by name, `dialogues` a digest of each one's content by id, both in the order shown. `judge` is the
    judge's name, `data` the config's section that its pictures are opened by, and `facts` say how the run was made.
    `pictures` holds a digest of each picture's file by its uri; None if they were not recorded.
    """

    conditions: Mapping[str, Any]
    policies: Mapping[str, str]
    dialogues: Mapping[str, str]
    judge: str
    data: Mapping[str, Any]
    facts: Facts = ()
    pictures: Mapping[str, str] | None = None

    @property
    def judged(self) -> str:
        return str(self.conditions[JUDGE])

    def keys(self, fingerprint: str) -> dict[str, str]:
        """Return the keys under which a policy with this fingerprint is recorded, by dialogue."""
        shared = sorted((name, value) for name, value in self.conditions.items() if name != JUDGE)
        return {id: digest(repr((content, fingerprint, shared)), 16) for id, content in self.dialogues.items()}

    def records(self, file: RecordFile) -> Records:
        """Return the records that the report shows, by policy."""
        each = {name: self.keys(fingerprint).values() for name, fingerprint in self.policies.items()}
        found = {name: [file.of(name, key, self.judged) for key in keys] for name, keys in each.items()}
        return {name: shown for name, rows in found.items() if (shown := [row for row in rows if row is not None])}

    def write(self, folder: Path) -> None:
        replace_text(folder / PLAYED, json.dumps(asdict(self), indent=1, default=str) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a benchmark's folder, None if there is none that can be read."""
    try:
        found = _read((folder / PLAYED).read_text(encoding="utf-8"))
    except (OSError, *MISREAD):
        return None
    return found if JUDGE in found.conditions else None


def player_digest(player: object, values: Mapping[str, Any]) -> str:
    """Return a digest of a player's fingerprint, or else of its class and `values`, its section of the config."""
    if isinstance(player, Fingerprinted):
        return digest(repr(player.fingerprint), 16)
    name = f"{type(player).__module__}.{type(player).__qualname__}"
    public = [] if player is None else [key for key in values if not key.startswith("_")]
    made_of = [(key, values[key]) for key in sorted(public)]
    return digest(repr((name, made_of) if made_of else name), 16)


def graded_policies(records: Records) -> set[str]:
    return {name for name, rows in records.items() if not all(row.failed for row in rows)}


def differing(one: Manifest, other: Manifest) -> list[str]:
    """Return the keys of the config in which two benchmarks differ, their choice of dialogues and policies aside."""

    def unlike(mine: Mapping[str, Any], others: Mapping[str, Any], keys: Collection[str]) -> list[str]:
        return [key for key in keys if mine.get(key) != others.get(key)]

    both = [name for name in one.policies if name in other.policies]
    changed = unlike(one.dialogues, other.dialogues, one.dialogues.keys() & other.dialogues.keys())
    return [
        *unlike(one.conditions, other.conditions, dict.fromkeys([*one.conditions, *other.conditions])),
        *(["data"] if changed else []),
        *(f"policies.{name}" for name in unlike(one.policies, other.policies, both)),
    ]


_read = line_reader(Manifest)
