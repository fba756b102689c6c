"""Keys in config files that nothing reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from steer_lit.checks.unread import own_config, removed_problems, unread_problems
from steer_lit.cli import main as cli
from steer_lit.terminal.conf_files import conf_dir, conf_files
from tests.settings import Refused


def experiment(text: str) -> None:
    """Write `conf/experiment/mine.yaml` on top of `grpo_tiny`."""
    (path := Path("conf/experiment/mine.yaml")).parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# @package _global_\ndefaults:\n  - grpo_tiny\n  - _self_\n{text}", encoding="utf-8")


@pytest.fixture
def unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return what is found, by key, in the latest run, which begins nothing. Stand in an empty folder."""
    found: dict[str, str] = {}

    def run(config: DictConfig, run_dir: Path) -> None:
        found.clear()
        plain = OmegaConf.to_container(config, resolve=False)
        ours = own_config(plain)
        problems = [*unread_problems(plain, ours), *removed_problems(plain, ours)]
        found.update({problem.key: problem.remedy for problem in problems})

    for program in cli.RUNS:
        monkeypatch.setitem(cli.RUNS, program, run)
    monkeypatch.chdir(tmp_path)
    return found


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("optim: {lrr: 1.0e-4}", "optim.lrr", "Did you mean optim.lr"),
        ("hardware: {micro_token: 9}", "hardware.micro_token", "Did you mean hardware.micro_tokens"),
        ("objective: {}\nmax_steps: 3", "max_steps", "Did you mean trainer.max_steps"),
        ("rewards: {alpha: 0}", "rewards", "Did you mean reward"),
        ("model: {lora: {rank: 4}}", "model.lora.rank", "`--cfg job` lists every key"),
        ("callbacks: {checkpoint: {every: 4}}", "callbacks.checkpoint.every", "nothing reads it."),
        ("data: {source: {scales: 1}}", "data.source.scales", "Did you mean data.source.scale"),
        ("replay: {dialogues: 4}", "replay", "nothing reads it."),  # a section of another stage
    ],
)
def test_trap_44_a_mistyped_key_of_a_file_is_found(unread: dict[str, str], text: str, key: str, said: str) -> None:
    experiment(text)
    assert cli.run("train", ["--config-dir=conf", "+experiment=mine"]) == 0
    assert list(unread) == [key]
    assert said in unread[key]


@pytest.mark.parametrize(
    ("group", "text", "key", "said"),
    [
        ("model", "defaults: [nano, _self_]\ndevise: cpu", "model.devise", "Did you mean model.device"),
        ("model", "defaults: [nano, _self_]\nlora: {rank: 4}", "model.lora.rank", "nothing reads it."),
        ("data", "defaults: [steer, _self_]\nsource: {bennch: a.jsonl}", "data.source.bennch", "data.source.bench"),
        ("stage", "# @package _global_\ndefaults: [sft, _self_]\noptimm: {lr: 3}", "optimm", "Did you mean optim"),
        ("reward", "defaults: [tcsr, _self_]\nalpa: 0.3", "reward.alpa", "Did you mean reward.alpha"),
        ("callbacks", "defaults: [default, _self_]\nbest: {modes: max}", "callbacks.best.modes", "nothing reads it."),
    ],
)
def test_a_mistyped_key_of_an_option_of_ones_own_is_found(
    unread: dict[str, str], group: str, text: str, key: str, said: str
) -> None:
    """The option is no proof that its own keys are read: one of the kit's that is like it stands in for it."""
    (path := Path(f"conf/{group}/mine.yaml")).parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    assert cli.run("train", ["--config-dir=conf", f"{group}=mine"]) == 0
    assert list(unread) == [key]
    assert said in unread[key]


@pytest.mark.parametrize("group", ["model", "data", "attacker", "tutor", "reward", "stage", "callbacks", "logger"])
def test_copies_of_the_options_here_have_no_key_that_nothing_reads(unread: dict[str, str], group: str) -> None:
    (folder := Path(f"conf/{group}")).mkdir(parents=True)
    for path in sorted((conf_dir() / group).glob("*.yaml")):
        (folder / f"mine_{path.name}").write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        if group == "callbacks" and path.stem not in ("default", "none"):
            continue
        unread["none"] = "has run yet"
        assert cli.run("train", ["--config-dir=conf", f"{group}=mine_{path.stem}"]) == 0
        assert unread == {}, path.stem


