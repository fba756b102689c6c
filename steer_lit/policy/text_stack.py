"""Qwen2.5-VL's decoder layers and LoRA adapters with fused projections: the arithmetic of transformers and PEFT.

Most time goes into kernel calls and reading weights. So q, k and v are one product, gate and up are one, and so are
their adapters; residuals are added inside products, and keys and values that several heads share are never repeated.
The stack serves generation and training. A test compares it with transformers' modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from steer_lit.policy.layer_ops import Adapter, Make, adapted, norm, swiglu
from steer_lit.policy.prepacked import can_prepack, prepack, prepacked_linear


class Attend(Protocol):
    """The attention of tokens to each other."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, layer: int) -> Tensor:
        """Attend from rotated queries [N, heads, d] to keys and values [N, kv_heads, d]. Returns [N, heads, d]."""
        ...


@dataclass(frozen=True, slots=True)
class Operands:
    """A projection's adapter as it is at one moment, and perhaps a copy of its frozen weights.

    `prepacked` is that copy, in a layout for few rows, used if it is there. If `holds_a`, the adapter's A lies below
    the weights, so that one product gives both.
    """

    adapter: Adapter | None
    prepacked: Tensor | None = None
    holds_a: bool = False

    @property
    def plain(self) -> Operands:
        """The operands for many rows, which read the weights themselves."""
        return Operands(self.adapter)


class _Projection:
    """Linear layers that read the same input, as one: x W^T + bias + (x A^T) (scale * B^T).

    Plain weights are stacked and the layers keep views of them, so nothing is stored twice. 4-bit weights are
    multiplied by their own layers.
    """

    def __init__(self, *layers: Any) -> None:  # nn.Linear, a 4-bit one, or PEFT's wrapper of either
        self.layers = layers
        self.bases = [getattr(layer, "base_layer", layer) for layer in layers]
        self.weight: Tensor | None = None  # [in, out], a transposed view
        self.bias: Tensor | None = None
        if all(type(base) is nn.Linear for base in self.bases):
            self.weight = _stacked([base.weight for base in self.bases]).T
            biases = [base.bias for base in self.bases if base.bias is not None]
            if biases:
                assert len(biases) == len(self.bases), "layers that read the same input all have a bias, or none has"
                self.bias = _stacked(biases)

    @cached_property
    def prepacked(self) -> Tensor:
        """A copy of frozen weights for decoding, made at the first decoding step."""
        assert self.weight is not None
        return prepack(self.weight.T)

    def operands(self, decoding: bool) -> Operands:
        adapter = self.adapter()
        trains = any(base.weight.requires_grad for base in self.bases)
        if not decoding or trains or self.weight is None or not can_prepack(self.weight):
            return Operands(adapter)
        if adapter is None or adapter[0].dtype != self.weight.dtype:
            return Operands(adapter, self.prepacked)
        return Operands(adapter, prepack(torch.cat((self.weight.T, adapter[0]))), holds_a=True)

    def adapter(self) -> Adapter | None:
        """Return the layers' adapters as one, with R the sum of their ranks; None if no layer has one."""
        on = [hasattr(layer, "lora_A") and not layer.disable_adapters for layer in self.layers]
        downs = [layer.lora_A["default"].weight for layer, is_on in zip(self.layers, on, strict=True) if is_on]
        if not downs:
            return None
        ups = [
            layer.lora_B["default"].weight.T * layer.scaling["default"]
            if is_on
            else downs[0].new_zeros(0, base.out_features)
            for layer, base, is_on in zip(self.layers, self.bases, on, strict=True)
        ]
        return torch.cat(downs), torch.block_diag(*ups)

    def __call__(self, x: Tensor, operands: Operands, add: Tensor | None = None, *, make: Make | None = None) -> Tensor:
        """Project x, or make(x) if `make` is given, from [M, in] to [M, out]. Adds `add` [M, out] if given."""
        assert add is None or self.bias is None  # Qwen2.5's layers before a residual have none
        made = None if make is None else (make, x)
        x = x if make is None else make(x)
        if operands.holds_a:
            return self._with_adapter(x, operands, add)
        return adapted(self._without_adapter(x, operands.prepacked, add), x, operands.adapter, made)

    def _without_adapter(self, x: Tensor, prepacked: Tensor | None, add: Tensor | None) -> Tensor:
        if self.weight is None:
            y = torch.cat([base(x) for base in self.bases], -1)
            return y if add is None else y.add_(add)
        shift = self.bias if add is None else add
        if prepacked is not None:
            return prepacked_linear(x, prepacked, shift)
        return x @ self.weight if shift is None else torch.addmm(shift, x, self.weight)

    def _with_adapter(self, x: Tensor, operands: Operands, add: Tensor | None) -> Tensor:
        """Multiply by weights and A in one product. Returns [M, out]."""
        assert operands.prepacked is not None
        assert operands.adapter is not None
        shift, up = self.bias if add is None else add, operands.adapter[1]
        wide = None if shift is None else F.pad(shift, (0, len(up)))  # added before rounding, as it is without A
        y, low = prepacked_linear(x, operands.prepacked, wide).split((up.shape[1], len(up)), 1)
        return y.addmm_(low, up)


