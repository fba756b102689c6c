"""The vision tower's weights as a file of their own: what tower training writes, `nano` and `smol` read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from steer_lit.atomic import replacing
from steer_lit.errors import MissingResource, SteerError

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLForConditionalGeneration


def save_tower(model: Qwen2_5_VLForConditionalGeneration, path: Path) -> None:
    """Write the vision tower and its merger as bfloat16 safetensors, all at once or not at all."""
    state = {key: value.detach().to("cpu", torch.bfloat16).contiguous() for key, value in _tower(model).items()}
    with replacing(path) as part:
        save_file(state, part, metadata={"format": "pt"})


def load_tower(model: Qwen2_5_VLForConditionalGeneration, path: Path) -> None:
    """Copy a saved tower into the model, in the model's dtype. Names and shapes must agree exactly."""
    if not path.is_file():
        raise MissingResource(f"vision tower weights {str(path)!r} are not there; leave model.tower out or correct it")
    try:
        saved = load_file(path)
    except SafetensorError as error:
        raise SteerError(f"vision tower weights {str(path)!r} cannot be read as safetensors: {error}") from error
    own = _tower(model)
    wrong = sorted(
        [f"{key} is missing" for key in own.keys() - saved.keys()]
        + [f"{key} is unknown" for key in saved.keys() - own.keys()]
        + [
            f"{key} has shape {tuple(saved[key].shape)}, the model's has {tuple(own[key].shape)}"
            for key in own.keys() & saved.keys()
            if saved[key].shape != own[key].shape
        ]
    )
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise SteerError(f"vision tower weights {str(path)!r} do not fit: {'; '.join(wrong[:3])}{more}")
    with torch.no_grad():
        for key, parameter in own.items():
            parameter.copy_(saved[key])


def _tower(model: Qwen2_5_VLForConditionalGeneration) -> dict[str, torch.Tensor]:
    return model.model.visual.state_dict()
