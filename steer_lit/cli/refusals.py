"""Says in a line or two what is wrong: errors of Hydra, OmegaConf, YAML and the system, meant for the user."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path
from traceback import extract_tb

from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from yaml import MarkedYAMLError

from steer_lit.cli.known_names import options_of
from steer_lit.cli.overrides import listing, no_choice, no_key, no_sweep, unknown_keys, unreadable_override
from steer_lit.errors import SteerError
from steer_lit.terminal.commands import folder_key
from steer_lit.terminal.words import words_besides, words_setting
from steer_lit.texts import first_lines

_NOT_MADE = re.compile(r"Error in call to target '([^']+)':\n(.*)\nfull_key: (\S+)$", re.DOTALL)
_PACKAGE = Path(__file__).parents[1]
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)  # raised by writes, without the file's name


def explain(error: BaseException, program: str, words: Sequence[str]) -> str:
    """Say in one or two lines what is wrong with the command line, with the nearest name that exists."""
    if isinstance(refusal := refusal_in(error), OSError) and not isinstance(error, HydraException):
        return unusable(refusal)
    if isinstance(refusal, InterpolationResolutionError):
        return unresolved(refusal)
    if isinstance(error, OverrideParseException):
        return unreadable_override(error, program, words)
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark) is not None:
        return f"{mark.name}, line {mark.line + 1}: is no YAML, {error.problem}"
    if isinstance(error, InstantiationException) and (made := _NOT_MADE.match(str(error))):
        key, why = made[3].removeprefix("module."), error.__cause__
        reason = f"{type(why).__name__}: {first_lines(why)}" if why is not None else made[2]
        return f"{key}._target_={made[1]}: could not be made: {reason} (HYDRA_FULL_ERROR=1 shows where)"
    text = str(error).split("Config search path:")[0].strip()
    if key := re.match(r"Could not override '([^'@]+)", text):
        inner = str(getattr(error.__cause__, "full_key", ""))  # a key inside a section that was given as a whole
        missing = inner if inner.startswith(f"{key[1]}.") else key[1]
        others = [word for word in words if key[1] not in word]
        return "\n".join(unknown_keys(program, words)) or no_key(missing, program, others)
    if gone := re.match(r"Could not delete from config. '([^']+)'", text):
        return "\n".join(unknown_keys(program, words)) or f"~{gone[1]}: it is null already, leave this word out"
    if there := re.match(r"Could not append to config. An item is already at '([^']+)'", text):
        return f"+{there[1]}: the run has this key already: type {there[1]}=<value>"
    if merged := re.match(r"Error merging override ([^=\n]+)", text):  # the value may be a secret
        return f"{merged[1]}: {first_lines(error.__cause__ or error)}: {listing(merged[1])} shows what the key holds"
    if several := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", text):
        return no_sweep(several[1], program, words)
    if option := re.search(r"Could not find '((?:hydra/)?\w+)/([^']+)'", text):
        known = options_of(option[1]) or re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        return no_choice(option[1], option[2], known)
    cause = error.__cause__
    return f"{text}\n{cause}" if isinstance(cause, OmegaConfBaseException) and str(cause) not in text else text


def unforeseen(error: Exception, program: str, words: Sequence[str]) -> str:
    """Say which words led to an error that is not meant for users. Return "" if it is, or our code raised it: a bug.

    Those are keys that `program` does not have, such as `stage=2` in a benchmark, and settings of Hydra's.
    """
    ours = Path(extract_tb(error.__traceback__)[-1].filename).is_relative_to(_PACKAGE)
    if ours or isinstance(error, HydraException | MarkedYAMLError | UnicodeError) or refusal_in(error) is not None:
        return ""
    if unknown := unknown_keys(program, words):
        return "\n".join(unknown)
    settings = words_besides(words_setting(words, ["hydra", "hydra[./]*"]), ["hydra.run.dir", "hydra.sweep.dir"])
    keys = [setting.partition("=")[0] for setting in settings]  # a value may be a secret
    reason = f"{type(error).__name__}{f': {first_lines(error)}' if str(error) else ''}"
    remedy = "leave it out, or see what `--cfg hydra` has there (HYDRA_FULL_ERROR=1 shows where)"
    blamed = f"{'one of ' if keys[1:] else ''}{', '.join(keys)}"
    return f"{blamed}: Hydra cannot use it, {reason}: {remedy}" if keys else ""


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
    where = os.fsdecode(where) if isinstance(where, bytes) else where  # TensorBoard's writer opens such names
    reason = error.strerror or str(error) or type(error).__name__
    if where is None:
        return f"{reason} (HYDRA_FULL_ERROR=1 shows where)"
    if folder is not None and not (Path.cwd() / str(where)).is_relative_to(folder):  # `where` may be relative
        return f"{where}: {reason}"
    remedy = "Make room there, or name" if error.errno in FULL else "Name"
    key = folder_key() if folder else "hydra.run.dir=<folder>, a sweep's with hydra.sweep.dir"  # Hydra is gone then
    return f"{where}: {reason}. {remedy} another folder with {key}=<folder>"


def unresolved(error: OmegaConfBaseException) -> str:
    """Return the error for an interpolation that cannot be resolved."""
    reason = first_lines(error)
    remedy = "type the value, or ${<key>} with a key that the run has; `--cfg job` lists them all"
    return f"{error.full_key}: {reason[:1].lower()}{reason[1:]}: {remedy}"
