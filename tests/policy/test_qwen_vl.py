"""The policy's forward pass: pictures belong to their rows, positions equal transformers', and no state is kept."""

import pytest
import torch
from PIL import Image

from steer_lit.policy import pictures
from steer_lit.policy.pictures import to_patches
from steer_lit.types import ImageRef, TokenTrace
from tests.policies import small_policy

WIDE, TALL, SQUARE = (ImageRef(f"mini://{shape}") for shape in ("wide", "tall", "square"))
SIZES = {WIDE: (112, 56), TALL: (56, 112), SQUARE: (112, 112)}
ROWS = ((WIDE, "What is it?"), ("Only words",), (TALL, "or", SQUARE, "?"), ("Hi", SQUARE, "Why?"))


def picture(ref):
    """Return a gradient from black to white, from top to bottom, so that no two patches are alike. WIDE is rotated by
    180 degrees.
    """
    shades = Image.linear_gradient("L").resize(SIZES[ref]).convert("RGB")
    return shades.rotate(180) if ref == WIDE else shades


def policy():
    return small_policy(open_image=picture)


@pytest.fixture(scope="module")
def model():
    return policy()


def trace(model, parts):
    """Return a trace of texts and pictures, then five sampled tokens."""
    ids = []
    for part in parts:
        is_text = isinstance(part, str)
        ids += (
            model.tokenizer(part).input_ids if is_text else [model.parts.image_token_id] * model.pictures.tokens(part)
        )
    turns = (-1,) * len(ids) + (0,) * 5
    ids += [50, 51, 52, 53, model.eos_ids[0]]
    pictures = tuple(part for part in parts if not isinstance(part, str))
    return TokenTrace(tuple(ids), turns, (0.0,) * len(ids), pictures)


def scored(model, rows):
    """Return the log-probs of the five sampled tokens of each row, [B, 5]."""
    batch = model.collate([trace(model, parts) for parts in rows])
    with torch.no_grad():
        return model.logprobs(batch)[batch.completion_mask].view(-1, 5)


@pytest.mark.usefixtures("packs")
def test_trap_13_pictures_stay_with_their_rows_in_any_order_and_micro_batch():
    """Each policy encodes its pictures for the first time, so the order of encoding differs too."""
    found = []
    for cut in ([[0, 1, 2, 3]], [[3, 1], [2, 0]], [[1], [2], [0], [3]]):
        fresh, rows = policy(), torch.empty(4, 5)
        for part in cut:
            rows[part] = scored(fresh, [ROWS[row] for row in part])
        found.append(rows)
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[2], found[0], atol=1e-5, rtol=0)
    swapped = [(TALL, "What is it?"), ROWS[1], (WIDE, "or", SQUARE, "?"), ROWS[3]]  # as many tokens in each row
    changed = (scored(policy(), swapped) - found[0]).abs().amax(1) > 1e-3
    assert changed.tolist() == [True, False, True, False]


@pytest.mark.parametrize("part", ["adapter", "tower", "base"])
def test_pictures_are_placed_as_by_a_mask_without_its_memory(monkeypatch, part):
    """Equal to the last bit, gradients included. On a GPU masked_scatter takes 8 bytes for each of B x L x H."""
    model = policy()
    model.train_only(part)
    batch = model.collate([trace(model, parts) for parts in ROWS])
    embedding, tower = model.base.get_input_embeddings().weight, model.base.model.visual.merger.mlp[0].weight
    at = (batch.input_ids == model.parts.image_token_id)[..., None]
    masked = torch.Tensor.masked_scatter
    expected = masked(model.base.get_input_embeddings()(batch.input_ids), at, model.pictures.features(batch.images))
    monkeypatch.setattr(torch.Tensor, "masked_scatter", None)
    placed = model.embed(batch.input_ids, batch.images)
    assert torch.equal(placed, expected)
    upstream = torch.randn(placed.shape, generator=torch.Generator().manual_seed(0))
    learns = [weight for weight in (embedding, tower) if weight.requires_grad]
    assert len(learns) == {"adapter": 0, "tower": 1, "base": 2}[part]
    if learns:
        for got, its in zip(*(torch.autograd.grad(one, learns, upstream) for one in (placed, expected)), strict=True):
            assert torch.equal(got, its)


@pytest.mark.usefixtures("packs")
def test_trap_10_rope_deltas_of_an_earlier_generation_are_not_used(model):
    before = scored(model, ROWS)
    model.base.model.rope_deltas = torch.tensor([[-14]])  # transformers' `generate` leaves this after a picture
    try:
        assert torch.equal(scored(model, ROWS), before)
    finally:
        model.base.model.rope_deltas = None


@pytest.mark.parametrize("parts", ROWS)
@pytest.mark.parametrize("padding", [0, 3])
def test_trap_11_positions_equal_those_of_transformers(model, parts, padding):
    """One picture, two pictures, a later one, none. transformers also gets padding on the left."""
    batch = model.collate([trace(model, parts)])
    pad = torch.full((1, padding), model.parts.pad_id)
    ids = torch.cat([pad, batch.input_ids], 1)
    grids = [to_patches(picture(part), model.parts)[1] for part in parts if not isinstance(part, str)]
    expected, _ = model.base.model.get_rope_index(
        ids,
        mm_token_type_ids=(ids == model.parts.image_token_id).int(),
        image_grid_thw=torch.stack(grids) if grids else None,
        attention_mask=torch.cat([torch.zeros_like(pad), batch.attention_mask.long()], 1),
    )
    assert torch.equal(batch.position_ids, expected[:, :, padding:])


def test_trap_30_features_are_kept_only_while_the_tower_is_frozen():
    fresh, patches = policy(), []
    fresh.base.model.visual.register_forward_pre_hook(lambda _, arguments: patches.append(len(arguments[0])))
    kept = fresh.pictures.features([SQUARE])
    again = fresh.pictures.features([SQUARE, WIDE, SQUARE])
    assert patches == [64, 32]  # 112 x 112 pixels are 8 x 8 patches; the wide picture has half of them
    assert torch.equal(again[:16], kept)  # a token is 2 x 2 patches
    assert torch.equal(again[24:], kept)
    fresh.train_only("tower")
    assert torch.allclose(fresh.pictures.features([SQUARE, WIDE, SQUARE]), again, atol=1e-5)
    assert patches == [64, 32, 96]  # a picture that is shown twice is encoded once
    with torch.no_grad():
        fresh.base.model.visual.patch_embed.proj.weight *= 1.5
    trained = fresh.pictures.features([SQUARE])
    assert trained.requires_grad
    assert not torch.allclose(trained, kept)


@pytest.mark.parametrize("trains", [False, True])
def test_the_tower_encodes_a_bounded_number_of_patches_per_pass(monkeypatch, trains):
    whole = policy().pictures.features([SQUARE, WIDE, TALL])
    monkeypatch.setattr(pictures, "TOWER_PATCHES", 70)
    fresh, patches = policy(), []
    if trains:
        fresh.train_only("tower")
    fresh.base.model.visual.register_forward_pre_hook(lambda _, arguments: patches.append(len(arguments[0])))
    cut = fresh.pictures.features([SQUARE, WIDE, TALL])
    assert patches == [64, 64]
    torch.testing.assert_close(cut, whole, atol=1e-5, rtol=0)
    assert cut.requires_grad is trains
    monkeypatch.setattr(pictures, "TOWER_PATCHES", 1)  # a single picture is never cut
    torch.testing.assert_close(
        policy().pictures.features([TALL, SQUARE]), whole[[*range(24, 32), *range(16)]], atol=1e-5, rtol=0
    )
