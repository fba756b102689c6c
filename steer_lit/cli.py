"""Compose, check, instantiate, run: the only file that knows Hydra and the Trainer together.

Nothing heavy is imported before the config has been checked, so that `--help`, `--cfg job` and every refusal answer
at once. Errors meant for the person at the keyboard are printed alone and end with exit code 2.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import platform
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from steer_lit import __version__
from steer_lit.checks import bench_problems, train_problems
from steer_lit.errors import ConfigError, SteerError

REFUSED = 2
FROZEN = "--frozen="
RECORDED = ("torch", "lightning", "transformers", "peft", "bitsandbytes", "hydra-core", "datasets")
Run = Callable[[DictConfig, Path], float | None]


def train(arguments: Sequence[str] | None = None) -> int:
    """`python train.py` and `steer-train`. Returns the exit code."""
    return _enter("train", run_training, arguments)


def bench(arguments: Sequence[str] | None = None) -> int:
    """`python bench.py` and `steer-bench`. Returns the exit code."""
    return _enter("bench", run_benchmark, arguments)


def conf_dir() -> Path:
    """The config folder: `conf/` of the checkout, or the copy inside an installed package."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise SteerError(f"no conf/ beside or inside {package}: reinstall steer-lit")


# ---- runs


def run_training(config: DictConfig, run_dir: Path) -> float | None:
    """Train one stage as `config` says. Returns the headline metric, for sweepers.

    Raises ConfigError with every problem at once, before anything heavy loads.
    """
    if problems := train_problems(config):
        raise ConfigError(problems)
    frozen = freeze(config, run_dir)
    from hydra.utils import instantiate
    from lightning import seed_everything

    from steer_lit.lit.transcripts import excerpt

    _quieten()
    seed_everything(config.seed, verbose=False)
    callbacks = [instantiate(callback) for callback in config.callbacks.values()]
    loggers = [instantiate(logger) for logger in config.logger.values()]
    trainer = instantiate(config.trainer, callbacks=callbacks, logger=loggers)
    datamodule = instantiate(config.data)
    device = str(trainer.strategy.root_device)
    policy = instantiate(config.model, device=device, open_image=datamodule.open_image)
    module = instantiate(config.module, policy=policy)
    with children_read(frozen):
        trainer.fit(module, datamodule, ckpt_path=config.ckpt_path, weights_only=True)
    headline = trainer.callback_metrics.get(module.headline)
    if trainer.is_global_zero:
        if config.stage != "grpo" and module.replayed:
            print(f"held out, now:\n{excerpt(module.replayed[0])}")
        print(closing(config, run_dir, module.headline, headline))
    return None if headline is None else float(headline)


def run_benchmark(config: DictConfig, run_dir: Path) -> None:
    """Play the benchmark with every named policy and the constant ones. Raises ConfigError as `run_training` does."""
    if problems := bench_problems(config):
        raise ConfigError(problems)
    freeze(config, run_dir)
    from hydra.utils import instantiate

    from steer_lit.bench.adapters import AdapterPolicies
    from steer_lit.bench.run import run_bench
    from steer_lit.bench.suite import BenchSettings, MakePolicy, choose, with_constants

    settings = BenchSettings(**{field.name: config.bench[field.name] for field in fields(BenchSettings)})
    _quieten()
    datamodule = instantiate(config.data)
    scenarios = choose(datamodule.bench_scenarios(), config.bench.limit)
    adapters = AdapterPolicies(
        partial(instantiate, config.model, open_image=datamodule.open_image),
        precision=f"{config.model.quantize} {config.model.dtype}",
        max_new_tokens=config.rollout.max_new_tokens,
        temperature=config.rollout.temperature,
    )
    policies: dict[str, MakePolicy] = {
        str(name): partial(adapters.policy, folder) for name, folder in config.policies.items()
    }
    if config.bench.constants:
        policies = with_constants(policies)
    run_bench(policies, scenarios, instantiate(config.judge), settings, run_dir)


