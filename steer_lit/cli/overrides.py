"""Error messages for mistyped overrides on the command line, with the nearest name that exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Sweep
from hydra.errors import OverrideParseException

from steer_lit.checks.facts import name_problem
from steer_lit.checks.trainer import REPLACED
from steer_lit.cli.known_names import (
    composed_or_plain,
    groups,
    has,
    keys_of,
    known_keys,
    options_of,
    parts_of,
    read_by,
    takes,
)
from steer_lit.data.bench_rows import READ
from steer_lit.dotted import ABSENT, at, within
from steer_lit.terminal.commands import command, script
from steer_lit.terminal.conf_files import composed, own_conf_dir
from steer_lit.terminal.nearest import did_you_mean, nearest
from steer_lit.terminal.words import SWEPT, Word, names_policy, words_of_one_value
from steer_lit.texts import first_lines

_PROGRAMS = ("train", "bench", "synthesize")
_MERGED = ("experiment", "ablation", "debug", "callbacks", "logger")  # several options of these go together
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_POLICY = re.compile(r"(^|[\[,])(base$|server:)|adapter/?($|[\],])")  # how a benchmark's policy is given
_OF_RETURN = ("reward.alpha", "reward.return")


def normalise_override(word: str, program: str) -> str:
    """Drop Hydra's plus before a group that has an option already, and add it before `policies.<name>=` of a benchmark.

    `experiment=null` becomes `~experiment`.
    """
    if (read := Word.read(word)) is None:
        return word
    sign = read.sign
    if sign == "+" and read.key in groups(program):
        sign, word = "", word.removeprefix("+")
    if (sign, read.key, read.given) == ("", "experiment", "null"):
        return "~experiment"
    return f"++{word}" if program == "bench" and not sign and names_policy(word) else word


def override_errors(program: str, words: Sequence[str]) -> list[str]:
    """Return the errors for words that Hydra would accept to no effect, and with these those for all unknown keys."""
    found = [error for word in words if (error := _override_error(word, program, words))]
    if found or any(read.sign.startswith("+") for read in _readable(words)):
        found += unknown_keys(program, words)
    return found


def _override_error(word: str, program: str, words: Sequence[str]) -> str:
    """Return the error for an override that Hydra would accept to no effect or tell unclearly, or "" if there is none.

    Examples are a word that begins like an option, text that is not UTF-8, and a name that leads to another folder.
    """
    if re.search(r"[\ud800-\udfff]", word):
        return f"{word.partition('=')[0]}: holds bytes that are no UTF-8: type others, or rename the file or folder"
    if word.startswith("-"):
        return _dashed(word, program)
    if word.startswith("=") and word.strip("="):
        return f"{word}: names no key before the ="
    key, _, value = word.partition("=")
    if foreign := [letter for letter in _QUOTED.sub("", value) if letter.isprintable() and not letter.isascii()]:
        plain = not re.search(r"[\[{(,'\"]", value)
        shown, text = (word, value) if plain else (f"{key}=...", "...")  # a list or mapping may hold a key
        return f"{shown}: text with a letter such as {foreign[0]} goes in quotes inside the shell's: '{key}=\"{text}\"'"
    if (read := Word.read(word)) is None or read.sign == "~" or not read.key:
        return ""
    if isinstance(read.value, ChoiceSweep) and any(isinstance(each, Sweep | Glob) for each in read.value.list):
        return f"{word}: {SWEPT}"
    return (
        _bad_name(read)
        or _bad_folder(read)
        or _wrong_choice(read, program)
        or _read_by_nothing(read, program, words)
        or _idle(read, program, words)
    )


def _bad_name(word: Word) -> str:
    """Return the error for a run's name after which Hydra cannot name a log, or ""."""
    if word.key != "name" or (word.value and not isinstance(word.value, list | dict) and "/" not in word.given):
        return ""
    return str(name_problem(word.given if word.several else word.value))


def _bad_folder(word: Word) -> str:
    """Return the error for a run's folder that would be the current one, or one of the name ~, or ""."""
    if word.key not in ("hydra.run.dir", "hydra.sweep.dir") or not isinstance(word.value or "", str):
        return ""
    remedy = f"names no folder of the run's own: type {word.key}=<folder>, such as outputs/mine or $HOME/mine"
    return f"{word.key}={word.given}: {remedy}" if not word.value or word.value.startswith("~") else ""


