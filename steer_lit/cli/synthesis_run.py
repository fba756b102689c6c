"""Makes training data from a composed config. What is heavy is imported after the config has been checked."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from steer_lit.checks.programs import synthesis_problems
from steer_lit.cli.players import build
from steer_lit.cli.run_folder import alone_in, freeze, leave_nothing
from steer_lit.cli.stopping import continuable
from steer_lit.errors import ConfigError
from steer_lit.files.run_files import QUARANTINE
from steer_lit.terminal.commands import command, given_words, next_step, shown_path, typed_words
from steer_lit.terminal.words import words_besides, words_setting


def run_synthesizing(config: DictConfig, run_dir: Path) -> None:
    """Make training data by Stage I, Stage II or both. Raise ConfigError as `run_training` does."""
    if problems := synthesis_problems(config):
        raise ConfigError(problems)
    with alone_in(run_dir, "synthesis"):
        _synthesize(config, shown_path(run_dir))
    if config.dry_run:
        leave_nothing(run_dir)


def _synthesize(config: DictConfig, run_dir: Path) -> None:
    from rich.console import Console

    from steer_lit.data.rows import Quarantine
    from steer_lit.synthesis.run import check_unclaimed, run_synthesis
    from steer_lit.synthesis.screen import next_steps, tell_plan
    from steer_lit.synthesis.settings import SynthesisSettings
    from steer_lit.synthesis.starts import read_starts
    from steer_lit.synthesis.work import any_finished

    plain: Any = OmegaConf.to_container(config, resolve=True)
    settings, console = SynthesisSettings.of(plain), Console()
    bad = Quarantine(settings.max_bad_rows)
    starts = read_starts(settings, run_dir, bad)
    check_unclaimed(settings.stage_names, run_dir)
    if config.dry_run:
        tell_plan(settings, config.generator.name, console, starts)
        _tell_dry(config)
        return

    def begin() -> None:
        freeze(config, run_dir)
        bad.path = run_dir / QUARANTINE  # not before: a refused run leaves nothing
        bad.settle()

    generator = build(config.generator, "generator")
    try:
        with continuable(run_dir, "synthesize", partial(any_finished, run_dir)):
            manifest = run_synthesis(generator, settings, run_dir, starts, console, begin)
    finally:
        generator.stop()  # its clients hang up, and log what they used
    print(next_steps(manifest, settings, run_dir, typed_words()))


def _tell_dry(config: DictConfig) -> None:
    """Print the command that makes what this dry run counted, and the keys that it still lacks, such as the server."""
    made = config.copy()
    made.dry_run = False
    lacking = [problem.key for problem in synthesis_problems(made)]
    folder = words_setting(given_words("hydra"), ["hydra.run.dir"])
    print("dry_run=true: nothing was made")
    following = command("synthesize", *words_besides(typed_words(), ["dry_run"]), *folder)
    print(next_step(following, *([f"add {' and '.join(lacking)}"] if lacking else [])))
