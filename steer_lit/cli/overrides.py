"""Error messages for mistyped overrides on the command line, with the nearest name that exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.errors import OverrideParseException

from steer_lit.checks.facts import name_problem
from steer_lit.cli.known_names import (
    composed_or_plain,
    groups,
    keys_of,
    known_keys,
    options_of,
    parts_of,
    takes,
    top_keys,
    unread,
)
from steer_lit.cli.other_libraries import KEYS, keys_here
from steer_lit.data.bench_rows import READ
from steer_lit.dotted import ABSENT, at, within
from steer_lit.terminal.commands import command, script
from steer_lit.terminal.conf_files import composed, own_conf_dir
from steer_lit.terminal.nearest import did_you_mean, nearest
from steer_lit.terminal.words import Word, names_policy, words_of_one_value
from steer_lit.texts import first_lines

NO_OPTION = "Config group override"  # how Hydra's ValueError for `model=3` begins
_PROGRAMS = ("train", "bench", "synthesize")
_NOTHING = re.compile(r"\s*(\[\s*\]|''|\"\"|)\s*")  # Hydra reads it as no option of a group, then misses its keys
_MERGED = ("experiment", "ablation", "debug", "callbacks", "logger")  # several options of these go together
_OF_RETURN = ("reward.alpha", "reward.return")
_UNSAID = ("model.source", "model.tower", "model.weights")  # only some models have them; the model check says which


def normalise_override(word: str, name: str) -> str:
    """Drop Hydra's plus before a group that has an option already, and add it before `policies.<name>=` of a benchmark.

    `experiment=null` becomes `~experiment`.
    """
    if (read := Word.read(word)) is None:
        return word
    sign = read.sign
    if sign == "+" and read.key in groups(name):
        sign, word = "", word.removeprefix("+")
    if (sign, read.key, read.given) == ("", "experiment", "null"):
        return "~experiment"
    return f"++{word}" if name == "bench" and not sign and names_policy(word) else word


def key_by_key(word: str, name: str) -> list[str]:
    """Split a word that sets keys of a group, `data={val_size:3,max_turns:4}`, into one per key, without values.

    Any other word is returned alone.
    """
    read = Word.read(word)
    if read is None or read.key not in groups(name) or not isinstance(read.value, dict):
        return [word]
    return [f"{read.sign}{read.key}.{key}=" for key in read.value]


def override_error(word: str, name: str, words: Sequence[str]) -> str:
    """Return the error for an override that Hydra would accept to no effect, or "" if there is none.

    Examples are a word that begins like an option, a key that nothing reads, text that is not UTF-8, and a name that
    leads to another folder.
    """
    if re.search(r"[\ud800-\udfff]", word):
        return f"{word.partition('=')[0]}: holds bytes that are no UTF-8: type others, or rename the file or folder"
    if word.startswith("-"):
        return _dashed(word, name)
    if word.startswith("=") and word.strip("="):
        return f"{word}: names no key before the =: type <key>{word}"
    if (read := Word.read(word)) is None or read.sign == "~":
        return ""
    return (
        _bad_name(read)
        or _bad_folder(read)
        or _empty_choice(read, name)
        or _two_choices(read, name)
        or _part(read, name)
        or _read_by_nothing(read, name, words)
        or _idle(read, name, words)
        or _new_key(read, name, words)
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


def _empty_choice(word: Word, name: str) -> str:
    """Return the error for no option at all, `model=''`, or ""."""
    empty = word.key in groups(name) and _NOTHING.fullmatch(word.given)
    return no_choice(word.key, word.given, options_of(word.key)) if empty else ""


def _two_choices(word: Word, name: str) -> str:
    """Return the error for two options at once, `model=[nano,tiny]`, of a group whose options exclude each other."""
    if word.key not in groups(name) or word.key in _MERGED or not isinstance(word.value, list) or len(word.value) < 2:
        return ""
    one, several = "|".join(options_of(word.key)), ",".join(map(str, word.value))
    sweep = f"{command(name)} -m {shlex.quote(f'{word.key}={several}')} ..."
    return f"{word.key}={word.given}: a run has one of {one}; for a run of each, type {sweep}"


def _part(word: Word, name: str) -> str:
    """Return the error for a part of a group chosen as the whole, `callbacks=checkpoint`, or ""."""
    if (group := word.key) not in groups(name):
        return ""
    if not (parts := [option for option in word.given.split(",") if option in parts_of(group)]):
        return ""
    part, whole = parts[0], "|".join(options_of(group))
    return (
        f"{group}={part}: is a part of {group}=default, and chosen alone would drop the others: choose "
        f"{group}={whole}; {group}.<name>=null leaves a part out, {group}.{part}.<key>=<value> changes this one"
    )


def _read_by_nothing(word: Word, name: str, words: Sequence[str]) -> str:
    """Return the error for a key that the program has and does not read, or ""."""
    if word.key not in unread(name):
        return ""
    there = keys_of(name, words)
    of_data = ", ".join(key for key in READ if f"data.{key}" in there)
    return f"{word.key}: nothing of a benchmark reads it. Of data it reads {of_data}"


def _idle(word: Word, name: str, words: Sequence[str]) -> str:
    """Return the error for a key of the return in a run that credits each turn with its own score, or ""."""
    credit = "reward.credit"
    if word.key not in _OF_RETURN or any(each.key == credit and each.several for each in _readable(words)):
        return ""
    config = composed(name, words_of_one_value(words))
    if config is None or at(config, credit) != "score":
        return ""
    remedy = f"each turn is credited with its own score. {credit}=trajectory goes by the return, as the paper does"
    return f"{word.key}: changes nothing that this run learns, for {credit}=score: {remedy}"


def _new_key(word: Word, name: str, words: Sequence[str]) -> str:
    """Return the error for a key that is added, `+optim.lrr=1`, and that nothing takes, or ""."""
    key, section = word.key, word.key.partition(".")[0]
    if not word.sign or re.search("[/@]", key):  # it names a package, which only Hydra resolves
        return ""
    if section == "hydra" or (section == "policies" and name == "bench"):
        return ""
    typed, known = " ".join(words), section in groups(name) or section in top_keys(name)
    if f"${{{key if known else section}" in typed or (known and "${." in typed):  # another word reads it
        return ""
    rest = [each for each in words if not each.startswith("+") or "_target_" in each]  # its class may take more keys
    # A word with several values cannot be composed. For a key it does not matter here; a group is left to each run.
    plain = [each for each in rest if (read := Word.read(each)) is None or read.key in groups(name) or not read.several]
    if known and (key in _UNSAID or takes(composed(name, plain), key)):
        return ""
    return no_key(key, name, plain)


def _readable(words: Sequence[str]) -> Iterator[Word]:
    return (word for word in map(Word.read, words) if word is not None)


def _dashed(word: str, name: str) -> str:
    """Return the error for `--seed 3` and the like, which is none of Hydra's options."""
    option, key = word.partition("=")[0], word.partition("=")[0].lstrip("-").replace("-", "_")
    if not key:
        return ""
    known = [*groups(name), *keys_of(name, [])]
    if key in known:
        return f"{option}: keys are typed without dashes, {key}=<value>"
    meant = did_you_mean(keys_here(key)) or nearest(key, known)
    return f"{option}: there is no such option, and keys are typed without dashes, key=<value>.{meant}"


