"""`grpo_3b` and `grpo_7b` get their weights from a hub. Here a local hub serves nano's checkpoint instead."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from steer_lit.policy.model_facts import SHIPPED
from tests.loopback_hub import LoopbackHub

SMALL = (
    "hardware=cpu", "model.quantize=none", "model.min_pixels=784", "model.max_pixels=50176", "data.source.sft=20",
    "data.val_size=10", "data.batch_size=2", "trainer.max_steps=1", "replay.max_new_tokens=2",
)  # fmt: skip


def test_a_checkpoint_is_fetched_with_a_bar_and_trained_on(tmp_path: Path) -> None:
    told = {name: value for name, value in os.environ.items() if not re.search("^HF_|OFFLINE", name)}
    told |= {"HF_HOME": str(tmp_path / "cache"), "TQDM_POSITION": "-1"}  # makes tqdm show bars without a terminal
    with LoopbackHub({path.name: path.read_bytes() for path in SHIPPED.iterdir()}, "models") as hub:
        words = ["train.py", "+experiment=sft_3b", "model.source=owner/name", *SMALL, f"hydra.run.dir={tmp_path}/run"]
        done = subprocess.run(
            [sys.executable, *words], env=told | {"HF_ENDPOINT": hub.url}, capture_output=True, text=True, timeout=300
        )
    assert done.returncode == 0, done.stderr
    assert "qwen2_5_vl_3b: fetching owner/name, which is kept in the Hugging Face cache" in done.stdout
    assert re.search(r"model\.safetensors: +100%", done.stderr)
    assert "HTTP Request" not in done.stdout + done.stderr
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
    carried = "model.source=owner/name model.quantize=none model.min_pixels=784 model.max_pixels=50176 hardware=cpu"
    assert re.search(rf"^next: +python train\.py \+experiment=grpo_3b init_from=\S+ {carried}$", done.stdout, re.M)
