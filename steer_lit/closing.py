"""What is said when a training run has ended: where its result is, and the command that goes on from it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from steer_lit.commands import carried, conf_dir, program, shown_path, typed
from steer_lit.run_files import ADAPTER, BASE, TOWER

_BASE, _SERVER = ("model.source", "model.weights", "model.tower"), ("server", "server.*")  # words that say what is here


def closing(config: DictConfig, run_dir: Path, headline: str, value: Any, words: Sequence[str] = ()) -> str:
    """Where the result is, and the command that goes on from it: none where `callbacks` left no export.

    Of the run's `words` those that say what this machine has go on in it. What it still wants stands on lines of its
    own: the command stays one that can be pasted.
    """
    shown = "" if value is None else f"   {headline} {float(value):.3f}"
    name, model = config.name, config.model.name
    exports = {"pretrain": (BASE, "weights", "ground"), "ground": (TOWER, "tower", "sft")}
    exported, key, goes_on = exports.get(config.stage, (ADAPTER, "", ""))
    export = shown_path(run_dir / exported)
    if not export.exists():
        return f"run: {shown_path(run_dir)}, nothing exported{shown}"
    if key:
        below = carried(words, ["model.weights"]) if key == "tower" else []
        given = [*map(shlex.quote, below), typed(f"model.{key}", export)]
        step = [program("train"), f"+experiment={goes_on}_{model}", *given]
        return f"{key + ':':<8} {export}{shown}\nnext:    {' '.join(step)}"
    following = conf_dir() / "experiment" / f"{name.replace('sft', 'grpo', 1)}.yaml"
    own_rows = str(OmegaConf.select(config, "data.source._target_")).endswith(".FileSource")
    if config.stage == "sft" and following.is_file():
        step = [program("train"), f"+experiment={following.stem}", typed("init_from", export)]
        part, asks = "rl", "server.base_url=" in following.read_text(encoding="utf-8")  # in the command it opens with
        kept = (*_BASE, "hardware", *_SERVER)
    else:
        policies = {"sft": config.get("init_from"), config.stage: export}  # GRPO beside the SFT it started from
        named = [typed(f"policies.{stage}", Path(adapter)) for stage, adapter in policies.items() if adapter]
        step = [program("bench"), f"model={model}", *named, "bench.limit=300"]
        part, asks = "bench", own_rows
        kept = (*_BASE, *_SERVER) if own_rows else _BASE
    given = carried(words, kept)
    lines = [f"adapter: {export}{shown}", f"next:    {' '.join([*step, *map(shlex.quote, given)])}"]
    if own_rows:
        judged = " judge=llm" if part == "bench" else ""
        lines.append(f"         (that is on STEER-mini; on your rows add data=steer data.source.{part}=<file>{judged})")
    if asks and not any("base_url" in word for word in given):
        asked = "tutor" if part == "rl" else "judge"
        lines.append(f"         (its {asked} is a server's: add server.base_url=<address>/v1 server.model=<name>)")
    return "\n".join(lines)
