"""Says in a line or two what is wrong: errors of Hydra, OmegaConf, YAML and the system, meant for the user."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from traceback import extract_tb

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from steer_lit.cli.overrides import groups
from steer_lit.dotted import ABSENT, at, nodes
from steer_lit.errors import SteerError
from steer_lit.files.atomic import FULL
from steer_lit.stages import STAGES
from steer_lit.terminal.commands import folder_key
from steer_lit.terminal.conf_files import compose, composed, conf_files
from steer_lit.terminal.nearest import nearest
from steer_lit.terminal.words import key_of
from steer_lit.texts import first_lines

_PACKAGE = Path(__file__).parents[1]
_REFUSALS = (SteerError, OmegaConfBaseException, OSError)
_LIBRARIES = ("callbacks", "logger", "trainer")  # sections of classes that take more than conf/ has


def refusal_in(error: BaseException | None) -> BaseException | None:
    """Return the error meant for the user, perhaps the cause of one of Hydra's: ours, OmegaConf's or an OSError."""
    while error is not None and not isinstance(error, _REFUSALS):
        error = error.__cause__
    return error


def meant_for_user(error: BaseException) -> bool:
    """Return whether the error says what is wrong with a config, a file or the machine: others are bugs."""
    if isinstance(error, ValueError) and refusal_in(error):  # by `logging` for a folder that cannot hold a log
        return True
    return isinstance(error, (*_REFUSALS, HydraException, MarkedYAMLError, UnicodeError))


def unforeseen(error: BaseException) -> str:
    """Return what to say of an error that Hydra did not foresee, "" if our code raised it: a bug."""
    if Path(extract_tb(error.__traceback__)[-1].filename).is_relative_to(_PACKAGE):
        return ""
    why = f"{type(error).__name__}: {first_lines(error)}" if str(error) else type(error).__name__
    return f"Hydra cannot use one of these words, {why} (HYDRA_FULL_ERROR=1 shows where)"


def explain(error: BaseException, program: str, words: Sequence[str], folder: Path | None = None) -> str:
    """Say in a few lines what is wrong with the command line, or a run's `folder`: mostly Hydra's own words."""
    if isinstance(refusal := refusal_in(error), OSError) and not isinstance(error, HydraException):
        return unusable(refusal, folder)
    if isinstance(error, OverrideParseException):
        typed = "no spaces around = or after commas, and quotes around text other than plain words: 'key=\"a b\"'"
        shown = re.sub(r"{.*", "{...", error.override)  # a mapping may hold a key of a server
        if "/" in shown and "=" not in shown:
            typed = f"the key that it is for, too: <key>={shown}"
        return f"{shown}: is not a <key>=<value> that Hydra can read. Type {typed}"
    if _unknown_key(error):
        return "\n".join(_unknown_keys(program, words)) or str(error)
    text, cause = str(error).split("Config search path:")[0].strip(), error.__cause__
    return f"{text}\n{cause}" if isinstance(cause, OmegaConfBaseException) and str(cause) not in text else text


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


def _unknown_key(error: BaseException) -> str:
    """Return the key that an error of Hydra's is about, if the config does not have it."""
    found = re.match(r"Could not override '([^'@]+)'", str(error))
    return found[1] if found else ""


def _unknown_keys(program: str, words: Sequence[str]) -> list[str]:
    """Return the errors for all typed keys that the run does not have: Hydra stops at the first."""
    left, found = list(map(_one_value, words)), dict[str, str]()
    while True:
        try:
            config = compose(program, left)
            break
        except Exception as error:
            key = _unknown_key(error)
            if not any(key_of(word) == key for word in left):  # another error, told once these keys are corrected
                config = composed(program, []) or {}
                break
            inner = str(getattr(error.__cause__, "full_key", ""))  # of a section that was given as a whole
            found[key] = inner if inner.startswith(f"{key}.") else key
            left = [word for word in left if key_of(word) != key]
    known = [*(key for key, _ in nodes(config)), *groups(program), "hydra.run.dir", "hydra.sweep.dir"]
    told = []
    for key in (each for each in found.values() if each not in known):  # a group's value may be none it can take
        section = key.partition(".")[0]
        more = f"; +{key}=<value> adds it" if section in _LIBRARIES else ""
        listed = f"`--cfg {'hydra' if section == 'hydra' else 'job'}` lists them all{more}"
        meant = f"policy.{key}" if program == "bench" and key in STAGES else key.lower()  # named after its stage
        hint = _having(program, left, key) or nearest(meant, known)
        told.append(f"{key}: there is no such key in this run.{hint} {listed}")
    return told


def _having(program: str, words: Sequence[str], key: str) -> str:
    """Return ` <group>=<option> has it.` with the options that, chosen in the run of `words`, have the key; or ""."""
    group = key.partition(".")[0]
    words = [word for word in words if key_of(word) != group]
    options = [f"{group}={path.stem}" for path in conf_files(group)] if group in groups(program) else []
    found = [option for option in options if at(composed(program, [*words, option]) or {}, key) is not ABSENT]
    return f" {' or '.join(found)} has it." if found else ""


def _one_value(word: str) -> str:
    """Return the word with the first value that it sweeps over, if it does."""
    override = OverridesParser.create().parse_override(word)
    if override.is_sweep_override():
        with suppress(ValueError, ArithmeticError):  # of values that cannot be listed
            for value in override.sweep_string_iterator():
                return f"{word.partition('=')[0]}={value}"
    return word
