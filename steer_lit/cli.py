"""From the command line to a run: the only file that knows how Hydra is called.

`--help`, `--cfg job` and every refusal answer at once. Errors meant for the person at the keyboard are printed alone
and end with exit code 2; so do those of the disk, which that person can mend.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from steer_lit.checks import word_problems
from steer_lit.commands import conf_dir, sweeping
from steer_lit.errors import ConfigError, SteerError
from steer_lit.run_folder import FROZEN
from steer_lit.runs import run_benchmark, run_synthesizing, run_training
from steer_lit.terminal import visible

REFUSED = 2
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)  # what a write says, but not where
_NO_OPTION = "Config group override"  # how Hydra's ValueError for `model=3` begins
_OWN_NAMES = ("callbacks", "logger", "policies")  # sections that hold whatever is put there
_UNSAID = ("model.source", "model.tower")  # of some models only; the check of the models says which
Run = Callable[[DictConfig, Path], float | None]


class Told(Exception):
    """A run of a sweep failed, and why has been printed."""


def train(arguments: Sequence[str] | None = None) -> int:
    """`python train.py` and `steer-train`. Returns the exit code."""
    return _enter("train", run_training, arguments)


def bench(arguments: Sequence[str] | None = None) -> int:
    """`python bench.py` and `steer-bench`. Returns the exit code."""
    return _enter("bench", run_benchmark, arguments)


def synthesize(arguments: Sequence[str] | None = None) -> int:
    """`python synthesize.py` and `steer-synthesize`. Returns the exit code."""
    return _enter("synthesize", run_synthesizing, arguments)


def _enter(name: str, run: Run, arguments: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    debugging = os.environ.get("HYDRA_FULL_ERROR") == "1"  # whoever sets it wants tracebacks
    try:
        words = [_lenient(word, name) for word in words]
        if problems := list(word_problems(words)):
            raise ConfigError(problems)
        if mistaken := [said for word in words if (said := _mistaken(word, name, words))]:
            raise SteerError("\n".join(mistaken))
        if frozen := [word.removeprefix(FROZEN) for word in words if word.startswith(FROZEN)]:
            config = OmegaConf.load(frozen[0])
            assert isinstance(config, DictConfig)  # `freeze` wrote it
            run(config, Path(config.run_dir))
        else:
            _compose_and_run(name, run, words, debugging)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    # ValueError: what Hydra makes of `model=3`, and `logging` of a folder that takes no log.
    except (SteerError, HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        unknown = type(error) is ValueError and not str(error).startswith(_NO_OPTION) and _refusal(error) is None
        if debugging or unknown:
            raise
        print(visible(explain(error, name, words)), file=sys.stderr)
        return REFUSED
    return 0


def _compose_and_run(name: str, run: Run, words: Sequence[str], debugging: bool) -> None:
    failed: list[str] = []  # the runs of a sweep

    def task(config: DictConfig) -> float | None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            with _full_error(full):  # as any process that the run starts is to find it
                return run(config, folder)
        except (SteerError, InstantiationException, OmegaConfBaseException, OSError) as error:
            if debugging or (refusal := _refusal(error)) is None:
                raise
            _leave_nothing(folder)
            # Not raised further: Hydra would print all overrides around it.
            said = _unusable(refusal, folder) if isinstance(refusal, OSError) else str(refusal)
            print(visible(said), file=sys.stderr)
            if not sweeping():
                raise SystemExit(REFUSED) from None
            failed.append(f"#{HydraConfig.get().job.num}")
            raise Told from None  # the others may well run: Hydra raises what was wrong with one after the last

    arguments, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [sys.argv[0], *words]
    try:
        with _full_error("1"):  # Hydra raises what it would print, so that `explain` can say it better
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(task)()
    except Told:
        runs = ", ".join(failed) or "runs"  # which, a launcher that starts other processes does not tell
        print(f"not finished, for the reasons above: {runs} of this sweep", file=sys.stderr)
        raise SystemExit(REFUSED) from None
    finally:
        sys.argv = arguments


@contextmanager
def _full_error(value: str | None) -> Iterator[None]:
    """HYDRA_FULL_ERROR at `value`, None for not set; as it was before, at the end."""
    before = os.environ.pop("HYDRA_FULL_ERROR", None)
    if value is not None:
        os.environ["HYDRA_FULL_ERROR"] = value
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR", None)
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def _leave_nothing(folder: Path) -> None:
    """Remove what Hydra made for a run that was refused: a folder with nothing but an empty log, and no run's lock.

    One that cannot be removed stays: a disk of its own, or in a folder that may not be written.
    """
    with suppress(OSError):
        inside = list(folder.iterdir())
        if all(path.suffix == ".log" and path.is_file() and not path.stat().st_size for path in inside):
            for path in inside:
                path.unlink()
            folder.rmdir()


def _lenient(word: str, name: str) -> str:
    """Take Hydra's plus off where a group has an option already, put it where it is needed (`policies.<new name>=`)."""
    if (plus := re.match(r"\+(\w+)=", word)) and plus[1] in _groups(name):
        word = word.removeprefix("+")
    if word == "experiment=null":
        return "~experiment"
    return f"++{word}" if re.match(r"policies\.[\w-]+=", word) else word