def _wrong_choice(word: Word, program: str) -> str:
    """Return the error for a group given something else than one of its options, or ""."""
    group, value = word.key, word.value
    if group not in groups(program):
        return ""
    options, parser = options_of(group), OverridesParser.create()
    override = parser.parse_override(f"{group}={word.given}")
    for text in override.sweep_string_iterator() if isinstance(value, ChoiceSweep) else [word.given]:
        one = parser.parse_override(f"{group}={text}").value()
        if not (one and isinstance(one, str | list | dict | Glob)):  # Hydra takes '' and [] for no option
            return no_choice(group, text, options)
    if isinstance(value, list) and len(value) > 1 and group not in _MERGED:
        return f"{group}={word.given}: a run has one of {'|'.join(options)}"
    if part := next((option for option in word.given.split(",") if option in parts_of(group)), None):
        return (
            f"{group}={part}: is a part of {group}=default, and chosen alone would drop the others: choose "
            f"{group}={'|'.join(options)}; {group}.<name>=null leaves a part out, {group}.{part}.<key>=<value> "
            "changes this one"
        )
    return ""


def _read_by_nothing(word: Word, program: str, words: Sequence[str]) -> str:
    """Return the error for a key of a section that the program has and does not read, or ""."""
    if read_by(program, word.key):
        return ""
    there = keys_of(program, words)
    of_data = ", ".join(key for key in READ if f"data.{key}" in there)
    return f"{word.key}: nothing of a benchmark reads it. Of data it reads {of_data}"


def _idle(word: Word, program: str, words: Sequence[str]) -> str:
    """Return the error for a key of the return in a run that credits each turn with its own score, or ""."""
    credit = "reward.credit"
    if word.key not in _OF_RETURN or any(each.key == credit and each.several for each in _readable(words)):
        return ""
    config = composed(program, words_of_one_value(words))
    if config is None or at(config, credit) != "score":
        return ""
    remedy = f"each turn is credited with its own score. {credit}=trajectory goes by the return, as the paper does"
    return f"{word.key}: changes nothing that this run learns, for {credit}=score: {remedy}"


def _readable(words: Sequence[str]) -> Iterator[Word]:
    return (word for word in map(Word.read, words) if word is not None)


def _dashed(word: str, program: str) -> str:
    """Return the error for `--seed 3` and the like, which is none of Hydra's options."""
    option, key = word.partition("=")[0], word.partition("=")[0].lstrip("-").replace("-", "_")
    if not key:
        return ""
    known = [*groups(program), *keys_of(program, [])]
    if key in known:
        return f"{option}: keys are typed without dashes, {key}=<value>"
    return f"{option}: there is no such option, and keys are typed without dashes, key=<value>.{nearest(key, known)}"


def unreadable_override(error: OverrideParseException, program: str, words: Sequence[str]) -> str:
    """Return the error for a word that is not key=value, most often one that the shell split at a blank."""
    if (home := error.override.partition("=")[2].partition("/")[0]).startswith("~"):
        return f"{error.override}: only a shell fills in {home}, and this one did not: type the path, such as $HOME/..."
    word = error.override if error.override.strip() else repr(error.override)
    quoted = "no blanks beside = and after commas, a value that holds one in quotes: 'key=a b'"
    if "=" in word and not re.fullmatch(r"[+~]*[\w-]+([./@:][\w-]+)*\s*", word.partition("=")[0], re.ASCII):
        return f"{word}: cannot be read: a key is of plain letters, digits, _ and -, with a dot between sections"
    if re.match(r"(choice|range|interval|glob|shuffle|sort|tag)\(", word.partition("=")[2]):
        return f"{word}: cannot be read: {SWEPT}; text with a bracket goes in quotes: 'key=\"a(b)\"'"
    if "=" in word:
        pairs = "brackets and quotes come in pairs, a comma between two values"
        why = pairs if re.search(r"[\[\](){}'\"]", word) else first_lines(error).partition(" expecting ")[0]
        return f"{word}: cannot be read: {why}\nType {quoted}"
    options = {f"{group}={word}" for group in groups(program) if word in options_of(group)}
    chosen = [other for other in words if "=" in other.strip("=")]
    if word in (keys := keys_of(program, words_of_one_value(chosen))):
        options = {f"{word}=<value>"}
    hint = did_you_mean(sorted(options)) or nearest(word, keys) or " --help lists the keys most often typed."
    return f"{word}: is no key=value.{hint}\nType {quoted}"


def no_choice(group: str, option: str, known: Sequence[str]) -> str:
    """Return the error for an option that the group does not have.

    It suggests the nearest option by spelling, or those that contain what was typed: `3b` finds `qwen2_5_vl_3b`.
    """
    holding = [name for name in known if option and option.lower() in name]
    meant = nearest(option, known) or did_you_mean(holding)
    own = "" if meant or own_conf_dir() else ". Options of your own need --config-dir=<folder>"
    return f"{group}={option}: there is no such option.{meant} Choose from: {', '.join(known)}{own}"


