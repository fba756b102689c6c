"""Says in a line or two what is wrong: errors of Hydra, OmegaConf, YAML and the system, meant for the user."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from yaml import MarkedYAMLError

from steer_lit.cli.known_names import keys_of, options_of
from steer_lit.cli.overrides import (
    NO_OPTION,
    no_choice,
    no_keys,
    no_merge,
    no_option,
    no_removal,
    no_sweep,
    unreadable_override,
)
from steer_lit.dotted import leaves, within
from steer_lit.errors import SteerError
from steer_lit.terminal.conf_files import composed
from steer_lit.terminal.nearest import nearest
from steer_lit.terminal.words import Word
from steer_lit.texts import first_lines

_NOT_MADE = re.compile(r"Error in call to target '([^']+)':\n(.*)\nfull_key: (\S+)$", re.DOTALL)
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)  # raised by writes, without the file's name


def explain(error: BaseException, name: str, words: Sequence[str]) -> str:
    """Say in one or two lines what is wrong with the command line, with the nearest name that exists."""
    if isinstance(refusal := refusal_in(error), OSError) and not isinstance(error, HydraException):
        return unusable(refusal)
    if isinstance(refusal, InterpolationResolutionError):
        return unresolved(refusal, name, words)
    if isinstance(error, OverrideParseException):
        return unreadable_override(error, name, words)
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark) is not None:
        return f"{mark.name}, line {mark.line + 1}: is no YAML, {error.problem}"
    if isinstance(error, InstantiationException) and (made := _NOT_MADE.match(str(error))):
        key, why = made[3].removeprefix("module."), error.__cause__
        reason = f"{type(why).__name__}: {first_lines(why)}" if why is not None else made[2]
        return f"{key}._target_={made[1]}: could not be made: {reason} (HYDRA_FULL_ERROR=1 shows where)"
    text = str(error).split("Config search path:")[0].strip()
    if key := re.match(r"Could not override '([^'@]+)", text):
        inner = str(getattr(error.__cause__, "full_key", ""))  # a key inside a section that was given as a whole
        return no_keys(inner if inner.startswith(f"{key[1]}.") else key[1], name, words)
    if gone := re.match(r"Could not delete from config. '([^']+)' does not exist", text):
        return no_removal(gone[1], name, words)
    if there := re.match(r"Could not append to config. An item is already at '([^']+)'", text):
        return f"+{there[1]}: the run has this key: type {there[1]}=<value>, without the plus, to change it"
    if merged := re.match(r"Error merging override (.+)", text):
        return no_merge(merged[1], first_lines(error.__cause__ or error), name, words)
    if several := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", text):
        return no_sweep(several[1], name, words)
    if option := re.search(r"Could not find '((?:hydra/)?\w+)/([^']+)'", text):
        known = options_of(option[1]) or re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        return no_choice(option[1], option[2], known)
    if text.startswith(NO_OPTION):
        return "\n".join(no_option(name, words)) or text
    cause = error.__cause__
    return f"{text}\n{cause}" if isinstance(cause, OmegaConfBaseException) and str(cause) not in text else text


def refusal_in(error: BaseException | None) -> BaseException | None:
    """Return the error meant for the user, perhaps the cause of one of Hydra's: ours, OmegaConf's or an OSError."""
    while error is not None and not isinstance(error, SteerError | OmegaConfBaseException | OSError):
        error = error.__cause__
    return error


def unusable(error: OSError, folder: Path | None = None) -> str:
    """Say what the system refused, and for which path. `folder` is the run's, if Hydra could make it."""
    where = error.filename2 or error.filename  # if a copy failed, the second is its target
    if where is None and error.errno in FULL:
        where = folder
    reason = error.strerror or str(error) or type(error).__name__
    if where is None:
        return f"{reason} (HYDRA_FULL_ERROR=1 shows where)"
    if folder is not None and not (Path.cwd() / str(where)).is_relative_to(folder):  # `where` may be relative
        return f"{where}: {reason}"
    remedy = "Make room there, or name" if error.errno in FULL else "Name"
    return f"{where}: {reason}. {remedy} another folder with hydra.run.dir=<folder>"


def unresolved(error: OmegaConfBaseException, name: str, words: Sequence[str]) -> str:
    """Return the error for an interpolation that cannot be resolved."""
    key, reason = str(error.full_key), first_lines(error)
    values = {read.key: f"={read.given}" for word in words if (read := Word.read(word)) is not None}
    absent = re.match(r"Interpolation key '(.+)' not found", reason)
    if absent and key.startswith("hydra."):  # whose run folder and log are named after the run's `name`
        there = leaves(composed(name, words) or {}, lists=True)
        key = next((its for its, value in there if f"${{{absent[1]}}}" in str(value)), key)
    typed = [read.key for word in words if (read := Word.read(word)) is not None and read.sign == "~"]
    if absent and (gone := next((other for other in typed if within(absent[1], other)), None)):
        return f"{key}: goes by {absent[1]}, which a run needs: leave out ~{gone}, which removes it"
    hint = nearest(absent[1], keys_of(name, words)) if absent else ""
    remedy = f"type the value, or ${{<key>}} with a key that the run has.{hint} `--cfg job` lists them all."
    return f"{key}{values.get(key, '')}: {reason[:1].lower()}{reason[1:]}: {remedy}"


def stumbled(error: BaseException, words: Sequence[str]) -> str:
    """Return the message for an error that Hydra's code raised over a `hydra.*` setting, or "" for any other error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = str(trace.tb_frame.f_globals.get("__name__", "")) if trace is not None else ""
    own = [word for word in words if (read := Word.read(word)) is not None and read.key.startswith("hydra.")]
    if not own or raised_in.partition(".")[0] not in ("hydra", "omegaconf"):
        return ""
    sweep = " Values to sweep over are typed behind -m, key=a,b." if any("sweeper" in word for word in own) else ""
    reason = first_lines(error) or type(error).__name__
    return f"{' '.join(own)}: Hydra cannot begin with that ({reason:.200}): leave it out.{sweep}"
