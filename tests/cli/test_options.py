"""Hydra's options among the words of a command: where they may stand, and a config folder of the user's own."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from steer_lit.cli import main as cli
from steer_lit.cli.run_folder import children_read
from steer_lit.terminal import conf_files
from steer_lit.terminal.commands import command, resume_command, typed_command, typed_words
from steer_lit.terminal.conf_files import compose, conf_dir
from tests.settings import Refused

CHECKOUT = conf_dir().parent


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder that holds `mine/conf/judge/mine.yaml` and an experiment."""
    for name, text in (
        ("judge/mine.yaml", "_target_: my.Judge\ncap: 3\n"),
        ("experiment/sft_own.yaml", "# @package _global_\nname: sft_own\nseed: 5\n"),
    ):
        (path := tmp_path / "mine/conf" / name).parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("option", [["--config-dir", "mine/conf"], ["--config-dir=mine/conf"], ["-cd", "mine/conf"]])
@pytest.mark.parametrize("last", [False, True])
def test_printed_commands_name_the_own_config_folder(
    own: Path, monkeypatch: pytest.MonkeyPatch, option: list[str], last: bool
) -> None:
    said: list[str] = []

    def run(config: DictConfig, run_dir: Path) -> None:
        assert config.seed == 5
        words = typed_words()
        said.append(typed_command())
        with children_read(run_dir / "config.yaml"):  # Hydra's config is unset while a training runs
            said.extend([resume_command("train", words, run_dir), command("bench")])

    monkeypatch.setitem(cli.RUNS, "train", run)
    words = ["+experiment=sft_own", "hydra.run.dir=run"]
    assert cli.run("train", [*words, *option] if last else [*option, *words]) == 0
    begun = "python train.py --config-dir=mine/conf +experiment=sft_own"
    assert said == [begun, f"{begun} hydra.run.dir=run", "python bench.py --config-dir=mine/conf"]
    assert cli.run("train", shlex.split(said[1])[2:]) == 0
    assert said[3:] == said[:3]
    assert command("bench") == "python bench.py"  # the folder was of that command alone


def test_a_stopped_sweep_names_the_own_config_folder_once(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(config: DictConfig, run_dir: Path) -> None:
        raise SystemExit(143)

    monkeypatch.setitem(cli.RUNS, "train", run)
    assert cli.run("train", ["+experiment=sft_own", "--config-dir", "mine/conf", "-m", "optim.lr=1e-4,1e-5"]) == 143
    command = capsys.readouterr().err.splitlines()[-1]
    begun = "next:    python train.py --config-dir=mine/conf -m +experiment=sft_own optim.lr=1e-4,1e-5 hydra.sweep.dir="
    assert command.startswith(begun)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("judge=mien", "Available options in 'judge':\n\tllm\n\tmine\n\trubric"),
        ("judge.cup=4", "Did you mean judge.cap?"),
    ],
)
def test_suggestions_know_the_own_config_folder(own: Path, refused: Refused, word: str, said: str) -> None:
    assert said in refused("--config-dir", "mine/conf", "judge=mine", word, "hydra.run.dir=run", program="bench")


@pytest.mark.parametrize("words", [["--cfg", "job"], ["name=a${b}"], ["seed=x", "hydra.run.dir=run"]])
def test_hydras_config_is_unset_once_a_program_has_ended(own: Path, words: list[str]) -> None:
    cli.run("train", ["+experiment=sft_tiny", *words])
    assert not HydraConfig.initialized()


