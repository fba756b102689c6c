"""What is known of models and adapters before any is loaded: names, files, lengths, layers."""

from pathlib import Path

SHIPPED = Path(__file__).with_name("weights") / "nano"  # its checkpoint folder
BUILT_HERE = ("tiny", "nano", "smol")
SIDE = 112  # what they see is at most SIDE x SIDE pixels: 8 x 8 patches, 16 visual tokens
MOST_TOKENS = {"tiny": 4096, "nano": 4096, "smol": 8192}  # that each was made to read; smol: SmolLM2-135M's
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ADAPTER_CONFIG, ADAPTER_WEIGHTS, ADAPTER_FACTS = "adapter_config.json", "adapter_model.safetensors", "steer_lit.json"


def no_adapter(folder: Path) -> str | None:
    """What keeps a folder from being a PEFT adapter's: a file that is not there."""
    missing = [name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if not (folder / name).is_file()]
    return f"is no adapter folder, {missing[0]} is not there" if missing else None
