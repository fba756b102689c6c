"""What a training in a run's folder means for one that is to begin there: it goes on, is finished, or is in the way."""

from __future__ import annotations

import json
import logging
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from yaml import YAMLError

from steer_lit.chat.settings import HOW_ASKED
from steer_lit.checks.facts import at_ours, makes_rows
from steer_lit.cli.closing import Result
from steer_lit.cli.run_folder import EXPORTED, TRAINED, holds, prompts_of, recorded_commands
from steer_lit.data.sources import files_named
from steer_lit.dotted import ABSENT, leaves, within
from steer_lit.errors import SteerError
from steer_lit.files.atomic import replace_text, replacing
from steer_lit.files.run_files import (
    CONFIG,
    CURVES,
    LAST,
    NOT_THERE,
    PICTURES,
    TRAINED_ROWS,
    UNKNOWN,
    VERSIONS,
    earlier_settings,
    saved_versions,
)
from steer_lit.policy.model_facts import ADAPTER_WEIGHTS
from steer_lit.prompts.fill import ASKING
from steer_lit.ranks import first_rank
from steer_lit.stages import STAGES
from steer_lit.terminal.commands import folder_key, next_step, path_word, resume_command, shown_path, sweeping
from steer_lit.terminal.visible import visible_line
from steer_lit.terminal.words import words_besides

log = logging.getLogger(__name__)

_CHECKPOINTS = Path(LAST).parent
# What a training writes besides TRAINED, but its logs.
_NOTED = (CONFIG, VERSIONS, CURVES, TRAINED_ROWS, PICTURES, "quarantine*.jsonl", "tensorboard", "csv", "wandb")
_ASIDE = "before_restart_"
_MAY_DIFFER = ("run_dir", "hardware", "ckpt_path")
# What decides the value of a validation.
_VALIDATION = (
    "data.source", "data.val_size", "data.max_turns", "data.blank_images", "rollout.max_turns",
    "rollout.max_new_tokens", "attacker", "tutor", "system_prompt", "trainer.limit_val_batches",
)  # fmt: skip
_HOW_ASKED = re.compile(rf"(.*\.)?(server|client)\.(.*\.)?({'|'.join(HOW_ASKED)})")  # keys that may differ, too
_NAMED, _SHOWN = 3, 60  # differing settings that are named; letters of each one's value


def last_checkpoint(run_dir: Path) -> Path | None:
    """Return the checkpoint in the folder, None if there is none."""
    return saved if (saved := run_dir / LAST).is_file() else None


def go_on(run_dir: Path, config: DictConfig) -> None:
    """Let a training of this config begin with the last checkpoint in its folder, unless it names one there itself.

    What the folder holds goes before a checkpoint of another folder: the same command goes on where it was stopped.
    """
    if (saved := last_checkpoint(run_dir)) is None:
        return
    given = config.get("ckpt_path")
    elsewhere = given is None or (isinstance(given, str) and Path(given).exists() and not lies_in(Path(given), run_dir))
    if elsewhere and not _unlike(run_dir, config):
        config.ckpt_path = str(saved)


def lies_in(saved: Path, folder: Path) -> bool:
    """Return whether a file lies in a folder as it is named, or where links lead: to a disk of checkpoints, say."""
    return saved.absolute().is_relative_to(folder.absolute()) or saved.resolve().is_relative_to(folder.resolve())


def make_room(run_dir: Path, config: DictConfig) -> None:
    """Set aside what a training left in the folder that saved nothing to go on from.

    Raise SteerError for what is `in_the_way`. Only the first rank looks: the others find there what it has written.
    """
    if not first_rank() or not _begins_over(run_dir, config):
        return
    if said := in_the_way(run_dir, config):
        if not sweeping() and (latest := last_checkpoint(run_dir)):
            said += f", or continue it with the new settings: {path_word('ckpt_path', latest)}"
            same = result_at_end(run_dir) is None and not _changed_prompts(run_dir, config)  # else refused, or done
            if same and (begun := _begun_with(run_dir)):
                said += f", or resume it as it began:\n{next_step(resume_command('train', begun, run_dir))}"
        raise SteerError(said)
    _set_aside(run_dir)


