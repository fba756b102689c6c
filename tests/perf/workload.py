"""The common workload of all speed benchmarks: the peers' words and pictures, and the machine's peak."""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, Trainer

WORDS = ("open", "door", "red", "sign", "what", "how", "is", "this", "tool", "made", "safe", "place")
PICTURE_SIDE = 112


def say(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def flat_picture(ref: Any) -> Any:
    """Open `flat:<red>,<green>,<blue>`: a picture of one colour, as in the peers' scripts."""
    from PIL import Image

    red, green, blue = map(int, ref.uri.removeprefix("flat:").split(","))
    return Image.new("RGB", (PICTURE_SIDE, PICTURE_SIDE), (red, green, blue))


def load(model: str, dtype: str, device: str | None = None) -> Any:
    """Load the policy of `model=` with the peers' adapter: rank 8 on the language layers, not quantized on a CPU."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    from steer_lit.terminal.conf_files import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        lora = ["model.lora.r=8", "model.lora.alpha=16", "model.lora.dtype=${model.dtype}"]
        config = compose("train", ["~experiment", f"model={model}", f"model.dtype={dtype}", *lora])
    policy = instantiate(config.model, open_image=flat_picture, device=device)
    pixels = PICTURE_SIDE**2
    assert policy.parts.min_pixels <= pixels <= policy.parts.max_pixels, "the picture would be resized"
    return policy


def step_marks(module: Any) -> list[float]:
    """Wrap `module.training_step`. The returned list gets the seconds of each step."""
    marks: list[float] = []
    step = module.training_step

    def timed(*arguments: Any) -> None:
        start = time.perf_counter()
        step(*arguments)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        marks.append(time.perf_counter() - start)

    module.training_step = timed
    return marks


def trainer(steps: int, folder: Path) -> Trainer:
    return Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="auto",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def matrix_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Return the TFLOP/s of the fastest of several matrix products of a decoder layer's size."""
    rows, inner, columns = 4096, 576, 1536
    left, right = (
        torch.randn(rows, inner, device=device).to(dtype),
        torch.randn(inner, columns, device=device).to(dtype),
    )
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        for _ in range(4):
            left @ right
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - start) / 4)
    return 2 * rows * inner * columns / best / 1e12


def compute(policy: Any, flops: float, step_s: float) -> dict[str, float]:
    """Return the TFLOP/s that a step reaches, those of a matrix product alone, and its share of these."""
    reached, peak = flops / step_s / 1e12, matrix_peak(policy.base.lm_head.weight.dtype, policy.device)
    found = {"tflops": reached, "matrix_peak_tflops": peak, "share_of_peak": reached / peak}
    return {name: round(value, 3) for name, value in found.items()}


def weights_flops(policy: Any) -> tuple[int, int]:
    """Return the floating point operations of one token's forward pass through the decoder layers, and through the
    head.
    """
    layers = sum(
        parameter.numel()
        for name, parameter in policy.base.model.language_model.layers.named_parameters()
        if parameter.ndim == 2
    )
    return 2 * layers, 2 * policy.base.lm_head.weight.numel()


class Steps(LightningDataModule):
    """One item per step, passed on unchanged, like SteerDataModule's."""

    def __init__(self, batches: list[Any]) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(self.batches, batch_size=None, collate_fn=lambda batch: batch)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch


def report(marks: list[float], **facts: Any) -> None:
    """Print one line of JSON: the facts, the seconds of each step, and the peak memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({**facts, "all": [round(mark, 2) for mark in marks], "peak_rss_gb": round(peak, 2)}))


def arguments(description: str, **defaults: float) -> argparse.Namespace:
    """Parse `--model`, `--dtype` and one option per keyword, with its default and of its type."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="smol")
    parser.add_argument("--dtype", default="auto", help="auto: what the device is fast in")
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser.parse_args()
