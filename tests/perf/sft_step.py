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
    lengths = [[len(module.renderer.dialogue(row).token_ids) for row in batch] for batch in batches]
    with tempfile.TemporaryDirectory() as folder:
        workload.trainer(options.steps, Path(folder)).fit(module, workload.Steps(batches))
    tokens = [sum(lengths[step % len(batches)]) for step in range(options.steps)]
    step_s, speed = round(statistics.median(marks[1:] or marks), 2), round(sum(tokens) / sum(marks), 1)
    workload.report(marks, ours="sft", step_s=step_s, tokens=sum(tokens), tokens_per_s=speed)


if __name__ == "__main__":
    main()
