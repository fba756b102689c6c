"""The progress bar: step, metrics, speed, time left. Plain lines if there is no terminal."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import Progress, TaskID

from steer_lit.lit.policy_module import PolicyModule
from steer_lit.terminal.bars import LinesApart, clock, count_bar

IF_ANY = ("train/truncated_share", "train/failed_share", "val/failed_share")  # not shown while they are 0
WITHIN_S = 60.0  # seconds between lines about the progress within a step, if there is no terminal
# Metric, its label and its format. Metrics that a run does not log are left out.
SHOWN = (
    ("train/loss", "loss", "{:.3f}"),
    ("train/turn_score", "score", "{:.3f}"),
    ("train/right_share", "right", "{:.0%}"),  # not safe_share: a policy that says nothing useful is safe
    ("train/over_refusal", "over-refusal", "{:.0%}"),
    ("train/truncated_share", "cut", "{:.0%}"),  # dialogues cut short: their later turns were never played
    ("train/failed_share", "failed", "{:.0%}"),
    ("train/kl", "KL", "{:.4f}"),
    ("val/loss", "val loss", "{:.3f}"),
    ("val/exact_share", "val exact", "{:.0%}"),
    ("val/right_share", "val right (greedy)", "{:.0%}"),
    ("val/failed_share", "val failed", "{:.0%}"),
    ("train/tokens_per_second", "tokens/s", "{:.0f}"),
)


class StepProgress(ProgressBar):
    """One bar over the run's optimizer steps. Without a terminal: at most one line every `line_every_s` seconds."""

    def __init__(self, line_every_s: float = 10.0) -> None:
        super().__init__()
        self._lines, self._lines_within = LinesApart(line_every_s), LinesApart(WITHIN_S)
        self.enabled, self._begun = True, False
        self._console = Console()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._began, self._first_step = 0.0, 0

    def disable(self) -> None:
        """Print nothing. Lightning calls this on every rank but the first."""
        self.enabled = False

    def on_train_start(self, trainer: Trainer, module: PolicyModule) -> None:
        self._began, self._first_step = time.perf_counter(), trainer.global_step
        if not self.enabled:
            return
        module.tell = partial(self._within_step, trainer)
        self._lines_within.due(end=True)
        if self._console.is_terminal:
            self._bar = count_bar(self._console, "step", "{task.fields[numbers]}")
            steps = {"total": module.total_steps, "completed": trainer.global_step}
            self._task = self._bar.add_task("", **steps, numbers="")
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, module: PolicyModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.enabled:
            return
        self._lines_within.due(end=True)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=trainer.global_step, numbers=_numbers(trainer))
            return
        total = module.total_steps
        if self._lines.due(trainer.global_step >= total):
            pace = (time.perf_counter() - self._began) / max(1, trainer.global_step - self._first_step)
            left = clock(pace * (total - trainer.global_step))
            line = f"step {trainer.global_step}/{total:g}  {_numbers(trainer, 'train/')}  {left} left"
            self._console.print(line, highlight=False, soft_wrap=True)

    def on_validation_end(self, trainer: Trainer, module: PolicyModule) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, numbers=_numbers(trainer))
        elif self.enabled and (found := _numbers(trainer, "val/")):
            self._console.print(f"step {trainer.global_step}: validation  {found}", highlight=False, soft_wrap=True)

    def _within_step(self, trainer: Trainer, what: str, done: int, total: int) -> None:
        """Show how far a step is: in the bar, or in a separate line if the step takes long."""
        far = f"{what} {done}/{total}"
        begins, self._begun = not (done or self._begun), True  # it may be minutes before a run's first dialogue ends
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, numbers=f"{far}  {_numbers(trainer)}".strip())
        elif not self._console.is_terminal and self._lines_within.due(end=begins):
            step = trainer.global_step + (not trainer.validating)  # the current step, or the one that is validated
            self._console.print(f"step {step}: dialogues {far}", highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: Trainer, module: PolicyModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, module: PolicyModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _numbers(trainer: Trainer, kind: str = "") -> str:
    """Format the metrics whose names begin with `kind`."""
    metrics = {name: value for name, value in trainer.callback_metrics.items() if name.startswith(kind)}
    shown = ((name, label, form, float(metrics[name])) for name, label, form in SHOWN if name in metrics)
    told = (entry for entry in shown if not math.isnan(entry[3]) and (entry[3] or entry[0] not in IF_ANY))
    return "  ".join(f"{label} {form.format(value)}" for _, label, form, value in told)
