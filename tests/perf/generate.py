"""Seconds the rollout engine takes to generate the GRPO workload's dialogues, alone.

python -m tests.perf.generate --model smol --prompts 4 --group 4 --turns 4 --user-tokens 40 --new-tokens 48 --steps 3
"""

from __future__ import annotations

import statistics
import time

import torch

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.rollout.engine import SampledPolicy
from steer_lit.rollout.play import play
from tests.perf import workload
from tests.perf.grpo_step import scenarios


def main() -> None:
    options = workload.arguments(
        "Generation speed", prompts=4, group=4, turns=1, user_tokens=40, new_tokens=64, steps=3
    )
    policy = workload.load(options.model, options.dtype)
    policy.forbidden = torch.cat([policy.forbidden, torch.tensor(policy.eos_ids)])  # no completion ends early
    sampled = SampledPolicy(policy, max_new_tokens=options.new_tokens)
    marks: list[float] = []
    for batch in scenarios(options.prompts, options.turns, options.user_tokens, options.steps + 1):  # one to warm up
        rows = [scenario for scenario in batch for _ in range(options.group)]
        players = (sampled, ScriptedAttacker(), None)
        start = time.perf_counter()
        played = play(rows, range(len(rows)), *players, options.turns, stop_when_truncated=False)
        marks.append(time.perf_counter() - start)
    traces = [trajectory.trace for trajectory in played if trajectory.trace is not None]
    tokens = sum(trace.sampled_tokens for trace in traces)
    assert tokens == options.prompts * options.group * options.turns * options.new_tokens
    generating = statistics.median(marks[1:])
    workload.report(
        marks,
        ours="generate",
        turns=options.turns,
        generate_s=round(generating, 2),
        tokens=tokens,
        dialogue_tokens=sum(len(trace.token_ids) for trace in traces),
        tokens_per_s=round(tokens / generating, 1),
    )


if __name__ == "__main__":
    main()
