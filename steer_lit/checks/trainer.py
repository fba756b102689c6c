"""Checks of the keys that Lightning's Trainer takes, including those that a key of this kit replaces."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from steer_lit.checks.facts import Config
from steer_lit.checks.unread import HYDRAS
from steer_lit.dotted import ABSENT, at
from steer_lit.errors import NOT_GIVEN, Problem
from steer_lit.numbers import SHARE, Bound, whole
from steer_lit.terminal.nearest import nearest

TRAINER = "lightning.Trainer"
_COUNT = whole(1)
_STRATEGIES = ("auto", "ddp")
_ACCELERATORS = ("auto", "cpu", "gpu", "cuda")
_PART = ((whole(0), SHARE), "must be a whole number of steps from 0 up, or a share of them from 0.0 to 1.0")
# Keys that Lightning accepts unchecked and fails on later. Null leaves each to Lightning.
_TAKES: Mapping[str, tuple[tuple[Bound, ...], str]] = {
    "num_nodes": ((_COUNT,), _COUNT.allowed),
    "min_steps": ((whole(0),), whole(0).allowed),
    "min_epochs": ((whole(0),), whole(0).allowed),
    "val_check_interval": (
        (_COUNT, Bound(0, 1, above=True)),
        "must be a whole number of steps from 1 up, or a share of an epoch up to 1.0",
    ),
    "check_val_every_n_epoch": ((_COUNT,), f"{_COUNT.allowed}, or null to count steps over the whole run"),
    "num_sanity_val_steps": ((whole(-1),), "must be a whole number from 0 up, or -1 for all"),
    "log_every_n_steps": ((whole(0),), whole(0).allowed),
    "limit_train_batches": _PART,
    "limit_val_batches": _PART,
    "overfit_batches": _PART,
}

# Keys of Lightning's that a key of this kit replaces, and what to use instead.
REPLACED = {
    "trainer.precision": "model.dtype and model.lora.dtype say in which numbers the policy computes: leave it out",
    "trainer.accumulate_grad_batches": "hardware.micro_tokens cuts a step into micro-batches already: leave it out, "
    "raise data.batch_size",
    "trainer.gradient_clip_val": "use optim.max_grad_norm",
    "trainer.callbacks": "use callbacks.<name>",
    "trainer.logger": "use logger=<option>",
}


@cache
def trainer_arguments() -> frozenset[str]:
    """Return the names that `lightning.Trainer` takes, read in its source: importing Lightning takes seconds."""
    source = Path(str(distribution("lightning").locate_file("lightning/pytorch/trainer/trainer.py")))
    made = next(
        node
        for trainer in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(trainer, ast.ClassDef) and trainer.name == "Trainer"
        for node in trainer.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    return frozenset(argument.arg for argument in made.args.kwonlyargs)


def trainer_problems(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with the keys under `trainer`, as far as can be told here, and those that have no effect."""
    trainer = config.get("trainer", {})
    steps, epochs = trainer.get("max_steps", -1), trainer.get("max_epochs")
    if "max_steps" not in trainer:
        remedy = "how many steps the run takes: a whole number from 1 up, or -1 to go by trainer.max_epochs"
        yield Problem("trainer.max_steps", NOT_GIVEN, remedy)
    elif not whole(-1).fits(steps) or steps == 0:
        yield Problem("trainer.max_steps", steps, f"{_COUNT.allowed}, or -1 to go by trainer.max_epochs")
    elif steps == -1 and not _COUNT.fits(epochs):
        yield Problem("trainer.max_epochs", epochs, "the run would never end: set trainer.max_steps or max_epochs")
    elif epochs not in (None, -1) and not _COUNT.fits(epochs):
        yield Problem("trainer.max_epochs", epochs, f"{_COUNT.allowed}, or -1 to go by trainer.max_steps")
    per_batch = at(config, "objective.epochs")
    if _COUNT.fits(per_batch) and _COUNT.fits(steps) and steps % per_batch:
        fewer = steps - steps % per_batch
        near = f"{fewer} or {fewer + per_batch}" if fewer else str(per_batch)
        remedy = f"must be a multiple of objective.epochs={per_batch}, the steps that a batch takes, such as {near}"
        yield Problem("trainer.max_steps", steps, remedy)
    yield from device_problems(trainer)
    share = trainer.get("val_check_interval")
    if isinstance(share, float) and trainer.get("check_val_every_n_epoch") is None:
        remedy = "must be a whole number of steps: they are counted over the whole run, as "
        remedy += "trainer.check_val_every_n_epoch=null says, and with 1 there this may be a share of an epoch"
        yield Problem("trainer.val_check_interval", share, remedy)
    for key, (bounds, allowed) in _TAKES.items():
        value = trainer.get(key)
        if value is not None and not any(bound.fits(value) for bound in bounds):
            yield Problem(f"trainer.{key}", value, allowed)
    if trainer.get("accelerator", "auto") not in _ACCELERATORS:
        remedy = f"must be one of {', '.join(_ACCELERATORS)}"
        yield Problem("trainer.accelerator", trainer["accelerator"], remedy)
    for key, remedy in REPLACED.items():
        idle = (None, ABSENT, 1) if key.endswith("accumulate_grad_batches") else (None, ABSENT)  # Lightning's default
        if (value := at(config, key)) not in idle:
            yield Problem(key, value, remedy)
    if trainer.get("_target_") == TRAINER:  # a user's own may take more
        for name in sorted(trainer.keys() - {*HYDRAS} - trainer_arguments(), key=str):
            known = [f"trainer.{argument}" for argument in trainer_arguments()]
            remedy = f"{TRAINER} has no such argument.{nearest(f'trainer.{name}', known)}"
            yield Problem(f"trainer.{name}", trainer[name], remedy)
    strategy = trainer.get("strategy", "auto")
    if strategy not in _STRATEGIES:
        nf4 = "NF4 weights cannot be sharded, and " if at(config, "model.quantize") == "nf4" else ""
        remedy = f"{nf4}every rank must hold the whole policy to sample with it: use {' or '.join(_STRATEGIES)}"
        yield Problem("trainer.strategy", strategy, remedy)
    if (device := at(config, "model.device")) not in (None, ABSENT):
        index = str(device).partition(":")[2]
        gpu = f"trainer.accelerator=gpu trainer.devices={f'[{index}]' if index.isdecimal() else 1}"
        words = "hardware=cpu" if device == "cpu" else gpu
        yield Problem("model.device", device, f"a training run computes where its trainer does: {words} in its place")


