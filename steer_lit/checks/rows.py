"""Checks that the requested rows can be made, held out and divided over ranks.

Only `read_row_problems`, which runs after the config check, reads rows.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from dataclasses import fields
from typing import get_args

from steer_lit.chat.settings import missing_words
from steer_lit.checks.facts import Config, declares, makes_rows
from steer_lit.data.rows import Quarantine
from steer_lit.data.sources import FileSource, MiniSource, SourceSplit
from steer_lit.data.steps import holding_out_fails
from steer_lit.dotted import ABSENT, at
from steer_lit.errors import Problem, problems_of
from steer_lit.numbers import counted, is_whole
from steer_lit.stages import STAGES
from steer_lit.types import Scenario


def training_row_problems(config: Config, bad: Collection[str]) -> Iterator[Problem]:
    """Yield what is wrong with the rows of a training run. How many rows a file holds is known only later.

    `bad` are the sections of the config that hold values which are wrong by themselves.
    """
    facts = STAGES.get(str(config.get("stage")))
    sized = ABSENT not in (at(config, "data.batch_size"), at(config, "data.val_size"))
    if facts is None or not sized or not _readable(config, bad):
        return
    batch_size, val_size, ranks = at(config, "data.batch_size"), at(config, "data.val_size"), _fewest_ranks(config)
    remedy = f"must give each of the {ranks} ranks a row"
    if batch_size < ranks:
        yield Problem("data.batch_size", batch_size, f"{remedy}: raise it, or use fewer trainer.devices")
    if not makes_rows(config):
        return
    split = facts.learns_from
    yield from made_row_problems(config, split, bad)
    source = _source(config)
    if reason := holding_out_fails(source.size(split), source.block, val_size):
        yield Problem("data.val_size", val_size, reason)
    elif (left := source.size(split) - val_size) < ranks:
        yield Problem("data.val_size", val_size, f"{remedy}, and leaves {left} to train on")


def made_row_problems(config: Config, split: SourceSplit, bad: Collection[str]) -> Iterator[Problem]:
    """Yield what keeps STEER-mini from making the rows of `split`."""
    if makes_rows(config) and _readable(config, bad):
        yield from problems_of(lambda: _source(config).rows(split, at(config, "data.max_turns")))


def read_row_problems(config: Config, source: FileSource) -> Iterator[Problem]:
    """Yield what is wrong with a file's rows for training: too few to hold some out, no gold facts for a rubric.

    It stops reading as soon as the file is known to be good, usually after few rows. Rows of no known shape and faulty
    pictures are left to later reading.
    """
    split, val_size = STAGES[config["stage"]].learns_from, config["data"]["val_size"]
    gold = config["stage"] != "grpo" or not declares(config, "tutor", "needs_gold")
    count, aside = 0, Quarantine(sys.maxsize)
    for _, record in source.parsed(split, aside):
        count += 1
        gold = gold or (isinstance(record, Scenario) and record.opening.gold is not None)
        if gold and count > val_size:
            return
    if count and not gold:
        remedy = (
            f"scores by gold facts, and of {counted(count, 'row')} none has them for its first turn: use "
            f"{' '.join(['tutor=llm', *missing_words(config.get('server', {}))])}"
        )
        yield Problem("tutor", "rubric", remedy)
    if count and (reason := holding_out_fails(count, source.block, val_size)):
        yield Problem("data.val_size", val_size, f"{reason}{aside.told()}")


def _fewest_ranks(config: Config) -> int:
    """Return the least number of processes that train: `auto` devices are one or more."""
    devices, nodes = at(config, "trainer.devices"), at(config, "trainer.num_nodes")
    count = len(devices) if isinstance(devices, list) else devices
    return max(1, count if is_whole(count) else 1) * (nodes if is_whole(nodes) and nodes > 1 else 1)


def _readable(config: Config, bad: Collection[str]) -> bool:
    """Return whether every value that is read here is present, and valid by itself."""
    splits = get_args(SourceSplit) if makes_rows(config) else ()
    needed = ["data.max_turns", *(f"data.source.{split}" for split in splits)]
    return "data" not in bad and all(at(config, key) is not ABSENT for key in needed)


def _source(config: Config) -> MiniSource:
    given = at(config, "data.source")
    return MiniSource(**{field.name: given[field.name] for field in fields(MiniSource) if field.name in given})
