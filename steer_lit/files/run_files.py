"""What modules share that may not import each other: the names of the files of a run's folder, and readers of one."""

import json
from pathlib import Path
from typing import Any

CONFIG = "config.yaml"
LAST = "checkpoints/last.ckpt"
ROLLOUTS = "trajectories*.jsonl"  # one file per rank: `*` is empty for the first, .rank1 for the next
RECORDS, PLAYED = "records.jsonl", "played.json"
RAW_EVALS = "raw_eval"  # a folder of files in the authors' format, which each report writes anew
QUARANTINE = "quarantine.jsonl"
TRAINED_ROWS = "trained_rows.txt"  # digests of what the user says up to each turn of a file's rows
PICTURES = "pictures.json"  # a digest of each picture file that a GRPO run may have shown, by its name
# Exports: a PEFT folder, a file, a checkpoint folder.
ADAPTER, TOWER, BASE = "adapter", "tower.safetensors", "base"
BEST, BEST_FACTS = "best_adapter", "best.json"  # a PEFT folder, and the file in it with the step and the metric's value
CURVES = "curves.png"  # of a training
MANIFEST, VERSIONS = "manifest.json", "versions.json"
EARLIER, UNKNOWN = "earlier", "settings"  # keys in versions.json and of `earlier_settings`
NOT_THERE = "not there"  # the value of a setting that a config lacks
# Files that runs and conversions write beside rows, but that hold no rows to read.
NOTES = (MANIFEST, VERSIONS, "quarantine*.jsonl", "*.quarantine.jsonl", "work.stage*.jsonl")


def saved_versions(run: Path) -> dict[str, Any]:
    """Return what the run wrote down beside its config: versions, commands and more. Empty if that cannot be read."""
    return saved_facts(run / VERSIONS)


def saved_facts(file: Path) -> dict[str, Any]:
    """Return what a JSON file of a run's holds by name. Empty if it cannot be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def earlier_settings(run: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return what a training that was continued with other settings had before: (the last step, {key: value}), oldest
    first. UNKNOWN is the key of settings that are not known, NOT_THERE the value of one that there was not.
    """
    try:
        return [(int(step), dict(settings)) for step, settings in saved_versions(run)[EARLIER]]
    except (KeyError, TypeError, ValueError):  # it was never continued so, or the file was edited
        return []
