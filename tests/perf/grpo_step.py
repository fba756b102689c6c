"""Seconds a GRPO step takes, on the prompts and token counts of the peer's script.

python -m tests.perf.grpo_step --model smol --prompts 4 --group 4 --turns 4 --user-tokens 40 --new-tokens 48 --steps 3
python -m tests.perf.grpo_step --turns 4 --new-tokens 48 --tutor-seconds 2
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.lit import grpo_module
from steer_lit.lit.grpo_module import GRPOModule
from steer_lit.reward.reward import Reward
from steer_lit.rollout.play import playing
from steer_lit.types import Attack, ImageRef, Message, Scenario, SoFar, Trajectory, Verdict
from tests.perf import workload
from tests.settings import objective_settings, optim_settings, rollout_settings


class OddRowsWin:
    """Scores every second dialogue higher, like the peer's reward, so that half of the advantages are positive."""

    def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]:
        return [Verdict(1 + 9 * (row % 2), 10, 10) for row, _ in enumerate(dialogues)]


class Slow(OddRowsWin):
    """The same behind a simulated server: a call takes `seconds`."""

    client = None

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]:
        time.sleep(self.seconds)
        return super().score(dialogues)


def scenarios(prompts: int, turns: int, words: int, steps: int) -> list[list[Scenario]]:
    """Return one list of scenarios per step, with new prompts each time. The user's later messages are
    always the same.
    """
    rng = random.Random(0)
    follow = tuple(Attack(Message.of("user", workload.say(rng, words))) for _ in range(turns - 1))

    def scenario(name: str) -> Scenario:
        picture = ImageRef("flat:" + ",".join(str(rng.randrange(256)) for _ in range(3)))
        return Scenario(name, "benign", Attack(Message.of("user", picture, workload.say(rng, words))), follow)

    return [[scenario(f"{step}-{row}") for row in range(prompts)] for step in range(steps)]


def main() -> None:
    sizes = {"prompts": 4, "group": 4, "turns": 1, "user_tokens": 40, "new_tokens": 64, "steps": 3}
    options = workload.arguments("GRPO speed", **sizes, micro_tokens=2048, tutor_seconds=0.0)
    policy = workload.load(options.model, options.dtype)
    policy.forbidden = torch.cat([policy.forbidden, torch.tensor(policy.eos_ids)])  # no completion ends early
    module = GRPOModule(
        policy,
        ScriptedAttacker(),
        Slow(options.tutor_seconds) if options.tutor_seconds else OddRowsWin(),
        Reward(),
        rollout_settings(options.group, options.turns, options.new_tokens),
        objective_settings(kl_coef=0.1),
        optim_settings(lr=1e-5),
        options.micro_tokens,
        seed=0,
    )
    generating: list[float] = []
    latest: list[Trajectory] = []
    rollout = module.play

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        played = rollout(*arguments)
        generating.append(time.perf_counter() - start)
        latest[:] = played
        return played

    module.play = timed  # type: ignore[method-assign]
    grpo_module.playing = partial(playing, stop_when_truncated=False)  # type: ignore[assignment]
    marks = workload.step_marks(module)
    batches = scenarios(options.prompts, options.turns, options.user_tokens, options.steps)
    with tempfile.TemporaryDirectory() as folder:
        workload.trainer(options.steps, Path(folder)).fit(module, workload.Steps(batches))
    report([played.trace for played in latest], policy, options, marks, generating)


def report(rows: Sequence[Any], policy: Any, options: Any, marks: list[float], generating: list[float]) -> None:
    sampled = sum(trace.sampled_tokens for trace in rows)
    assert sampled == options.prompts * options.group * options.turns * options.new_tokens
    tokens = sum(len(trace.token_ids) for trace in rows)
    layer, head = workload.weights_flops(policy)
    # Rollout and reference: one forward pass. Policy: forward, and backward to its inputs. The head sees sampled tokens
    # only. This counts the work of all dialogues, although shared openings are computed once.
    flops = tokens * layer * 4 + sampled * head * 4
    step_s = statistics.median(marks[1:] or marks)
    workload.report(
        marks,
        ours="grpo",
        turns=options.turns,
        tutor_seconds=options.tutor_seconds,
        step_s=round(step_s, 2),
        generate_s=round(statistics.median(generating[1:] or generating), 2),
        tokens=sampled,
        dialogue_tokens=tokens,
        **workload.compute(policy, flops, step_s),
    )


if __name__ == "__main__":
    main()
