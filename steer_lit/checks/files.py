"""Checks that the files a config names exist and look like what they should be, without loading them."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from hydra.core.hydra_config import HydraConfig
from safetensors import SafetensorError, safe_open

from steer_lit.allowed import fits
from steer_lit.checks.facts import Config, at_ours, makes_rows
from steer_lit.data.rows import is_hub, source_problem
from steer_lit.data.sources import FileSource, files_named
from steer_lit.dotted import ABSENT, at
from steer_lit.errors import Problem, problems_of
from steer_lit.policy.model_facts import (
    ADAPTER_CONFIG,
    ADAPTER_FACTS,
    ADAPTER_WEIGHTS,
    BUILT_HERE,
    LINEAR_LAYERS,
    no_adapter,
    no_plain_lora,
    start_is_gone,
)
from steer_lit.prompts.fill import ASKING, own_problem
from steer_lit.terminal.commands import folder_key
from steer_lit.types import Split


def file_problems(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with the checkpoint, the adapter and the row files of a training run."""
    path, adapter = config.get("ckpt_path"), at(config, "model.init_from")
    needed = isinstance(adapter, str) and not start_is_gone(adapter, resumed=bool(path))
    if isinstance(path, str) and not zipfile.is_zipfile(path):  # as of `torch.save`; one cut off has no directory
        found = "is not a checkpoint, or was cut off" if Path(path).is_file() else "no such file"
        yield Problem("ckpt_path", path, f"{found}: name a whole .ckpt under <run>/checkpoints")
    if needed and (problem := adapter_problem("init_from", adapter, config["model"])):
        yield problem
    elif needed:
        yield from _shape_problems(Path(adapter), config["model"])
    yield from source_problems(config)


def folder_problems(config: Config) -> Iterator[Problem]:
    """Yield keys that would make a run write outside Hydra's folder, the only one that is checked for other runs.

    A run's further processes read a frozen config and have no Hydra folder to compare with.
    """
    remedy = f"a run writes into one folder: leave this out, and name that with {folder_key()}=<folder>"
    run_dir = config.get("run_dir")
    if HydraConfig.initialized() and not _same(run_dir, HydraConfig.get().runtime.output_dir):
        yield Problem("run_dir", run_dir, remedy)
    elif "trainer" in config and not _same(root := at(config, "trainer.default_root_dir"), run_dir):
        yield Problem("trainer.default_root_dir", None if root is ABSENT else root, remedy)


def _same(one: object, other: object) -> bool:
    """Return whether both are paths of the same folder."""
    return isinstance(one, str) and isinstance(other, str) and os.path.abspath(one) == os.path.abspath(other)


def source_problems(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with the files and hub addresses that rows come from."""
    if makes_rows(config):
        return
    named: dict[str, Any] = {}
    found: list[Problem] = []
    for split in get_args(Split):
        key, source = f"data.source.{split}", at(config, f"data.source.{split}")
        if fits(source, str | list[str]):
            named[split] = files = files_named(source)
            found += [Problem(key, file, why) for file in files if (why := source_problem(file))]
            if len({file if is_hub(file) else os.path.realpath(file) for file in files}) < len(files):
                remedy = "names a file twice: some of its rows would be both held out and trained on"
                found.append(Problem(key, source, remedy))
    yield from found
    if found or isinstance(at(config, "data.source.folder"), str):
        return
    yield from problems_of(lambda: FileSource(**named).image_root)


def prompt_problems(config: Config) -> Iterator[Problem]:
    """Yield folders of prompts that cannot take the place of the package's."""
    for player in ASKING:
        folder = at_ours(config, key := f"{player}.prompts")
        if isinstance(folder, str) and (remedy := own_problem(player, folder)):
            yield Problem(key, folder, remedy)


def adapter_problem(key: str, folder: str, model: Config) -> Problem | None:
    """Return why `folder` is no adapter of `model`, as far as can be told without loading the model, or None."""
    path = Path(folder)
    if not path.is_dir():
        found = "is a file" if path.exists() else "no such folder"
        return Problem(key, folder, f"{found}: name the adapter/ folder that a training run wrote")
    if reason := no_adapter(path):
        return Problem(key, folder, reason)
    try:
        config = _json_object(path / ADAPTER_CONFIG)
        facts = _json_object(path / ADAPTER_FACTS) if (path / ADAPTER_FACTS).exists() else {}
        ranks, rank = set(_ranks(path / ADAPTER_WEIGHTS).values()), config.get("r")
        if ranks - {rank}:  # PEFT would allocate memory for the config's rank
            found = ", ".join(map(str, sorted(ranks)))
            raise ValueError(f"{ADAPTER_CONFIG} has r={rank!r}, {ADAPTER_WEIGHTS} has {found}")
    except ValueError as error:
        return Problem(key, folder, f"is not a whole adapter, {error}: copy it again, or name another")
    reason = no_plain_lora(config) or _base_reason(facts.get("base"), model)
    return None if reason is None else Problem(key, folder, reason)


def _shape_problems(adapter: Path, model: Config) -> Iterator[Problem]:
    """Yield settings of `model.lora` that are not those of the adapter that training goes on from."""
    saved = _json_object(adapter / ADAPTER_CONFIG)
    for name, key in (("r", "r"), ("lora_alpha", "alpha")):
        here = at(model, f"lora.{key}")
        if name in saved and here not in (ABSENT, saved[name]):
            remedy = f"init_from={adapter} was trained with another: set model.lora.{key}={saved[name]}"
            yield Problem(f"model.lora.{key}", here, remedy)
    adapted = {name.partition(".lora_A.")[0].rpartition(".")[2] for name in _ranks(adapter / ADAPTER_WEIGHTS)}
    trained = [*(layer for layer in LINEAR_LAYERS if layer in adapted), *sorted(adapted - set(LINEAR_LAYERS))]
    targets = at(model, "lora.targets")
    if trained and isinstance(targets, list) and set(targets) != set(trained):
        remedy = f"init_from={adapter} has others: set model.lora.targets=[{','.join(trained)}]"
        yield Problem("model.lora.targets", targets, remedy)


def _base_reason(base: object, model: Config) -> str | None:
    """Return why the adapter is another base's, or None. Two addresses may hold the same weights: loading tells."""
    name = str(model.get("name"))
    here = name if name in BUILT_HERE else model.get("source")
    if not isinstance(base, str) or not isinstance(here, str) or base == here or not {base, here} & set(BUILT_HERE):
        return None
    chosen = f"model={base}" if base in BUILT_HERE else "the model it was trained on"
    return f"was trained on base {base!r}, this run's is model={name}: use {chosen}, or name an adapter of model={name}"


def _json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raise ValueError if the file holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return found


def _ranks(weights: Path) -> dict[str, int]:
    """Return the rank of each of an adapter's `lora_A`. Raise ValueError if the file is damaged."""
    try:
        with safe_open(weights, framework="numpy") as file:  # reads the header, which must account for every byte
            return {name: file.get_slice(name).get_shape()[0] for name in file.keys() if ".lora_A." in name}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{weights.name} cannot be read ({error})") from None
