"""Our language layers equal transformers' modules with PEFT's adapters."""

import pytest
import torch
from PIL import Image

from steer_lit.policy import text_stack
from steer_lit.policy.lora import LoraSettings
from steer_lit.policy.prepacked import can_prepack
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.policy.text_stack import TextStack
from steer_lit.rollout.cache import TurnCache
from steer_lit.rollout.cached_attention import through_cache
from steer_lit.types import ImageRef, TokenTrace
from tests.policies import redrawn, small_policy


def policy_with(quantize="none", base="float32", **lora):
    return redrawn(small_policy(quantize=quantize, dtype=base, lora=LoraSettings(r=4, alpha=8, **lora))).eval()


@pytest.mark.parametrize(
    "settings",
    [{}, {"quantize": "nf4"}, {"targets": ["k_proj", "up_proj"]}, {"dtype": "bfloat16"}],
    ids=["plain", "nf4", "some layers", "bf16 adapters"],
)
@pytest.mark.parametrize("decoding", [False, True])
def test_parts_through_the_cache_equal_one_forward_pass_of_the_modules(settings, decoding):
    policy = policy_with(**settings)
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(5, 60, (3, 12), generator=generator)
    positions = torch.stack([torch.arange(12).expand(3, -1) * step for step in (1, 2, 1)])  # time, height, width differ
    tolerance = 2e-2 if settings.get("dtype") == "bfloat16" else 1e-5
    with torch.no_grad():
        embeds = policy.embed(input_ids, ())
        expected = policy.hidden(embeds, positions)
        cache, operands = TurnCache(policy.device), policy.stack.operands(decoding)
        cache.add(3)
        plain = [[one.plain for one in layer] for layer in operands]
        found = []
        for part in (slice(0, 7), slice(7, 8), slice(8, 12)):
            size = part.stop - part.start
            attend = through_cache(cache, cache.append([size] * 3), embeds.dtype)
            flat = embeds[:, part].flatten(0, 1), positions[:, :, part].flatten(1)
            found.append(policy.stack(*flat, attend, operands if size == 1 else plain).unflatten(0, (3, -1)))
    assert torch.allclose(torch.cat(found, 1), expected, atol=tolerance)


def test_joint_weights_share_storage_with_the_layers():
    policy = policy_with()
    attention = policy.base.model.language_model.layers[0].self_attn
    before = attention.k_proj.base_layer.weight.clone()
    stack: TextStack = policy.stack
    key = attention.k_proj.base_layer.weight
    assert torch.equal(key, before)
    joint = stack.layers[0].qkv.weight
    assert joint.untyped_storage().data_ptr() == key.untyped_storage().data_ptr()
    with torch.no_grad():
        key.zero_()
    queries = attention.q_proj.base_layer.out_features
    assert not joint[:, queries : queries + len(key)].any()


def test_operands_hold_the_adapters_of_the_time_they_were_made():
    policy = policy_with()
    with torch.no_grad():
        kept = policy.stack.operands()
        parameter = next(iter(policy.adapter_parameters().values()))
        parameter.add_(1.0)
        assert not torch.equal(kept[0][0].adapter[0], policy.stack.operands()[0][0].adapter[0])


@pytest.mark.parametrize("shift", ["none", "bias", "residual"])
@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 2**-5), ("float32", 1e-5)])
def test_one_product_gives_a_projection_and_its_adapters_first_factor(shift, dtype, error):
    policy = policy_with(base=dtype, dtype=dtype)
    projection = policy.stack.layers[0].out
    x, add = torch.randn(2, 5, projection.weight.shape[0], generator=torch.Generator().manual_seed(3)).to(
        projection.weight.dtype
    )
    if shift == "bias":
        projection.bias = add[0]
    residual = add if shift == "residual" else None
    with torch.no_grad():
        operands = projection.operands(decoding=True)
        if operands.prepacked is None:
            pytest.skip(f"this CPU or build of torch has no {dtype} products of its own layout")
        assert operands.holds_a
        plain = projection(x, projection.operands(decoding=False), residual)
        folded = projection(x, operands, residual)
        apart = projection(x, text_stack.Operands(operands.adapter, projection.prepacked), residual)
        assert torch.allclose(folded, plain, rtol=error, atol=error)
        if dtype == "bfloat16":  # as many roundings as in scoring: one more would change a quarter of the values
            assert (folded == apart).float().mean() > 0.95
        assert not torch.allclose(projection(x, text_stack.Operands(None), residual), plain, atol=0.1)


def test_an_adapter_of_another_type_is_not_rounded_to_the_weights_type():
    operands = policy_with(base="bfloat16", dtype="float32").stack.layers[0].qkv.operands(decoding=True)
    assert not operands.holds_a
    assert operands.adapter[0].dtype == torch.float32


