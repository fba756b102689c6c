"""Batched multi-turn sampling that keeps its cache from turn to turn.

Rows are laid end to end, so none is padded, and those that end a turn early stop costing products; once half of a
batch has finished, attention too goes on with the rest alone. What a row samples depends on its own seed, not on its
neighbours.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch

from steer_lit.data.render import Renderer, TraceBuilder
from steer_lit.policy.positions import rope_positions
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.rollout.cache import TurnCache
from steer_lit.rollout.cached_attention import through_cache
from steer_lit.rollout.seeds import stable_hash
from steer_lit.types import Completion, ImageRef, Message, Scenario, TokenTrace


def renderer_of(qwen: QwenVL) -> Renderer:
    """The renderer that goes with a policy: the same for SFT, rollouts and bench."""
    return Renderer(qwen.tokenizer, qwen.pictures.tokens, qwen.system_prompt)


class SampledPolicy:
    """A `Policy` that samples from the live weights. `temperature` 0 takes the likeliest token."""

    def __init__(self, qwen: QwenVL, *, max_new_tokens: int, temperature: float = 1.0) -> None:
        self.qwen = qwen
        self.renderer = renderer_of(qwen)
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> SampledSession:
        return SampledSession(self, scenarios, seeds)


@dataclass(slots=True)
class _Row:
    """One dialogue in progress: its tokens so far and how many of them are in the cache."""

    system: str | None
    seed: int
    built: TraceBuilder = field(default_factory=TraceBuilder)
    turns: int = 0
    cached: int = 0
    next_position: int = 0
    full: Completion | None = None  # the answer to everything from where the model reads no further

    @property
    def token_ids(self) -> list[int]:
        return self.built.token_ids


class SampledSession:
    """A batch of dialogues with one shared cache. Rows left out of a `reply` are closed for good.

    A dialogue takes as many tokens as the base model reads: what would be longer is cut there, and a row with no token
    left for an answer gets `failed` completions from then on.
    """

    def __init__(self, policy: SampledPolicy, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> None:
        self.policy = policy
        self.rows = [_Row(scenario.system, seed) for scenario, seed in zip(scenarios, seeds, strict=True)]
        self.open_rows = list(range(len(self.rows)))
        self.cache = TurnCache(len(self.rows), policy.qwen.device)
        with policy.qwen.inference():
            self.decoding = policy.qwen.stack.operands(decoding=True)  # nothing trains while a session is open
        self.reading = [tuple(operands.plain for operands in layer) for layer in self.decoding]

    def trace(self, row: int) -> TokenTrace:
        return self.rows[row].built.trace()

    def reply(self, rows: Sequence[int], messages: Sequence[Message]) -> list[Completion]:
        """Answer `messages[i]` in dialogue `rows[i]`."""
        said = dict(zip(rows, messages, strict=True))
        prompts = {row: self._prompt(self.rows[row], message) for row, message in said.items()}
        completions = {row: failed for row, prompt in prompts.items() if (failed := self._no_room(row, prompt))}
        asked = [row for row in rows if row not in completions]
        if asked:
            states = [self.rows[row] for row in asked]
            with self.policy.qwen.inference():
                self._keep(asked)
                hidden = self._read(states, [said[row] for row in asked], [prompts[row] for row in asked])
                sampled = _Decoder(self, states, hidden).run()
            for row, state, (ids, logprobs, stopped) in zip(asked, states, sampled, strict=True):
                state.built.completion(ids, state.turns, logprobs)
                state.turns += 1
                text = self.policy.renderer.decode(ids)
                completions[row] = Completion(text, tuple(ids), tuple(logprobs), "stop" if stopped else "length")
        return [completions[row] for row in rows]

    def _no_room(self, row: int, prompt: Sequence[int]) -> Completion | None:
        """The completion of a row that has not one token left for an answer, or has had none before."""
        state, parts = self.rows[row], self.policy.qwen.parts
        if state.full is None and len(state.token_ids) + len(prompt) >= parts.longest:
            tokens = f"{len(state.token_ids) + len(prompt):,}"
            remedy = "allow fewer turns or fewer new tokens a turn"
            reason = f"the dialogue takes {tokens} tokens, model={parts.name} reads {parts.longest:,}: {remedy}"
            state.full = Completion("", finish="length", failed=reason)
        return state.full

    def _keep(self, rows: Sequence[int]) -> None:
        """Close every open row that is not in `rows`, and drop its share of the cache."""
        if list(rows) == self.open_rows:
            return
        at = {row: index for index, row in enumerate(self.open_rows)}
        closed = [row for row in rows if row not in at]
        if closed:
            raise ValueError(f"rows {closed} were closed when an earlier reply left them out")
        self.cache.keep([at[row] for row in rows])
        self.open_rows = list(rows)

    def _read(
        self, states: Sequence[_Row], messages: Sequence[Message], prompts: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Put what is new in each dialogue through the model. Returns the last hidden state per row, [B, H].

        Rows that open alike - the group of one scenario - are read once, and the cache is copied.
        """
        fresh: list[list[int]] = []
        for state, message, prompt in zip(states, messages, prompts, strict=True):
            state.built.prompt(prompt, message.images)
            fresh.append(state.token_ids[state.cached :])  # with the last sampled token, not yet in the cache
            state.cached = len(state.token_ids)
        if self.cache.capacity:
            hidden, ends = self._forward(fresh, messages, [state.next_position for state in states])
        else:
            place: dict[tuple[tuple[int, ...], tuple[ImageRef, ...]], int] = {}
            openings = [(tuple(ids), message.images) for ids, message in zip(fresh, messages, strict=True)]
            copies = [place.setdefault(opening, len(place)) for opening in openings]
            firsts = [copies.index(number) for number in range(len(place))]
            self.cache = TurnCache(len(place), self.policy.qwen.device)
            hidden, ends = self._forward([fresh[row] for row in firsts], [messages[row] for row in firsts], None)
            if len(place) < len(copies):
                self.cache.keep(copies)
                hidden = hidden[copies]
            ends = [ends[number] for number in copies]
        for state, end in zip(states, ends, strict=True):
            state.next_position = end
        return hidden

    def _forward(
        self, fresh: Sequence[Sequence[int]], messages: Sequence[Message], starts: Sequence[int] | None
    ) -> tuple[torch.Tensor, list[int]]:
        """Append a stretch of tokens to every row. Returns last hidden states and next positions, by row."""
        qwen = self.policy.qwen
        positions: list[torch.Tensor] = []
        ends: list[int] = []
        for row, (ids, message) in enumerate(zip(fresh, messages, strict=True)):
            grids = [qwen.pictures.grid(ref) for ref in message.images]
            start = starts[row] if starts else 0
            stretch, end = rope_positions(ids, qwen.parts.image_token_id, grids, start=start)
            positions.append(stretch)
            ends.append(end)
        input_ids = torch.tensor([token for ids in fresh for token in ids])
        embeds = qwen.embed(input_ids[None], [ref for message in messages for ref in message.images])[0]
        return self.step(embeds, torch.cat(positions, 1), [len(ids) for ids in fresh], self.cache), ends

    def step(
        self, embeds: torch.Tensor, positions: torch.Tensor, counts: Sequence[int], cache: TurnCache
    ) -> torch.Tensor:  # [N, H], [3, N] -> [rows with new tokens, H]
        """Append `counts[b]` tokens to each row b of the cache. Returns the hidden states of the rows' last ones."""
        qwen = self.policy.qwen
        attend = through_cache(cache, cache.append(counts), embeds.dtype)
        operands = self.decoding if max(counts) == 1 else self.reading
        states = qwen.stack(embeds, positions.to(qwen.device), attend, operands)
        lasts = [end - 1 for count, end in zip(counts, accumulate(counts), strict=True) if count]
        return states[lasts]

    def _prompt(self, state: _Row, message: Message) -> list[int]:
        """Ids from the end of the last completion to the start of the next. A cut completion is closed first."""
        renderer = self.policy.renderer
        if not state.turns:
            return renderer.opening(message, state.system)
        closing = [] if state.token_ids[-1] in self.policy.qwen.eos_ids else [renderer.im_end]
        return closing + renderer.following(message)


