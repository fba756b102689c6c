"""What is known of a config: what single values may be, and what follows from them, such as who makes the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from steer_lit.allowed import Share, type_problems
from steer_lit.attacker.wordings import Wording
from steer_lit.data.sources import BenchSplit, SourceSplit
from steer_lit.dotted import ABSENT, at
from steer_lit.errors import Problem
from steer_lit.lit.optim import Schedule
from steer_lit.numbers import MANY
from steer_lit.objective.choices import KlEstimator, Normaliser, Scale
from steer_lit.prompts.transcript import Sees
from steer_lit.stages import Stage, Trains
from steer_lit.types import MAX_TURNS, Kind, Split

Config = Mapping[str, Any]
_SWITCHES = (
    "dry_run", "judge_check", "bench.constants", "data.blank_images", "model.gradient_checkpointing",
    "trainer.enable_checkpointing", "trainer.enable_model_summary", "trainer.enable_progress_bar",
    "trainer.detect_anomaly", "logger.tensorboard.default_hp_metric", "logger.wandb.offline",
)  # fmt: skip
_TEXTS = ("system_prompt", "model.name", "model.system_prompt", "logger.wandb.project", "logger.wandb.name")
_TEXTS_OR_NULL = (
    "init_from", "ckpt_path", "sft_adapter", "from_raw_eval", "model.init_from", "model.source", "model.tower",
    "model.weights", "logger.wandb.entity", "attacker.prompts", "judge.prompts", "tutor.prompts",
)  # fmt: skip
_ASKERS = ("tutor", "attacker", "judge", "generator")
TENSORBOARD, WANDB = "lightning.pytorch.loggers.TensorBoardLogger", "lightning.pytorch.loggers.WandbLogger"
LOGGERS = (TENSORBOARD, WANDB)
_OURS = ("steer_lit.", "lightning.Trainer", *LOGGERS)
# The name is also that of the log in the run's folder. File systems take 255 bytes.
NAMED = "text that names the run's log and a folder: 1 to 100 letters without a /"
_NAME = Annotated[str, Field(pattern=r"^(?!\.{1,2}\Z)[^/]{1,100}\Z", description=NAMED)]
_BETAS = "two numbers from 0 to below 1, such as [0.9,0.999]"
_UNLIMITED = Annotated[int, Field(ge=-1, le=-1, description="-1")]
_DEVICES = "a number of devices, a list of them such as [0,1], or auto"
_GROUP = "a whole number from 2 up: a group of one has nothing to compare with"
_TURNS = f"a whole number from 2 to {MAX_TURNS} in data.max_turns; openings alone: rollout.max_turns=1 data.max_turns=2"
_ROWS = "a number of rows, from 1 to a billion; files of rows are named with data=steer"
_FILES = "a row file, a list of such, or null"
_INDICES = Annotated[list[NonNegativeInt], Field(min_length=1)]
_PATHS = str | Annotated[list[str], Field(min_length=1)] | None
_BELOW_1 = Annotated[float, Field(ge=0, lt=1)]
# Keys that a stage does not have are not checked.
_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("seed", "model.seed", "data.seed"), Annotated[int, Field(ge=0, le=2**32 - 1)]),
    "name": _NAME,
    "optim.lr": Annotated[float, Field(gt=0, le=10)],
    "optim.weight_decay": Share,
    "optim.warmup": _BELOW_1,
    "optim.max_grad_norm": PositiveFloat,
    "optim.betas": Annotated[list[_BELOW_1], Field(min_length=2, max_length=2, description=_BETAS)],
    "optim.schedule": Schedule,
    "data.val_size": NonNegativeInt,
    "data.max_turns": Annotated[int, Field(ge=2, le=MAX_TURNS, description=_TURNS)],
    "data.max_bad_rows": NonNegativeInt,
    "data.batch_size": PositiveInt,
    "data.source.scale": Annotated[float, Field(gt=0, le=1000)],
    "data.source.seed": int,
    "data.source.kind": Kind,
    "hardware.micro_tokens": PositiveInt,
    "hardware.side_by_side": PositiveInt,
    "hardware.rank_timeout_minutes": Annotated[int, Field(ge=1, le=7 * 24 * 60)],
    "generator.patience": NonNegativeInt,
    "replay.dialogues": NonNegativeInt,
    "replay.max_new_tokens": PositiveInt,
    "rollout.group_size": Annotated[int, Field(ge=2, description=_GROUP)],
    "rollout.max_turns": Annotated[int, Field(ge=1, le=MAX_TURNS)],
    "rollout.max_new_tokens": PositiveInt,
    "rollout.temperature": NonNegativeFloat,
    "rollout.max_failed_share": Share,
    "objective.kl_coef": NonNegativeFloat,
    "objective.clip_low": Annotated[float, Field(gt=0, lt=1)],
    "objective.clip_high": PositiveFloat,
    "objective.epochs": PositiveInt,
    "objective.scale": Scale,
    "objective.normaliser": Normaliser,
    "objective.kl_estimator": KlEstimator,
    "attacker.quote_words": Annotated[int, Field(ge=0, le=6)],
    "attacker.extra_turns": NonNegativeInt,
    "attacker.lead_share": Share,
    "attacker.wordings": Wording,
    "callbacks.checkpoint.every_n_steps": PositiveInt,
    "callbacks.transcripts.every_n_batches": PositiveInt,
    "callbacks.transcripts.dialogues": NonNegativeInt,
    "callbacks.progress.line_every_s": NonNegativeFloat,
    **{f"{asker}.max_tokens": PositiveInt for asker in _ASKERS},
    **{f"{asker}.temperature": NonNegativeFloat for asker in _ASKERS},
    **{f"{asker}.max_pixels": Annotated[int, Field(ge=28 * 28)] for asker in _ASKERS},  # one token of a picture
    "tutor.sees": Sees,
    "judge.sees": Sees,
    "stage": Stage,
    "data.stage": Stage,
    "module.trains": Trains,
    "bench.split": BenchSplit,
    # Hydra reads `no` and `off` as text, and so as true.
    **dict.fromkeys(_SWITCHES, bool),
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(_TEXTS_OR_NULL, str | None),
    "bench.limit": Annotated[int | None, Field(ge=1, le=MANY)],
    "from_run": Annotated[_PATHS, Field(description="a run's folder, a list of such, or null")],
    "trainer.max_steps": PositiveInt | _UNLIMITED,
    "trainer.max_epochs": PositiveInt | _UNLIMITED | None,
    "trainer.check_val_every_n_epoch": PositiveInt | None,
    "trainer.accelerator": Literal["auto", "cpu", "gpu", "cuda"],
    "trainer.devices": Annotated[Literal["auto"] | _UNLIMITED | PositiveInt | _INDICES, Field(description=_DEVICES)],
}
# Of `data.source`: each split is a number of rows if they are made, else files.
_OF_MADE: Mapping[str, Any] = {
    **dict.fromkeys(get_args(SourceSplit), Annotated[int, Field(ge=1, le=MANY, description=_ROWS)]),
    "mean_turns": float | None,
}
_OF_FILES: Mapping[str, Any] = {
    **dict.fromkeys(get_args(Split), Annotated[_PATHS, Field(description=_FILES)]),
    "folder": str | None,
}


def declares(config: Config, section: str, fact: str) -> bool:
    """Return whether the class that a section names has a true `fact`. A class not found is refused elsewhere."""
    module, _, name = str(at(config, f"{section}._target_")).rpartition(".")
    with suppress(Exception):  # the user's own module may raise anything
        return bool(getattr(getattr(import_module(module), name), fact, False))
    return False


def reacts(config: Config) -> bool:
    """Return whether the attacker reacts to the answers, beyond its script, and so needs a tutor's verdicts."""
    return not declares(config, "attacker", "keeps_to_script")


def makes_rows(config: Config) -> bool:
    """Return whether rows are made on the fly (data=steer_mini), not read."""
    return declares(config, "data.source", "makes_rows")


def leaf_problems(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with single values, wherever they are. Sections that hold no keys are skipped."""
    of_source = {f"data.source.{key}": kind for key, kind in (_OF_MADE if makes_rows(config) else _OF_FILES).items()}
    ours = {key: kind for key, kind in {**_KINDS, **of_source}.items() if at_ours(config, key) is not ABSENT}
    yield from type_problems(config, ours)
    if at(config, "rollout.temperature") == 0 and "objective" in config:
        yield Problem("rollout.temperature", 0, "must be above 0: greedy dialogues of a group are all the same")


def at_ours(config: Config, key: str) -> Any:
    """Return the key's value, ABSENT too if a user's own class takes it: what fits that class we cannot know."""
    target = at(config, f"{key.rpartition('.')[0]}._target_")
    return at(config, key) if target is ABSENT or str(target).startswith(_OURS) else ABSENT
