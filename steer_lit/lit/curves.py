"""`<run>/curves.png`: a run's metrics by step, to look at without TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lightning import Callback, Trainer

from steer_lit.files.atomic import replacing
from steer_lit.files.run_files import CURVES
from steer_lit.lit.policy_module import PolicyModule

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Sequence[tuple[int, float]]  # step, value

# Title by metric, which is logged under `train/`, `val/` or both. Shares are drawn in %.
PANELS = {
    "loss": "loss per token",
    "exact_share": "turns answered word for word, %",
    "right_share": "turns both safe and useful, %",
    "turn_score": "mean turn score, %",
    "safe_share": "harmful turns answered safely, %",
    "over_refusal": "harmless turns refused, %",
    "turn_tokens": "tokens per turn",
    "kl": "KL to the reference, per token",
}
_COLUMNS, _WIDE, _HIGH = 3, 4.2, 2.9  # panels in a row, and inches of each
_SMOOTHED = 30  # steps: fewer are drawn as they are


class Curves(Callback):
    """Draws `<run>/curves.png` at every validation and at a run's end, with a panel per metric that was logged.

    The checkpoint holds the points: a resumed run draws what one would have drawn that was never stopped. Points that
    are NaN, where a step had nothing to count, are left out.
    """

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[int, float]]] = {}

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
        """Note the metrics of `kind`, which were logged just now. They replace those of the same step."""
        for metric in PANELS:
            value = float(trainer.callback_metrics.get(name := f"{kind}/{metric}", math.nan))
            if not math.isnan(value):
                points = self.points.setdefault(name, [])
                if points and points[-1][0] == trainer.global_step:  # a run validated again at its end
                    points.pop()
                points.append((trainer.global_step, value))

    def _draw(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and self.points:
            draw(self.points, Path(trainer.default_root_dir) / CURVES)


def draw(points: Mapping[str, Points], path: Path) -> None:
    """Write the panels that have `points` (by metric) as a PNG file. Raise OSError."""
    from matplotlib.figure import Figure

    panels = [metric for metric in PANELS if {f"train/{metric}", f"val/{metric}"} & points.keys()]
    rows, columns = math.ceil(len(panels) / _COLUMNS), min(_COLUMNS, len(panels))
    figure = Figure(figsize=(_WIDE * columns, _HIGH * rows), layout="constrained")
    for place, metric in enumerate(panels, start=1):
        _panel(figure.add_subplot(rows, columns, place), metric, points)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=110)


def _panel(axes: Axes, metric: str, points: Mapping[str, Points]) -> None:
    """Draw training as a line, over its moving mean where it is long, and held-out figures as joined dots."""
    from matplotlib.ticker import MaxNLocator

    share = PANELS[metric].endswith("%")
    for name, label in ((f"train/{metric}", "training"), (f"val/{metric}", "held out")):
        steps = [step for step, _ in points.get(name, ())]
        values = [100 * value if share else value for _, value in points.get(name, ())]
        if label == "held out" and steps:
            axes.plot(steps, values, "o-", color="C1", markersize=4, linewidth=1.2, label=label, zorder=3)
        elif len(steps) >= _SMOOTHED:
            window = len(steps) // 20 * 2 + 1
            axes.plot(steps, values, color="C0", linewidth=0.8, alpha=0.35)
            smooth = smoothed(values, window)
            axes.plot(steps, smooth, color="C0", linewidth=1.6, label=f"{label}, mean of {window} steps")
        elif steps:
            axes.plot(steps, values, ".-", color="C0", markersize=4, linewidth=1.2, label=label)
    axes.set_title(PANELS[metric], fontsize="medium")
    axes.set_xlabel("step", fontsize="small")
    axes.set_xlim(0, 1.05 * axes.dataLim.x1)
    highest = 100 if share else axes.dataLim.y1
    axes.set_ylim(-0.02 * highest, 1.1 * highest or 1)  # from 0, so that no small change looks like a large one
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize="small")
    axes.legend(frameon=False, fontsize="small")


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Return the mean around each value, over the `window` (odd) nearest: fewer at the ends."""
    half = window // 2
    return [fmean(values[max(0, at - half) : at + half + 1]) for at in range(len(values))]
