"""What runs leave in their folders, by name, for parts that may not import each other."""

CONFIG = "config.yaml"
LAST, FAILED = "checkpoints/last.ckpt", "checkpoints/failed.ckpt"
ROLLOUTS = "trajectories*.jsonl"  # one file a rank: `*` is nothing for the first, .rank1 for the next
RECORDS = "records.jsonl"
RAW_EVALS = "raw_eval"  # a folder of the authors' files, which are written anew by each report
QUARANTINE = "quarantine.jsonl"
# What trained: a PEFT folder, a file, a checkpoint folder.
ADAPTER, TOWER, BASE = "adapter", "tower.safetensors", "base"
BEST, BEST_FACTS = "best_adapter", "best.json"  # a PEFT folder, and in it the step and the value it is best by
MANIFEST, VERSIONS = "manifest.json", "versions.json"
# What runs and conversions note down beside rows, none of it rows.
NOTES = (MANIFEST, VERSIONS, "quarantine*.jsonl", "*.quarantine.jsonl", "work.stage*.jsonl")
