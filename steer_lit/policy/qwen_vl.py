"""Qwen2.5-VL with a LoRA adapter as a policy: log-probabilities for SFT and GRPO, and the parts of generation.

Every forward goes embeddings -> text stack -> head at chosen positions. Pictures are encoded once by the frozen vision
tower and reused by every row, turn and pass; positions are explicit (TRAPS 10, 11, 15).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from steer_lit.policy.base_model import four_bit_modules, save_base
from steer_lit.policy.chat_template import TURN_START, VISION_TOKENS
from steer_lit.policy.head import head_logprobs, restricted
from steer_lit.policy.lora import LoraSettings, adapted_layers, attach_adapter, save_adapter
from steer_lit.policy.memory import memory_advice
from steer_lit.policy.packed_attention import packed_attention
from steer_lit.policy.parts import ModelParts
from steer_lit.policy.pictures import Pictures
from steer_lit.policy.text_stack import TextStack
from steer_lit.policy.token_batch import TokenBatch, collate, pack, packed_batches, padded_batches
from steer_lit.stages import Trains
from steer_lit.types import ImageRef, OpenImage, TokenTrace

# Tokens that open pictures or messages: a policy that could sample them could forge either (TRAPS 14).
NEVER_SAMPLED = (TURN_START, *VISION_TOKENS)


class QwenVL(nn.Module):
    """A policy; `model` is the PEFT-wrapped `Qwen2_5_VLForConditionalGeneration` of `parts`.

    `open_image(ref)` returns a PIL RGB picture; the data layer decides where pictures may come from.
    """

    forbidden: torch.Tensor  # int64 [F], token ids that are never sampled

    def __init__(self, parts: ModelParts, model: nn.Module, system_prompt: str, open_image: OpenImage) -> None:
        super().__init__()
        self.parts = parts
        self.model = model
        self.system_prompt = system_prompt
        self.pictures = Pictures(parts, open_image)
        self.trains: Trains = "adapter"  # set by `train_only`
        self.started_from: str | None = None  # the folder of the adapter that the run began with
        self.start_is_gone = False  # whether that folder is gone; a checkpoint holds its content
        self._reference: dict[str, torch.Tensor] | None = None
        forbidden = [parts.tokenizer.convert_tokens_to_ids(token) for token in NEVER_SAMPLED]
        spare = range(len(parts.tokenizer), parts.model.get_output_embeddings().weight.shape[0])  # rows without a token
        never = torch.tensor([*forbidden, *spare], device=self.device)
        self.register_buffer("forbidden", never, persistent=False)

    # ---- what the model is made of

    @property
    def base(self) -> Any:
        """The Qwen2.5-VL model under the adapter."""
        return self.parts.model

    @property
    def tokenizer(self) -> Any:
        return self.parts.tokenizer

    @property
    def eos_ids(self) -> tuple[int, ...]:
        return self.parts.eos_ids

    @property
    def fingerprint(self) -> str:
        return self.parts.fingerprint

    @property
    def number_type(self) -> str:
        """The dtype of all computation and of the weights that are not quantized."""
        return str(self.base.lm_head.weight.dtype).removeprefix("torch.")

    @property
    def trained_as(self) -> dict[str, Any]:
        """The settings that a checkpoint of this policy needs: continued under others it would be another policy."""
        configs: Any = self.model.peft_config
        lora = configs["default"]
        targets = sorted({name.rpartition(".")[2] for name in adapted_layers(self.model)})
        computed = {"model.dtype": self.number_type, "model.quantize": "nf4" if four_bit_modules(self.base) else "none"}
        (dtype,) = {str(p.dtype).removeprefix("torch.") for p in self.adapter_parameters().values()}
        adapter = {"lora.r": lora.r, "lora.alpha": lora.lora_alpha, "lora.targets": targets, "lora.dtype": dtype}
        return {**self.shown_as, **computed, **adapter}

    @property
    def shown_as(self) -> dict[str, Any]:
        """How dialogues are shown to this policy."""
        parts = self.parts
        return {"system_prompt": self.system_prompt, "min_pixels": parts.min_pixels, "max_pixels": parts.max_pixels}

    @property
    def device(self) -> torch.device:
        return self.base.get_input_embeddings().weight.device

    @property
    def may_quantize(self) -> bool:
        """Whether model.quantize=nf4 is allowed and would save memory."""
        return self.device.type == "cuda" and self.trains != "base" and not four_bit_modules(self.base)

    @property
    def memory_advice(self) -> str:
        """What to do if the policy itself leaves too little memory."""
        return memory_advice(may_quantize=self.may_quantize)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Drop the stack, since moving or casting gives the layers new weights; its next use makes it again.

        All of torch's ways to do so come through here; they share no public method.
        """
        self.__dict__.pop("stack", None)
        return super()._apply(fn, recurse)

    # ---- forward

    def collate(self, traces: Sequence[TokenTrace]) -> TokenBatch:
        return collate(
            traces, pad_id=self.parts.pad_id, image_token_id=self.parts.image_token_id, grid_of=self.pictures.grid
        )

    def embed(self, input_ids: torch.Tensor, images: Sequence[ImageRef]) -> torch.Tensor:
        """Embed ids [B, L] as [B, L, H], with the pictures' features at their image tokens, row by row (TRAPS 13)."""
        input_ids = input_ids.to(self.device)
        embeds = self.base.get_input_embeddings()(input_ids)
        if not images:
            return embeds
        features = self.pictures.features(images).to(embeds.dtype)
        (at,) = (input_ids.flatten() == self.parts.image_token_id).nonzero(as_tuple=True)
        if len(at) != len(features):
            raise ValueError(f"{len(at)} image tokens for {len(features)} picture features")
        # Not masked_scatter: on a GPU it counts along the mask, 8 bytes for each number of `embeds`.
        return embeds.flatten(0, 1).index_copy(0, at, features).view_as(embeds)

    def hidden(self, embeds: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states [B, L, H], with plain causal attention over the row."""
        return self.base.model.language_model(
            inputs_embeds=embeds, position_ids=position_ids.to(self.device), use_cache=False
        ).last_hidden_state

    @cached_property
    def stack(self) -> TextStack:
        """The same language model in few large products."""
        return TextStack(self.base.model.language_model, self.base.lm_head)

    @property
    def packs(self) -> bool:
        """Whether rows are scored packed, through `stack`, which has no dropout and treats the base as frozen."""
        configs: Any = self.model.peft_config
        return not configs["default"].lora_dropout and self.trains != "base"

    def micro_batches(self, traces: Sequence[TokenTrace], budget: int) -> list[list[int]]:
        """Cut rows into micro-batches of at most `budget` tokens for `logprobs`. Returns row indices."""
        return (packed_batches if self.packs else padded_batches)(traces, budget)

    def logits(self, hidden: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
        """Return float32 logits [N, V] for hidden states [N, H], with forbidden tokens at minus infinity.

        For sampling: nothing trains through them.
        """
        head = self.stack.head
        return restricted(head(hidden, head.operands(decoding=True)), self.forbidden, temperature)

    def logprobs(self, batch: TokenBatch, temperature: float = 1.0) -> torch.Tensor:
        """Return float32 [B, L]: log p(token i | tokens before i) where the completion mask is set, 0 elsewhere."""
        mask = batch.completion_mask.to(self.device)
        scored = head_logprobs(
            self._before(batch, mask),
            self.base.lm_head.weight,
            batch.input_ids.to(self.device)[mask],
            self.forbidden,
            temperature,
        )
        return torch.zeros(mask.shape, device=self.device).masked_scatter(mask, scored)

    def _before(self, batch: TokenBatch, mask: torch.Tensor) -> torch.Tensor:
        """Return the hidden states [N, H] at the token before each of the N that `mask` [B, L] selects."""
        embeds = self.embed(batch.input_ids, batch.images)
        if not self.packs:
            return self.hidden(embeds, batch.position_ids)[:, :-1][mask[:, 1:]]
        packing = pack(batch)

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layer: int) -> torch.Tensor:
            return packed_attention(query, key, value, packing.segments)

        positions = batch.position_ids.flatten(1)[:, packing.source].to(self.device)
        states = self.stack(embeds.flatten(0, 1)[packing.source], positions, attend, self.stack.operands())
        # Rows of a group share their opening's last state; unlike plain indexing, a CPU sums its gradients in order.
        return states.index_select(0, packing.slots.to(self.device)[:, :-1][mask[:, 1:]])

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Run the block without gradients, dropout and activation checkpointing, then restore the mode."""
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(was_training)

    # ---- what trains

    def trainable(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def train_only(self, part: Trains) -> None:
        """Train the adapter, the vision tower (grounding) or the base, every weight but the adapter's (pretraining)."""
        self.trains = part
        self.pictures.train_tower(part != "adapter")
        for name, parameter in self.named_parameters():
            adapter = ".lora_" in name
            chosen = {"adapter": adapter, "tower": ".visual." in name, "base": not adapter}
            parameter.requires_grad_(chosen[part])

    def adapt(self, lora: LoraSettings) -> None:
        """Replace the adapter by a fresh one with the settings `lora`."""
        self.__dict__.pop("stack", None)  # it holds the old layers
        model: Any = self.model
        self.model = attach_adapter(model.unload(), lora, seed=0)

    def clear_adapter(self) -> None:
        """Make the adapter change nothing, like a fresh one. It can no longer train: A and B are both zero."""
        with torch.no_grad():
            for parameter in self.adapter_parameters().values():
                parameter.zero_()

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.named_parameters() if ".lora_" in name}

    def adapter_state(self) -> dict[str, torch.Tensor]:
        """Copy the adapter's tensors."""
        return {name: p.detach().clone() for name, p in self.adapter_parameters().items()}

    @contextmanager
    def wearing(self, state: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Put the adapter `state` in place of the live one, which comes back whatever happens in the block."""
        parameters = self.adapter_parameters()
        live = {name: parameter.data for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.data = state[name].to(parameter)
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = live[name]

    def save_adapter(self, folder: Path) -> None:
        """Write a standard PEFT folder, with the base model's fingerprint beside it."""
        save_adapter(self.model, self.fingerprint, self.shown_as, folder)

    def save_base(self, folder: Path) -> None:
        """Write the base model as a checkpoint folder."""
        save_base(self.parts, folder)

    # ---- the reference: the adapter GRPO starts from, not the base model (TRAPS 19)

    def freeze_reference(self, state: dict[str, torch.Tensor] | None = None) -> None:
        """Keep a frozen copy of the adapter as it is now, or of `state` when a run resumes."""
        frozen = state or self.adapter_state()
        here = self.adapter_parameters()
        self._reference = {name: tensor.to(here[name].device, here[name].dtype) for name, tensor in frozen.items()}

    @property
    def reference_state(self) -> dict[str, torch.Tensor]:
        if self._reference is None:
            raise RuntimeError("no reference yet: call freeze_reference() first")
        return self._reference

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Run the block with the reference's adapter, for inference."""
        with self.wearing(self.reference_state), self.inference():
            yield