def no_sweep(word: str, program: str, words: Sequence[str]) -> str:
    """Return the error for a word with several values outside a sweep. A number or a section cannot become a list."""
    key, _, values = word.partition("=")
    now = at(composed_or_plain(program, words_of_one_value(words)), key.lstrip("+"))
    takes_one = not isinstance(now, int | float | Mapping)
    one = f" One value that is a list is {key}=[{values}]." if takes_one and "(" not in values else ""
    sweep = f"{command(program)} -m {shlex.quote(word)} ..."
    return f"{word}: several values are a sweep's, which begins with -m: {sweep}{one}"


def unknown_keys(program: str, words: Sequence[str]) -> list[str]:
    """Return the errors for all typed keys that the run does not have: Hydra stops at the first, and takes any with a
    plus. No errors if the options that were chosen do not compose, which Hydra tells, or are swept over.
    """
    typed = [read for read in _readable(words) if not re.search(r"[/@]|^hydra\.|^$", read.key)]
    shaping = {read.key for read in typed if read.key in groups(program) or read.key.endswith("._target_")}
    # These decide which keys there are.
    chosen = [word for word in words if (read := Word.read(word)) and read.key in shaping]
    if (config := composed(program, chosen)) is None:
        return []
    added = [read.key for read in typed if read.sign.startswith("+")]

    def known(word: Word) -> bool:
        if word.key in groups(program) or has(config, word.key):
            return True
        if word.sign.startswith("+"):
            return takes(config, word.key) or _referred_to(word.key, words)
        return any(within(word.key, key) for key in added)

    wrong = {word.key: word.given for word in typed if not known(word)}
    return [no_key(key, program, chosen, given) for key, given in wrong.items()]


def _referred_to(key: str, words: Sequence[str]) -> bool:
    """Return whether another word may read the key, or one beside it, by `${...}`. The check of the config knows."""
    return any(f"${{{key.partition('.')[0]}" in word or "${." in word for word in words)


def no_key(wrong: str, program: str, words: Sequence[str], given: str = "") -> str:
    """Return the error for a key, `given` a value, that is missing from the config composed of `words`."""
    if wrong in REPLACED and program == "train":
        return f"{wrong}: {REPLACED[wrong]}"
    config = composed_or_plain(program, words)
    known = [*known_keys(program, config), *groups(program), "hydra.run.dir", "hydra.sweep.dir"]
    elsewhere = _of_another_stage(wrong, program, config) or _of_another_program(wrong, program, config)
    near = nearest(wrong.lower(), known)
    if program == "bench" and "." not in wrong and _POLICY.search(given):
        near = nearest(wrong, [*groups(program), *config]) or did_you_mean([f"policies.{wrong}"])
    hint = elsewhere or near
    outer = at(config, wrong.rpartition(".")[0])
    inside = not (outer in (ABSENT, None) or isinstance(outer, Mapping))  # a value: `policies.base.system_prompt`
    plus = f" +{wrong}=<value> adds it." if takes(config, wrong) and not (inside or elsewhere) else ""
    return f"{wrong}: there is no such key in this run.{hint}{plus} {listing(wrong)} lists them all."


def listing(key: str) -> str:
    """Return the option that prints the keys among which this one belongs."""
    return f"`--cfg {'hydra' if within(key.lstrip('+~'), 'hydra') else 'job'}`"


def _of_another_stage(key: str, program: str, config: Mapping[str, Any]) -> str:
    """Return ` This is sft; ...` for a key in a section that only other stages have: `rollout.group_size` in SFT."""
    section = key.partition(".")[0]
    if program != "train" or section in config:
        return ""
    stages = options_of("stage")
    having = [stage for stage in stages if section in composed_or_plain("train", ["~experiment", f"stage={stage}"])]
    experiments = [f"{stage}_{config['model']['name']}" for stage in having]
    there = [f"+experiment={experiment}" for experiment in experiments if experiment in options_of("experiment")]
    shown = f", as in {' or '.join(there)}" if there else ""
    return f" This is {config['stage']}; {section} is a section of {', '.join(having)}{shown}." if having else ""


def _of_another_program(key: str, program: str, config: Mapping[str, Any]) -> str:
    """Return ` bench belongs to python bench.py.` for a key in a section that only other programs have."""
    section = key.partition(".")[0]
    if section in config or section in groups(program):
        return ""
    having = [each for each in _PROGRAMS if section in groups(each) or section in composed_or_plain(each, [])]
    return "" if not having or program in having else f" {section} belongs to {' and '.join(map(script, having))}."
