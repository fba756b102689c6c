"""Batched multi-turn sampling that keeps its cache from turn to turn, without waiting for the slowest dialogue.

The policy samples until a quarter of the dialogues being answered have completed their answer. These are returned, and
asked again or replaced by others, while the rest stay in the middle of an answer. New tokens are laid end to end: only
their attention is padded. What a row samples depends on its own seed, not on its neighbours.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from steer_lit.data.render import Renderer, TraceBuilder
from steer_lit.errors import SteerError
from steer_lit.numbers import counted
from steer_lit.policy.memory import out_of_memory
from steer_lit.policy.positions import rope_positions
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.rollout.cache import TurnCache
from steer_lit.rollout.cached_attention import through_cache
from steer_lit.rollout.places import Places
from steer_lit.rollout.sampling import drawn, likeliest
from steer_lit.rollout.seeds import stable_hash
from steer_lit.types import Completion, Finish, ImageRef, Message, Scenario, TokenTrace

# Most entries (rows x their longest stretch x columns) of the attention mask for questions read at once; a dialogue
# that needs more is read alone. It bounds the mask, for 7B on a GPU 17 bytes an entry and so 2.1 GiB, and not what the
# layers take for the tokens, by docs/gpus.md 0.2 GiB per 1,000. 64 openings of 1,400 tokens, four pictures of 512 x 512
# each, are just below it and take 18 GiB for that. Only the number of dialogues side by side limits those.
READ_AT_ONCE = 1 << 27
ENDED_SHARE = 0.25  # share of the dialogues being answered that complete their answer before any is returned
_NOTHING = torch.empty(0)
_NO_NUMBERS = (
    "model={0}: what it computes for the next token is not a number. Its weights or its adapter's are too large, or "
    "rollout.temperature={1:g} is too small: name another adapter, or take 0 or at least 0.01"
)
Opening = tuple[tuple[int, ...], tuple[ImageRef, ...]]  # a first prompt's tokens and pictures


def renderer_of(qwen: QwenVL) -> Renderer:
    """Return the policy's renderer: the same for SFT, rollouts and bench."""
    return Renderer(qwen.tokenizer, qwen.pictures.tokens, qwen.system_prompt)


class SampledPolicy:
    """A `Policy` that samples from the live weights. A `temperature` of 0 takes the likeliest token.

    `memory_keys` names the keys to lower when memory runs out.
    """

    def __init__(
        self,
        qwen: QwenVL,
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        memory_keys: str = "hardware.side_by_side or rollout.max_new_tokens",
    ) -> None:
        self.qwen = qwen
        self.renderer = renderer_of(qwen)
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.memory_keys = memory_keys

    def cache_shortage(self, dialogues: int, turns: int) -> str | None:
        """Return why the cache of so many dialogues side by side may outgrow the GPU's memory, else None.

        Counts the longest answers alone, in every dialogue: the cache pads all to the longest.
        """
        qwen = self.qwen
        if qwen.device.type != "cuda":
            return None
        text, tokens = qwen.base.config.text_config, min(turns * self.max_new_tokens, qwen.parts.context_length)
        values = text.num_hidden_layers * text.num_key_value_heads * text.hidden_size // text.num_attention_heads
        each = 2 * values * qwen.base.lm_head.weight.element_size() * tokens  # bytes: keys and values
        held = torch.cuda.memory_reserved(qwen.device) - torch.cuda.memory_allocated(qwen.device)
        room = torch.cuda.mem_get_info(qwen.device)[0] + held
        if dialogues * each <= room:
            return None
        return (
            f"{dialogues} dialogues side by side, each with {tokens:,} tokens of answers as rollout.max_new_tokens="
            f"{self.max_new_tokens} allows, would take {dialogues * each / 2**30:.1f} GiB of the "
            f"{room / 2**30:.1f} that the GPU has left, without their questions: lower {self.memory_keys}; "
            f"at most {max(room // each, 1)} dialogues would fit"
        )

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> SampledSession:
        return SampledSession(self, scenarios, seeds)


@dataclass(slots=True)
class _Row:
    """One dialogue: its tokens so far, how many of them are in the cache, and the answer being sampled."""

    system: str | None
    seed: int
    built: TraceBuilder = field(default_factory=TraceBuilder)
    turns: int = 0
    opening: Opening = ((), ())
    pictures: tuple[ImageRef, ...] = ()  # of the latest question
    cached: int = 0
    next_position: int = 0
    hidden: Tensor = _NOTHING  # [H], gives the next token's logits
    opened: tuple[Tensor, int] = (_NOTHING, 0)  # `hidden` and `next_position` right after the opening
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    draws: random.Random = field(default_factory=random.Random)
    room: int = 0  # tokens the answer may take
    full: Completion | None = None  # the failed answer to every question once the context is full

    @property
    def token_ids(self) -> list[int]:
        return self.built.token_ids


