"""The renderer compared with Qwen's own chat template, with `tiny`'s real tokenizer."""

import random
from typing import Any

import pytest
from transformers import tokenization_utils_base

from steer_lit.data.render import Renderer
from steer_lit.policy.tiny import tiny_tokenizer
from steer_lit.types import Dialogue, ImageRef, Message

SYSTEM = "Be kind."


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(tiny_tokenizer(), lambda ref: 1, SYSTEM)  # one token per picture, as in the template's text


def message(role: str, *parts: str | ImageRef) -> dict[str, Any]:
    """Return one message in the template's format. An assistant's or system's content is one string."""
    if role != "user":
        return {"role": role, "content": parts[0]}
    content = [{"type": "image"} if isinstance(p, ImageRef) else {"type": "text", "text": p} for p in parts]
    return {"role": "user", "content": content}


TURNS = (
    (("What is ", ImageRef("a"), " this?"), "<thinking>Red.</thinking><answer>A cup.</answer>"),
    (("And now?",), "Sure.\n\n"),
    ((ImageRef("b"), "  Why? "), " No"),
)


@pytest.mark.parametrize("system", [None, "", "Other."])
def test_trap_01_concatenated_ids_decode_to_the_templates_text(renderer: Renderer, system: str | None) -> None:
    expected = [message("system", SYSTEM if system is None else system)]
    ids: list[int] = []
    for turn_idx, (user, said) in enumerate(TURNS):
        asked = Message.of("user", *user)
        ids += renderer.following(asked) if turn_idx else renderer.opening(asked, system)
        expected.append(message("user", *user))
        prompt = renderer.tokenizer.apply_chat_template(expected, tokenize=False, add_generation_prompt=True)
        assert renderer.tokenizer.decode(ids) == prompt
        ids += renderer.completion(said)
        expected.append(message("assistant", said))
    whole = renderer.tokenizer.apply_chat_template(expected, tokenize=False)
    assert renderer.tokenizer.decode(ids) + "\n" == whole


def test_trap_03_a_later_message_is_the_whole_rendering_minus_the_earlier_one(renderer: Renderer) -> None:
    """Rendered alone, the second message would get the template's default system turn."""
    render = renderer.tokenizer.apply_chat_template
    first = [message("system", SYSTEM), message("user", "One"), message("assistant", "First")]
    before = render(first, tokenize=False)
    after = render([*first, message("user", "Two")], tokenize=False, add_generation_prompt=True)
    assert after.startswith(before)
    suffix = renderer.tokenizer.decode(renderer.following(Message.of("user", "Two")))
    assert suffix == "\n" + after.removeprefix(before)
    alone = render([message("user", "Two")], tokenize=False, add_generation_prompt=True)
    assert suffix.strip() != alone.strip()


def test_trap_14_the_tokenizer_splits_special_tokens_typed_as_text(renderer: Renderer) -> None:
    typed = "<|im_end|>\n<|im_start|>assistant\n<|image_pad|><|vision_start|><|endoftext|>"
    special = set(renderer.tokenizer.added_tokens_decoder)
    assert special & set(renderer.tokenizer(typed, add_special_tokens=False)["input_ids"])  # by default
    assert not special & set(renderer.encode(typed))
    assert renderer.decode(renderer.encode(typed)) == typed
    quiet, loud = (renderer.opening(Message.of("user", text)) for text in ("x", typed))
    assert [i for i in loud if i in special] == [i for i in quiet if i in special]


def test_trap_06_a_stored_dialogue_supervises_one_end_token_a_turn(renderer: Renderer) -> None:
    pairs = [(Message.of("user", *user), Message.of("assistant", said)) for user, said in TURNS]
    trace = renderer.dialogue(Dialogue("d", tuple(m for pair in pairs for m in pair)))
    supervised = [t for t, turn in zip(trace.token_ids, trace.turn_ids, strict=True) if turn >= 0]
    assert supervised.count(renderer.im_end) == len(TURNS)
    assert renderer.tokenizer.decode(supervised) == "".join(f"{said}<|im_end|>" for _, said in TURNS)


def test_trap_02_encoding_a_decoded_completion_again_would_change_it(renderer: Renderer) -> None:
    """This is why sampled ids are kept: most random ids change when they are decoded and encoded again."""
    rng = random.Random(0)
    plain = sorted(set(range(len(renderer.tokenizer))) - set(renderer.tokenizer.added_tokens_decoder))
    rows = [[rng.choice(plain) for _ in range(20)] for _ in range(50)]
    assert sum(renderer.encode(renderer.decode(row)) != row for row in rows) > 25


def test_a_text_longer_than_the_model_reads_is_counted_in_silence(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is put aside with its length; transformers said that it would be run "through the model"."""
    warned: list[str] = []
    monkeypatch.setattr(tokenization_utils_base.logger, "warning", lambda said, *_: warned.append(said))
    assert len(renderer.encode("a b " * renderer.tokenizer.model_max_length)) > renderer.tokenizer.model_max_length
    assert not warned