def in_the_way(run_dir: Path, config: DictConfig) -> str:
    """Return why a training cannot begin in the folder anew, "" if it can: there is a saved one with other settings,
    which it would overwrite, or checkpoints lie behind a link that leads nowhere.
    """
    if not _begins_over(run_dir, config):
        return ""
    said = f"hydra.run.dir={shown_path(run_dir)}: "
    if (link := run_dir / _CHECKPOINTS).is_symlink() and not link.exists():
        return f"{said}its {_CHECKPOINTS} are a link to {link.readlink()}, which is not there"
    saved = last_checkpoint(run_dir) is not None or any((run_dir / name).exists() for name in EXPORTED)
    anothers = "stage" not in _compared(run_dir, config).there  # only a training has one
    if not (unlike := _unlike(run_dir, config)) or not (saved or anothers):
        return ""
    here = "training, which a new one" if holds(run_dir, "training") else f"{CONFIG} of another kind, which this one"
    return f"{said}holds a {here} would overwrite ({unlike}): name another folder, {folder_key()}=..."


def _begins_over(run_dir: Path, config: DictConfig) -> bool:
    """Return whether a training begins in a folder that holds another, and with no checkpoint of that one."""
    saved = config.get("ckpt_path")
    elsewhere = saved is None or not lies_in(Path(saved), run_dir)
    return elsewhere and (holds(run_dir, "training") or (run_dir / CONFIG).is_file())


def begin_at(saved: Path, run_dir: Path) -> None:
    """Make a checkpoint that lies in the folder its last one: a run begins with it, what came after is taken again."""
    if first_rank() and not ((last := run_dir / LAST).exists() and saved.samefile(last)):
        with replacing(last) as copy:
            shutil.copyfile(saved, copy)


def _begun_with(run_dir: Path) -> list[str]:
    """Return the words of the folder's latest command, but for its folder and checkpoint; none if it recorded none."""
    commands = recorded_commands(run_dir)
    try:
        typed = shlex.split(commands[-1]) if commands else []
    except ValueError:  # it was edited, and is no command any more
        return []
    words = [word for word in typed if word.startswith("~") or ("=" in word and word[0] != "-")]
    return words_besides(words, ["hydra.run.dir", "ckpt_path"])


def _set_aside(run_dir: Path) -> None:
    """Move what a training writes into a new folder inside: it would be mixed with new files."""
    aside = next(at for number in count(1) if not (at := run_dir / f"{_ASIDE}{number}").exists())
    aside.mkdir()
    written = (*(Path(name).parts[0] for name in TRAINED), *_NOTED)
    for path in [path for name in written for path in run_dir.glob(name)]:
        path.rename(aside / path.name)
    log.info("a run here had saved nothing to resume from: what it had written is now in %s", aside)


def mark_finished(run_dir: Path, result: Result) -> None:
    """Record that the folder's training ran to its end, and what came of it, until `freeze` begins another there."""
    versions = {**saved_versions(run_dir), "finished": asdict(result)}
    replace_text(run_dir / VERSIONS, json.dumps(versions, indent=2) + "\n")


def finished(run_dir: Path, config: DictConfig) -> Result | None:
    """Return what came of a training of this config in the folder, resumed or not, that ran to its end; else None."""
    result = result_at_end(run_dir)
    return result if result and not _unlike(run_dir, config) else None


def written_since(run_dir: Path, config: DictConfig) -> list[Path]:
    """Return which of the row files and the adapter that the folder's finished training began with are newer than it.

    What they hold is not compared: only a training that goes on reads them again.
    """
    rows, start = config.data.source.get(STAGES[config.stage].learns_from), config.get("init_from")
    files = [] if makes_rows(config) else list(map(Path, files_named(rows)))
    files += [] if start is None else [Path(start, ADAPTER_WEIGHTS)]
    ended = (run_dir / VERSIONS).stat().st_mtime
    return [path for path in files if path.is_file() and path.stat().st_mtime > ended]


def result_at_end(run_dir: Path) -> Result | None:
    """Return what came of the training in the folder if it ran to its end."""
    try:
        return TypeAdapter(Result).validate_python(saved_versions(run_dir).get("finished"))
    except ValidationError:
        return None