def test_help_lists_the_options_of_the_own_config_folder(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run("bench", ["--help", "--config-dir=mine/conf"]) == 0
    assert "judge: llm, mine, rubric" in capsys.readouterr().out


def test_a_config_folder_that_does_not_exist_is_refused(own: Path, refused: Refused) -> None:
    assert refused("seed=1", "--config-dir=mine/cnf").endswith("mine/cnf' not found")


@pytest.mark.parametrize(
    ("program", "name"),
    [("train", "experiment/sft_tiny"), ("bench", "judge/llm"), ("bench", "bench"), ("train", "policy")],
)
def test_an_own_config_file_that_hydra_would_never_read_is_refused(
    own: Path, refused: Refused, program: str, name: str
) -> None:
    """Hydra looks into conf/ first: the run would be another than the file says."""
    (path := own / f"mine/conf/{name}.yaml").parent.mkdir(exist_ok=True)
    path.write_text("seed: 7\n", encoding="utf-8")
    said = refused("--config-dir=mine/conf", "hydra.run.dir=run", program=program)
    told = f"mine/conf/{name}.yaml': is never read, since conf/ has a file of that name: give it another name"
    assert said.startswith("1 problem")
    assert said.endswith(told)
    path.unlink()
    path.symlink_to(conf_dir() / f"{name}.yaml")
    assert "is never read" not in refused("--config-dir=mine/conf", "seed=x", "hydra.run.dir=run", program=program)


def test_configs_are_composed_in_the_order_of_the_run(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = compose("bench", ["judge=llm"])
    monkeypatch.setattr(conf_files._Own, "folder", own / "mine/conf")
    for name in ("bench.yaml", "judge/llm.yaml"):
        (own / "mine/conf" / name).write_text("seed: 7\n", encoding="utf-8")
    assert compose("bench", ["judge=llm"]) == shipped
    assert compose("bench", ["judge=mine"])["judge"] == {"_target_": "my.Judge", "cap": 3}
    assert conf_files.conf_file("judge/llm.yaml") == conf_dir() / "judge/llm.yaml"


def test_a_config_file_is_read_again_by_a_later_run_of_the_process(own: Path, refused: Refused) -> None:
    """As in a notebook: the file may have been edited meanwhile."""
    words = ["--config-dir", "mine/conf", "judge=mine", "hydra.run.dir=run"]
    assert "Did you mean judge.top" not in refused(*words, "judge.topp=4", program="bench")
    (own / "mine/conf/judge/mine.yaml").write_text("_target_: my.Judge\ntop: 3\n", encoding="utf-8")
    assert "Did you mean judge.top" in refused(*words, "judge.topp=4", program="bench")


def test_a_config_file_that_is_no_yaml_is_named(own: Path, refused: Refused) -> None:
    (own / "mine/conf/experiment/sft_own.yaml").write_text("# @package _global_\nseed: [5\n")
    assert 'mine/conf/experiment/sft_own.yaml", line 2' in refused("--config-dir=mine/conf", "+experiment=sft_own")


def test_options_may_stand_between_words(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """argparse, which reads them for Hydra, refuses words on both sides of an option."""
    found: list[int] = []
    monkeypatch.setitem(cli.RUNS, "train", lambda config, run_dir: found.append(config.seed))
    assert cli.run("train", ["+experiment=sft_tiny", "-m", "seed=1,2", "hydra.sweep.dir=sweep"]) == 0
    assert found == [1, 2]
    assert cli.run("train", ["+experiment=sft_tiny", "--cfg", "job", "seed=17"]) == 0
    assert "\nseed: 17\n" in capsys.readouterr().out
    assert cli.run("train", ["seed=1", "--help", "model=tiny"]) == 0
    assert "Keys most often typed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "printed"), [("{0}/train.py", "{0}/bench.py"), ("train.py", "bench.py"), ("-m", "bench.py")]
)
def test_a_printed_command_names_the_script_where_it_was_typed(
    typed: str, printed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = os.path.relpath(CHECKOUT, tmp_path)  # as one types it in another folder
    monkeypatch.chdir(tmp_path if "{" in typed else CHECKOUT)
    monkeypatch.setattr(sys, "argv", [typed.format(there)])
    assert command("bench", "a=b c") == f"python {printed.format(there)} 'a=b c'"
