"""The same workloads in TRL, as its users write them. Runs in TRL's own environment and imports nothing of ours.

python tests/perf/trl_step.py grpo --model <folder> --turns 4 --new-tokens 48 --steps 3
python tests/perf/trl_step.py sft --model <folder> --steps 4

`folder` is what `python -m tests.perf.peer_model <folder>` writes. One JSON line, fields as ours.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import tempfile
import time
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # rollout_func is marked experimental

import torch
from datasets import Dataset
from peft import LoraConfig
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

WORDS = ("open", "door", "red", "sign", "what", "how", "is", "this", "tool", "made", "safe", "place")
LORA = LoraConfig(
    r=8,
    lora_alpha=16,
    target_modules=r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
)
SHARED = {
    "report_to": [],
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
    "gradient_checkpointing": False,
}


def say(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


class StepMarks(TrainerCallback):
    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.marks.append(time.perf_counter() - self.start)


class DialogueRollout:
    """Several turns through TRL's `rollout_func`: every turn generates from the whole dialogue so far."""

    def __init__(self, processor: Any, options: Any, follow: str) -> None:
        self.processor, self.options, self.follow = processor, options, follow
        self.seconds: list[float] = []

    def __call__(self, prompts: Any, trainer: Any) -> dict[str, Any]:
        start = time.perf_counter()
        model = trainer.accelerator.unwrap_model(trainer.model)
        dialogues = [list(prompt) for prompt in prompts]
        images = [[part["image"] for part in d[0]["content"] if part["type"] == "image"] for d in dialogues]
        opening: list[list[int]] = []
        ids: list[list[int]] = [[] for _ in dialogues]
        mask: list[list[int]] = [[] for _ in dialogues]
        for _ in range(self.options.turns):
            read, said = self.generate(model, dialogues, images)
            opening = opening or read
            for row, (prompt, completion) in enumerate(zip(read, said, strict=True)):
                question = prompt[len(opening[row]) + len(ids[row]) :]
                ids[row] += question + completion
                mask[row] += [0] * len(question) + [1] * len(completion)
                text = self.processor.tokenizer.decode(completion, skip_special_tokens=True)
                dialogues[row] += [
                    {"role": "assistant", "content": [{"type": "text", "text": text}]},
                    {"role": "user", "content": [{"type": "text", "text": self.follow}]},
                ]
        self.seconds.append(time.perf_counter() - start)
        logprobs = [[0.0] * len(row) for row in ids]
        return {"prompt_ids": opening, "completion_ids": ids, "logprobs": logprobs, "env_mask": mask}

    def generate(self, model: Any, dialogues: list[Any], images: list[Any]) -> tuple[list[list[int]], list[list[int]]]:
        texts = [self.processor.apply_chat_template(d, add_generation_prompt=True, tokenize=False) for d in dialogues]
        batch = self.processor(images=images, text=texts, padding=True, padding_side="left", return_tensors="pt")
        batch = batch.to(model.device)
        count, was_training = self.options.new_tokens, model.training
        model.eval()
        with torch.no_grad():
            out = model.generate(**batch, max_new_tokens=count, min_new_tokens=count, do_sample=True)
        model.train(was_training)
        read = [
            ids[kept.bool()].tolist() for ids, kept in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        ]
        return read, out[:, batch["input_ids"].shape[1] :].tolist()


def grpo(options: Any, model: Any, processor: Any) -> tuple[list[float], dict[str, Any]]:
    rng = random.Random(0)

    def prompt() -> dict[str, Any]:
        colour = tuple(rng.randrange(256) for _ in range(3))
        picture = Image.new("RGB", (112, 112), colour)
        return {"prompt": [{"role": "user", "content": say(rng, options.user_tokens)}], "images": [picture]}

    rows = [prompt() for _ in range(options.prompts * options.steps)]
    rollout = DialogueRollout(processor, options, say(rng, options.user_tokens))
    forced = {"min_new_tokens": options.new_tokens, "max_new_tokens": options.new_tokens}
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=not torch.cuda.is_available(),
        bf16=options.dtype == "bfloat16",
        per_device_train_batch_size=options.micro,
        gradient_accumulation_steps=options.prompts * options.group // options.micro,
        num_generations=options.group,
        max_steps=options.steps,
        max_completion_length=(options.new_tokens + options.user_tokens * 3) * options.turns,
        beta=0.1,
        shuffle_dataset=False,
        generation_kwargs=forced,
        learning_rate=1e-5,
        **SHARED,
    )
    marks = StepMarks()
    trainer = GRPOTrainer(
        model=model,
        processing_class=processor,
        args=config,
        train_dataset=Dataset.from_list(rows),
        reward_funcs=lambda completions, **_: [float(row % 2) for row, _ in enumerate(completions)],
        rollout_func=rollout if options.turns > 1 else None,
        peft_config=LORA,
        callbacks=[marks],
    )
    if options.turns == 1:
        generate = trainer._generate_single_turn

        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            made = generate(*arguments, **named)
            rollout.seconds.append(time.perf_counter() - start)
            return made

        trainer._generate_single_turn = timed
    trainer.train()
    generating = round(statistics.median(rollout.seconds[1:] or rollout.seconds), 2)
    sampled = options.prompts * options.group * options.turns * options.new_tokens
    return marks.marks, {"turns": options.turns, "generate_s": generating, "tokens": sampled}


def sft(options: Any, model: Any, processor: Any) -> tuple[list[float], dict[str, Any]]:
    rng = random.Random(0)
    rows = []
    for _ in range(options.rows):
        messages = []
        for _ in range(rng.randrange(2, 2 * options.turns - 1)):
            for role in ("user", "assistant"):
                length = rng.randrange(options.tokens // 2, options.tokens * 3 // 2)
                messages.append({"role": role, "content": say(rng, length)})
        rows.append({"messages": messages, "images": [Image.new("RGB", (112, 112), (rng.randrange(256),) * 3)]})
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=not torch.cuda.is_available(),
        bf16=options.dtype == "bfloat16",
        per_device_train_batch_size=options.micro,
        gradient_accumulation_steps=8 // options.micro,
        max_steps=options.steps,
        max_length=None,
        **SHARED,
    )
    marks = StepMarks()
    trainer = SFTTrainer(
        model=model, args=config, train_dataset=Dataset.from_list(rows), callbacks=[marks], peft_config=LORA
    )
    trainer.train()
    tokens = int(max(entry["num_tokens"] for entry in trainer.state.log_history if "num_tokens" in entry))
    return marks.marks, {"tokens": tokens, "tokens_per_s": round(tokens / sum(marks.marks), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["grpo", "sft"])
    parser.add_argument("--model", required=True)
    numbers = {"prompts": 4, "group": 4, "turns": 4, "user-tokens": 40, "new-tokens": 48, "steps": 3, "micro": 4}
    for name, value in {**numbers, "rows": 32, "tokens": 40}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    torch.manual_seed(0)
    processor = AutoProcessor.from_pretrained(options.model)
    processor.tokenizer.padding_side = "left"
    model = AutoModelForImageTextToText.from_pretrained(options.model, dtype=getattr(torch, options.dtype))
    marks, found = (grpo if options.what == "grpo" else sft)(options, model, processor)
    shown = {"peer": f"trl-{options.what}", "step_s": round(statistics.median(marks[1:] or marks), 2)}
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    print(json.dumps({**shown, "all": [round(mark, 2) for mark in marks], **found, "peak_rss_gb": peak}))


if __name__ == "__main__":
    main()
