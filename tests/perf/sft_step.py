"""Trained tokens a second of SFT, on the dialogues of the peer's script.

python -m tests.perf.sft_step --model smol --rows 32 --turns 4 --tokens 40 --batch 8 --steps 4
"""

from __future__ import annotations

import random
import statistics
import tempfile
from pathlib import Path

from steer_lit.lit.sft_module import SFTModule
from steer_lit.types import Dialogue, ImageRef, Message
from tests.perf import workload
from tests.settings import optim_settings


def dialogues(rows: int, turns: int, tokens: int) -> list[Dialogue]:
    """Return dialogues of 2 to 2 * turns - 2 turns, with messages of half to one and a half `tokens` words and one
    picture.
    """
    rng = random.Random(0)
    made = []
    for row in range(rows):
        messages: list[Message] = []
        for _ in range(rng.randrange(2, 2 * turns - 1)):
            question, answer = (workload.say(rng, rng.randrange(tokens // 2, tokens * 3 // 2)) for _ in range(2))
            messages += [Message.of("user", question), Message.of("assistant", answer)]
        grey = rng.randrange(256)
        messages[0] = Message.of("user", ImageRef(f"flat:{grey},{grey},{grey}"), messages[0].text)
        made.append(Dialogue(str(row), tuple(messages)))
    return made


def main() -> None:
    options = workload.arguments("SFT speed", rows=32, turns=4, tokens=40, batch=8, steps=4, micro_tokens=2048)
    policy = workload.load(options.model, options.dtype)
    module = SFTModule(policy, optim_settings(lr=1e-5), options.micro_tokens, "adapter", 0, 1)
    marks = workload.step_marks(module)
    rows = dialogues(options.rows, options.turns, options.tokens)
    batches = [rows[at : at + options.batch] for at in range(0, len(rows), options.batch)]
    traces = [[module.renderer.dialogue(row) for row in batch] for batch in batches]
    with tempfile.TemporaryDirectory() as folder:
        workload.trainer(options.steps, Path(folder)).fit(module, workload.Steps(batches))
    taken = [trace for step in range(options.steps) for trace in traces[step % len(traces)]]
    tokens = sum(len(trace.token_ids) for trace in taken)
    layer, head = workload.weights_flops(policy)
    # Forward, and backward to the inputs: the weights are frozen. The head sees the tokens that are learned.
    flops = 2 * (tokens * layer + sum(trace.sampled_tokens for trace in taken) * head) / options.steps
    step_s = statistics.median(marks[1:] or marks)
    workload.report(
        marks,
        ours="sft",
        step_s=round(step_s, 2),
        tokens=tokens,
        tokens_per_s=round(tokens / sum(marks), 1),
        **workload.compute(policy, flops, step_s),
    )


if __name__ == "__main__":
    main()
