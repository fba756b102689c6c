"""Fingerprints of base models: short hashes of the architecture and of a sample of the weights.

All samples are rounded to bfloat16, so a checkpoint has one fingerprint in float32, in bfloat16 and in NF4.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from safetensors import safe_open

from steer_lit.errors import MissingResource
from steer_lit.policy.base_model_files import weight_files

# Sampled from the loaded model: NF4 leaves these alone, and a tower that replaced the checkpoint's is noticed.
_LANGUAGE = ("embed_tokens.weight", "norm.weight", "layernorm.weight")
_TOWER = ("patch_embed.proj.weight", "qkv.weight", "merger.mlp.2.weight")
_SAMPLE_SIZE = 256
# Sampled from the checkpoint's files: NF4 packs these away, and a merged adapter changes nothing else. Files name them
# with and without `language_model.`
_LINEAR = re.compile(r"layers\.\d+\.(?:self_attn|mlp)\.\w+_proj\.weight$")
_TEXT_CONFIG = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "rms_norm_eps",
)
_VISION_CONFIG = ("depth", "hidden_size", "intermediate_size", "num_heads", "patch_size", "spatial_merge_size")
_ROPE = ("rope_type", "rope_theta", "mrope_section", "factor", "original_max_position_embeddings")


def fingerprint(model: Any, source: str) -> str:
    """Return sixteen hex digits that identify the weights of `model`, the base without PEFT's wrapper.

    `source` is the checkpoint, a folder or hub id, that `model` was loaded from. Raises MissingResource if it holds no
    safetensors files with the linear layers' weights.
    """
    text, vision = model.config.text_config, model.config.vision_config
    rope = [(text.rope_parameters or {}).get(key) for key in _ROPE]
    facts = [_facts(text, _TEXT_CONFIG), _facts(vision, _VISION_CONFIG), rope]
    return _digest(facts, (*_samples(model, (*_LANGUAGE, *_TOWER)), *_linear_rows(source)))[:16]


def language_fingerprint(model: Any) -> str:
    """Return twelve hex digits that identify the language model a tower is trained with, whatever tower that is.

    Linear layers are left out: how pictures look to the language model does not depend on an adapter.
    """
    facts = ["text_config", *_facts(model.config.text_config, _TEXT_CONFIG)]
    return _digest(facts, (sample for sample in _samples(model, _LANGUAGE) if ".visual." not in sample[0]))[:12]


def _digest(facts: list[Any], samples: Iterable[tuple[str, torch.Tensor]]) -> str:
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name, values in samples:
        digest.update(name.encode())
        digest.update(values.to(torch.bfloat16).float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _facts(config: Any, keys: Sequence[str]) -> list[Any]:
    return [getattr(config, key) for key in keys]


def _samples(model: torch.nn.Module, endings: tuple[str, ...]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, parameter in model.named_parameters():
        if name.endswith(endings):
            flat = parameter.detach().reshape(-1)
            yield name, flat[:: max(1, flat.numel() // _SAMPLE_SIZE)]


def _linear_rows(source: str) -> list[tuple[str, torch.Tensor]]:
    """Read the middle row of each linear layer of the language model. Returns (name, values), sorted."""
    rows: dict[str, torch.Tensor] = {}
    for path in weight_files(source):
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118  it is no mapping
                if found := _LINEAR.search(key):
                    weight = file.get_slice(key)
                    middle = weight.get_shape()[0] // 2
                    rows[found[0]] = weight[middle : middle + 1, :_SAMPLE_SIZE]
    if not rows:
        raise MissingResource(f"{source!r} holds no safetensors files of a Qwen2.5-VL: name a checkpoint that has them")
    return sorted(rows.items())
