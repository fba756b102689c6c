"""Turns messages into token ids, and is the only place that decides which tokens are completions.

A ChatML message is tokenized in pieces that no merge can cross. Special tokens are placed by id, never parsed from
text, so text typed by an attacker, `<|image_pad|>` included, stays text (TRAPS 14). Sampled ids are appended as they
were sampled, never decoded and encoded again (TRAPS 2). The origin of a token tells whether the policy wrote it, never
its value (TRAPS 7).

    <|im_start|>system\\n{system}<|im_end|>\\n
    <|im_start|>user\\n<|vision_start|><|image_pad|>...<|vision_end|>{attack}<|im_end|>\\n
    <|im_start|>assistant\\n{completion}<|im_end|>\\n
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from steer_lit.errors import SteerError
from steer_lit.types import Dialogue, ImageRef, Message, TokenTrace


@dataclass(slots=True)
class TraceBuilder:
    """A dialogue's tokens under construction, each with its origin: see `TokenTrace`."""

    token_ids: list[int] = field(default_factory=list)
    turn_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    images: list[ImageRef] = field(default_factory=list)

    def prompt(self, ids: Sequence[int], images: Sequence[ImageRef] = ()) -> None:
        """Append what the policy reads, with the pictures in it."""
        self._append(ids, -1, [0.0] * len(ids))
        self.images += images

    def completion(self, ids: Sequence[int], turn_idx: int, logprobs: Sequence[float] | None = None) -> None:
        """Append what the policy sampled, or should have, in turn `turn_idx`, counted from 0."""
        self._append(ids, turn_idx, [0.0] * len(ids) if logprobs is None else logprobs)

    def _append(self, ids: Sequence[int], turn_idx: int, logprobs: Sequence[float]) -> None:
        self.token_ids += ids
        self.turn_ids += [turn_idx] * len(ids)
        self.logprobs += logprobs

    def trace(self) -> TokenTrace:
        return TokenTrace(tuple(self.token_ids), tuple(self.turn_ids), tuple(self.logprobs), tuple(self.images))


class Renderer:
    """Renders dialogues for one tokenizer.

    `image_tokens(ref)` is the number of language-model positions a picture takes. `system_prompt` opens dialogues
    that bring no system message: Qwen's template would otherwise insert its own (TRAPS 3).
    """

    def __init__(self, tokenizer: Any, image_tokens: Callable[[ImageRef], int], system_prompt: str) -> None:
        self.tokenizer = tokenizer
        self.image_tokens = image_tokens
        self.system_prompt = system_prompt
        self.im_start = self._special("<|im_start|>")
        self.im_end = self._special("<|im_end|>")
        self.vision_start = self._special("<|vision_start|>")
        self.vision_end = self._special("<|vision_end|>")
        self.image_pad = self._special("<|image_pad|>")
        self.newline = self.encode("\n")

    def _special(self, token: str) -> int:
        token_id = self.tokenizer.convert_tokens_to_ids(token)
        if not isinstance(token_id, int) or token_id == self.tokenizer.unk_token_id:
            raise SteerError(f"the tokenizer has no {token} token: model.source must be a Qwen2.5-VL")
        return token_id

    def encode(self, text: str) -> list[int]:
        """Return the ids of plain text: special tokens written in it are split into ordinary pieces."""
        # Not verbose: it would warn of a text longer than the model reads, which `too_long` refuses with its row.
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]

    def opening(self, message: Message, system: str | None = None) -> list[int]:
        """Return the ids up to where the first completion begins."""
        head = self._message(Message.of("system", self.system_prompt if system is None else system))
        return head + self._message(message) + self._generation_prompt()

    def following(self, message: Message) -> list[int]:
        """Return the ids between one completion's end token and the next completion's first token."""
        return self.newline + self._message(message) + self._generation_prompt()

    def completion(self, text: str) -> list[int]:
        """Return the ids a policy should have sampled to say `text`, end token included (TRAPS 6)."""
        return [*self.encode(text), self.im_end]

    def dialogue(self, dialogue: Dialogue) -> TokenTrace:
        """Render a stored dialogue as if the policy had sampled it: assistant text and end tokens are completions."""
        built = TraceBuilder()
        for turn_idx, (user, assistant) in enumerate(dialogue.turns):
            built.prompt(self.following(user) if turn_idx else self.opening(user, dialogue.system), user.images)
            built.completion(self.completion(assistant.text), turn_idx)
        built.prompt(self.newline)
        return built.trace()

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of a completion, without special tokens such as the end token."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True)

    def _generation_prompt(self) -> list[int]:
        return [self.im_start, *self.encode("assistant\n")]

    def _message(self, message: Message) -> list[int]:
        ids = [self.im_start]
        text = f"{message.role}\n"  # joined to the text that follows: a merge may cross this newline
        for part in message.parts:
            if isinstance(part, str):
                text += part
                continue
            ids += self.encode(text) if text else []
            ids += [self.vision_start, *[self.image_pad] * self.image_tokens(part), self.vision_end]
            text = ""
        ids += self.encode(text) if text else []
        return [*ids, self.im_end, *self.newline]
