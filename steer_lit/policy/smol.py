"""`smol`: Qwen2.5-VL whose language model holds SmolLM2-135M-Instruct, small enough to train on a laptop's CPU.

A Qwen2.5-VL text stack with zero q/k/v biases is a Llama stack, so the pretrained weights fit as they are and the
text logits stay the original's. The vision tower is new: fresh weights, or trained ones from a file.

The checkpoint is made once and kept as an ordinary checkpoint folder under `$STEER_LIT_CACHE` (default
`~/.cache/steer_lit`); processes that start together wait for the first to make it.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from steer_lit.digests import digest
from steer_lit.errors import MissingResource
from steer_lit.policy import chat_template
from steer_lit.policy.base_model import PLAIN, BaseModelSettings, open_checkpoint
from steer_lit.policy.base_model_files import SmolSource, find_smol
from steer_lit.policy.fresh import SMALL_TOWER, spread, write_fresh
from steer_lit.policy.model_facts import CONTEXT_LENGTH
from steer_lit.policy.parts import ModelParts, own_random_state
from steer_lit.policy.tensors import disk_errors

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

# SmolLM2's marks for Jupyter cells become the vision tokens: the vocabulary keeps its size, and no row is unused.
FIRST_VISION_ID = 11
_GIVEN_UP = ("<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>", "<jupyter_script>")
_NEW_ROW_STD = 0.02
_BUILD_SEED = 0
_RECIPE = 1.0  # raise it when checkpoints are made differently: older ones are then no longer found

TEXT_CONFIG: dict[str, Any] = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": CONTEXT_LENGTH["smol"],
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e5, "mrope_section": [8, 12, 12]},
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
VISION_CONFIG: dict[str, Any] = {
    **SMALL_TOWER,
    "depth": 4,
    "out_hidden_size": TEXT_CONFIG["hidden_size"],
    "fullatt_block_indexes": [1, 3],
}


def build_smol(tower: Path | None = None, settings: BaseModelSettings = PLAIN) -> ModelParts:
    """Load `smol`, making its checkpoint first if there is none yet (about 15 s).

    Raises MissingResource if SmolLM2's weights or the tower file are not on this machine, and OSError if no checkpoint
    can be written to the cache folder.
    """
    return open_checkpoint(str(smol_checkpoint()), settings, name="smol", tower=tower)


def smol_checkpoint() -> Path:
    """Return the checkpoint folder, made if needed. A run killed half-way leaves nothing that looks finished."""
    source = find_smol()
    recipe = json.dumps(
        [TEXT_CONFIG, VISION_CONFIG, _RECIPE, chat_template.CHAT_TEMPLATE, source.version], sort_keys=True
    )
    named = os.environ.get("STEER_LIT_CACHE")
    kept, way_out = "model=smol is made and kept in", "the variable STEER_LIT_CACHE names another folder"
    try:
        cache = Path(named) if named else Path.home() / ".cache" / "steer_lit"
    except RuntimeError:
        raise MissingResource(f"{kept} ~/.cache/steer_lit, and nobody knows this user's home: {way_out}") from None
    folder = cache / f"smol-{digest(recipe, 10)}"
    try:
        if not folder.is_dir():
            cache.mkdir(parents=True, exist_ok=True)
            _make_checkpoint(folder, source)
    except OSError as error:
        error.add_note(f"{kept} {cache}; {way_out}")
        raise
    return folder


def _make_checkpoint(folder: Path, source: SmolSource) -> None:
    cache = folder.parent
    with tempfile.TemporaryDirectory(prefix=".smol-", dir=cache, ignore_cleanup_errors=True) as room:
        unfinished = Path(room) / "checkpoint"
        with disk_errors(cache), own_random_state(_BUILD_SEED):
            _write_checkpoint(unfinished, source)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, and its folder is as good
                raise


def _write_checkpoint(folder: Path, source: SmolSource) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    origin = {"pretrained_model_name_or_path": source.folder, "gguf_file": source.gguf_file}
    llama = AutoModelForCausalLM.from_pretrained(**origin, dtype=torch.float32)
    tokenizer = _with_vision_tokens(AutoTokenizer.from_pretrained(**origin))

    def draw(model: Qwen2_5_VLForConditionalGeneration) -> None:
        _copy_language_model(llama, model)
        spread(model.model.visual.parameters())

    sizes = {"text_config": TEXT_CONFIG, "vision_config": VISION_CONFIG}
    write_fresh(folder, tokenizer, draw, **sizes, tie_word_embeddings=True, seed=_BUILD_SEED)


def _copy_language_model(llama: LlamaForCausalLM, model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Fill the language model from a Llama of the same sizes, with zero biases and small fresh vision-token rows."""
    stack = model.model.language_model
    absent = stack.load_state_dict(llama.model.state_dict(), strict=False)
    biases = {name: p for name, p in stack.named_parameters() if name.endswith("_proj.bias")}
    if absent.unexpected_keys or set(absent.missing_keys) != biases.keys():
        raise ValueError(f"the Llama's weights do not fit the text stack: {absent}")
    with torch.no_grad():
        for bias in biases.values():
            bias.zero_()
        vision_rows = stack.embed_tokens.weight[FIRST_VISION_ID : FIRST_VISION_ID + len(_GIVEN_UP)]
        vision_rows.normal_(std=_NEW_ROW_STD)
    model.tie_weights()


def _with_vision_tokens(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Rename the five Jupyter marks of SmolLM2's tokenizer to Qwen's vision tokens, and give it Qwen's template."""
    renamed = dict(zip(_GIVEN_UP, chat_template.VISION_TOKENS, strict=True))
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    for added in state["added_tokens"]:
        added["content"] = renamed.get(added["content"], added["content"])
    state["model"]["vocab"] = {renamed.get(token, token): i for token, i in state["model"]["vocab"].items()}
    return chat_template.chat_tokenizer(json.dumps(state), TEXT_CONFIG["max_position_embeddings"])
