"""The training batch of one GRPO step: token traces, advantages, log-probs, and their gap to the sampled ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from steer_lit.objective.normalise import StepCounts
from steer_lit.policy.token_batch import TokenBatch
from steer_lit.types import TokenTrace


@dataclass(slots=True)
class StepBatch:
    """The N rows that matter to the gradient, and the counts of the whole step.

    `old` and `ref` hold each row's log-probs under the policy that sampled it and under the reference, for later
    epochs. `gap_sum` and `gap_max` are the sum and the maximum of |scored - sampled| over the tokens' log-probs.
    """

    traces: list[TokenTrace]
    advantages: Tensor  # [N, T] float32, 0 beyond a row's turns
    counts: StepCounts
    old: dict[int, Tensor] = field(default_factory=dict)
    ref: dict[int, Tensor] = field(default_factory=dict)
    gap_sum: float = 0.0
    gap_max: float = 0.0

    @classmethod
    def of(cls, rows: Sequence[tuple[TokenTrace, Sequence[float]]], counts: StepCounts) -> StepBatch:
        """Make the batch from rows, each a trace with one advantage per turn."""
        table = torch.zeros(len(rows), max((len(advantages) for _, advantages in rows), default=1))
        for row, (_, advantages) in enumerate(rows):
            table[row, : len(advantages)] = torch.tensor(advantages)
        return cls([trace for trace, _ in rows], table, counts)

    @property
    def tokens(self) -> int:
        """The number of sampled tokens in all rows."""
        return sum(trace.sampled_tokens for trace in self.traces)

    def remember(self, batch: TokenBatch, rows: Sequence[int], logprobs: Tensor) -> None:
        """Keep the log-probs [B, L] of `rows`, scored afterwards under the policy that sampled them."""
        gap = (logprobs - batch.old_logprobs.to(logprobs.device)).abs()  # both are 0 where the policy did not sample
        self.gap_sum += float(gap.sum())
        self.gap_max = max(self.gap_max, float(gap.max()))
        self.old.update(zip(rows, logprobs, strict=True))


def stacked(kept: dict[int, Tensor], rows: Sequence[int]) -> Tensor:
    """Stack `old` or `ref` of a micro-batch, [B, L]. Every epoch has the same micro-batches, so row lengths agree."""
    return torch.stack([kept[row] for row in rows])