def test_without_the_layout_nothing_is_copied(monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    projection = policy_with().stack.layers[0].qkv
    operands = projection.operands(decoding=True)
    assert operands.prepacked is None
    assert not operands.holds_a
    x = torch.ones(2, projection.weight.shape[0])
    with torch.no_grad():
        assert torch.equal(projection(x, operands), projection(x, projection.operands(False)))


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_a_policy_can_be_trained_after_it_has_generated(quantize):
    """On some CPUs bitsandbytes repacks 4-bit weights in eval mode, and repacked weights have no gradient."""
    from steer_lit.rollout.engine import SampledPolicy
    from steer_lit.types import Attack, Message, Scenario

    policy = policy_with(quantize=quantize).train()
    session = SampledPolicy(policy, max_new_tokens=4).open(
        [Scenario("row", "benign", Attack(Message.of("user", "Hi")))], [1]
    )
    session.reply({0: Message.of("user", "Hi")})
    policy.logprobs(policy.collate([session.end(0)])).sum().backward()
    assert all(parameter.grad is not None for parameter in policy.trainable().values())


# ---- rows packed for training, against transformers' modules


RED = ImageRef("mini://red")


def rows(policy):
    """Return two rows that share an opening with a picture, one with another opening, and one that shares and has no
    answer.
    """
    policy.pictures.open_image = lambda _: Image.new("RGB", (112, 112), "red")
    look = [40, 41, *[policy.parts.image_token_id] * policy.pictures.tokens(RED), 42]
    parts = ((look, [50, 51, 52], RED), ([43, 44, 45], [50, 53], None), (look, [54, 55, 56, 57], RED), (look, [], RED))
    traces = []
    for opening, answer, picture in parts:
        turns, images = (-1,) * len(opening) + (0,) * len(answer), () if picture is None else (picture,)
        traces.append(TokenTrace((*opening, *answer), turns, (0.0,) * len(turns), images))
    return policy.collate(traces)


def gradients(policy, batch):
    """Return log-probs, and the gradients of their sum with different weights."""
    policy.zero_grad()
    logprobs = policy.logprobs(batch)
    (logprobs * torch.linspace(-1, 1, logprobs.numel()).view_as(logprobs)).sum().backward()
    return logprobs.detach(), {name: parameter.grad.clone() for name, parameter in policy.trainable().items()}


@pytest.mark.parametrize("tower", [False, True], ids=["adapter", "tower"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"quantize": "nf4"}, {"targets": ["k_proj", "up_proj"]}],
    ids=["plain", "nf4", "some layers"],
)
def test_packed_rows_and_padded_ones_give_the_same_gradients(settings, tower, monkeypatch):
    policy = policy_with(**settings).train()
    batch = rows(policy)
    assert [first for first, _ in batch.openings] == [0, 1, 0, 0]
    if tower:
        policy.train_only("tower")
    found = {}
    for packs in (True, False):
        monkeypatch.setattr(QwenVL, "packs", packs)
        found[packs] = gradients(policy, batch)
    assert torch.allclose(found[True][0], found[False][0], atol=1e-5)
    for name, gradient in found[False][1].items():
        assert gradient.any() or "merger" not in name
        assert torch.allclose(found[True][1][name], gradient, atol=1e-5, rtol=1e-4), name


@pytest.mark.usefixtures("packs")
def test_a_disabled_adapter_has_no_effect():
    policy = policy_with()
    with torch.no_grad():
        batch = rows(policy)
        adapted = policy.logprobs(batch)
        with policy.model.disable_adapter():
            plain = policy.logprobs(batch)
        for parameter in policy.adapter_parameters().values():
            parameter.zero_()
        assert torch.allclose(policy.logprobs(batch), plain, atol=1e-6)
        assert not torch.allclose(adapted, plain, atol=1e-3)


def test_a_trained_base_is_decoded_with_its_current_weights():
    """Copies in the layout for decoding would keep the weights of the first validation."""
    policy = policy_with().train()
    policy.train_only("base")
    batch = rows(policy)
    assert not policy.packs
    states = torch.randn(3, policy.base.lm_head.weight.shape[1])

    policy.model.disable_adapter_layers()
    down = policy.stack.layers[0].down

    def decoded():
        with torch.no_grad():
            return policy.logits(states), down(torch.ones(1, 384), down.operands(True))

    before = decoded()
    optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.1)
    policy.logprobs(batch).sum().backward()
    optimizer.step()
    for then, now in zip(before, decoded(), strict=True):
        assert not torch.allclose(then, now, atol=1e-4)
    layer = policy.base.model.language_model.layers[0].mlp.down_proj
    torch.testing.assert_close(now, torch.ones(1, 384) @ getattr(layer, "base_layer", layer).weight.T)


def test_rows_are_packed_unless_there_is_dropout():
    assert policy_with().packs
    policy = policy_with(dropout=0.5)
    assert not policy.packs
    batch = rows(policy)
    with torch.no_grad():
        assert torch.equal(policy.logprobs(batch), policy.logprobs(batch))
        policy.train()
        assert not torch.equal(policy.logprobs(batch), policy.logprobs(batch))


def test_only_decoding_copies_the_weights():
    policy = policy_with(base="float32", dtype="float32").train()
    policy.logprobs(rows(policy)).sum().backward()
    first = policy.stack.layers[0].qkv
    if not can_prepack(first.weight):
        pytest.skip("this CPU or build of torch has no float32 products of its own layout")
    assert "prepacked" not in vars(first)
    with policy.inference():
        policy.logprobs(rows(policy))
        assert "prepacked" not in vars(first)
        policy.logits(torch.zeros(1, policy.base.lm_head.in_features))
    assert "prepacked" in vars(policy.stack.head)


@pytest.mark.parametrize("change", [lambda policy: policy.bfloat16(), lambda policy: policy.to(torch.float64)])
def test_the_layers_are_rebuilt_after_weights_are_cast_or_moved(change):
    policy = policy_with()
    before = policy.stack
    assert policy.stack is before
    change(policy)
    for weight in (policy.stack.head.weight, policy.stack.layers[0].qkv.weight):
        assert weight.dtype == policy.base.lm_head.weight.dtype != before.head.weight.dtype
