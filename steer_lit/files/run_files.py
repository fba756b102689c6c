"""Names of the files that runs leave in their folders, shared by modules that may not import each other."""

CONFIG = "config.yaml"
LAST, FAILED = "checkpoints/last.ckpt", "checkpoints/failed.ckpt"
ROLLOUTS = "trajectories*.jsonl"  # one file per rank: `*` is empty for the first, .rank1 for the next
RECORDS = "records.jsonl"
RAW_EVALS = "raw_eval"  # a folder of files in the authors' format, which each report writes anew
QUARANTINE = "quarantine.jsonl"
# Exports: a PEFT folder, a file, a checkpoint folder.
ADAPTER, TOWER, BASE = "adapter", "tower.safetensors", "base"
BEST, BEST_FACTS = "best_adapter", "best.json"  # a PEFT folder, and the file in it with the step and the metric's value
MANIFEST, VERSIONS = "manifest.json", "versions.json"
# Files that runs and conversions write beside rows, but that hold no rows to read.
NOTES = (MANIFEST, VERSIONS, "quarantine*.jsonl", "*.quarantine.jsonl", "work.stage*.jsonl")
