"""`smol` or `nano` as an ordinary checkpoint with a processor, which is what other trainers and servers load.

python -m tests.perf.peer_model <folder> [--model nano]
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from steer_lit.policy.checkpoint import save_base
from steer_lit.policy.model_facts import SIDE, nano_folder, tower_file
from steer_lit.policy.nano import build_nano
from steer_lit.policy.smol import smol_checkpoint


def write(folder: Path, model: str = "smol") -> None:
    from transformers import AutoTokenizer, Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    if model == "nano":
        save_base(build_nano(nano_folder("shipped"), tower_file("nano", "trained")), folder)
    else:
        shutil.copytree(smol_checkpoint(), folder, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=784, max_pixels=SIDE * SIDE),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        # Other trainers write picture parts as {"image": ...}, with or without a type.
        chat_template=tokenizer.chat_template.replace(
            "part['type'] == 'image'", "part['type'] == 'image' or 'image' in part"
        ),
    ).save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=["smol", "nano"], default="smol")
    options = parser.parse_args()
    write(options.folder, options.model)
