"""Classes that a config names are looked at before anything loads: they exist, and take the keys beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from steer_lit.checks.programs import bench_problems, train_problems
from steer_lit.checks.targets import target_problems
from steer_lit.checks.trainer import part_problems
from steer_lit.terminal.conf_files import conf_dir
from tests.settings import Refused

PARTS = """import functools
class Attacker:
    def __init__(self, open_image, cap: int = 3): ...

class Open:
    def __init__(self, needed, **others): ...

def made(needed): ...

number = 3

class Under:
    def __init__(self, _seed): ...

def giving(function):
    @functools.wraps(function)
    def given(*args, **others):
        return function(*args, needed=1, **others)
    return given

@giving
def wrapped(needed, more=2): ...

class Module:
    def __init__(self, policy, attacker, tutor, reward, rollout, objective, optim, micro_tokens, seed): ...

class Signed:
    __signature__ = "none"
"""


NO_CLASS = "is not a class or function: must be <module>.<class>, of a module in this folder or on PYTHONPATH"


@pytest.fixture(autouse=True)
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_parts.py").write_text(PARTS)
    (tmp_path / "own_broken.py").write_text("import no_such_module_at_all\n")
    (tmp_path / "own_ending.py").write_text("raise SystemExit('bye')\n")
    (tmp_path / "own_lazy.py").write_text("def __getattr__(name): raise ImportError('no licence')\n")
    (tmp_path / "own_raising.py").write_text("raise OSError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere.Mine", NO_CLASS),
        ("Mine", NO_CLASS),
        ("own_parts.Mine", NO_CLASS),
        ("own_parts.Open.made", NO_CLASS),
        ("own_parts.number", NO_CLASS),
        (
            "own_broken.Mine",
            "cannot be imported: problem in own_broken - ModuleNotFoundError: No module named 'no_such_",
        ),
        ("own_ending.Mine", "cannot be imported: problem in own_ending - SystemExit: bye"),
        ("own_lazy.Mine", "cannot be imported: problem in own_lazy.Mine - ImportError: no licence"),
        ("own_raising.Mine", "cannot be imported: problem in own_raising - OSError: no licence"),
    ],
)
def test_a_class_that_cannot_be_found_is_named(target: str, said: str) -> None:
    for section in ("attacker", "judge", "reward", "generator"):
        (problem,) = target_problems({section: {"_target_": target}}, [section])
        assert (problem.key, problem.value) == (f"{section}._target_", target)
        assert problem.remedy.startswith(said)
    (problem,) = target_problems({"callbacks": {"mine": {"_target_": target}}}, ["callbacks"])
    assert problem.key == "callbacks.mine._target_"


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"_target_": "own_parts.Attacker"}, ""),  # the program gives open_image
        ({"_target_": "own_parts.Attacker", "cap": 4, "_convert_": "all"}, ""),
        (
            {"_target_": "own_parts.Attacker", "cup": 4, "cop": 5},
            "got an unexpected keyword argument 'cup'; it takes (o",
        ),
        ({"_target_": "own_parts.Open", "needed": 1, "more": 2}, ""),
        (
            {"_target_": "own_parts.Open", "more": 2},
            "missing a required argument: 'needed'; it takes (needed, **others)",
        ),
        ({"_target_": "own_parts.made", "_args_": [1]}, ""),
        ({"_target_": "own_parts.made", "_args_": [1, 2]}, "too many positional arguments"),
        ({"_target_": "own_parts.Under", "_seed": 1}, ""),
        ({"_target_": "own_parts.Attacker", "_seed": 1}, "got an unexpected keyword argument '_seed'"),
        ({"_target_": "own_parts.wrapped", "verbose": 1}, ""),
        ({"_target_": "own_parts.Signed", "cap": 1}, ""),
        ({"_target_": "own_parts.Attacker", 3: 1}, "got an unexpected keyword argument '3'"),
        ({"_target_": "own_parts.made", "_partial_": True}, ""),
        ({"_target_": "steer_lit.attacker.scripted.ScriptedAttacker", "lead_share": 1}, "got an unexpected keyword"),
    ],
)
def test_a_class_must_take_its_keys_and_be_given_what_it_needs(node: dict[str, Any], said: str) -> None:
    problems = list(target_problems({"attacker": node}, ["attacker"]))
    assert [problem.key for problem in problems] == (["attacker._target_"] if said else [])
    for problem in problems:
        assert problem.remedy.startswith(said)
        assert "'~attacker.<name>' leaves a key out, +attacker.<name>=<value> adds one" in problem.remedy


def test_only_players_are_given_pictures() -> None:
    (problem,) = target_problems({"reward": {"_target_": "own_parts.Attacker"}}, ["reward"])
    assert problem.remedy.startswith("missing a required argument: 'open_image'")


def test_a_run_is_refused_with_every_problem_and_no_traceback(tmp_path: Path, refused: Refused, run_dir: str) -> None:
    words = ["+experiment=grpo_tiny", "seed=x", "reward._target_=nowhere.Mine", "attacker._target_=own_parts.Attacker"]
    told = refused(*words, run_dir)
    assert told.startswith("3 problems in the configuration:")
    assert "own_parts.Attacker': got an unexpected keyword argument " in told
    assert "it takes (open_image, cap: int = 3): '~attacker.<name>' leaves a key out" in told
    assert "Traceback" not in told
    words = ["attacker=scripted", "attacker._target_=own_parts.Attacker", "judge._target_=own_parts.Judge"]
    told = refused(*words, run_dir, program="bench")
    assert f"judge._target_='own_parts.Judge': {NO_CLASS}" in told
    assert "attacker._target_" not in told


def test_a_module_of_ones_own_is_looked_for_and_given_the_policy(refused: Refused, run_dir: str) -> None:
    words = ["+experiment=grpo_tiny", "init_from=null", run_dir]
    assert f"module._target_='own_parts.Nope': {NO_CLASS}" in refused(*words, "module._target_=own_parts.Nope")
    told = refused(*words, "module._target_=own_parts.Module", "+module.more=1")
    assert "module._target_='own_parts.Module': got an unexpected keyword argument 'more'" in told
    told = refused(*words, "module._target_=own_raising.Mine", "seed=x")  # not imported in vain: it takes seconds
    assert "module._target_" not in told


def test_a_module_that_takes_what_ours_does_passes() -> None:
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        words = ["experiment=grpo_tiny", "init_from=null", "run_dir=unused", "module._target_=own_parts.Module"]
        config = hydra.compose("train", words)
    assert list(target_problems(OmegaConf.to_container(config, resolve=True), ["module"])) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stage", "monitor", "use"),
    [
        ("grpo", "val/loss", "val/right_share, with callbacks.early.mode=max"),
        ("grpo", "val/exact_share", "val/right_share, with callbacks.early.mode=max"),
        ("sft", "val/right_share", "val/loss, with callbacks.early.mode=min"),
        ("grpo", "val/right_share", None),
        ("sft", "val/loss", None),
        ("sft", "val/mine", None),
    ],
)
def test_a_callback_that_waits_for_another_stages_metric_is_refused(stage: str, monitor: str, use: str | None) -> None:
    """Lightning's EarlyStopping ended such a run at its first validation."""
    part = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": monitor}
    config = {"stage": stage, "module": {"_target_": "steer_lit.lit.any.Module"}, "callbacks": {"early": part}}
    said = [f"callbacks.early.monitor='{monitor}': stage={stage} never logs it: use {use}"] if use else []
    assert list(map(str, part_problems(config))) == said
    assert list(part_problems({**config, "module": {"_target_": "mine.Module"}})) == []


