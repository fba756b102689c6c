"""Checks of the keys that Lightning's Trainer takes, including those that a key of this kit replaces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Annotated, Any

from pydantic import Field, PositiveInt

from steer_lit.allowed import fits
from steer_lit.checks.facts import Config
from steer_lit.dotted import ABSENT, at
from steer_lit.errors import NOT_GIVEN, Problem
from steer_lit.lit.monitored_metric import EXACT_SHARE, RIGHT_SHARE, VAL_LOSS

_STRATEGIES = ("auto", "ddp")

# Keys of Lightning's that a key of this kit replaces, and what to use instead.
REPLACED = {
    "trainer.precision": "model.dtype and model.lora.dtype say in which numbers the policy computes: leave it out",
    "trainer.accumulate_grad_batches": "hardware.micro_tokens cuts a step into micro-batches already: leave it out, "
    "raise data.batch_size",
    "trainer.gradient_clip_val": "use optim.max_grad_norm",
    "trainer.callbacks": "use callbacks.<name>",
    "trainer.logger": "use logger=<option>",
}


def trainer_problems(config: Config) -> Iterator[Problem]:
    """Yield keys under `trainer` with which a run would end late or go wrong, or which have no effect. Lightning itself
    refuses others as the run builds its trainer, before rows and policy are read.
    """
    trainer = config.get("trainer", {})
    steps, epochs = trainer.get("max_steps", -1), trainer.get("max_epochs")
    if "max_steps" not in trainer:
        remedy = "how many steps the run takes: a whole number from 1 up, or -1 to go by trainer.max_epochs"
        yield Problem("trainer.max_steps", NOT_GIVEN, remedy)
    elif steps == -1 and epochs in (None, -1):
        yield Problem("trainer.max_epochs", epochs, "the run would never end: set trainer.max_steps or max_epochs")
    per_batch = at(config, "objective.epochs")
    if fits(per_batch, PositiveInt) and fits(steps, PositiveInt) and steps % per_batch:
        fewer = steps - steps % per_batch
        near = f"{fewer} or {fewer + per_batch}" if fewer else str(per_batch)
        remedy = f"must be a multiple of objective.epochs={per_batch}, the steps that a batch takes, such as {near}"
        yield Problem("trainer.max_steps", steps, remedy)
    yield from device_problems(trainer)
    interval, every = trainer.get("val_check_interval"), trainer.get("check_val_every_n_epoch")
    share = every is not None and fits(interval, Annotated[float, Field(gt=0, le=1)])
    if not (share or fits(interval, PositiveInt | None)):
        remedy = "must be a whole number from 1 up, of steps over the whole run, or a share of an epoch up to 1.0 with "
        yield Problem("trainer.val_check_interval", interval, f"{remedy}trainer.check_val_every_n_epoch=1")
    for key, remedy in REPLACED.items():
        idle = (None, ABSENT, 1) if key.endswith("accumulate_grad_batches") else (None, ABSENT)  # Lightning's default
        if (value := at(config, key)) not in idle:
            yield Problem(key, value, remedy)
    strategy = trainer.get("strategy", "auto")
    if strategy not in _STRATEGIES:
        nf4 = "NF4 weights cannot be sharded, and " if at(config, "model.quantize") == "nf4" else ""
        remedy = f"{nf4}every rank must hold the whole policy to sample with it: use {' or '.join(_STRATEGIES)}"
        yield Problem("trainer.strategy", strategy, remedy)
    if (device := at(config, "model.device")) not in (None, ABSENT):
        index = str(device).partition(":")[2]
        gpu = f"trainer.accelerator=gpu trainer.devices={f'[{index}]' if index.isdecimal() else 1}"
        words = "hardware=cpu" if device == "cpu" else gpu
        yield Problem("model.device", device, f"a training run uses its trainer's device: set {words} instead")


def device_problems(trainer: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield that `trainer.devices` lists GPUs on a CPU, where it is a number of processes."""
    devices, accelerator = trainer.get("devices", "auto"), trainer.get("accelerator", "auto")
    if (isinstance(devices, list) or devices == -1) and accelerator == "cpu":
        remedy = "names GPUs, and this run is on the CPU: give a number of processes, such as 1, or auto"
        yield Problem("trainer.devices", devices, remedy)


def part_problems(config: Config) -> Iterator[Problem]:
    """Yield entries under `callbacks` and `logger` that name no class, or need a package that is not installed."""
    for section in ("callbacks", "logger"):
        for name, part in config.get(section, {}).items():
            if part is not None and not (isinstance(part, Mapping) and isinstance(part.get("_target_"), str)):
                remedy = f"must name a class, {section}.{name}._target_=<module>.<class>, or be null"
                yield Problem(f"{section}.{name}", part, remedy)
    if str(at(config, "logger.wandb._target_")).endswith(".WandbLogger") and find_spec("wandb") is None:
        yield Problem("logger", "wandb", "needs the package wandb: pip install 'wandb>=0.31,<1'")
    yield from _monitor_problems(config)


def _monitor_problems(config: Config) -> Iterator[Problem]:
    """Yield callbacks that wait for another stage's metric: Lightning's would end the run at its first validation."""
    if not str(at(config, "module._target_")).startswith("steer_lit."):  # the user's own may log anything
        return
    stage = config.get("stage")
    others, use = ((VAL_LOSS, EXACT_SHARE), RIGHT_SHARE) if stage == "grpo" else ((RIGHT_SHARE,), VAL_LOSS)
    for name in config.get("callbacks", {}):
        key = f"callbacks.{name}.monitor"
        if at(config, key) in [metric.name for metric in others]:
            mode = f"callbacks.{name}.mode={'min' if use.less_is_better else 'max'}"
            yield Problem(key, at(config, key), f"stage={stage} never logs it: use {use.name}, with {mode}")