_ENDED = _Row(None, 0)


class SampledSession:
    """Dialogues in progress; those that have begun and not ended share one cache.

    A dialogue takes at most as many tokens as the base model reads. A longer answer is cut there, and a row with no
    token left for an answer gets `failed` completions from then on.
    """

    def __init__(self, policy: SampledPolicy, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> None:
        self.policy = policy
        self.rows = [_Row(scenario.system, seed) for scenario, seed in zip(scenarios, seeds, strict=True)]
        self.cache = TurnCache(policy.qwen.device)
        self.places = Places(self.cache)
        self.answering: list[int] = []  # in the order of their places
        with out_of_memory("preparing to answer", policy.qwen.memory_advice), policy.qwen.inference():
            self.decoding = policy.qwen.stack.operands(decoding=True)  # nothing trains while a session is open
        self.reading = [tuple(operands.plain for operands in layer) for layer in self.decoding]

    def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
        """Take the questions in `asked`, and sample until some answers are complete. Returns these, by dialogue.

        Raises ValueError for a dialogue that has ended or is being answered, MissingResource if there is no memory.
        """
        heard = {row: self._hear(row, message) for row, message in asked.items()}
        answers = {row: full for row, full in heard.items() if full is not None}
        doing = f"answering {counted(len({*self.answering, *asked}), 'dialogue')} side by side"
        with out_of_memory(doing, f"lower {self.policy.memory_keys}"), self.policy.qwen.inference():
            self._join([row for row in asked if row not in answers])
            return answers | self._sample_until_some_end()

    def end(self, row: int) -> TokenTrace:
        """End the dialogue and free its place for another. Returns its tokens."""
        trace, self.rows[row] = self.rows[row].built.trace(), _ENDED
        self.places.free(row)
        return trace

    # ---- questions

    def _hear(self, row: int, message: Message) -> Completion | None:
        """Record the question. Returns a failed completion if there is no room for an answer, now or later."""
        state, parts = self.rows[row], self.policy.qwen.parts
        if state is _ENDED or row in self.answering:
            raise ValueError(f"dialogue {row} {'has ended' if state is _ENDED else 'is being answered'}")
        prompt = self._prompt(state, message)
        length = len(state.token_ids) + len(prompt)
        if state.full is None and length >= parts.context_length:
            remedy = "allow fewer turns or fewer new tokens a turn"
            reads = f"model={parts.name} reads {parts.context_length:,}"
            reason = f"the dialogue takes {length:,} tokens, {reads}: {remedy}"
            state.full = Completion("", finish="length", failed=reason)
        if state.full is not None:
            return state.full
        state.built.prompt(prompt, message.images)
        state.pictures = message.images
        if not state.turns:
            state.opening = (tuple(prompt), message.images)
        state.room = min(self.policy.max_new_tokens, parts.context_length - length)
        state.draws = random.Random(stable_hash(state.seed, state.turns))
        state.ids, state.logprobs = [], []
        return None

    def _prompt(self, state: _Row, message: Message) -> list[int]:
        """Return the ids from the end of the last completion to the start of the next. Closes a cut completion."""
        renderer = self.policy.renderer
        if not state.turns:
            return renderer.opening(message, state.system)
        closing = [] if state.token_ids[-1] in self.policy.qwen.eos_ids else [renderer.im_end]
        return closing + renderer.following(message)

    # ---- reading questions

    def _join(self, asked: Sequence[int]) -> None:
        """Read the new questions. Dialogues that open alike, as a group does, have their opening read once."""
        placed = self.places.taken()
        new = [row for row in asked if row not in placed]
        self.places.give(new)
        self.places.put_in_front({*self.answering, *asked})
        holders = {self.rows[row].opening: row for row in placed}
        like = {row: holder for row in new if (holder := holders.setdefault(self.rows[row].opening, row)) != row}
        for rows in (placed.intersection(asked), [row for row in new if row not in like]):  # openings are much longer
            for part in self._parts(rows):
                self._read(part)
        self._copy(like)
        self.answering = self.places.in_order({*self.answering, *asked})

    def _parts(self, rows: Collection[int]) -> list[list[int]]:
        """Cut dialogues that have a question into parts to be read at once, the longest questions together."""
        fresh = {row: len(self.rows[row].token_ids) - self.rows[row].cached for row in rows}
        parts: list[list[int]] = []
        for row in sorted(rows, key=lambda row: (-fresh[row], row)):
            more = [*parts[-1], row] if parts else []
            columns = max((len(self.rows[one].token_ids) for one in more), default=0)
            if more and len(more) * fresh[more[0]] * columns <= READ_AT_ONCE:
                parts[-1].append(row)
            else:
                parts.append([row])
        return parts

    def _read(self, rows: Collection[int]) -> None:
        """Run these dialogues' new tokens through the model: the last token of an answer, and the question."""
        qwen, reading = self.policy.qwen, {row: self.rows[row] for row in self.places.in_order(rows)}
        fresh = {row: state.token_ids[state.cached :] for row, state in reading.items()}
        positions: list[Tensor] = []
        for row, state in reading.items():
            grids = [qwen.pictures.grid(ref) for ref in state.pictures]
            start, token = state.next_position, qwen.parts.image_token_id
            stretch, state.next_position = rope_positions(fresh[row], token, grids, start=start)
            positions.append(stretch)
        input_ids = torch.tensor([token for ids in fresh.values() for token in ids])
        embeds = qwen.embed(input_ids[None], [ref for state in reading.values() for ref in state.pictures])[0]
        self.step(embeds, torch.cat(positions, 1), {row: len(ids) for row, ids in fresh.items()})
        for state in reading.values():
            if not state.turns:
                state.opened = (state.hidden, state.next_position)

    def _copy(self, like: Mapping[int, int]) -> None:
        """Copy to each dialogue of `like` the opening of the one it maps to, which has been read."""
        if not like:
            return
        for state, holder in ((self.rows[row], self.rows[holder]) for row, holder in like.items()):
            state.opened = holder.opened
            state.hidden, state.next_position = holder.opened
            state.cached = len(state.token_ids)
        self.places.copy(like, [self.rows[row].cached for row in like])

    # ---- answers

    def _sample_until_some_end(self) -> dict[int, Completion]:
        """Sample until ENDED_SHARE of the answers have ended. Returns these, by dialogue."""
        enough, answers = len(self.answering) * ENDED_SHARE, dict[int, Completion]()
        while self.answering and len(answers) < enough:
            self._sample()
            over = [row for row in self.answering if self._over(self.rows[row])]
            answers |= {row: self._answer(self.rows[row]) for row in over}
            self.answering = [row for row in self.answering if row not in answers]
            if self.answering:
                self._advance()
        return answers

    def _sample(self) -> None:
        """Draw the next token of every dialogue being answered."""
        policy, states = self.policy, [self.rows[row] for row in self.answering]
        logits = policy.qwen.logits(
            torch.stack([state.hidden for state in states]), policy.temperature or 1.0
        )  # [B, V]
        if policy.temperature:
            tokens, logprobs = drawn(logits, [state.draws.random() for state in states])
        else:
            tokens, logprobs = likeliest(logits)
        for state, token, logprob in zip(states, tokens.tolist(), logprobs.tolist(), strict=True):
            if math.isnan(logprob):
                raise SteerError(_NO_NUMBERS.format(policy.qwen.parts.name, policy.temperature))
            state.ids.append(token)
            state.logprobs.append(logprob)

    def _over(self, state: _Row) -> bool:
        return state.ids[-1] in self.policy.qwen.eos_ids or len(state.ids) >= state.room

    def _answer(self, state: _Row) -> Completion:
        state.built.completion(state.ids, state.turns, state.logprobs)
        state.turns += 1
        finish: Finish = "stop" if state.ids[-1] in self.policy.qwen.eos_ids else "length"
        return Completion(self.policy.renderer.decode(state.ids), tuple(state.ids), tuple(state.logprobs), finish)

    def _advance(self) -> None:
        """Run the tokens just drawn through the model."""
        states = [self.rows[row] for row in self.answering]
        positions = torch.tensor([state.next_position for state in states]).expand(3, -1)
        embeds = self.policy.qwen.embed(torch.tensor([[state.ids[-1] for state in states]]), ())[0]
        for state in states:
            state.next_position += 1
        self.step(embeds, positions, dict.fromkeys(self.answering, 1))

    def step(self, embeds: Tensor, positions: Tensor, counts: Mapping[int, int]) -> None:
        """Append `counts[row]` tokens to each dialogue of `counts`, whose keys are in the order of their places.

        `embeds` [N, H] and `positions` [3, N] hold the dialogues' tokens end to end.
        """
        qwen = self.policy.qwen
        new = self.places.append(counts)
        operands = self.decoding if max(counts.values()) == 1 else self.reading
        states = qwen.stack(embeds, positions.to(qwen.device), through_cache(self.cache, new, embeds.dtype), operands)
        lasts = states[[end - 1 for end in accumulate(counts.values())]]
        for (row, count), hidden in zip(counts.items(), lasts, strict=True):
            self.rows[row].hidden = hidden
            self.rows[row].cached += count
