"""The files of a synthesis run: the rows kept, the rows put aside with their reasons, and the manifest.

    <run>/stage1.jsonl, rl.jsonl        Stage I: scripts, as Stage I rows and as RL rows
    <run>/sft.jsonl                     Stage II: dialogues, as SFT rows
    <run>/quarantine.stage1.jsonl, ...  every row that is not written, and why
    <run>/manifest.json                 each stage: kinds, seed, settings, models, prompts, counts, reasons
    <run>/work.stage1.jsonl, ...        the journals that a stopped run goes on from

Files are replaced in one step: a run that is killed leaves the old file or the new one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from steer_lit.data.writers import write_rows
from steer_lit.files.atomic import replace_text
from steer_lit.files.lines import MISREAD
from steer_lit.files.run_files import MANIFEST
from steer_lit.synthesis.dedup import Duplicate, duplicates
from steer_lit.synthesis.outcome import Outcome
from steer_lit.synthesis.settings import SynthesisSettings


@dataclass(frozen=True, slots=True)
class StageResult:
    """The outcomes of one stage in the order of its rows, and the kept ones that repeat an earlier one."""

    name: str
    outcomes: Sequence[Outcome]
    repeated: Mapping[int, Duplicate]

    @classmethod
    def of(cls, name: str, outcomes: Sequence[Outcome], near_duplicate: float) -> StageResult:
        kept = {place: (row.text, row.picture) for place, row in enumerate(outcomes) if row.status == "kept"}
        return cls(name, outcomes, duplicates(kept, near_duplicate))

    @property
    def rows(self) -> list[Outcome]:
        """The rows that are written: kept, and no repeat of an earlier one."""
        return [
            outcome
            for place, outcome in enumerate(self.outcomes)
            if outcome.status == "kept" and place not in self.repeated
        ]

    def counts(self) -> dict[str, Any]:
        """Count every row once: begun = written + duplicates + rejected + unreadable + failed."""
        status = Counter(outcome.status for outcome in self.outcomes)
        exact = sum(first.exact for first in self.repeated.values())
        return {
            "begun": len(self.outcomes),
            "written": len(self.rows),
            "duplicates": {"exact": exact, "near": len(self.repeated) - exact},
            "rejected": status["rejected"],
            "unreadable": status["unreadable"],
            "failed": status["failed"],
            "first_failure": next((row.detail for row in self.outcomes if row.status == "failed"), ""),
            "reasons": dict(Counter(row.reason for row in self.outcomes if row.status != "kept").most_common()),
        }

    def put_aside(self) -> list[dict[str, Any]]:
        """Return one entry for every row that is not written: its id, status, reason and detail."""
        entries: list[dict[str, Any]] = []
        for place, row in enumerate(self.outcomes):
            if (first := self.repeated.get(place)) is not None:
                reason = f"{'the same words' if first.exact else 'nearly the same words'} as an earlier row"
                detail = f"{self.outcomes[first.of].id}, similarity {first.similarity:.2f}"
                entries.append({"id": row.id, "status": "duplicate", "reason": reason, "detail": detail})
            elif row.status != "kept":
                entries.append({"id": row.id, "status": row.status, "reason": row.reason, "detail": row.detail})
        return entries


def made_with(settings: SynthesisSettings, stage: str, generator: Mapping[str, object]) -> dict[str, Any]:
    """Return what a stage's rows are made with, as its entry in the manifest holds it."""
    rules = {**asdict(getattr(settings, stage)), "near_duplicate": settings.near_duplicate}
    rules.pop("kind", None)  # Stage I's setting; `kinds` has the kinds of the rows
    return {"seed": rules.pop("seed"), "settings": rules, "generator": dict(generator)}


def write_stage(result: StageResult, files: Sequence[str], run_dir: Path) -> None:
    """Write the stage's `files` and its quarantine."""
    for name in files:
        write_rows(run_dir / name, (row.rows[name] for row in result.rows))
    aside = "".join(json.dumps(entry) + "\n" for entry in result.put_aside())
    replace_text(run_dir / f"quarantine.{result.name}.jsonl", aside)


def write_manifest(run_dir: Path, stages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Write how each stage was made and what came of it. Returns what was written.

    Stages that an earlier start wrote into this folder keep their entries, unless the file was damaged since.
    """
    path = run_dir / MANIFEST
    try:
        earlier = {name: dict(entry) for name, entry in json.loads(path.read_text(encoding="utf-8"))["stages"].items()}
    except (OSError, *MISREAD):
        earlier = {}
    text = json.dumps({"stages": {**earlier, **stages}}, indent=2)
    replace_text(path, text + "\n")
    written: dict[str, Any] = json.loads(text)
    return written