def device_problems(trainer: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with `trainer.devices`. On a CPU it is a number of processes: there are none to list."""
    devices, accelerator = trainer.get("devices", "auto"), trainer.get("accelerator", "auto")
    listed = isinstance(devices, list) and devices and all(map(whole(0).fits, devices))
    if devices not in ("auto", -1) and not listed and not _COUNT.fits(devices):
        yield Problem("trainer.devices", devices, "must be a number of devices, a list of them such as [0,1], or auto")
    elif (listed or devices == -1) and accelerator == "cpu":
        remedy = "names GPUs, and this run is on the CPU: give a number of processes, such as 1, or auto"
        yield Problem("trainer.devices", devices, remedy)


def part_problems(config: Config) -> Iterator[Problem]:
    """Yield entries under `callbacks` and `logger` that name no class, or need a package that is not installed."""
    for section in ("callbacks", "logger"):
        for name, part in config.get(section, {}).items():
            if part is not None and not (isinstance(part, Mapping) and isinstance(part.get("_target_"), str)):
                remedy = f"must name a class, {section}.{name}._target_=<module>.<class>, or be null"
                yield Problem(f"{section}.{name}", part, remedy)
    if str(at(config, "logger.wandb._target_")).endswith(".WandbLog") and find_spec("wandb") is None:
        yield Problem("logger", "wandb", "needs the package wandb: pip install 'wandb>=0.31,<1'")
