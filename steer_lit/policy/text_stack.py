"""The language model for generation: transformers' arithmetic with PEFT's adapters, in few and large products.

Training goes through transformers' modules. Generation feeds one token a row, so its time goes into calls and into
reading weights: here q, k and v are one product, gate and up are one, and so are their adapters; residuals are added
inside products, and keys and values that several heads share are never repeated. A test holds it against the modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Adapter = tuple[Tensor, Tensor]  # A [R, in] and scale * B^T [R, out]
BLOCK = 16  # queries whose scores a CPU holds at a time: the fastest of 8 to 128


class KeyValues(Protocol):
    """Where a forward finds the keys and values of earlier ones and leaves its own."""

    def update(self, key: Tensor, value: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """[B, kv_heads, q, d] of new columns in, [B, kv_heads, columns, d] of all columns out."""
        ...


class _Projection:
    """Linear layers that read the same input, as one: x W^T + bias + (x A^T) (scale * B^T).

    Plain weights are laid out one below the other and the layers keep views of them, so nothing is stored twice;
    4-bit weights are multiplied by their own layers.
    """

    def __init__(self, *layers: Any) -> None:  # nn.Linear, a 4-bit one, or PEFT's around either
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

    def adapter(self) -> Adapter | None:
        """The layers' adapters as one, R the sum of their ranks; None where no layer has one."""
        downs = [layer.lora_A["default"].weight for layer in self.layers if hasattr(layer, "lora_A")]
        if not downs:
            return None
        ups = [
            layer.lora_B["default"].weight.T * layer.scaling["default"]
            if hasattr(layer, "lora_A")
            else downs[0].new_zeros(0, base.out_features)
            for layer, base in zip(self.layers, self.bases, strict=True)
        ]
        return torch.cat(downs), torch.block_diag(*ups)

    def __call__(self, x: Tensor, adapter: Adapter | None, add: Tensor | None = None) -> Tensor:
        """[M, in] to [M, out], plus `add` [M, out] where given."""
        assert add is None or self.bias is None  # Qwen2.5's layers before a residual have none
        if self.weight is None:
            y = torch.cat([base(x) for base in self.bases], -1)
            y = y if add is None else y + add
        elif (shift := self.bias if add is None else add) is not None:
            y = torch.addmm(shift, x, self.weight)
        else:
            y = x @ self.weight
        if adapter is None:
            return y
        down, up = adapter
        if down.dtype == y.dtype:
            return torch.addmm(y, x @ down.T, up)
        return (y + (x.to(down.dtype) @ down.T) @ up).to(y.dtype)


def _stacked(parameters: Sequence[nn.Parameter]) -> Tensor:
    """The parameters one below the other, each now a view of its rows."""
    with torch.inference_mode(False), torch.no_grad():  # what is made in inference mode can never train
        whole = torch.cat([parameter.detach() for parameter in parameters])
    for parameter, rows in zip(parameters, whole.split([len(p) for p in parameters]), strict=True):
        parameter.data = rows
    return whole


@dataclass(frozen=True, slots=True)
class _Layer:
    norm_attention: Any
    qkv: _Projection
    out: _Projection
    norm_mlp: Any
    gate_up: _Projection
    down: _Projection

    @classmethod
    def of(cls, block: Any) -> _Layer:
        attention, mlp = block.self_attn, block.mlp
        return cls(
            block.input_layernorm,
            _Projection(attention.q_proj, attention.k_proj, attention.v_proj),
            _Projection(attention.o_proj),
            block.post_attention_layernorm,
            _Projection(mlp.gate_proj, mlp.up_proj),
            _Projection(mlp.down_proj),
        )

    def adapters(self) -> tuple[Adapter | None, ...]:
        return tuple(projection.adapter() for projection in (self.qkv, self.out, self.gate_up, self.down))


