"""The GRPO workload's generation in vLLM's CPU build. Runs in vLLM's own environment and imports nothing of ours.

python tests/perf/vllm_generate.py --model <folder> --turns 4 --new-tokens 48 --steps 3 [--adapter <folder>]

`--model` is what `python -m tests.perf.peer_model <folder>` writes, `--adapter` what it writes with `--adapter`. With
an adapter vLLM does what GRPO's rollouts need and ours always do: it applies the adapter and returns each sampled
token's log-prob. One JSON line, fields as tests/perf/generate.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import time
from typing import Any

# One process: with two cores, a separate engine and workers would only alternate.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))  # unset, vLLM uses one thread
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from PIL import Image
from transformers import AutoTokenizer
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

WORDS = ("open", "door", "red", "sign", "what", "how", "is", "this", "tool", "made", "safe", "place")
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
ANSWER = "<|im_end|>\n<|im_start|>assistant\n"
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


def say(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


class Dialogues:
    """Plays whole dialogues: every turn's prompt is the dialogue so far, as the ids that were sampled."""

    def __init__(self, options: Any) -> None:
        self.options = options
        self.tokenizer = AutoTokenizer.from_pretrained(options.model)
        self.special = set(self.tokenizer.all_special_ids)
        self.filler = self.ids("place")[0]
        self.engine = LLM(
            options.model,
            dtype=options.dtype,
            max_num_seqs=options.prompts * options.group,
            max_model_len=4096,
            enable_prefix_caching=True,
            limit_mm_per_prompt={"image": 1, "video": 0},
            skip_mm_profiling=True,
            block_size=32,  # the default of 128 keeps most of a short dialogue out of the prefix cache
            enable_lora=bool(options.adapter),
            max_lora_rank=8,
        )
        self.adapter = LoRARequest("adapter", 1, options.adapter) if options.adapter else None
        self.sampling = SamplingParams(
            temperature=1.0,
            ignore_eos=True,
            max_tokens=options.new_tokens,
            detokenize=False,
            logprobs=0 if options.adapter else None,  # 0: of the sampled token only
        )

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def play(self, openings: list[tuple[str, Any]], follow: list[str]) -> tuple[float, int]:
        """Return the seconds, and the number of tokens of all dialogues; a picture counts as one."""
        start = time.perf_counter()
        group = range(self.options.group)
        prompts = [
            {
                "prompt_token_ids": self.ids(f"{SYSTEM}<|im_start|>user\n{PICTURE}{text}{ANSWER}"),
                "multi_modal_data": {"image": picture},
            }
            for text, picture in openings
            for _ in group
        ]
        for question in [*follow, None]:
            outputs = self.engine.generate(prompts, self.sampling, use_tqdm=False, lora_request=self.adapter)
            for prompt, output in zip(prompts, outputs, strict=True):
                said = output.outputs[0].token_ids
                assert len(said) == self.options.new_tokens
                assert self.adapter is None or len(output.outputs[0].logprobs) == self.options.new_tokens
                # A sampled picture token would count as a second picture.
                prompt["prompt_token_ids"] += [self.filler if token in self.special else token for token in said]
                if question is not None:
                    prompt["prompt_token_ids"] += self.ids(f"<|im_end|>\n<|im_start|>user\n{question}{ANSWER}")
        return time.perf_counter() - start, sum(len(prompt["prompt_token_ids"]) for prompt in prompts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter", default="", help="empty: the base model, no log-probs")
    for name, value in {"prompts": 4, "group": 4, "turns": 4, "user-tokens": 40, "new-tokens": 48, "steps": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    rng = random.Random(0)
    follow = [say(rng, options.user_tokens) for _ in range(options.turns - 1)]
    dialogues = Dialogues(options)
    marks = []
    for _ in range(options.steps + 1):
        colours = [tuple(rng.randrange(256) for _ in range(3)) for _ in range(options.prompts)]
        openings = [(say(rng, options.user_tokens), Image.new("RGB", (112, 112), colour)) for colour in colours]
        seconds, length = dialogues.play(openings, follow)
        marks.append(seconds)
    tokens = options.prompts * options.group * options.turns * options.new_tokens
    generating = statistics.median(marks[1:])
    print(
        json.dumps(
            {
                "peer": "vllm with an adapter" if options.adapter else "vllm",
                "turns": options.turns,
                "generate_s": round(generating, 2),
                "all": [round(mark, 2) for mark in marks],
                "tokens": tokens,
                "dialogue_tokens": length,
                "tokens_per_s": round(tokens / generating, 1),
                "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
