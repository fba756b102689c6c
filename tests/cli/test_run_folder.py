"""A run's folder: used by one run at a time, consistent at any moment, with clear messages if it cannot be used."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from steer_lit.cli import going_on, programs, run_folder, signals, stopping, train_run
from steer_lit.cli import main as cli
from steer_lit.cli.closing import Result
from steer_lit.cli.refusals import unusable
from steer_lit.errors import ConfigError, NothingWritten, Problem, ServerDown, SteerError, TooManyFailures
from steer_lit.files.locks import holding
from steer_lit.synthesis import run as synthesis_run
from steer_lit.terminal import commands
from steer_lit.terminal.stdout import INTERRUPTED, REFUSED
from tests.forked import started
from tests.settings import Refused
from tests.test_conf import empty_adapter

CONSTANTS = ["bench.limit=30", "~policies.base", "bench.resamples=100"]
ROWS = ["kind=benign", "rows=12"]
ROOT = Path(__file__).resolve().parents[2]
SETTINGS = OmegaConf.create({"seed": 1})
NOT_BEGUN = "stopped before the run began: nothing new was saved and nothing is lost"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove rank variables that an earlier test's trainer may have set."""
    for name in ("LOCAL_RANK", "SLURM_LOCALID", "NODE_RANK", "GROUP_RANK", "SLURM_NODEID", "RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


def checkpoint(step: int) -> dict[str, Any]:
    """Return a checkpoint with all expected keys and no weights."""
    from steer_lit.lit.training_checkpoint import _RESUMED, OWN, PLACE

    return {**dict.fromkeys(_RESUMED), PLACE: {"epoch": 0}, OWN: {"validated_at": 0}, "global_step": step}


def test_a_lock_has_one_holder_at_a_time(tmp_path: Path) -> None:
    with holding(tmp_path / "lock") as taken:
        assert taken is True
        with holding(tmp_path / "lock") as again:
            assert again is False
    with holding(tmp_path / "lock") as taken:
        assert taken is True


@pytest.mark.parametrize(("program", "words"), [("train", []), ("bench", CONSTANTS), ("synthesize", ROWS)])
def test_a_second_run_in_the_same_folder_is_refused(
    program: str, words: list[str], tmp_path: Path, refused: Refused
) -> None:
    with run_folder.alone_in(tmp_path, "training"):
        said = refused(*words, f"hydra.run.dir={tmp_path}", program=program)
    assert said.endswith("another run is writing into this folder: wait until it has ended, or name another folder")
    assert said.startswith(f"hydra.run.dir={tmp_path}")
    assert not (tmp_path / "config.yaml").exists()


@pytest.mark.parametrize(
    ("program", "words", "left"),
    [
        ("train", [], "records.jsonl"),
        ("bench", CONSTANTS, "trajectories.jsonl"),
        ("bench", CONSTANTS, "manifest.json"),
        ("synthesize", ROWS, "tower.safetensors"),
    ],
)
def test_a_program_refuses_the_folder_of_another_program(
    program: str, words: list[str], left: str, tmp_path: Path, refused: Refused
) -> None:
    """A benchmark once replaced a training's config, so that later reports used the wrong one."""
    (tmp_path / left).touch()
    assert "would replace: name another folder" in refused(*words, f"hydra.run.dir={tmp_path}", program=program)
    assert not (tmp_path / "config.yaml").exists()


def test_a_refused_run_keeps_the_folder_of_a_run_that_has_just_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_folder.alone_in(tmp_path / "run", "training"):
        assert cli.run("bench", ["bench.limit=0", f"hydra.run.dir={tmp_path / 'run'}"]) == REFUSED
        assert (tmp_path / "run" / ".lock").exists()


def test_a_killed_run_releases_its_folder(repository: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from steer_lit.cli.run_folder import alone_in\n"
        "with alone_in(pathlib.Path(sys.argv[1]), 'training'): print('in', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    with pytest.raises(SteerError, match="another run"), run_folder.alone_in(tmp_path, "training"):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with run_folder.alone_in(tmp_path, "training"):
        pass


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("train", ["run_dir={other}"]),
        ("train", ["trainer.default_root_dir={other}"]),
        ("train", ["trainer.default_root_dir=null"]),
        ("train", ["-m", "seed=2,3", "run_dir={other}"]),
        ("bench", [*CONSTANTS, "run_dir={other}"]),
        ("bench", [*CONSTANTS, "run_dir=0"]),
        ("bench", [*CONSTANTS, "run_dir=null"]),
        ("synthesize", ["stages=2", "run_dir=0"]),
        ("synthesize", [*ROWS, "run_dir={other}"]),
    ],
)
def test_a_run_writes_only_into_the_folder_that_is_checked(
    program: str, words: list[str], tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run_dir=` once bypassed the lock and the check for an existing run, whose adapter was then overwritten."""
    monkeypatch.setattr(train_run, "_train", pytest.fail)
    key = "hydra.sweep.dir" if "-m" in words else "hydra.run.dir"
    other = tmp_path / "other"
    said = refused(*(word.format(other=other) for word in words), f"{key}={tmp_path}/run", program=program)
    where = words[-1].format(other=f"{str(other)!r}")
    assert f"  * {where}: a run writes into one folder: leave this out, and name that with {key}=<folder>" in said
    assert list(tmp_path.iterdir()) == []


def test_the_same_folder_may_be_named_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Path] = []
    monkeypatch.setattr(train_run, "_train", lambda config, run_dir: begun.append(run_dir))
    assert cli.run("train", [f"run_dir={tmp_path}/run/", f"hydra.run.dir={tmp_path}/run"]) == 0
    assert begun == [tmp_path / "run"]


@pytest.mark.parametrize("variable", ["LOCAL_RANK", "SLURM_NODEID"])
def test_the_ranks_of_one_run_share_its_folder(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A further one finds there what the first has written."""
    (tmp_path / "tower.safetensors").touch()
    with pytest.raises(SteerError, match="holds a training"):
        going_on.make_room(tmp_path, SETTINGS)
    with run_folder.alone_in(tmp_path, "training"):
        monkeypatch.setenv(variable, "1")
        with run_folder.alone_in(tmp_path, "training"):
            going_on.make_room(tmp_path, SETTINGS)


@pytest.mark.parametrize(
    ("program", "given"),
    [
        ("train", {"SLURM_LOCALID": "1", "SLURM_PROCID": "3"}),
        ("train", {"NODE_RANK": "1"}),
        ("train", {"RANK": "1"}),  # Lightning would log nothing
        ("bench", {"LOCAL_RANK": "1"}),
        ("synthesize", {"SLURM_NODEID": "2"}),
    ],
)
def test_a_run_in_one_process_is_no_further_rank(
    program: str,
    given: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would look for no lock, write no config, and replace the adapter of the training in its folder."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(train_run, "_datamodule", pytest.fail)
    assert cli.run(program, [f"hydra.run.dir={tmp_path}/run"]) == 2
    by = " ".join(f"{name}={value}" for name, value in given.items())
    said = f"{by} makes this process one of several, but this run has only one: unset {' '.join(given)} if"
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_file_system_without_locks_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with run_folder.alone_in(tmp_path, "training"), run_folder.alone_in(tmp_path, "training"):
        pass


def test_the_saved_config_is_complete_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_folder.freeze(OmegaConf.create({"seed": 1}), tmp_path)

    def stopped(place: Path, text: str, **_: object) -> None:
        with place.open("w") as file:
            file.write(text[:2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_folder.freeze(OmegaConf.create({"seed": 2}), tmp_path)
    assert path.read_text() == "seed: 1\n"


def beginning_at(monkeypatch: pytest.MonkeyPatch, *, saves: bool = False) -> list[str | None]:
    """Return a list to which each training adds the checkpoint that it begins with, in place of taking steps."""
    begun: list[str | None] = []

    def train(config: DictConfig, run_dir: Path) -> None:
        begun.append(config.ckpt_path)
        run_folder.freeze(config, run_dir)
        if saves:
            (run_dir / "checkpoints").mkdir(exist_ok=True)
            torch.save({}, run_dir / "checkpoints" / "last.ckpt")

    monkeypatch.setattr(train_run, "_train", train)
    return begun


def test_the_same_command_goes_on_with_the_training_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Slurm gives it when it restarts a job, and as a user who does not know where the run was stopped."""
    taken = beginning_at(monkeypatch)
    words = ["seed=3", f"hydra.run.dir={tmp_path}/run"]
    saved, other = tmp_path / "run" / "checkpoints", tmp_path / "other.ckpt"
    last, kept = saved / "last.ckpt", saved / "kept.ckpt"
    torch.save({}, other)
    assert cli.run("train", [*words, f"ckpt_path={other}"]) == 0  # stopped before anything was saved
    assert cli.run("train", [*words, f"ckpt_path={other}"]) == 0
    saved.mkdir()
    torch.save({}, last)
    for more in ([], [f"ckpt_path={other}"], ["hardware.micro_tokens=9"]):
        assert cli.run("train", [*words, *more]) == 0
    torch.save({}, kept)
    assert cli.run("train", [*words, f"ckpt_path={kept}"]) == 0  # an earlier one, if it is named
    assert taken == [str(other)] * 2 + [str(last)] * 3 + [str(kept)]


def test_a_training_goes_on_in_a_moved_folder_with_another_address_of_its_server(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = beginning_at(monkeypatch, saves=True)
    words = ["+experiment=grpo_tiny", "attacker=llm", "tutor=llm", "server.model=m", "system_prompt='Say \\${this} '"]
    at = ["server.base_url=http://a/v1", f"hydra.run.dir={tmp_path}/a"]
    assert cli.run("train", [*words, *at]) == 0
    assert OmegaConf.load(tmp_path / "a" / "config.yaml").system_prompt == "Say ${this} "  # as further ranks read it
    (tmp_path / "a").rename(tmp_path / "b")
    moved = ["server.base_url=http://b/v1", "server.retries=9", f"hydra.run.dir={tmp_path}/b"]
    assert cli.run("train", [*words, *moved]) == 0
    assert begun == [None, f"{tmp_path}/b/checkpoints/last.ckpt"]
    said = refused(*words, *moved, "server.model=n", f"ckpt_path={tmp_path}/b/checkpoints/no.ckpt")
    assert "ckpt_path=" in said
    assert "(server.model=m there): name another folder" in refused(*words, *moved, "server.model=n")
    long = refused(*words[:-1], *moved, f"system_prompt={'A' * 500}")
    assert "(system_prompt=Say ${this}  there): name" in long


def test_a_training_is_not_resumed_under_another_prompt_of_its_tutor(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run would have two rewards, and nothing would tell."""
    begun = beginning_at(monkeypatch, saves=True)
    prompt = tmp_path / "mine" / "tutor_system.txt"
    prompt.parent.mkdir()
    prompt.write_text("Score it.")
    words = ["+experiment=grpo_tiny", "tutor=llm", f"tutor.prompts={prompt.parent}", "server.model=m"]
    words += ["server.base_url=http://a/v1", f"hydra.run.dir={tmp_path}/run"]
    assert cli.run("train", words) == cli.run("train", words) == 0
    prompt.write_text("Score it kindly.")
    said = refused(*words)
    assert "overwrite (another prompt tutor_system.txt there): name another folder" in said
    assert "next:" not in said  # that command is this one
    (tmp_path / "mine" / "tutor_sytem.txt").touch()
    assert "tutor.prompts=" in refused(*words)
    assert len(begun) == 2


@pytest.mark.parametrize(
    ("prompt", "resumes"), [("tutor_user", False), ("repair", False), ("attacker_user", True), ("judge_system", True)]
)
def test_the_packages_prompts_are_compared_where_a_model_was_asked_with_them(
    prompt: str, resumes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = beginning_at(monkeypatch, saves=True)
    words = ["+experiment=grpo_tiny", "tutor=llm", "server.model=m", "server.base_url=http://a/v1"]
    words.append(f"hydra.run.dir={tmp_path}")
    assert cli.run("train", words) == 0
    saved = json.loads((tmp_path / "versions.json").read_text())
    saved["prompts"][prompt] = "that of an earlier version"
    (tmp_path / "versions.json").write_text(json.dumps(saved))
    assert cli.run("train", words) == (0 if resumes else REFUSED)
    assert len(begun) == 1 + resumes


@pytest.mark.parametrize("text", ["", "[1]", "5", "a: ${nope.y}", "a: [", "\udcff"])
def test_a_config_that_cannot_be_read_is_in_the_way(text: str, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "config.yaml").write_text(text, errors="surrogateescape")
    (tmp_path / "versions.json").write_text('{"commands": 5, "finished": {"value": "x"}}')
    (tmp_path / "checkpoints").mkdir()
    torch.save({}, tmp_path / "checkpoints" / "last.ckpt")
    said = refused("+experiment=sft_tiny", f"hydra.run.dir={tmp_path}")
    assert said.startswith(f"hydra.run.dir={tmp_path}: holds a training, which a new one would overwrite (")
    assert going_on.result_at_end(tmp_path) is None


def test_an_earlier_checkpoint_of_a_folder_becomes_its_last(tmp_path: Path) -> None:
    """Else the same command, without it, would go on from a later step, and leave out those between."""
    (tmp_path / "checkpoints").mkdir()
    kept, last = tmp_path / "checkpoints" / "kept.ckpt", tmp_path / "checkpoints" / "last.ckpt"
    kept.write_text("step 2")
    last.write_text("step 6")
    going_on.begin_at(kept, tmp_path)
    assert last.read_text() == "step 2"
    going_on.begin_at(last, tmp_path)
    assert last.read_text() == "step 2"


def test_checkpoints_behind_a_link_that_leads_nowhere_are_not_begun_anew(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_run, "_train", run_folder.freeze)
    assert cli.run("train", [f"hydra.run.dir={tmp_path}"]) == 0
    (tmp_path / "checkpoints").symlink_to(tmp_path / "disk")
    said = refused(f"hydra.run.dir={tmp_path}")
    assert said == f"hydra.run.dir={tmp_path}: its checkpoints are a link to {tmp_path}/disk, which is not there"


def test_a_resumed_training_needs_its_start_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint holds that adapter. In a sweep too, whose configs are all checked before its first run."""
    empty_adapter(start := tmp_path / "sft")
    begun = beginning_at(monkeypatch, saves=True)
    words = ["+experiment=grpo_tiny", f"init_from={start}"]
    runs = [[*words, f"hydra.run.dir={tmp_path}/a"], ["-m", *words, "seed=1,2", f"hydra.sweep.dir={tmp_path}/b"]]
    assert [cli.run("train", each) for each in runs] == [0, 0]
    shutil.rmtree(start)
    assert [cli.run("train", each) for each in runs] == [0, 0]
    assert begun[:3] == [None] * 3
    assert begun[3:] == [f"{tmp_path}/{run}/checkpoints/last.ckpt" for run in ("a", "b/0_seed-1", "b/1_seed-2")]


def test_a_training_that_had_saved_nothing_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had written is kept aside: it would be mixed with what the run writes now."""

    def train(config: DictConfig, run_dir: Path) -> None:
        run_folder.freeze(config, run_dir)
        for name in ("trajectories.jsonl", "pictures.json"):
            (run_dir / name).touch()

    monkeypatch.setattr(train_run, "_train", train)
    words = [f"hydra.run.dir={tmp_path}"]
    assert cli.run("train", words) == 0
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "notes.txt").touch()
    for restart, settings in ((1, []), (2, ["seed=2"])):  # other settings may be what was wrong
        assert cli.run("train", [*words, *settings]) == 0
        aside = tmp_path / f"before_restart_{restart}"
        assert {"trajectories.jsonl", "pictures.json"} <= {path.name for path in aside.iterdir()}
        assert (aside / "tensorboard").is_dir() is (restart == 1)
    assert {path.name for path in tmp_path.iterdir()} >= {"trajectories.jsonl", "notes.txt"}
    assert len(list(tmp_path.glob("before_restart_*"))) == 2


def test_a_training_takes_no_folder_with_another_programs_config(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped synthesis goes on by its config, and a folder of the user's own is no run's."""
    monkeypatch.setattr(train_run, "_train", pytest.fail)
    (config := tmp_path / "config.yaml").write_text("kind: red_team\nrows: 3000\n")
    said = refused("seed=2", f"hydra.run.dir={tmp_path}")
    assert f"hydra.run.dir={tmp_path}: holds a config.yaml of another kind, which this one would overwrite (" in said
    assert config.read_text().startswith("kind: red_team")


def test_a_checkpoint_saved_while_the_config_is_checked_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a run that ends on a signal, whose command a scheduler gives again at once."""
    taken = beginning_at(monkeypatch)

    def check(config: DictConfig) -> list[Problem]:
        if taken:
            (tmp_path / "checkpoints").mkdir()
            torch.save({}, tmp_path / "checkpoints" / "last.ckpt")
        return []

    monkeypatch.setattr(train_run, "train_problems", check)
    for _ in range(2):
        assert cli.run("train", [f"hydra.run.dir={tmp_path}"]) == 0
    assert taken == [None, str(tmp_path / "checkpoints" / "last.ckpt")]


def test_a_finished_training_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Path] = []

    def train(config: DictConfig, run_dir: Path) -> None:
        begun.append(run_dir)
        run_folder.freeze(config, run_dir)
        empty_adapter(run_dir / "adapter")
        going_on.mark_finished(run_dir, Result("val/right_share", 0.25, best=(1, 0.5)))

    monkeypatch.setattr(train_run, "_train", train)
    words = ["+experiment=grpo_tiny", f"hydra.run.dir={tmp_path}/run"]
    assert [cli.run("train", words) for _ in range(2)] == [0, 0]
    assert begun == [tmp_path / "run"]
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"finished already, left as it is: {tmp_path}/run",
        f"adapter: {tmp_path}/run/adapter   val/right_share 0.250",
        f"best:    {tmp_path}/run/best_adapter   val/right_share 0.500 at step 1",
        f"next:    python bench.py model=tiny policies.grpo={tmp_path}/run/adapter bench.limit=20 "
        "rollout.max_new_tokens=96",
    ]


def test_a_finished_run_says_which_of_its_files_are_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(config: DictConfig, run_dir: Path) -> None:
        run_folder.freeze(config, run_dir)
        empty_adapter(run_dir / "adapter")
        going_on.mark_finished(run_dir, Result("val/right_share", 0.25))

    monkeypatch.setattr(train_run, "_train", train)
    empty_adapter(tmp_path / "sft")
    rows, more = tmp_path / "rows.jsonl", tmp_path / "more.jsonl"
    for file in (rows, more):
        file.write_text(json.dumps({"turns": ["Hi?"], "images": []}) + "\n", encoding="utf-8")
    words = ["+experiment=grpo_tiny", "tutor=llm", "server.base_url=http://localhost:9/v1", "server.model=m"]
    words += [f"init_from={tmp_path}/sft", "data=steer", f"data.source.rl=[{rows},{more}]", "data.val_size=0"]
    words += [f"hydra.run.dir={tmp_path}/run"]
    said = "{} was written after it ended: name another folder if what it holds has changed"
    assert [cli.run("train", words) for _ in range(2)] == [0, 0]
    assert "was written after" not in capsys.readouterr().out
    later = (tmp_path / "run" / "versions.json").stat().st_mtime + 10
    weights = tmp_path / "sft" / "adapter_model.safetensors"
    for changed in (more, weights):
        os.utime(changed, (later, later))
    assert cli.run("train", words) == 0
    assert capsys.readouterr().out.splitlines()[1:3] == [said.format(more), said.format(weights)]


def test_another_runs_checkpoint_does_not_allow_overwriting_a_run(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_run, "_train", lambda config, run_dir: None)
    for name in ("one", "two"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        torch.save({}, tmp_path / name / "checkpoints" / "last.ckpt")
    words = [f"ckpt_path={tmp_path}/one/checkpoints/last.ckpt"]
    assert "holds a training" in refused(*words, f"hydra.run.dir={tmp_path}/two")
    assert cli.run("train", [*words, f"hydra.run.dir={tmp_path}/one"]) == 0
    assert cli.run("train", [*words, f"hydra.run.dir={tmp_path}/three"]) == 0


LEFT = [
    "checkpoints/last.ckpt",
    "adapter/adapter_model.safetensors",
    "best_adapter/adapter_model.safetensors",
    "tower.safetensors",
    "trajectories.rank1.jsonl",
]


@pytest.mark.parametrize("left", LEFT)
def test_a_training_does_not_overwrite_another(
    left: str, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_run, "_train", pytest.fail)
    path = tmp_path / left
    path.parent.mkdir(exist_ok=True)
    path.write_text("of the first")
    said = refused("seed=2", f"hydra.run.dir={tmp_path}")
    holds = f"hydra.run.dir={tmp_path}: holds a training, which a new one would overwrite (without a config.yaml)"
    assert said.startswith(f"{holds}: name another folder, hydra.run.dir=...")
    if path.suffix == ".ckpt":
        assert said.endswith(f"or continue it with the new settings: ckpt_path={path}")
    files = [file.name for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".log"]
    assert files == [".lock", path.name]


def test_a_training_with_other_settings_is_refused_with_what_differs(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_run, "_train", run_folder.freeze)
    words = ["+experiment=grpo_tiny", "seed=2", "~logger.tensorboard", f"hydra.run.dir={tmp_path}/run"]
    assert cli.run("train", words) == 0
    (tmp_path / "run" / "checkpoints").mkdir()
    torch.save({}, tmp_path / "run" / "checkpoints" / "last.ckpt")
    said = refused("+experiment=grpo_tiny", "optim.lr=1e-4", "trainer.max_steps=9", words[-1])
    assert "(seed=2 there, trainer.max_steps=10 there, optim.lr=0.001 there and " in said
    again = f"next:    python train.py +experiment=grpo_tiny seed=2 '~logger.tensorboard' hydra.run.dir={tmp_path}/run"
    assert said.splitlines()[-1] == again
    going_on.mark_finished(tmp_path / "run", Result(""))  # a finished one cannot be resumed
    assert "next:" not in refused("+experiment=grpo_tiny", "optim.lr=1e-4", words[-1])
    (tmp_path / "run" / "versions.json").write_text(json.dumps({"commands": ["python train.py 'x=1"]}))
    said = refused("+experiment=grpo_tiny", "optim.lr=1e-4", words[-1])  # what was edited there is no command any more
    assert said.endswith(f"or continue it with the new settings: ckpt_path={tmp_path}/run/checkpoints/last.ckpt")


def test_a_run_resumes_whose_checkpoints_lie_behind_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_run, "_train", lambda config, run_dir: run_folder.freeze(config, run_dir) and None)
    words = ["+experiment=sft_tiny", f"hydra.run.dir={tmp_path}/run"]
    assert cli.run("train", words) == 0
    (tmp_path / "large disk").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "large disk")
    torch.save({}, tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert cli.run("train", [*words, f"ckpt_path={tmp_path}/run/checkpoints/last.ckpt"]) == 0


def test_a_resumed_run_records_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_run, "_train", lambda config, run_dir: run_folder.freeze(config, run_dir) and None)
    monkeypatch.chdir(tmp_path)
    words = ["+experiment=sft_tiny", "seed=2", "hydra.run.dir=my run"]
    assert cli.run("train", words) == 0
    (tmp_path / "my run" / "checkpoints").mkdir()
    torch.save({}, tmp_path / "my run" / "checkpoints" / "last.ckpt")
    resumed = [*words[:2], "ckpt_path='my run/checkpoints/last.ckpt'", words[2]]
    for _ in range(2):
        assert cli.run("train", words) == 0
        assert cli.run("train", resumed) == 0
    commands = json.loads((tmp_path / "my run" / "versions.json").read_text())["commands"]
    quoted = ["python", "train.py", *words[:2], 'hydra.run.dir="my run"']
    with_checkpoint = [*quoted[:-1], resumed[2], quoted[-1]]
    assert [shlex.split(command) for command in commands] == [quoted, with_checkpoint] * 2


def test_in_a_sweep_another_folder_is_named_by_the_sweeps_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steer_lit.terminal.commands.sweeping", lambda: True)
    (tmp_path / "records.jsonl").touch()
    other = pytest.raises(SteerError, match=r"name another folder, hydra\.sweep\.dir=")
    with other, run_folder.alone_in(tmp_path, "training"):
        pass
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "last.ckpt"))
    assert unusable(full, tmp_path).endswith("name another folder with hydra.sweep.dir=<folder>")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("train", ["ckpt_path={ckpt}"]),
        ("synthesize", ["dry_run=true"]),
        ("bench", ["judge_check=true", "data.source.scale=0.01"]),
        ("bench", ["from_run={rows}"]),
    ],
)
def test_commands_that_are_no_run_keep_the_earlier_runs_config(
    program: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, ckpt, rows = tmp_path / "run", tmp_path / "other.ckpt", tmp_path / "rows"
    torch.save({"of": "others"}, ckpt)
    for folder in (run, rows):
        folder.mkdir()
        (folder / "records.jsonl" if folder == run else folder / "trajectories.jsonl").touch()
    (run / "config.yaml").write_text("seed: 1\n")
    cli.run(program, [*(word.format(ckpt=ckpt, rows=rows) for word in words), f"hydra.run.dir={run}"])
    assert (run / "config.yaml").read_text() == "seed: 1\n", capsys.readouterr().err


# --- the disk -------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_reported_with_the_command_that_resumes(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*CONSTANTS, f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "bench.py", *words], cwd=repository, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20 * 1024, 20 * 1024)),
    )  # fmt: skip
    assert done.returncode == REFUSED
    assert "Traceback" not in done.stderr
    full, stopped, following = done.stderr.strip().splitlines()
    assert stopped == "stopped, what was finished is saved"
    assert shlex.split(following.removeprefix("next:")) == ["python", "bench.py", *words]
    assert full == f"{tmp_path}: File too large. Make room there, or name another folder with hydra.run.dir=<folder>"
    assert cli.run("bench", words) == 0
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 90


def test_an_impossible_run_folder_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/x"), Path("/proc")):
        for program in ("train", "bench", "synthesize"):
            assert cli.run(program, [f"hydra.run.dir={folder}"]) == REFUSED
            (said,) = capsys.readouterr().err.strip().splitlines()
            assert said.startswith(str(folder))
            keys = "hydra.run.dir=<folder>, a sweep's with hydra.sweep.dir=<folder>"
            assert said.endswith(f"ame another folder with {keys}")


def test_an_error_on_a_relative_path_in_the_run_folder_has_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    full = OSError(errno.EDQUOT, "Disk quota exceeded", "run/sft.jsonl.part")
    remedy = "Make room there, or name another folder with hydra.run.dir=<folder>"
    assert unusable(full, tmp_path / "run") == f"run/sft.jsonl.part: Disk quota exceeded. {remedy}"


def test_an_error_on_a_file_elsewhere_has_no_remedy(tmp_path: Path) -> None:
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "/else/where")
    assert unusable(missing, tmp_path) == "/else/where: No such file or directory"
    gone = FileNotFoundError(2, "No such file or directory", b"/else/events.out")
    assert unusable(gone, tmp_path) == "/else/events.out: No such file or directory"
    copied = OSError(errno.ENOSPC, "No space left on device", "/tmp/x", None, str(tmp_path / "last.ckpt.part"))
    assert unusable(copied, tmp_path).startswith(f"{tmp_path}/last.ckpt.part: No space left on device. Make room")
    assert unusable(OSError("the hub says no"), tmp_path) == "the hub says no (HYDRA_FULL_ERROR=1 shows where)"


def trainer(first_rank: bool = True, resumed: Path | None = None) -> Any:
    """Return what `resumable` reads of a trainer, which began with the checkpoint `resumed`."""
    return SimpleNamespace(is_global_zero=first_rank, checkpoint_callbacks=[], ckpt_path=resumed)


def told_of_a_full_disk(run_dir: Path, words: list[str], trainer: Any) -> list[str]:
    with pytest.raises(OSError, match="No space left") as full, stopping.resumable(run_dir, words, trainer, str):
        raise OSError(errno.ENOSPC, "No space left on device")
    return getattr(full.value, "__notes__", [])


def test_a_full_disk_ends_a_training_with_the_command_that_resumes_it(tmp_path: Path) -> None:
    words = ["experiment=a", "init_from='b c'"]
    again = f"next:    python train.py experiment=a 'init_from='\"'\"'b c'\"'\"'' hydra.run.dir={tmp_path}"
    nothing = f"stopped before anything was saved to resume from\n{again}"
    assert told_of_a_full_disk(tmp_path, words, trainer(first_rank=False)) == []
    assert told_of_a_full_disk(tmp_path, words, trainer()) == [nothing]
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    torch.save(checkpoint(7), last)
    first, following = told_of_a_full_disk(tmp_path, words, trainer())[0].splitlines()
    assert first == "stopped, step 7 is saved"
    command = ["python", "train.py", *words, f"hydra.run.dir={tmp_path}"]
    assert shlex.split(following.removeprefix("next:")) == command


@pytest.mark.parametrize("name", ["adapter/adapter_model.safetensors", "tower.safetensors", "base/model.safetensors"])
def test_a_full_disk_at_the_last_save_keeps_and_names_the_export(name: str, tmp_path: Path) -> None:
    weights = tmp_path / name
    weights.parent.mkdir(exist_ok=True)
    weights.touch()
    (said,) = told_of_a_full_disk(tmp_path, [], trainer())
    assert said.splitlines()[0].endswith(f"to resume from; {tmp_path / name.partition('/')[0]} is whole")


@pytest.mark.parametrize("error", [ServerDown, TooManyFailures])
def test_a_failed_training_ends_with_the_command_that_resumes_it(error: type[SteerError], tmp_path: Path) -> None:
    """The first rank prints it. The others, which failed with it, end silently."""
    saved = tmp_path / "checkpoints" / "last.ckpt"
    saved.parent.mkdir()
    torch.save(checkpoint(7), saved)
    for first_rank in (True, False):
        ended = pytest.raises(error if first_rank else SystemExit)
        with ended as caught, stopping.resumable(tmp_path, ["a=b"], trainer(first_rank), str):
            raise error("nobody answers")
        said = getattr(caught.value, "__notes__", [])
        command = f"python train.py a=b hydra.run.dir={tmp_path}"
        assert said == ([f"stopped, step 7 is saved\nnext:    {command}"] if first_rank else [])
    assert isinstance(caught.value, SystemExit)
    assert not caught.value.code  # otherwise Lightning would kill the first rank


def test_the_typed_words_of_a_run_exclude_its_folder_and_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ["hydra.run.dir=x", "+hydra.job.env_set.FOO=1"]
    task = ["experiment=sft_nano", "seed=2", "++ckpt_path=old.ckpt", "optim.lr=1", "++policies.a-1=b"]
    task += ["~policies.base", "++policies.b.c=d"]
    typed = {"task": task, "hydra": own}
    told = {"overrides": typed, "job": {"config_name": "bench"}}
    monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": told}))
    plain = ["policies.a-1=b", "~policies.base", "++policies.b.c=d"]
    words = ["+experiment=sft_nano", "seed=2", "optim.lr=1", *plain, "+hydra.job.env_set.FOO=1"]
    assert commands.typed_words() == words
    assert commands.typed_command().endswith(" policies.a-1=b '~policies.base' ++policies.b.c=d")  # in a report's head
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    assert commands.typed_words() == []


def test_a_reference_in_a_typed_word_is_not_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may name a key of the environment, and a relative one means nothing beside the other words."""
    words = ["optim.lr=${.weight_decay}", "name=${oc.env:A_NAME}", "+hydra.job.env_set.A_TOKEN=${oc.env:OTHER_TOKEN}"]
    said: list[object] = []
    for name in ("A_NAME", "A_TOKEN", "OTHER_TOKEN"):
        monkeypatch.setenv(name, "seen")

    def run(config: DictConfig, run_dir: Path) -> None:
        said.extend([commands.typed_words(), commands.typed_command()])

    monkeypatch.setitem(cli.RUNS, "train", run)
    assert cli.run("train", [*words, f"hydra.run.dir={tmp_path}/run"]) == 0
    assert said == [words, f"python train.py {shlex.join(words[:2])}"]


# --- signals --------------------------------------------------------------------------------------------------------


def script(program: str, run: Path, before: str) -> subprocess.CompletedProcess[str]:
    """Run a program with `seed=3` into the folder, in a process of its own that first executes the code `before`."""
    code = f"""
import runpy, signal, sys, time
{before}
sys.argv = ["{program}.py", "seed=3", "hydra.run.dir={run}"]
runpy.run_path("{program}.py", run_name="__main__")
"""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(("sent", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize(
    ("program", "library", "said"),
    [
        ("train", "hydra", "stopped before anything was trained: nothing is lost, give the same command again\n"),
        ("bench", "hydra", "stopped before anything was played: nothing is lost, give the same command again\n"),
        ("synthesize", "hydra", "stopped before anything was made: nothing is lost, give the same command again\n"),
        ("train", "numpy", f"{NOT_BEGUN}, give the same command again\n"),  # torch's C code would ignore the exception
        ("train", "torch", f"{NOT_BEGUN}, give the same command again\n"),
        ("bench", "torch", f"{NOT_BEGUN}, give the same command again\n"),
        ("synthesize", "steer_lit.synthesis.run", f"{NOT_BEGUN}, give the same command again\n"),
    ],
)
def test_a_signal_while_libraries_load_is_one_line(
    tmp_path: Path, program: str, library: str, said: str, sent: str, status: int
) -> None:
    before = f"""
class Interrupt:
    def find_spec(self, name, *_):
        if name == {library!r}:
            sys.meta_path.remove(self)  # pressed once
            signal.raise_signal(signal.{sent})
sys.meta_path.insert(0, Interrupt())
"""
    done = script(program, tmp_path / "run", before)
    assert (done.returncode, done.stderr) == (status, said)
    assert not (tmp_path / "run").exists()


class Ended(BaseException):
    """Raised instead of ending the process."""


def test_sigterm_ends_a_run_except_while_lightning_handles_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Lightning needs seconds before it handles SIGTERM. It also calls a handler that it finds, which would end a step
    in the middle.
    """
    from lightning import Trainer

    def end(status: int) -> None:
        raise Ended(status)

    monkeypatch.setattr(signals.os, "_exit", end)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    with signals.sigterm_ends(lambda: "outside"):
        with signals.sigterm_ends(lambda: "setting-up"):
            with pytest.raises(Ended, match="143"):
                signal.raise_signal(signal.SIGTERM)
            trainer._signal_connector.register_signal_handlers()
            signal.raise_signal(signal.SIGTERM)
            assert trainer.received_sigterm
            trainer._signal_connector.teardown()
        with pytest.raises(Ended):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    said = [line for line in capfd.readouterr().err.splitlines() if line in ("setting-up", "outside")]
    assert said == ["setting-up", "outside"]  # among Lightning's own messages


def test_other_ranks_and_existing_handlers_keep_their_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with signals.sigterm_ends(str):
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("it was taken away"))
    with signals.sigterm_ends(str):
        pass


def test_a_further_rank_ends_soon_after_the_first(repository: Path) -> None:
    """The first process is killed. The further one holds the pipe open, so both have ended when `run` returns.

    It survives SIGTERM: if it died of that, Lightning would kill the first one, which has its own message. And it ends
    where no Python runs, as while libraries end: `PyDLL` keeps the interpreter's lock.
    """
    further = "import ctypes, signal; from steer_lit.cli import signals; signals.end_with_parent(); "
    further += "signal.raise_signal(signal.SIGTERM); print(1, flush=True); ctypes.PyDLL(None).sleep(100)"
    first = f"""
import os, subprocess, sys
rank = subprocess.Popen([sys.executable, "-c", {further!r}], stdout=subprocess.PIPE, stderr=2)
assert rank.stdout.readline()
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", first], cwd=repository, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, b"")


def test_a_further_rank_is_bound_to_the_first_before_libraries_load(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(programs, "end_with_parent", lambda: begun.append("bound"))
    monkeypatch.setattr(programs, "_called", lambda program: begun.append("runs") or 0)
    monkeypatch.setattr(sys, "argv", ["train.py", "--frozen=config.yaml"])
    assert programs.train() == 0
    assert begun == ["bound", "runs"]


@pytest.mark.parametrize(
    ("ranks", "raised", "code"),
    [(2, RuntimeError("CUDA out of memory"), 1), (2, None, 2), (1, None, None), (2, SystemExit(0), None)],
)
def test_a_rank_that_fails_alone_ends_without_waiting_for_the_others(
    ranks: int, raised: BaseException | None, code: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a normal exit NCCL would wait for them. `code` is that of `os._exit`, None if the process exits normally."""
    group = SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True, get_world_size=lambda: ranks)
    monkeypatch.setitem(sys.modules, "torch.distributed", group)
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)

    def run(program: str) -> int:
        if raised is not None:
            raise raised
        return 2

    monkeypatch.setattr(cli, "run", run)
    if raised is None:
        assert programs.train() == 2
    else:
        with pytest.raises(type(raised)):
            programs.train()
    assert left == ([] if code is None else [code])


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_a_run_prints_where_its_files_are(tmp_path: Path, sent: signal.Signals) -> None:
    before = f"""
from steer_lit.cli import main
def over(config, folder):
    (folder / "records.jsonl").touch()
    print("done")
    signal.raise_signal({int(sent)})
main.RUNS["bench"] = over
"""
    done = script("bench", tmp_path / "run", before)
    said = f"stopped: {tmp_path}/run keeps what is in it\n"
    assert (done.returncode, done.stdout, done.stderr) == (128 + sent, "done\n", said)


@pytest.mark.parametrize("whole", [False, True])
def test_sigterm_at_the_end_of_a_training_prints_the_command_that_resumes_it(tmp_path: Path, whole: bool) -> None:
    """Hydra's config is not set then, as during `fit` (`children_read`). A finished run is not resumed."""
    before = f"""
from hydra.core.hydra_config import HydraConfig
from steer_lit.cli import closing, going_on, main
def over(config, folder):
    if {whole}:
        going_on.mark_finished(folder, closing.Result("val/loss"))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    HydraConfig.instance().cfg = None
    signal.raise_signal(signal.SIGTERM)
main.RUNS["train"] = over
"""
    done = script("train", run := tmp_path / "run", before)
    said = f"stopped: {run} keeps what is in it\n"
    if not whole:
        said += f"next:    python train.py seed=3 hydra.run.dir={run}\n"
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, said)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_destructor_stops_the_run(tmp_path: Path, sent: signal.Signals) -> None:
    before = f"""
from steer_lit.cli import main, stopping
class Dying:
    def __del__(self):
        signal.raise_signal({int(sent)})
def work(config, folder):
    with stopping.continuable(folder, "bench", lambda: False):
        Dying()
        time.sleep(10)
        print("went on")
main.RUNS["bench"] = work
"""
    done = script("bench", tmp_path / "run", before)
    assert (done.returncode, done.stdout) == (128 + sent, "")
    assert done.stderr.startswith("stopped before anything was finished\nnext:    python bench.py")


@pytest.mark.parametrize("finished", [True, False])
def test_after_any_other_error_only_what_was_finished_is_told(finished: bool, tmp_path: Path) -> None:
    """Such as one of a user's judge. With nothing finished there is nothing to go back to."""
    with pytest.raises(KeyError) as error, stopping.continuable(tmp_path, "bench", lambda: finished):
        raise KeyError("harmlessness")
    notes = getattr(error.value, "__notes__", [])
    assert [note.splitlines()[0] for note in notes] == ["stopped, what was finished is saved"] * finished


@pytest.mark.parametrize("ended", [ConfigError([Problem("seed", 9, "is too much")]), NothingWritten("no row of 6")])
def test_what_the_same_command_would_meet_again_is_not_told_to_go_on(tmp_path: Path, ended: SteerError) -> None:
    with pytest.raises(SteerError) as error, stopping.continuable(tmp_path, "bench", lambda: True):
        raise ended
    assert not hasattr(error.value, "__notes__")


def test_a_backend_of_matplotlibs_that_is_not_installed_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook gives its own to the programs that it starts, which may have other libraries."""
    monkeypatch.setenv("MPLBACKEND", "nowhere")
    drawing = [sys.executable, "-c", "import matplotlib.figure"]
    monkeypatch.setattr(cli, "run", lambda program: subprocess.run(drawing, check=False).returncode)
    assert programs.bench() == 0


def test_a_programs_exit_code_is_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {"train": 7, "bench": 8, "synthesize": 9}
    monkeypatch.setattr(cli, "run", codes.__getitem__)
    assert {name: getattr(programs, name)() for name in codes} == codes


@pytest.mark.parametrize(
    ("own", "kernel", "set_here"),
    [
        (None, "6.8.0-45-generic", True),
        (None, "5.15.153.1-Microsoft-standard-WSL2", False),
        ("PYTORCH_ALLOC_CONF", "6.8.0-45-generic", False),
        ("PYTORCH_CUDA_ALLOC_CONF", "6.8.0-45-generic", False),
    ],
)
def test_expandable_memory_segments_are_set_unless_the_user_set_something_or_wsl_cannot(
    own: str | None, kernel: str, set_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process and in those that it starts, such as further ranks."""
    monkeypatch.setattr(platform, "release", lambda: kernel)
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
    for name in names:
        monkeypatch.setenv(name, "")  # so that monkeypatch restores it, whoever sets it
        monkeypatch.delenv(name)
    if own is not None:
        monkeypatch.setenv(own, "max_split_size_mb:128")
    code = f"import os; print([os.environ.get(name) for name in {names}])"
    told: list[str] = []

    def rank(program: str) -> int:
        told.append(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        return 0

    monkeypatch.setattr(cli, "run", rank)
    assert programs.train() == 0
    expected = ["max_split_size_mb:128" if name == own else None for name in names]
    assert told == [f"{['expandable_segments:True'] * 3 if set_here else expected}\n"]


def test_ctrl_c_is_told_by_the_first_rank_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under Slurm every rank has the whole command line."""

    def stopped(config: DictConfig, run_dir: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.RUNS, "train", stopped)
    for rank, said in ((0, f"{NOT_BEGUN}, give the same command again\n"), (1, "")):
        monkeypatch.setenv("SLURM_LOCALID", str(rank))
        assert cli.run("train", [f"hydra.run.dir={tmp_path}/run"]) == INTERRUPTED
        assert capsys.readouterr().err == said


def test_sigterm_ends_a_benchmark_with_the_command_that_resumes(tmp_path: Path) -> None:
    words = ["bench.limit=60", "bench.chunk=1", "rollout.max_new_tokens=8", "system_prompt='Look, and say.'"]
    words += [f"hydra.run.dir={tmp_path / 'run'}"]
    command = started("bench", words, tmp_path / "said")
    while not (tmp_path / "run" / "records.jsonl").is_file():
        time.sleep(0.02)
        assert command.is_alive()
    command.terminate()
    command.join()
    assert command.exitcode == 143
    said = (tmp_path / "said").read_text()
    *_, stopped, following = said.strip().splitlines()
    assert stopped == "stopped, what was finished is saved"
    assert shlex.split(following.removeprefix("next:")) == ["python", "bench.py", *words]
    assert "Traceback" not in said


def test_sigterm_ends_a_synthesis_with_the_command_that_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, (write, files) = [], synthesis_run.STAGES["stage1"]

    def terminated(start: object, *others: object) -> object:
        made.append(start)
        if len(made) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return write(start, *others)  # type: ignore[arg-type]

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setitem(synthesis_run.STAGES, "stage1", (terminated, files))
        assert cli.run("synthesize", [*ROWS, f"hydra.run.dir={tmp_path / 'run'}"]) == 143
    assert signal.getsignal(signal.SIGTERM) == before
    said = capsys.readouterr().err
    command = shlex.join(["python", "synthesize.py", *ROWS, f"hydra.run.dir={tmp_path / 'run'}"])
    assert f"stopped, what was finished is saved\nnext:    {command}\n" in said
    assert cli.run("synthesize", [*ROWS, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    assert cli.run("synthesize", [*ROWS, f"hydra.run.dir={tmp_path / 'straight'}"]) == 0
    assert (tmp_path / "run" / "sft.jsonl").read_bytes() == (tmp_path / "straight" / "sft.jsonl").read_bytes()


def test_printed_commands_can_be_typed_again(tmp_path: Path) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    folders = (Path("/runs/2025-01-01_10-00"), Path("/my rún, (1)/a=b"), Path('/it\'s `a` "b"'))
    for folder in folders:
        *_, word = shlex.split(commands.command("train", commands.path_word("init_from", folder)))
        assert OverridesParser.create().parse_override(word).value() == str(folder)
    *_, word = shlex.split(commands.command("bench", commands.path_word("policies.grpo", *folders)))
    assert OverridesParser.create().parse_override(word).value() == [str(folder) for folder in folders]
    assert commands.path_word("init_from", Path("/runs/a")) == "init_from=/runs/a"