def freeze(config: DictConfig, run_dir: Path) -> Path:
    """Write the resolved config and the versions it ran with into the run's folder. Returns the config's path."""
    run_dir.mkdir(parents=True, exist_ok=True)
    resolved = config.copy()
    OmegaConf.resolve(resolved)
    path = run_dir / "config.yaml"
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        OmegaConf.save(resolved, path)
        found = {"python": platform.python_version(), "steer-lit": __version__}
        found |= {name: version(name) for name in RECORDED}
        (run_dir / "versions.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return path


def closing(config: DictConfig, run_dir: Path, headline: str, value: Any) -> str:
    """Where the result is, and the command that goes on from it."""
    shown = "" if value is None else f"   {headline} {float(value):.3f}"
    run = run_dir.relative_to(Path.cwd()) if run_dir.is_relative_to(Path.cwd()) else run_dir
    name, model = config.name, config.model.name
    adapter = f"{run}/adapter"
    if config.stage == "ground":
        tower = f"{run}/tower.safetensors"
        return f"tower: {tower}{shown}\nnext:  {program('train')} +experiment=sft_{model} model.tower={tower}"
    following = name.replace("sft", "grpo", 1)
    if config.stage == "sft" and (conf_dir() / "experiment" / f"{following}.yaml").is_file():
        step = f"{program('train')} +experiment={following} init_from={adapter}"
    else:
        step = f"{program('bench')} model={model} policies.{config.stage}={adapter}"
    return f"adapter: {adapter}{shown}\nnext:    {step}"


def program(name: str) -> str:
    """How this program is called here: the checkout's script, or the installed command."""
    return f"python {name}.py" if (conf_dir().parent / f"{name}.py").is_file() else f"steer-{name}"


def _quieten() -> None:
    """Leave the screen to the run: no banners of Lightning's, no bars for files that load in an instant."""
    from transformers.utils import logging as transformers_logging

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    transformers_logging.disable_progress_bar()
    for library in (r"transformers\.", r"lightning\."):  # about each other's versions, not about the run
        warnings.filterwarnings("ignore", category=FutureWarning, module=library)
        warnings.filterwarnings("ignore", message=".*treespec.*", module=library)
    # PolicyModule has added up over ranks what it logs.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*", module=r"lightning\.")


@contextmanager
def children_read(frozen: Path) -> Iterator[None]:
    """Processes that Lightning starts for further devices read this run's frozen config.

    Otherwise they would be given this process's own command line, which in a sweep names every run of it (TRAPS 40).
    """
    hydra_config = HydraConfig.instance()
    arguments, held = sys.argv, hydra_config.cfg
    sys.argv, hydra_config.cfg = [sys.argv[0], f"{FROZEN}{frozen}"], None
    try:
        yield
    finally:
        sys.argv, hydra_config.cfg = arguments, held


# ---- from the command line to a run


def _enter(name: str, run: Run, arguments: Sequence[str] | None) -> int:
    words = [_lenient(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    debugging = os.environ.get("HYDRA_FULL_ERROR") == "1"  # whoever sets it wants tracebacks
    try:
        if frozen := [word.removeprefix(FROZEN) for word in words if word.startswith(FROZEN)]:
            config = OmegaConf.load(frozen[0])
            assert isinstance(config, DictConfig)  # `freeze` wrote it
            run(config, Path(config.run_dir))
        else:
            _compose_and_run(name, run, words, debugging)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (SteerError, HydraException, OmegaConfBaseException) as error:
        if debugging:
            raise
        print(explain(error, name, words), file=sys.stderr)
        return REFUSED
    return 0


def _compose_and_run(name: str, run: Run, words: Sequence[str], debugging: bool) -> None:
    def task(config: DictConfig) -> float | None:
        try:
            return run(config, Path(HydraConfig.get().runtime.output_dir))
        except (SteerError, InstantiationException, OmegaConfBaseException) as error:
            if debugging or (refusal := _refusal(error)) is None:
                raise
            # Not raised further: Hydra would print all overrides around it.
            print(refusal, file=sys.stderr)
            raise SystemExit(REFUSED) from None

    arguments, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [sys.argv[0], *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what it would print, so that `explain` can say it better
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(task)()
    finally:
        sys.argv = arguments
        os.environ.pop("HYDRA_FULL_ERROR")
        if full is not None:
            os.environ["HYDRA_FULL_ERROR"] = full


def _lenient(word: str) -> str:
    """Take Hydra's plus off where it is not needed (`+experiment=`), put it where it is (`policies.<new name>=`)."""
    if word == "experiment=null":
        return "~experiment"
    if re.match(r"\+(experiment|debug)=", word):
        return word.removeprefix("+")
    return f"++{word}" if re.match(r"policies\.[\w-]+=", word) else word


def _refusal(error: BaseException | None) -> BaseException | None:
    """The error meant for the person at the keyboard: ours, or OmegaConf's, maybe behind one of Hydra's."""
    while error is not None and not isinstance(error, SteerError | OmegaConfBaseException):
        error = error.__cause__
    return error


def explain(error: BaseException, name: str, words: Sequence[str]) -> str:
    """What is wrong with the command line, in one or two lines, with the nearest thing that exists."""
    text = str(error).split("Config search path:")[0].strip()
    if key := re.match(r"Could not override '([^'@]+)", text):
        wrong = key[1]
        known = _keys(name, [word for word in words if wrong not in word])
        return f"{wrong}: there is no such key in this run.{_nearest(wrong, known)} `--cfg job` lists them all."
    if option := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        known = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        nearest, choices = _nearest(option[2], known), ", ".join(known)
        return f"{option[1]}={option[2]}: there is no such option.{nearest} Choose from: {choices}"
    cause = error.__cause__
    return f"{text}\n{cause}" if isinstance(cause, OmegaConfBaseException) and str(cause) not in text else text


def _nearest(wrong: str, known: Sequence[str]) -> str:
    """` Did you mean ...?`, or nothing. The last part of a dotted key counts too: `lr` finds `optim.lr`."""
    found = difflib.get_close_matches(wrong, known, n=3, cutoff=0.7)
    tails = {key.rsplit(".", 1)[-1]: key for key in sorted(known, key=len, reverse=True)}  # the shortest key wins
    found += [tails[tail] for tail in difflib.get_close_matches(wrong.rsplit(".", 1)[-1], tails, n=3, cutoff=0.8)]
    return f" Did you mean {' or '.join(list(dict.fromkeys(found))[:3])}?" if found else ""


def _keys(name: str, words: Sequence[str]) -> list[str]:
    """Every dotted key of the config that `words` compose, or of the plain one where they do not compose either."""
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for attempt in ([word for word in words if not word.startswith("-")], []):
            with suppress(HydraException, OmegaConfBaseException):
                return list(_leaves(OmegaConf.to_container(hydra.compose(name, attempt), resolve=False)))
    return []


def _leaves(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