def _stacked(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Stack the parameters' rows, and make each parameter a view of its own."""
    if len(parameters) == 1:
        return parameters[0].detach()
    with torch.inference_mode(False), torch.no_grad():  # tensors made in inference mode can never train
        whole = torch.cat([parameter.detach() for parameter in parameters])
    for parameter, rows in zip(parameters, whole.split([len(p) for p in parameters]), strict=True):
        parameter.data = rows
    return whole


@dataclass(frozen=True, slots=True)
class _Layer:
    norm_attention: Make
    qkv: _Projection
    out: _Projection
    norm_mlp: Make
    gate_up: _Projection
    down: _Projection

    @classmethod
    def of(cls, block: Any) -> _Layer:
        attention, mlp = block.self_attn, block.mlp
        return cls(
            partial(_normed, block.input_layernorm),
            _Projection(attention.q_proj, attention.k_proj, attention.v_proj),
            _Projection(attention.o_proj),
            partial(_normed, block.post_attention_layernorm),
            _Projection(mlp.gate_proj, mlp.up_proj),
            _Projection(mlp.down_proj),
        )

    def operands(self, decoding: bool) -> tuple[Operands, ...]:
        return tuple(projection.operands(decoding) for projection in (self.qkv, self.out, self.gate_up, self.down))


class TextStack:
    """The language model `model`, with PEFT's layers in place, from embeddings to last hidden states.

    `head` makes logits of hidden states.
    """

    def __init__(self, model: Any, head: Any) -> None:
        config = model.config
        self.model, self.head = model, _Projection(head)
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.layers = [_Layer.of(block) for block in model.layers]

    def operands(self, decoding: bool = False) -> list[tuple[Operands, ...]]:
        """Put together every layer's operands from the adapters as they are now, to use until these change.

        `decoding` adds copies of frozen weights in a layout for one token a row, while nothing trains.
        """
        return [layer.operands(decoding) for layer in self.layers]

    def __call__(
        self,
        embeds: Tensor,  # [N, H], all rows end to end
        position_ids: Tensor,  # [3, N]
        attend: Attend,
        operands: Sequence[Sequence[Operands]],
    ) -> Tensor:  # [N, H]
        cos, sin = (part[0, :, None] for part in self.model.rotary_emb(embeds, position_ids[:, None]))  # [N, 1, d]
        half = self.head_dim // 2
        sin = torch.cat((-sin[..., :half], sin[..., half:]), -1)  # the sign of the rotation, taken once for all layers
        recomputes = self.model.training and self.model.layers[0].gradient_checkpointing and torch.is_grad_enabled()
        x = embeds
        for index in range(len(self.layers)):
            inputs = (x, cos, sin, attend, operands[index], index)
            x = checkpoint(self._layer, *inputs, use_reentrant=False) if recomputes else self._layer(*inputs)
        return _normed(self.model.norm, x)

    def _layer(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        attend: Attend,
        operands: Sequence[Operands],
        index: int,
    ) -> Tensor:
        layer, (qkv, out, gate_up, down) = self.layers[index], operands
        heads = layer.qkv(x, qkv, make=layer.norm_attention).unflatten(-1, (-1, self.head_dim))
        turning, value = heads.split((self.heads + self.kv_heads, self.kv_heads), 1)
        turned = torch.addcmul(turning * cos, turning.roll(self.head_dim // 2, -1), sin)
        query, key = turned.split((self.heads, self.kv_heads), 1)
        x = layer.out(attend(query, key, value, index).flatten(1), out, add=x)
        gates = layer.gate_up(x, gate_up, make=layer.norm_mlp)
        return layer.down(gates, down, add=x, make=swiglu)


def _normed(module: Any, x: Tensor) -> Tensor:
    return norm(x, module.weight, module.variance_epsilon)
