"""`<run>/curves.png`: a run's metrics by step, to look at without TensorBoard."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning import Callback, Trainer

from steer_lit.files.atomic import replacing
from steer_lit.files.run_files import CURVES
from steer_lit.lit.policy_module import PolicyModule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

Points = Mapping[int, float]  # value by step

# Title by metric, which is logged under `train/`, `val/` or both.
PANELS = {
    "loss": "loss per token",
    "exact_share": "turns answered word for word",
    "right_share": "turns both safe and useful",
    "turn_score": "mean turn score",
    "safe_share": "harmful turns answered safely",
    "over_refusal": "harmless turns refused",
    "turn_tokens": "tokens per turn",
    "kl": "KL to the reference, per token",
}
_SHARES = frozenset({"exact_share", "right_share", "safe_share", "over_refusal"})
_UP_TO_1 = _SHARES | {"turn_score"}
_COLUMNS, _WIDE, _HIGH = 3, 4.2, 2.9  # panels in a row, and inches of each
_SMOOTHED = 30  # steps: fewer are drawn as they are


class Curves(Callback):
    """Draws `<run>/curves.png` at every validation and at a run's end, with a panel per metric that was logged.

    The checkpoint holds the points: a resumed run draws what one would have drawn that was never stopped. Points that
    are NaN, where a step had nothing to count, are left out. A picture that cannot be written is told, and the run goes
    on.
    """

    def __init__(self) -> None:
        self.points: dict[str, dict[int, float]] = {}  # by metric, then step

    def state_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return {"points": self.points}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = state_dict["points"]

    def on_train_batch_end(
        self, trainer: Trainer, module: PolicyModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._note(trainer, "train")

    def on_validation_end(self, trainer: Trainer, module: PolicyModule) -> None:
        if not trainer.sanity_checking:
            self._note(trainer, "val")
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer, module: PolicyModule) -> None:
        self._draw(trainer)

    def _note(self, trainer: Trainer, kind: str) -> None:
        """Note the metrics of `kind`, which were logged just now."""
        for metric in PANELS:
            value = float(trainer.callback_metrics.get(name := f"{kind}/{metric}", math.nan))
            if not math.isnan(value):
                self.points.setdefault(name, {})[trainer.global_step] = value

    def _draw(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero or not self.points:
            return
        from matplotlib import style

        path = Path(trainer.default_root_dir) / CURVES
        try:
            with style.context("default", after_reset=True), replacing(path) as unfinished:  # whatever the user's are
                drawn(self.points).savefig(unfinished, format="png", dpi=110)
        except OSError as error:
            log.warning("%s could not be written: %s", path, error)


def drawn(points: Mapping[str, Points]) -> Figure:
    """Return a figure of the panels that have `points` (by metric), row by row."""
    from matplotlib.figure import Figure

    panels = [metric for metric in PANELS if {f"train/{metric}", f"val/{metric}"} & points.keys()]
    rows, columns = math.ceil(len(panels) / _COLUMNS), min(_COLUMNS, len(panels))
    figure = Figure(figsize=(_WIDE * columns, _HIGH * rows), layout="constrained")
    for place, metric in enumerate(panels, start=1):
        _panel(figure.add_subplot(rows, columns, place), metric, points)
    return figure


def _panel(axes: Axes, metric: str, points: Mapping[str, Points]) -> None:
    """Draw training as a line, over its moving mean where it is long, and held-out figures as joined dots."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    if training := points.get(f"train/{metric}"):
        steps, values = list(training), list(training.values())
        if len(steps) < _SMOOTHED:
            axes.plot(steps, values, ".-", color="C0", markersize=4, linewidth=1.2, label="training")
        else:
            window = len(steps) // 20 * 2 + 1
            axes.plot(steps, values, color="C0", linewidth=0.8, alpha=0.35)
            smooth = smoothed(values, window)
            axes.plot(steps, smooth, color="C0", linewidth=1.6, label=f"training, mean of {window} steps")
    if held_out := points.get(f"val/{metric}"):
        steps, values = list(held_out), list(held_out.values())
        axes.plot(steps, values, "o-", color="C1", markersize=4, linewidth=1.2, label="held out", zorder=3)
    axes.set_title(PANELS[metric], fontsize="medium")
    axes.set_xlabel("step", fontsize="small")
    axes.set_xlim(0, 1.05 * axes.dataLim.x1)
    highest = 1.0 if metric in _UP_TO_1 else axes.dataLim.y1
    axes.set_ylim(-0.02 * highest, 1.1 * highest or 1)  # from 0, so that no small change looks like a large one
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if metric in _SHARES:
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize="small")
    axes.legend(frameon=False, fontsize="small")


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Return the mean around each value, over the `window` (odd) nearest: fewer at the ends."""
    sums, half = [0.0, *accumulate(values)], window // 2
    around = ((max(0, at - half), min(len(values), at + half + 1)) for at in range(len(values)))
    return [(sums[end] - sums[start]) / (end - start) for start, end in around]
