"""The four stages of training: what each learns from, what it trains, and what it leaves for the runs after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from steer_lit.files.run_files import ADAPTER, BASE, TOWER

Stage = Literal["pretrain", "ground", "sft", "grpo"]
Trains = Literal["adapter", "tower", "base"]
TaughtSplit = Literal["sft", "rl", "captions", "primer"]


@dataclass(frozen=True, slots=True)
class Export:
    """What a run leaves at `path` in its folder. Messages call it `label`, and the config of a later run has it under
    `key`.
    """

    trained: str  # what is in it, for messages
    path: str
    label: str
    key: str


@dataclass(frozen=True, slots=True)
class StageFacts:
    """What the other parts of the package must know of a stage, beside its options in `conf/stage/`."""

    said: str  # its name, for messages
    learns_from: TaughtSplit
    trains: Trains
    followed_by: tuple[Stage, ...]  # the stages that may start from its export
    sections: tuple[str, ...] = ("replay",)  # of its config, beside those of every training

    @property
    def export(self) -> Export:
        return EXPORTS[self.trains]


EXPORTS: Mapping[Trains, Export] = {
    "base": Export("the base model", BASE, "weights", "model.weights"),
    "tower": Export("the vision tower", TOWER, "tower", "model.tower"),
    "adapter": Export("an adapter", ADAPTER, "adapter", "init_from"),
}
STAGES: Mapping[str, StageFacts] = {
    "pretrain": StageFacts("pretraining", "primer", "base", ("ground", "sft", "grpo")),
    "ground": StageFacts("grounding", "captions", "tower", ("sft", "grpo")),
    "sft": StageFacts("SFT", "sft", "adapter", ("grpo",)),
    "grpo": StageFacts("GRPO", "rl", "adapter", ("sft",), ("rollout", "objective")),
}