def unreadable_override(error: OverrideParseException, name: str, words: Sequence[str]) -> str:
    """Return the error for a word that is not key=value, most often one that the shell split at a blank."""
    if (home := error.override.partition("=")[2].partition("/")[0]).startswith("~"):
        return f"{error.override}: only a shell fills in {home}, and this one did not: type the path, such as $HOME/..."
    word = error.override if error.override.strip() else repr(error.override)
    quoted = "no blanks beside = and after commas, a value that holds one in quotes: 'key=a b'"
    if "=" in word and not re.fullmatch(r"[+~]*[\w-]+([./@:][\w-]+)*\s*", word.partition("=")[0], re.ASCII):
        return f"{word}: cannot be read: a key is of plain letters, digits, _ and -, with a dot between sections"
    if "=" in word:
        return f"{word}: cannot be read: {first_lines(error).partition(' expecting ')[0]}\nType {quoted}"
    options = {f"{group}={word}" for group in groups(name) if word in options_of(group)}
    chosen = [other for other in words if "=" in other.strip("=")]
    if word in (keys := keys_of(name, words_of_one_value(chosen))):
        options = {f"{word}=<value>"}
    hint = did_you_mean(sorted(options)) or nearest(word, keys) or " --help lists the keys most often typed."
    return f"{word}: is no key=value.{hint}\nType {quoted}"


def no_option(name: str, words: Sequence[str]) -> Iterator[str]:
    """Yield the error for each word that gives a config group something other than one of its options' names.

    A key may have the name of a group.
    """
    chosen = groups(name)
    for read in _readable(words):
        group, option, known = read.key, read.given, options_of(read.key)
        if not known or option in known or read.sign == "~":
            continue
        shown = option if re.fullmatch(r"[\w.-]*", option) else "..."  # anything else may hold an API key
        if group in chosen:
            yield no_choice(group, shown, known)
        elif group not in keys_of(name, []):
            yield no_key(group, name, [])
        else:
            yield f"{group}={shown}: must hold keys of its own, such as {group}.<name>=<value>"


def no_choice(group: str, option: str, known: Sequence[str]) -> str:
    """Return the error for an option that the group does not have.

    It suggests the nearest option by spelling, or those that contain what was typed: `3b` finds `qwen2_5_vl_3b`.
    """
    holding = [name for name in known if option and option.lower() in name]
    meant = nearest(option, known) or did_you_mean(holding)
    own = "" if meant or own_conf_dir() else ". Options of your own need --config-dir=<folder>"
    return f"{group}={option}: there is no such option.{meant} Choose from: {', '.join(known)}{own}"