def test_a_reward_of_ones_own_needs_no_key_of_ours(refused: Refused, run_dir: str) -> None:
    words = ["+experiment=grpo_tiny", "reward=custom", "seed=x"]
    assert "reward._target_=null: must name a class" in refused(*words, run_dir)
    told = refused(*words, "reward._target_=own_parts.wrapped", "+reward.more=3", run_dir)
    assert told.startswith("1 problem in the configuration:\n  * seed='x'")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("train", ["experiment=sft_tiny", "tutor._target_=gone.T", "reward._target_=gone.R"]),
        ("bench", ["tutor._target_=gone.T"]),  # the default attacker needs no verdicts
        ("bench", ["from_run=here", "judge._target_=gone.J"]),
    ],
)
def test_parts_that_a_run_does_not_make_are_not_looked_for(program: str, words: list[str]) -> None:
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = hydra.compose(program, [*words, "run_dir=unused"])
    OmegaConf.update(config, "trainer.default_root_dir", "unused") if program == "train" else None
    problems = {"train": train_problems, "bench": bench_problems}[program](config)
    assert not [problem for problem in problems if "_target_" in problem.key]


@pytest.mark.parametrize(
    "words",
    [
        ["callbacks.early._target_=own_parts.Open"],
        ["+callbacks.early._target_=own_parts.Open", "callbacks.early.monitor=loss"],
        ["trainer.max_time=3"],  # Lightning has more arguments than the config names
    ],
)
def test_a_key_that_can_be_added_is_offered_with_its_plus(words: list[str], refused: Refused, run_dir: str) -> None:
    key, told = words[-1].partition("=")[0], refused(*words, run_dir)
    assert f"{key}: there is no such key in this run." in told
    assert f"; +{key}=<value> adds it" in told
