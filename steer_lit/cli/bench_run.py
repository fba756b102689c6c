"""Runs a composed config of the benchmark: plays and reports, makes a report again, or checks a judge.

What is heavy is imported after the config has been checked, so that every refusal comes at once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from steer_lit.bench.constant import WHY_LEFT_OUT, constants
from steer_lit.bench.policies import LocalPolicy, Policies, any_local, named, policy_of
from steer_lit.bench.report_only import report_on
from steer_lit.bench.settings import BenchSettings
from steer_lit.bench.suite import QUICK, BenchPolicy, Suite, check_gold, planned
from steer_lit.bench.trained_rows import told_of_trained
from steer_lit.bench.unlike_seeds import unlike_seeds
from steer_lit.checks.facts import makes_rows, reacts
from steer_lit.checks.programs import bench_problems
from steer_lit.cli.players import PLAYERS, build, build_player, greet, hanging_up
from steer_lit.cli.quiet import quieten, say
from steer_lit.cli.run_folder import alone_in, freeze
from steer_lit.cli.stopping import continuable
from steer_lit.errors import ConfigError, Problem, SteerError
from steer_lit.files.run_files import QUARANTINE, RECORDS
from steer_lit.numbers import counted
from steer_lit.policy.model_facts import UNTRAINED
from steer_lit.terminal.commands import next_step, resume_command, shown_path, typed_words
from steer_lit.terminal.visible import print_lines
from steer_lit.terminal.words import words_besides
from steer_lit.types import Judge, Scenario

if TYPE_CHECKING:
    from steer_lit.bench.summary import Summary
    from steer_lit.data.bench_rows import BenchRows

log = logging.getLogger(__name__)
_MANY = 1000  # dialogues: hours with a small model


class _Given(NamedTuple):
    config: DictConfig
    plain: Mapping[str, Any]  # the config, resolved
    settings: BenchSettings
    run_dir: Path


def run_benchmark(config: DictConfig, run_dir: Path) -> None:
    """Play the benchmark with every named policy and the constant ones. Raise ConfigError as `run_training` does."""
    if problems := bench_problems(config):
        raise ConfigError(problems)
    with alone_in(run_dir, "benchmark"):
        run_dir = shown_path(run_dir)  # messages name files by this shorter path
        settings = BenchSettings(**{field.name: config.bench[field.name] for field in fields(BenchSettings)})
        plain: Any = OmegaConf.to_container(config, resolve=True)
        if config.from_run is not None or config.from_raw_eval is not None:
            report_on(plain, settings, run_dir)
            freeze(config, run_dir)
            return
        model = f" with model={config.model.name}" if any_local(config.policies) else ""
        what = "judge check" if config.judge_check else f"benchmark{model}"
        say(f"{what}, into {run_dir}; libraries load first")
        _bench(_Given(config, plain, settings, run_dir))


def _bench(given: _Given) -> None:
    from steer_lit.bench.tables import alone

    config, plain, settings, run_dir = given
    quieten()
    rows, scenarios = _bench_rows(config, settings.turns_played, run_dir)
    judge = build_player(config.judge, rows.open_image, "judge")
    if config.judge_check:
        _check_judge(given, judge, scenarios)
        return
    if _random_for_hours(plain, scenarios):
        remedy = (
            f"plays {len(scenarios):,} dialogues, and model={UNTRAINED} is random weights: name what to measure, "
            f"{'model=nano ' if makes_rows(plain) else ''}policies.<name>=<run>/adapter, or say bench.limit=20 to see "
            "that it runs"
        )
        raise ConfigError([Problem("bench.limit", None, remedy)])
    summary = _play(given, rows, scenarios, judge)
    if failed := sum(figures["failed"] for figures in alone(summary).values()):
        again = f"asks again for {counted(failed, 'dialogue')} that could not be graded"
        print(next_step(resume_command("bench", typed_words(), run_dir), again))


def _play(given: _Given, rows: BenchRows, scenarios: Sequence[Scenario], judge: Judge) -> Summary:
    """Play what the folder does not hold. Servers that have something to do are greeted before a model loads."""
    from steer_lit.bench.playing import BenchRun
    from steer_lit.bench.run import run_bench

    config, plain, settings, run_dir = given
    # The questions come from the rows, or from an attacker that reacts to a tutor's verdicts.
    asking = {name: build_player(config[name], rows.open_image, name) for name in PLAYERS} if reacts(plain) else {}
    for section, player in (("judge", judge), *asking.items()):
        check_gold(section, player, scenarios, settings.turns_played, plain["server"])
    policies = Policies(plain, partial(build, config.model, "model", open_image=rows.open_image), rows.open_image)
    constant = _constants(plain, scenarios)
    suite = Suite(scenarios, rows.open_image, rows.picture_digest, **asking)

    decoding = {f"rollout.{key}": value for key, value in plain["rollout"].items()}
    played_on = {"system_prompt": plain["system_prompt"], **decoding}
    ready = {**policies.served, **constant}
    run = BenchRun(ready, suite, judge, settings, run_dir, played_on, plain, partial(freeze, config, run_dir))
    with (
        hanging_up(judge, *asking.values(), *policies.served.values()),
        continuable(run_dir, "bench", lambda: any(row.answered for row in run.records.rows)),
    ):
        greeted = run.busy(policies.local)
        greet(*greeted)
        for said in (*unlike_seeds(plain["policies"]), *told_of_trained(policies.local, scenarios)):
            log.warning("%s", said)
        if config.bench.constants and asking:
            log.info("%s", WHY_LEFT_OUT)
        names = [*named(plain["policies"]), *constant]
        log.info("%s", planned(len(scenarios), names, config.bench.limit, recorded=bool(run.records.rows)))
        run.policies = {**policies.make(scenarios, settings.turns_played), **constant}
        greet(*(player for player in run.busy() if player not in greeted))  # weights are others than those recorded
        return run_bench(run)


def _random_for_hours(plain: Mapping[str, Any], scenarios: Sequence[Scenario]) -> bool:
    """Return whether hours would go into random weights alone, as with a bare `python bench.py`."""
    each = map(policy_of, named(plain["policies"]).values())
    played = {policy.adapter if isinstance(policy, LocalPolicy) else None for policy in each}
    unlimited = plain["bench"]["limit"] is None and len(scenarios) > _MANY
    return unlimited and plain["model"]["name"] == UNTRAINED and played == {"base"}


def _check_judge(given: _Given, judge: Judge, scenarios: Sequence[Scenario]) -> None:
    """Check the judge, and count what a benchmark would ask of it. Raise SteerError if it may not be trusted."""
    from rich.console import Console

    from steer_lit.bench.judge_check import WRITTEN, check_judge, cost

    (config, plain, settings, run_dir), console = given, Console()
    with hanging_up(judge), continuable(run_dir, "bench", (run_dir / WRITTEN).is_file):
        greet(judge)
        if not (run_dir / RECORDS).is_file():  # otherwise the folder is a benchmark's, and keeps that config
            freeze(config, run_dir)
        fit = check_judge(judge, settings, run_dir, console, plain["judge"])
        policies = len(named(plain["policies"])) + len(_constants(plain, scenarios))
        extra_turns = int(plain["attacker"].get("extra_turns") or 0) if reacts(plain) else 0
        asked = cost(judge, scenarios, policies, settings.turns_played, extra_turns)
        quick = [f"bench.limit={QUICK}"] if _random_for_hours(plain, scenarios) else []
        # Into the same folder, whose check the benchmark's report then tells of.
        benchmark = resume_command("bench", [*words_besides(typed_words(), ["judge_check"]), *quick], run_dir)
        print_lines(console, asked, *([next_step(benchmark)] if fit else []))
    if not fit:
        another = "give the same command with another, such as judge=llm server.model=<another>"
        raise SteerError(f"the judge may not be trusted for this benchmark: {another}")


def _bench_rows(config: DictConfig, turns_played: int, run_dir: Path) -> tuple[BenchRows, list[Scenario]]:
    """Return the benchmark's rows, and the scenarios chosen from them to be played."""
    from steer_lit.data.bench_rows import READ, BenchRows

    data: dict[str, Any] = {str(name): value for name, value in config.data.items() if name in READ}
    data["source"] = build(config.data.source, "data.source")
    given = {"split": config.bench.split, "system_prompt": config.system_prompt}
    rows = BenchRows(**data, **given, quarantine_dir=str(run_dir), turns_played=turns_played)
    scenarios = list(islice(rows, config.bench.limit))
    if count := rows.quarantined:
        print(f"{counted(count, 'row')} put aside, see {run_dir / QUARANTINE}")
    return rows, scenarios


def _constants(plain: Mapping[str, Any], scenarios: Sequence[Scenario]) -> Mapping[str, BenchPolicy]:
    """Return the constant policies, which play only where the attacker keeps to its script."""
    return constants(scenarios) if plain["bench"]["constants"] and not reacts(plain) else {}
