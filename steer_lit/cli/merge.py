"""Merges an adapter into its base model, unquantized. Writes a checkpoint folder of bfloat16 weights.

    python -m steer_lit.cli.merge outputs/grpo_7b/adapter outputs/grpo_7b/merged

transformers and servers load it by itself, and a run or a benchmark as `model.source=`. No GPU is used.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from steer_lit.checks.files import adapter_problem
from steer_lit.cli.quiet import quieten, say
from steer_lit.errors import SteerError
from steer_lit.files.atomic import replace_folder
from steer_lit.policy.model_facts import ADAPTER_CONFIG, BUILT_HERE, SHIPPED, tower_file
from steer_lit.policy.preflight import resource_problems
from steer_lit.terminal.commands import command, next_step, path_word
from steer_lit.terminal.stdout import carried_out, printing
from steer_lit.terminal.visible import visible_line

# How pictures are prepared, of which servers read one or more. Files of text come with the tokenizer.
_PREPARED_BY = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")


def merge(adapter: Path, out: Path, base: str | None = None) -> None:
    """Write the checkpoint folder `out`; `base` is a hub id or a folder to take in place of the one the adapter names.

    Raises SteerError if `out` holds something, if adapter or base is missing or damaged, or if they do not fit.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SteerError(f"{out} is there already: remove it, or name another folder to write")
    if problem := adapter_problem("ADAPTER", str(adapter), {}):
        raise SteerError(str(problem))
    base = base or json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not isinstance(base, str):
        raise SteerError(f"{adapter / ADAPTER_CONFIG} names no base_model_name_or_path: name the base with --base")
    for problem in resource_problems({"name": base, "source": base}):
        raise SteerError(str(replace(problem, key="--base")))
    say(f"merging {adapter} into {base}")
    _write(adapter, base, out)


def _write(adapter: Path, base: str, out: Path) -> None:
    from steer_lit.policy.base_model import BaseModelSettings, save_base
    from steer_lit.policy.load import open_base
    from steer_lit.policy.lora import AdapterFolder, LoraSettings, attach_adapter
    from steer_lit.policy.memory import memory_advice, out_of_memory
    from steer_lit.policy.tensors import disk_errors

    quieten()
    folder = AdapterFolder(adapter, "ADAPTER")
    with out_of_memory("merging", memory_advice(may_quantize=False)):
        parts = open_base(base, BaseModelSettings(dtype="bfloat16"), base, tower_file(base, "trained"), SHIPPED)
        # In float32, so that every merged weight is rounded once.
        model = attach_adapter(parts.model, folder.settings(LoraSettings(r=1, alpha=1, dtype="float32")), seed=0)
        folder.load_into(model, parts.fingerprint)
        model.merge_and_unload()

    def write(unfinished: Path) -> None:
        save_base(parts, unfinished)
        if base not in BUILT_HERE:
            _copy_preparation(base, unfinished)

    with disk_errors(out):
        replace_folder(out, write)


def _copy_preparation(base: str, out: Path) -> None:
    from huggingface_hub import snapshot_download

    source = Path(base) if Path(base).is_dir() else Path(snapshot_download(base, allow_patterns=list(_PREPARED_BY)))
    for file in filter(Path.is_file, (source / name for name in _PREPARED_BY)):
        (out / file.name).write_bytes(file.read_bytes())


def main(arguments: Sequence[str]) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser("python -m steer_lit.cli.merge", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("adapter", metavar="ADAPTER", type=Path, help="the adapter folder of a run")
    parser.add_argument("out", metavar="OUT", type=Path, help="the checkpoint folder to write")
    parser.add_argument("--base", help="the base's hub id or folder. Default: the one that the adapter names")
    return carried_out(parser, arguments, _merge)


def _merge(given: argparse.Namespace) -> int:
    merge(given.adapter, given.out, given.base)
    print(visible_line(f"merged: {given.out}, in bfloat16"))
    if (given.out / _PREPARED_BY[0]).is_file():  # vLLM wants it
        following = f"vllm serve {shlex.quote(str(given.out))} --generation-config vllm --max-model-len 16384"
    else:
        following = command("bench", "model=qwen2_5_vl_7b", path_word("model.source", given.out), "model.quantize=none")
    print(next_step(following))
    return 0


if __name__ == "__main__":
    sys.exit(printing(partial(main, sys.argv[1:])))