class TextStack:
    """Embeddings to last hidden states. `model` is the language model with PEFT's layers in place."""

    def __init__(self, model: Any) -> None:
        config = model.config
        self.rotary, self.norm = model.rotary_emb, model.norm
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.layers = [_Layer.of(block) for block in model.layers]

    def adapters(self) -> list[tuple[Adapter | None, ...]]:
        """Every layer's adapters as they are now: put together once, used for as long as they do not change."""
        return [layer.adapters() for layer in self.layers]

    def __call__(
        self,
        embeds: Tensor,  # [B, q, H]
        position_ids: Tensor,  # [3, B, q]
        mask: Tensor,  # bool [B, 1, q, columns], True where a query may look
        cache: KeyValues,
        adapters: Sequence[tuple[Adapter | None, ...]],
    ) -> Tensor:  # [B, q, H]
        rows, queries, hidden = embeds.shape
        cos, sin = (part[:, :, None] for part in self.rotary(embeds, position_ids))  # [B, q, 1, d]
        half = self.head_dim // 2
        sin = torch.cat((-sin[..., :half], sin[..., half:]), -1)  # the sign of the rotation, taken once for all layers
        attend = _on_cpu if embeds.device.type == "cpu" else _on_gpu
        x = embeds.reshape(rows * queries, hidden)
        for index, (layer, (qkv, out, gate_up, down)) in enumerate(zip(self.layers, adapters, strict=True)):
            heads = layer.qkv(_normed(x, layer.norm_attention), qkv).view(rows, queries, -1, self.head_dim)
            query, keys, values = self._turned(heads, cos, sin, cache, index)
            mixed = attend(query, keys, values, mask).transpose(1, 2)
            x = layer.out(mixed.reshape(rows * queries, -1), out, add=x)
            gate, up = layer.gate_up(_normed(x, layer.norm_mlp), gate_up).chunk(2, -1)
            x = layer.down(F.silu(gate).mul_(up), down, add=x)
        return _normed(x, self.norm).view(rows, queries, hidden)

    def _turned(
        self, heads: Tensor, cos: Tensor, sin: Tensor, cache: KeyValues, index: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[B, q, heads + 2 kv_heads, d] to queries [B, heads, q, d] and the cache's keys and values, all rotated."""
        turning, value = heads.split((self.heads + self.kv_heads, self.kv_heads), 2)
        turned = torch.addcmul(turning * cos, turning.roll(self.head_dim // 2, -1), sin)
        query, key = turned.transpose(1, 2).split((self.heads, self.kv_heads), 1)
        return query, *cache.update(key, value.transpose(1, 2), index)


def _on_gpu(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Attention, [B, heads, q, d]. Heads that share keys stand behind each other as if they were further queries."""
    rows, heads, queries, dim = query.shape
    grouped = query.reshape(rows, keys.shape[1], -1, dim)
    look = mask if queries == 1 else mask.repeat(1, 1, heads // keys.shape[1], 1)
    return F.scaled_dot_product_attention(grouped, keys, values, attn_mask=look).view(query.shape)


def _on_cpu(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """The same in plain products: torch's kernel for CPUs takes twice as long to read a cache. Float32 softmax."""
    rows, kv_heads, columns, dim = keys.shape
    flat_keys, flat_values = keys.flatten(0, 1).transpose(1, 2), values.flatten(0, 1)
    mixed = []
    for part, look in zip(query.split(BLOCK, 2), mask.split(BLOCK, 2), strict=True):
        scores = torch.bmm(part.reshape(rows * kv_heads, -1, dim), flat_keys)
        scores = scores.float().view(rows, -1, part.shape[2], columns).mul_(dim**-0.5)
        shares = scores.add_(torch.where(look, 0.0, -torch.inf)).softmax(-1).to(values.dtype)
        mixed.append(torch.bmm(shares.view(rows * kv_heads, -1, columns), flat_values).view(part.shape))
    return torch.cat(mixed, 2)


def _normed(x: Tensor, norm: Any) -> Tensor:
    return F.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)