def _mistaken(word: str, name: str, words: Sequence[str]) -> str:
    """What is wrong with a word that Hydra would take for another option, or add to a config where nothing reads it; or
    that no file and no tokenizer takes.
    """
    if re.search(r"[\ud800-\udfff]", word):
        return f"{word.partition('=')[0]}: holds bytes that are no UTF-8: type others, or rename the file or folder"
    if not word.startswith(("+", "--")):
        return ""
    top = [*_groups(name), *_top_keys(name)]
    if (dashed := re.fullmatch(r"--(\w+)(=.*)?", word, re.DOTALL)) and dashed[1] in top:
        return f"--{dashed[1]}: keys are typed without dashes, {dashed[1]}=<value>"
    if not (added := re.match(r"\++((\w+)[\w.]*)=", word)) or added[2] in ("hydra", "policies"):
        return ""
    key, known = added[1], added[2] in top
    typed = " ".join(words)
    if f"${{{key if known else added[2]}" in typed or (known and "${." in typed):  # another word reads it
        return ""
    plain = [word for word in words if not word.startswith("+") or "_target_" in word]  # whose class may take more
    if known and (key in _UNSAID or _takes(_composed(name, plain), key)):
        return ""
    return _no_key(key, _keys(name, plain))


def _takes(config: Mapping[str, Any] | None, key: str) -> bool:
    """Whether the config has the dotted key, or may be given it. Ours are all there; what others' classes take, they
    tell. None, a config that cannot be made, is for Hydra to refuse.
    """
    *sections, last = key.split(".")
    node, free = config, False
    for section in sections:
        node = node.get(section, {}) if isinstance(node, Mapping) else node
        target = str(node.get("_target_", "")) if isinstance(node, Mapping) else ""
        free = not target.startswith("steer_lit.") if target else sections[0] in _OWN_NAMES
        if target and free:
            break
    return free or not isinstance(node, Mapping) or last in node or last.startswith("_")


def _refusal(error: BaseException | None) -> BaseException | None:
    """The error meant for the person at the keyboard: ours, OmegaConf's or the disk's, maybe behind one of Hydra's."""
    while error is not None and not isinstance(error, SteerError | OmegaConfBaseException | OSError):
        error = error.__cause__
    return error


def _unusable(error: OSError, folder: Path | None = None) -> str:
    """What the system refused, and where; `folder` is the run's, if Hydra could make it."""
    where = error.filename2 or error.filename  # of a copy that failed, the second is what there was no room for
    if where is None and error.errno in FULL:
        where = folder
    reason = error.strerror or str(error) or type(error).__name__
    if where is None:
        return f"{reason} (HYDRA_FULL_ERROR=1 shows where)"
    if folder is not None and not (Path.cwd() / str(where)).is_relative_to(folder):  # a run may name files from here
        return f"{where}: {reason}"
    return f"{where}: {reason}. Make room there, or name another folder with hydra.run.dir=<folder>"


def explain(error: BaseException, name: str, words: Sequence[str]) -> str:
    """What is wrong with the command line, in one or two lines, with the nearest thing that exists."""
    if isinstance(refusal := _refusal(error), OSError) and not isinstance(error, HydraException):
        return _unusable(refusal)
    if isinstance(error, OverrideParseException):
        return _unread(error, name)
    text = str(error).split("Config search path:")[0].strip()
    if key := re.match(r"Could not override '([^'@]+)", text):
        wrong = key[1]
        known = _keys(name, [word for word in words if wrong not in word])
        return _no_key(wrong, known)
    if option := re.search(r"Could not find '((?:hydra/)?\w+)/([^']+)'", text):
        known = re.findall(r"^\t(\S+)$", text, re.MULTILINE) or _options(option[1])
        return _no_choice(option[1], option[2], known)
    if text.startswith(_NO_OPTION):
        return "\n".join(_no_option(name, words)) or text
    cause = error.__cause__
    return f"{text}\n{cause}" if isinstance(cause, OmegaConfBaseException) and str(cause) not in text else text