@pytest.mark.parametrize(
    "text",
    [
        "rate: 1.0e-4\noptim: {lr: '${rate}'}",
        "mine: {rate: 1.0e-4}\noptim: {lr: '${mine.rate}'}",
        "optim: {base: 1.0e-4, lr: '${.base}'}",
        "optim: {rates: {low: 1.0e-4}, lr: '${.rates.low}'}",
        "lower-rate: 1.0e-4\noptim: {lr: '${ lower-rate }'}",
        "tag: a\nhydra: {run: {dir: 'outputs/${tag}'}}",
        "shown: 3\ncallbacks: {settings: {settings: {shown: '${oc.select:shown,0}', mine: 1}}}",
        "reward: {_target_: mine.Reward, bonus: 3}",  # its class may take it
        "callbacks: {early: {_target_: mine.Early, patience: 3}}",
        "trainer: {profiler: simple}",  # a library's class
        "attacker: {_recursive_: false}",
    ],
)
def test_a_key_that_something_may_read_is_left_alone(unread: dict[str, str], text: str) -> None:
    experiment(text)
    assert cli.run("train", ["--config-dir=conf", "+experiment=mine"]) == 0
    assert unread == {}


def test_the_experiments_here_have_no_key_that_nothing_reads(unread: dict[str, str]) -> None:
    unread["none"] = "has run yet"
    names = sorted(path.stem for path in conf_files("experiment"))
    words = ["init_from=x", "logger=wandb", "+debug=step", "ablation=scripted"]  # `sft_adapter` is not read then
    assert names
    for name in names:
        assert cli.run("train", [f"+experiment={name}", *words, "hardware=ddp_8x80gb"]) == 0
        assert unread == {}, name


@pytest.mark.parametrize("program", ["bench", "synthesize"])
@pytest.mark.parametrize("served", [False, True])
def test_the_other_programs_have_none_either(unread: dict[str, str], program: str, served: bool) -> None:
    players = {"bench": ["judge", "tutor", "attacker"], "synthesize": ["generator"]}[program]
    unread["none"] = "has run yet"
    assert cli.run(program, [f"{player}=llm" for player in players] if served else []) == 0
    assert unread == {}


def test_keys_are_told_before_anything_loads_and_in_a_sweep_before_any_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.chdir(tmp_path)
    experiment("optim: {lrr: 1.0e-4}\nhardware: {micro_tokens: 0}")
    words = ["--config-dir=conf", "+experiment=mine", "init_from=null"]
    said = refused(*words, "hydra.run.dir=run")
    assert said.startswith("2 problems in the configuration:\n  * optim.lrr=0.0001: nothing reads it.")
    assert "hardware.micro_tokens=0: must be a whole number" in said
    assert not Path("run").exists()
    assert refused(*words, "-m", "seed=1,2", "hydra.sweep.dir=sweep").count("nothing reads it") == 1
    assert not Path("sweep/0_seed-1").exists()


def test_a_name_that_refers_to_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.chdir(tmp_path)
    experiment("name: run_${seeds}")
    assert "Interpolation key 'seeds' not found" in refused("--config-dir=conf", "+experiment=mine")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("train", ["~optim.schedule"]),
        ("train", ["+experiment=grpo_tiny", "~objective.epochs", "~rollout.max_failed_share"]),
        ("train", ["~callbacks.checkpoint.every_n_steps", "~data.val_size"]),
        ("bench", ["~bench.horizon", "~bench.chunk"]),
        ("bench", ["~rollout.max_new_tokens"]),
        ("synthesize", ["~near_duplicate"]),
        ("train", ["+experiment=grpo_tiny", "~model._convert_", "~reward._target_"]),
    ],
)
def test_a_removed_key_is_told_in_one_line(program: str, words: list[str], run_dir: str, refused: Refused) -> None:
    """Our classes have no defaults of their own: without it, they end in a traceback."""
    gone = [word.removeprefix("~") for word in words if word.startswith("~")]
    heading, *said = refused(*words, run_dir, program=program).splitlines()
    assert heading.startswith(f"{len(gone)} problem")
    expected = [f"  * {key} is not given: a run needs it: leave out ~{key}, which removes it" for key in gone]
    assert sorted(said) == sorted(expected)


def test_a_part_that_may_be_left_out_may_be_removed(unread: dict[str, str]) -> None:
    words = ["~callbacks.progress", "~logger.tensorboard", "~trainer.log_every_n_steps"]
    assert cli.run("train", words) == 0
    assert unread == {}
    assert cli.run("bench", ["~policies.base"]) == 0
    assert unread == {}


def test_an_option_of_ones_own_may_leave_out_what_the_class_or_the_experiment_gives(unread: dict[str, str]) -> None:
    for name, text in (
        ("data", "_target_: steer_lit.data.datamodule.SteerDataModule\nsource: {scale: 1}\n"),
        ("hardware", "micro_tokens: 2048\n"),
    ):
        (path := Path(f"conf/{name}/mine.yaml")).parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    unread["none"] = "has run yet"
    assert cli.run("train", ["--config-dir=conf", "data=mine", "hardware=mine", "data.val_size=10"]) == 0
    assert unread == {}
    assert cli.run("train", ["--config-dir=conf", "+tag=a", "hydra.run.dir=outputs/${tag}"]) == 0
    assert unread == {}