def no_sweep(word: str, name: str, words: Sequence[str]) -> str:
    """Return the error for a word with several values outside a sweep. A number or a section cannot become a list."""
    key, _, values = word.partition("=")
    now = at(composed_or_plain(name, words_of_one_value(words)), key.lstrip("+"))
    takes_one = not isinstance(now, int | float | Mapping)
    one = f" One value that is a list is {key}=[{values}]." if takes_one and "(" not in values else ""
    return (
        f"{word}: several values are a sweep's, which begins with -m: {command(name)} -m {shlex.quote(word)} ...{one}"
    )


def no_merge(word: str, why: str, name: str, words: Sequence[str]) -> str:
    """Return the error for a value of another kind than the key takes, such as `{...}` for a list."""
    key = word.partition("=")[0].lstrip("+")
    now = at(composed_or_plain(name, [other for other in words if other != word]), key)
    shown = f", and the run has {key}={now}" if not isinstance(now, Mapping) and now is not ABSENT else ""
    return f"{word}: is another kind of value than this key takes{shown} ({why[:1].lower()}{why[1:]})"


def no_removal(key: str, name: str, words: Sequence[str]) -> str:
    """Return the error for `~key` of a key that is null, which Hydra takes for a missing one, or of none."""
    if key not in keys_of(name, []):
        return no_key(key, name, [word for word in words if not word.startswith("~")])
    return f"~{key}: is null already, the default, and a run needs the key: leave this out, or type {key}=null"


def no_keys(first: str, name: str, words: Sequence[str]) -> str:
    """Return the errors for a key that Hydra found to be missing, and for others that are: Hydra stops at the first."""
    typed = [read for read in _readable(words) if not re.search(r"[/@]|^hydra\.", read.key)]
    added = [read.key for read in typed if read.sign]
    there = composed_or_plain(name, [word for word in words if (read := Word.read(word)) and read.key in groups(name)])
    plain = [read.key for read in typed if not read.sign and read.key not in groups(name)]
    gone = [key for key in plain if at(there, key) is ABSENT and not any(within(key, other) for other in added)]
    wrong = list(dict.fromkeys([first, *(key for key in gone if not within(first, key))]))
    others = [word for word in words if not any(key in word for key in [*wrong, *gone])]
    return "\n".join(no_key(key, name, others) for key in wrong)


def no_key(wrong: str, name: str, words: Sequence[str]) -> str:
    """Return the error for a key that is missing from the config composed of `words`."""
    config = composed_or_plain(name, words)
    known = [*known_keys(name, config), *groups(name), "hydra.run.dir", "hydra.sweep.dir"]
    elsewhere = _of_another_stage(wrong, name, config) or _of_another_program(wrong, name, config)
    hint = (there := _of_another_library(wrong, name, config)) or elsewhere or nearest(wrong.lower(), known)
    outer = at(config, wrong.rpartition(".")[0])
    inside = not (outer in (ABSENT, None) or isinstance(outer, Mapping))  # a value: `policies.base.system_prompt`
    plus = f" +{wrong}=<value> adds it." if takes(config, wrong) and not (inside or there or elsewhere) else ""
    return f"{wrong}: there is no such key in this run.{hint}{plus} `--cfg job` lists them all."


def _of_another_library(key: str, name: str, config: Mapping[str, Any]) -> str:
    """Return ` Here it is optim.lr.` for a name of another library, and which stage has the key if this run's has not.

    A key in a section of this run's is more likely a mistyped one of ours.
    """
    if key not in KEYS and key.partition(".")[0] in config and nearest(key, known_keys(name, config)):
        return ""
    keys = keys_here(key)
    where = [_of_another_stage(each, name, config) or _of_another_program(each, name, config) for each in keys[:1]]
    return f" Here it is {' with '.join(keys)}.{''.join(where)}" if keys else ""


def _of_another_stage(key: str, name: str, config: Mapping[str, Any]) -> str:
    """Return ` This is sft; ...` for a key in a section that only other stages have: `rollout.group_size` in SFT."""
    section = key.partition(".")[0]
    if name != "train" or section in config:
        return ""
    stages = options_of("stage")
    having = [stage for stage in stages if _has(section, "train", "~experiment", f"stage={stage}")]
    experiments = [f"{stage}_{config['model']['name']}" for stage in having]
    there = [f"+experiment={experiment}" for experiment in experiments if experiment in options_of("experiment")]
    shown = f", as in {' or '.join(there)}" if there else ""
    return f" This is {config['stage']}; {section} is a section of {', '.join(having)}{shown}." if having else ""


def _of_another_program(key: str, name: str, config: Mapping[str, Any]) -> str:
    """Return ` bench belongs to python bench.py.` for a key in a section that only other programs have."""
    section = key.partition(".")[0]
    if section in config or section in groups(name):
        return ""
    having = [each for each in _PROGRAMS if section in groups(each) or _has(section, each)]
    return "" if not having or name in having else f" {section} belongs to {' and '.join(map(script, having))}."


def _has(section: str, name: str, *words: str) -> bool:
    """Return whether the config composed of `words` has the section."""
    return section in (composed(name, words) or {})
