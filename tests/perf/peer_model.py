"""`smol` as an ordinary checkpoint with a processor, which is what other trainers load.

python -m tests.perf.peer_model <folder>
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from steer_lit.policy.known import SIDE
from steer_lit.policy.smol import smol_checkpoint


def write(folder: Path) -> None:
    from transformers import AutoTokenizer, Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

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
    write(Path(sys.argv[1]))
