"""Making a policy from a `model` config: base model, adapter, and nothing trainable but the adapter."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Literal

from steer_lit.errors import MissingResource, Problem
from steer_lit.policy import base_model_files
from steer_lit.policy.base_model import BaseModelSettings, open_checkpoint
from steer_lit.policy.device import choose_kernels, default_device, number_type, unseen_gpu, warn_of_old_gpu
from steer_lit.policy.lora import AdapterFolder, LoraSettings, attach_adapter
from steer_lit.policy.memory import memory_advice, out_of_memory
from steer_lit.policy.model_facts import BUILT_HERE, NumberType, Quantization, nano_folder, start_is_gone, tower_file
from steer_lit.policy.nano import build_nano
from steer_lit.policy.parts import ModelParts
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.policy.smol import build_smol
from steer_lit.policy.tiny import build_tiny
from steer_lit.types import OpenImage

log = logging.getLogger(__name__)


def load_policy(
    *,
    name: str,
    quantize: Quantization,
    dtype: Literal["auto"] | NumberType,
    lora: LoraSettings,
    system_prompt: str,
    open_image: OpenImage,
    min_pixels: int,
    max_pixels: int,
    source: str | None = None,
    tower: str | None = None,
    weights: str | None = None,
    init_from: str | None = None,
    resumed: bool = False,
    gradient_checkpointing: bool = False,
    device: str | None = None,
    seed: int = 0,
) -> QwenVL:
    """Build `tiny`, `nano` or `smol`, or load any other `name` from `source`, a hub id or a checkpoint folder.

    `nano` opens the folder `weights`: `shipped` is the package's; None makes fresh weights, always the same. `tower` is
    a file of vision tower weights for `nano` and `smol`: `trained` is the package's.
    `dtype` is the base's, or with NF4 the one computed in; `auto`, here and in `lora`, is the one `device` is fast in.
    `device` None is this rank's GPU, else the CPU. The caller's random state stays as it is.

    `init_from` is an adapter folder to start from. Without one the adapter is fresh: it has no effect yet, and its A
    matrices are drawn from `seed`. If the run is `resumed`, the folder may be gone; the adapter is then fresh until the
    checkpoint is loaded.

    The values have passed the config check. Raises MissingResource if torch sees no GPU or the base is gone, OSError if
    another file is gone since, and SteerError if quantization, adapter or tower do not fit.
    """
    adapter = None if start_is_gone(init_from, resumed=resumed) else init_from
    _check_gpu(name, quantize, device)
    device = device or default_device()
    choose_kernels(device)
    warn_of_old_gpu(device)
    dtype = number_type(dtype, device)
    settings = BaseModelSettings(quantize, dtype, device, min_pixels, max_pixels)
    remedy = memory_advice(may_quantize=device.startswith("cuda") and quantize == "none")
    with out_of_memory(f"loading model={name} to {device}", remedy):
        parts = open_base(name, settings, source, tower_file(name, tower), nano_folder(weights))
        model = attach_adapter(parts.model, lora, seed)
    for module in parts.model.modules():
        # On CPUs with AVX512-BF16 bitsandbytes repacks weights at the first eval forward, and then gives no gradient.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    policy = QwenVL(parts, model, system_prompt, open_image)
    if adapter is not None:
        folder = AdapterFolder(Path(adapter))
        folder.load_into(model, policy.fingerprint)
        folder.warn_of_other_showing(policy.shown_as)
    policy.started_from, policy.start_is_gone = init_from, adapter != init_from
    if gradient_checkpointing:
        # Not reentrant: adapters get gradients even if the first checkpointed layer's inputs need none (TRAPS 28).
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    start = f", adapter {adapter}" if adapter else ""  # a fresh one does nothing yet, and may be loaded over
    log.debug("%s: base %s in %s on %s%s", name, parts.fingerprint, dtype, device, start)
    return policy


def _check_gpu(name: str, quantize: Quantization, device: str | None) -> None:
    """Raise MissingResource if the config needs a GPU that the driver showed the config check but torch cannot see."""
    if (reason := unseen_gpu()) is None:
        return
    if quantize == "nf4" and name not in BUILT_HERE:
        raise MissingResource(str(Problem("model.quantize", quantize, reason)))
    if device is None:
        log.warning("%s; %s computes on the CPU", reason, name)
    elif device.startswith("cuda"):
        raise MissingResource(str(Problem("model.device", device, reason)))


def open_base(
    name: str, settings: BaseModelSettings, source: str | None, tower: Path | None, weights: Path | None
) -> ModelParts:
    """Open the base model alone. Raises what `load_policy` raises."""
    if name == "tiny":
        return build_tiny(settings)
    if name == "nano":
        return build_nano(weights, tower, settings)
    if name == "smol":
        return build_smol(tower, settings)
    if source is None:
        raise MissingResource(f"model {name!r} needs model.source, a hub id or a folder")
    if Path(source).is_dir() or base_model_files.is_offline():
        return open_checkpoint(source, settings, name=name)
    if base_model_files.was_fetched(source):
        with suppress(MissingResource):
            return open_checkpoint(source, settings, name=name)
    log.info("%s: fetching %s, which is kept in the Hugging Face cache", name, source)
    return open_checkpoint(source, settings, name=name, local_only=False)