class _Decoder:
    """Samples one turn for every row, in a batch that shrinks as rows finish."""

    def __init__(self, session: SampledSession, states: Sequence[_Row], hidden: torch.Tensor) -> None:
        self.session, self.policy, self.cache = session, session.policy, session.cache
        self.states, self.hidden = states, hidden
        self.randoms = [random.Random(stable_hash(state.seed, state.turns)) for state in states]
        self.ids: list[list[int]] = [[] for _ in states]
        self.logprobs: list[list[float]] = [[] for _ in states]
        self.stopped = [False] * len(states)
        longest = self.policy.qwen.parts.longest
        self.room = [min(self.policy.max_new_tokens, longest - len(state.token_ids)) for state in states]

    def run(self) -> list[tuple[list[int], list[float], bool]]:
        # The cache being decoded, and the dialogue of each of its rows.
        working, batch = self.cache, list(range(len(self.states)))
        alive = batch
        while True:
            self._sample(alive)
            alive = [row for row in alive if self._goes_on(row)]
            if not alive:
                break
            if len(alive) <= len(batch) // 2:
                if working is not self.cache:
                    self.cache.merge(working, batch)
                working, batch = working.select([batch.index(row) for row in alive]), alive
            self._advance(working, batch, alive)
        if working is not self.cache:
            self.cache.merge(working, batch)
        return list(zip(self.ids, self.logprobs, self.stopped, strict=True))

    def _goes_on(self, row: int) -> bool:
        return not self.stopped[row] and len(self.ids[row]) < self.room[row]

    def _sample(self, alive: list[int]) -> None:
        """Draw the next token of the rows that `hidden` is of by inverting the cumulative distribution."""
        policy, qwen = self.policy, self.policy.qwen
        logits = qwen.logits(self.hidden, policy.temperature or 1.0)  # [B, V]
        probs = logits.softmax(-1)
        if policy.temperature:
            draws = torch.tensor([self.randoms[row].random() for row in alive], device=probs.device)
            cumulative = probs.cumsum(-1)
            total = cumulative[:, -1:]
            # A draw next to 1 rounds to 1 and would land behind the last token that has any probability.
            points = torch.minimum(draws[:, None] * total, total.nextafter(torch.zeros_like(total)))
            tokens = torch.searchsorted(cumulative, points, right=True).clamp_max(probs.shape[-1] - 1)
            # Summed in parallel, as on a GPU, zeros may step up by a last bit, and a draw may land on the step.
            tokens = torch.where(probs.gather(-1, tokens) > 0, tokens, probs.argmax(-1, keepdim=True))
        else:
            tokens = logits.argmax(-1, keepdim=True)
        chosen = probs.gather(-1, tokens).log().squeeze(-1).tolist()
        for row, token, logprob in zip(alive, tokens.squeeze(-1).tolist(), chosen, strict=True):
            self.ids[row].append(token)
            self.logprobs[row].append(logprob)
            self.stopped[row] = token in qwen.eos_ids

    def _advance(self, cache: TurnCache, batch: list[int], alive: list[int]) -> None:
        """Feed the tokens just drawn for the `alive` among the rows of the cache."""
        positions = torch.tensor([self.states[row].next_position for row in alive]).expand(3, -1)
        for row in alive:
            self.states[row].next_position += 1
            self.states[row].cached += 1
        embeds = self.policy.qwen.embed(torch.tensor([[self.ids[row][-1] for row in alive]]), ())[0]
        counts = [int(self._goes_on(row)) for row in batch]
        self.hidden = self.session.step(embeds, positions, counts, cache)