def _unread(error: OverrideParseException, name: str) -> str:
    """A word that is no key=value, mostly one that a shell took apart at a blank."""
    word, quoted = error.override, "no blanks beside = and after commas, a value that holds one in quotes: 'key=a b'"
    if "=" in word:
        return f"{word}: cannot be read: {str(error).splitlines()[0].partition(' expecting ')[0]}\nType {quoted}"
    options = {f"{group}={word}" for group in _groups(name) if word in _options(group)}
    if word in (keys := _keys(name, [])):
        options = {f"{word}=<value>"}
    found = _did_you_mean(sorted(options)) or _nearest(word, keys)
    return f"{word}: is no key=value.{found}\nType {quoted}"


def _options(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def _top_keys(name: str) -> set[str]:
    """The keys outside of any section that some choice gives the program `name`, or a program like it."""
    files = [conf_dir() / f"{name}.yaml", *conf_dir().glob("*/*.yaml")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    spread = [text for text in texts if text.startswith("# @package _global_")]
    return {key for text in (texts[0], *spread) for key in re.findall(r"^(\w+):", text, re.MULTILINE)}


def _groups(name: str) -> list[str]:
    """The groups of configs that the program `name` takes an option of."""
    return re.findall(r"^  - (\w+):", (conf_dir() / f"{name}.yaml").read_text(encoding="utf-8"), re.MULTILINE)


def _no_option(name: str, words: Sequence[str]) -> Iterator[str]:
    """Each word that gives a group of configs something else than an option's name; a key may be called like one."""
    chosen = _groups(name)
    for word in words:
        group, _, option = word.lstrip("+").partition("=")
        known = _options(group) if re.fullmatch(r"\w+", group) else []
        if not known or option in known:
            continue
        shown = option if re.fullmatch(r"[\w.-]*", option) else "..."  # what else stands there, perhaps a key
        if group in chosen:
            yield _no_choice(group, shown, known)
        elif group not in (keys := _keys(name, [])):
            yield _no_key(group, keys)
        else:
            yield f"{group}={shown}: must hold keys of its own, such as {group}.<name>=<value>"


def _no_choice(group: str, option: str, known: Sequence[str]) -> str:
    """With the nearest by its letters, or those that hold what was typed: `3b` finds `qwen2_5_vl_3b`."""
    holding = [name for name in known if option and option.lower() in name]
    nearest = _nearest(option, known) or _did_you_mean(holding)
    return f"{group}={option}: there is no such option.{nearest} Choose from: {', '.join(known)}"


def _no_key(wrong: str, known: Sequence[str]) -> str:
    plus = f" Lightning's Trainer takes more: +{wrong}=<value> adds one." if wrong.startswith("trainer.") else ""
    return f"{wrong}: there is no such key in this run.{_nearest(wrong, known)}{plus} `--cfg job` lists them all."


def _nearest(wrong: str, known: Sequence[str]) -> str:
    """` Did you mean ...?`, or nothing. The last part of a dotted key counts too: `lr` finds `optim.lr`."""
    section, _, name = wrong.partition(".")
    if name and section != "policies" and "policies" in difflib.get_close_matches(section, known, cutoff=0.7):
        return f" Did you mean policies.{name}?"  # names there are of one's own choice, so none is known
    found = difflib.get_close_matches(wrong, known, n=3, cutoff=0.7)
    tails = {key.rsplit(".", 1)[-1]: key for key in sorted(known, key=len, reverse=True)}  # the shortest key wins
    found += [tails[tail] for tail in difflib.get_close_matches(wrong.rsplit(".", 1)[-1], tails, n=3, cutoff=0.8)]
    return _did_you_mean(found)


def _did_you_mean(found: Sequence[str]) -> str:
    return f" Did you mean {' or '.join(list(dict.fromkeys(found))[:3])}?" if found else ""


def _keys(name: str, words: Sequence[str]) -> list[str]:
    """Every dotted key of the config that `words` compose, or of the plain one where they do not compose either."""
    return list(_leaves(_composed(name, words) or _composed(name, []) or {}))


def _composed(name: str, words: Sequence[str]) -> dict[str, Any] | None:
    """The config that `words` compose, as it is written; None where they do not."""
    taken = [word for word in words if not word.startswith("-")]
    with (
        suppress(HydraException, OmegaConfBaseException),
        hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"),
    ):
        config: Any = OmegaConf.to_container(hydra.compose(name, taken), resolve=False)
        return dict(config)
    return None


def _leaves(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
