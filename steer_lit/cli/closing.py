"""The lines printed when a training run begins and when it ends: its result, and the command that comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from steer_lit.cli.next_command import following
from steer_lit.files.run_files import BEST, CURVES
from steer_lit.numbers import counted
from steer_lit.stages import STAGES
from steer_lit.terminal.commands import shown_path, sweeping


def opening(config: DictConfig, run_dir: Path) -> str:
    """Return the line on what the run is going to do, and where."""
    trainer, saved = config.trainer, config.ckpt_path
    steps = trainer.max_steps
    length = counted(steps, "step") if steps > 0 else f"epochs: {trainer.max_epochs}"
    base = " from the base policy (no init_from)" if config.stage == "grpo" else ""  # usual for the other stages
    start = f" from {saved or config.init_from}" if saved or config.init_from else base
    done = f"{STAGES[config.stage].said} of {config.model.name}{start}, {length}, seed {config.seed}"
    return f"{done}, into {shown_path(run_dir)}; libraries load first"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a training run.

    `value` is the monitored `metric`'s: None without a validation, NaN if nothing in the last one got a score. `best`
    is the step of the best adapter and the metric's value there; None if the last is as good. `early` says where a
    callback ended the run early.
    """

    metric: str
    value: float | None = None
    best: tuple[int, float] | None = None
    early: str = ""


def closing(config: DictConfig, run_dir: Path, result: Result, words: Sequence[str] = ()) -> str:
    """Return the lines that say where the result is, and which command comes next unless nothing was exported."""
    facts = STAGES[config.stage].export
    export, label = shown_path(run_dir / facts.path), f"{facts.label}:"
    exported = export.exists()
    shown = "" if result.value is None else f"   {result.metric} {result.value:.3f}"
    lines = [f"{label:<8} {export}{shown}" if exported else f"run: {shown_path(run_dir)}, nothing exported{shown}"]
    if result.best is not None:
        step, value = result.best
        lines.append(f"best:    {shown_path(run_dir / BEST)}   {result.metric} {value:.3f} at step {step}")
    if (curves := run_dir / CURVES).exists():
        lines.append(f"curves:  {shown_path(curves)}")
    if result.early:
        lines.append(f"early:   ended {result.early}" + (f"; {export} is of that step" if exported else ""))
    if exported and not sweeping():  # `compared` prints the next command of the whole sweep
        lines.append(following(config, export, words))
    return "\n".join(lines)