def _unlike(run_dir: Path, config: DictConfig) -> str:
    """Return in which settings the folder's training differs from `config`, "" if in none.

    The folder's name may differ, the hardware, how servers are reached, and the checkpoint with which a run begins.
    """
    compared = _compared(run_dir, config)
    if compared.unknown:
        return compared.unknown
    derived = [key for key, value in _settings(compared.asked, resolve=False).items() if "${" in str(value)]
    given = [key for key in compared.differ if not any(within(key, section) for section in derived)]
    named = [f"{_shown(key, compared.there)} there" for key in given]
    named = named or [f"another {key} there" for key in compared.differ]
    named += [f"another prompt {name} there" for name in _changed_prompts(run_dir, config)]
    return ", ".join(named[:_NAMED]) + (f" and {len(named) - _NAMED} more" if named[_NAMED:] else "")


def earlier_than(step: int, saved: Path, run_dir: Path, config: DictConfig) -> list[tuple[int, dict[str, Any]]]:
    """Return the `earlier_settings` of a training in `run_dir` that begins with a checkpoint `saved` at a `step`."""
    run = run_dir if lies_in(saved, run_dir) else saved.parent.parent
    earlier = earlier_settings(run)
    compared = _compared(run, config)
    if compared.unknown:
        return [*earlier, (step, {UNKNOWN: "not known"})]
    here, there = _settings(compared.asked), compared.there
    while earlier and earlier[-1][0] >= step:  # nothing that was learnt after that is kept
        there |= earlier.pop()[1]
    before = {key: there.get(key, NOT_THERE) for key in {**here, **there}}
    changed = {key: value for key, value in before.items() if value != here.get(key, NOT_THERE)}
    return [*earlier, (step, changed)] if changed else earlier


def validates_unlike(saved: Path, config: DictConfig) -> bool:
    """Return whether the run of a checkpoint validated otherwise than `config` does, or left no config that says."""
    compared = _compared(saved.parent.parent, config)
    return compared.unknown != "" or any(within(key, one) for key in compared.differ for one in _VALIDATION)


class _Compared(NamedTuple):
    """A config beside that of a training's folder."""

    asked: DictConfig  # with what may differ as in the folder
    there: dict[str, Any]  # the folder's settings
    differ: Sequence[str] = ()  # keys
    unknown: str = ""  # why the folder's settings are not known


def _compared(run_dir: Path, config: DictConfig) -> _Compared:
    asked = config.copy()
    try:
        saved: Any = OmegaConf.load(run_dir / CONFIG)
        there, theirs = _settings(saved), {key: saved[key] for key in _MAY_DIFFER if key in saved}
    except FileNotFoundError:
        return _Compared(asked, {}, unknown=f"without a {CONFIG}")
    except (OmegaConfBaseException, YAMLError, OSError, ValueError, AttributeError):
        return _Compared(asked, {}, unknown=f"its {CONFIG} cannot be read")
    for key, value in theirs.items():  # before the keys that refer to them are resolved
        asked[key] = value
    here = _settings(asked)
    differ = [key for key in {**here, **there} if there.get(key, ABSENT) != here.get(key, ABSENT)]
    return _Compared(asked, there, differ)


def _changed_prompts(run_dir: Path, config: DictConfig) -> list[str]:
    """Return the prompts that models were asked with in the folder's training and that have changed since."""
    if not isinstance(there := saved_versions(run_dir).get("prompts"), dict):
        return []
    try:
        here = prompts_of(config)
    except (OSError, ValueError):  # the config check says what is wrong with them
        return []
    players = [name for name in ASKING if at_ours(config, f"{name}.prompts") is not ABSENT]
    asked = [name for name in here if name.partition("_")[0] in (*players, *(["repair"] if players else []))]
    return [f"{name}.txt" for name in asked if there.get(name, here[name]) != here[name]]


def _settings(config: Any, *, resolve: bool = True) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(config, resolve=resolve)
    return {key: value for key, value in leaves(plain) if not _HOW_ASKED.fullmatch(key)}


def _shown(key: str, settings: dict[str, Any]) -> str:
    if key not in settings:
        return f"no {key}"
    text = visible_line(str(settings[key]))
    return f"{key}={text[:_SHOWN]}{'...' if text[_SHOWN:] else ''}"
