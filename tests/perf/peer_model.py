"""`smol` or `nano` as an ordinary checkpoint with a processor, which is what other trainers and servers load.

python -m tests.perf.peer_model <folder> [--model nano] [--adapter <folder>]
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from steer_lit.mini_world import SIDE
from steer_lit.policy.base_model import save_base
from steer_lit.policy.model_facts import nano_folder, tower_file
from steer_lit.policy.nano import build_nano
from steer_lit.policy.smol import smol_checkpoint
from tests.perf import workload


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


def write_adapter(folder: Path, model: str = "smol") -> None:
    """Write the benchmarks' adapter in the format of a run. No B is zero, so all of it takes part in products."""
    policy = workload.load(model, "auto")
    for name, parameter in policy.adapter_parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    policy.save_adapter(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=["smol", "nano"], default="smol")
    parser.add_argument("--adapter", type=Path, help="where to write an adapter for it")
    options = parser.parse_args()
    write(options.folder, options.model)
    if options.adapter:
        write_adapter(options.adapter, options.model)
