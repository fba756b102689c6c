"""The command line: what runs, what is refused and with which message, and what other processes are told."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from steer_lit.bench.constant import ALWAYS_REFUSE
from steer_lit.cli import main as cli
from steer_lit.cli import overrides, players, refusals, run_folder, sweeps, train_run
from steer_lit.cli.quiet import quieten
from steer_lit.cli.refusals import refusal_in
from steer_lit.errors import ConfigError, SteerError
from steer_lit.terminal import conf_files
from steer_lit.terminal.commands import command
from steer_lit.terminal.conf_files import composed
from steer_lit.terminal.stdout import REFUSED
from steer_lit.terminal.words import key_of
from tests.settings import Refused
from tests.test_conf import empty_adapter

GPU_RUN = ["+experiment=grpo_7b", "init_from=null"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--help"], 0, "experiment"),
        (["--cfg", "job"], 0, "optim:"),
        ([*GPU_RUN, "--cfg", "job"], 0, "optim:"),
        (GPU_RUN, REFUSED, "no NVIDIA GPU is visible"),
    ],
)
def test_help_config_and_refusals_answer_quickly(
    repository: Path, run_dir: str, words: list[str], code: int, said: str
) -> None:
    """Three seconds of CPU time, so that a busy machine does not fail the test."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    command = [sys.executable, "-X", "importtime", "train.py", *words, run_dir]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120)
    imported, told = [], []
    for line in done.stderr.splitlines():
        (imported if line.startswith("import time:") else told).append(line.rsplit("|", 1)[-1].strip())
    assert done.returncode == code, told
    assert said in done.stdout + "".join(told)
    assert not {"Traceback (most recent call last):", "Error executing job"} & set(told)
    assert not set(imported) & {"torch", "transformers", "lightning", "peft", "datasets"}
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 3.0


def test_every_problem_is_named_before_anything_loads(
    refused: Refused, run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer_lit.policy.gpus.has_gpu", lambda: False)
    message = refused(
        "+experiment=grpo_7b", "rollout.group_size=1", "trainer.strategy=fsdp", "init_from=nowhere", run_dir
    )
    lines = message.splitlines()
    assert lines[0] == f"{len(lines) - 1} problems in the configuration:"
    for key in ("rollout.group_size=1", "trainer.strategy='fsdp'", "init_from='nowhere'"):
        assert sum(f"* {key}" in line for line in lines) == 1
    assert sum("no NVIDIA GPU" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("words", "other"),
    [
        (["model=qwen2_5_vl_3b", "model.quantize=none"], "+experiment=sft_3b, or experiment=null"),
        (["+experiment=grpo_nano", "init_from=null", "model=smol"], "+experiment=grpo_smol, or experiment=null"),
        (["+experiment=grpo_nano", "init_from=null", "model=tiny", "stage=pretrain"], "experiment=null"),
    ],
)
def test_an_experiment_for_another_model_names_an_existing_one(
    words: list[str], other: str, refused: Refused, run_dir: str
) -> None:
    assert f": take {other}\n" in refused(*words, run_dir) + "\n"


def test_problems_name_words_to_type_and_values_that_are_no_number(
    refused: Refused, run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer_lit.policy.gpus.has_gpu", lambda: False)
    message = refused("+experiment=grpo_smol", "hardware=gpu_24gb", "optim.lr=abc", run_dir)
    assert "* trainer.accelerator='gpu': no NVIDIA GPU is visible: add hardware=cpu" in message
    assert "* optim.lr='abc': must be a number, above 0 and at most 10" in message
    assert "* init_from is not given: this run starts from an SFT adapter" in message


def test_training_refuses_a_gpu_that_torch_cannot_use(
    refused: Refused, run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer_lit.policy.gpus.visible_gpus", lambda: 1)
    message = refused("trainer.accelerator=gpu", run_dir)
    assert message.startswith("trainer.accelerator='gpu': the driver sees an NVIDIA GPU, torch ")
    assert "does not: install a torch built for this driver" in message


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("sed=3", "sed: there is no such key in this run. Did you mean seed"),
        ("lr=1e-3", "Did you mean optim.lr?"),
        ("SEED=1", "SEED: there is no such key in this run. Did you mean seed?"),
        ("expirement=grpo_nano", "expirement: there is no such key in this run. Did you mean experiment?"),
        ("data={batchsize:2}", "data.batchsize: there is no such key in this run. Did you mean data.batch_size"),
        ("trainer.deterministic=true", "+trainer.deterministic=<value> adds it"),
        ("hydra.tree=x", "hydra.tree: there is no such key in this run. `--cfg hydra` lists them all"),
        ("+optim.lrr=1", "optim.lrr=1: nothing reads it. Did you mean optim.lr"),
        ("+rate=0.1", "rate=0.1: nothing reads it."),
        ("+trainer.precision=16", "trainer.precision=16: model.dtype and model.lora.dtype say in which numbers"),
        ("~sead", "Could not delete from config. 'sead' does not exist."),
        (
            "+experiment=grpo_8b",
            "Could not find 'experiment/grpo_8b'\n\nAvailable options in 'experiment':\n\tablation",
        ),
        ("model=3b", "Could not find 'model/3b'\n\nAvailable options in 'model':\n\tnano\n\tqwen2_5_vl_3b\n"),
        ("model=3", "Could not find 'model/3'\n\nAvailable options in 'model':\n\tnano\n"),  # Hydra wants a text
        ("model=null", "Could not find 'model/null'\n\nAvailable options in 'model':\n\tnano\n"),
        ("optim.lr=[3", "optim.lr=[3: is not a <key>=<value> that Hydra can read. Type no spaces around ="),
        ("seed = 3", "seed = 3: is not a <key>=<value> that Hydra can read. Type no spaces around ="),
        ("seed", "seed: is not a <key>=<value> that Hydra can read."),
        ("name=a\udcff", "is not a <key>=<value> that Hydra can read."),
        ("=3", "Hydra cannot use one of these words, ValueError: Config group override must be a string"),
        ("hydra.verbose=3", "Hydra cannot use one of these words, AssertionError"),
        ("--resolve", "Hydra cannot use one of these words, ValueError: The --resolve flag can only be used"),
        ("outputs/g", "is not a <key>=<value> that Hydra can read. Type the key that it is for, too: <key>=outputs/g"),
        ("--seed", "unrecognized arguments: --seed. Keys are typed without dashes, seed=<value>"),
        ("--seed=3", "unrecognized arguments: --seed=3. Keys are typed without dashes, seed=<value>"),
        ("--experiment", "unrecognized arguments: --experiment. Keys are typed without dashes"),
        ("--cfg=jobs", "argument --cfg/-c: invalid choice: 'jobs' (choose from"),
        ("seed=1,2", "Ambiguous value for argument 'seed=1,2'"),
        ("seed=1,2", "To sweep over it, add --multirun to your command line"),
        ("seed=range(1,3)", "Sweep parameters 'seed=range(1,3)' requires --multirun"),
        ("ckpt_path=${nothing}", "Interpolation key 'nothing' not found\n    full_key: ckpt_path"),
        ("name=null", "While dereferencing interpolation '${name}': Incompatible value 'None'"),
        ("optim.betas={a:1}", "Error merging override optim.betas={a:1}\nCannot merge DictConfig with ListConfig"),
        ("~optim", "1 problem in the configuration:\n  * optim is not given: must hold keys"),
        ("seed=true", "1 problem in the configuration:\n  * seed=true: must be a whole number"),
        ("~trainer.max_steps", "trainer.max_steps is not given: how many steps the run takes: a whole number"),
    ],
)
def test_a_wrong_word_is_refused_without_a_traceback(
    word: str, said: str, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused(word)


def test_a_plus_is_removed_from_a_group_that_has_an_option_already() -> None:
    for group in ("ablation", "experiment", "debug", "reward", "model"):
        assert overrides.normalise_override(f"+{group}=x", "train") == f"{group}=x"
    assert overrides.normalise_override("+ablation=x", "bench") == "+ablation=x"  # bench has no such group
    assert overrides.normalise_override("+trainer.devices=2", "train") == "+trainer.devices=2"


def test_all_unknown_keys_are_told_at_once(refused: Refused, run_dir: str) -> None:
    words = ["trainer.max_stepz=3", "+experiment=grpo_tiny", "rollout.group_size=4", "optim.lrr=1", "foo=1"]
    told = refused(*words, run_dir).splitlines()
    assert [line.partition(":")[0] for line in told] == ["trainer.max_stepz", "optim.lrr", "foo"]
    assert "Did you mean trainer.max_steps" in told[0]
    assert "Did you mean optim.lr" in told[1]
    (told,) = refused("foo=1", "+trainer.sync_batchnorm=true", "trainer.sync_batchnorm=false", run_dir).splitlines()
    assert told.startswith("foo: ")  # the other is added by a word of its own
    told = refused("-m", "foo=1,2", "optim.lrr=1", "seed=1,2").splitlines()
    assert [line.partition(":")[0] for line in told] == ["foo", "optim.lrr"]
    assert refused("-m", "foo=1", "seed=range(1,2,nan)").startswith("Could not override 'foo'.")


@pytest.mark.parametrize("broken", ["rmdir", "iterdir"])
def test_a_folder_that_cannot_be_removed_does_not_hide_the_refusal(
    broken: str, refused: Refused, run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))  # as for a mount point

    with monkeypatch.context() as patch:
        patch.setattr(Path, broken, refuse)
        message = refused("bench.limit=0", run_dir, program="bench")
    assert "* bench.limit=0" in message
    assert "busy" not in message


def test_a_refused_run_removes_no_file_but_its_empty_log(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / ".gitkeep").touch()
    refused("bench.limit=0", f"hydra.run.dir={tmp_path}", program="bench")
    assert (tmp_path / ".gitkeep").exists()


def test_a_benchmark_names_every_problem(refused: Refused, run_dir: str) -> None:
    wrong = ("policies.mine=nowhere", "policies.gold=base", "bench.limit=0", "bench.chunk=0")
    message = refused(*wrong, run_dir, program="bench")
    for key in ("policies.mine='nowhere'", "policies.gold='base'", "bench.limit=0", "bench.chunk=0"):
        assert f"* {key}" in message


@pytest.mark.parametrize("key", ["policy.sft", "sft"])
def test_a_policy_of_a_mistyped_section_suggests_the_right_one(key: str, refused: Refused, run_dir: str) -> None:
    message = refused(f"{key}=base", run_dir, program="bench")
    assert f"{key}: there is no such key in this run. Did you mean policies.sft?" in message


@pytest.mark.parametrize(
    ("program", "words", "option"),
    [
        ("train", ["+experiment=grpo_tiny", "tutor=llm", "attacker=scripted", "attacker.prompts=x"], "attacker=llm"),
        ("train", ["data.source.folder=x"], "data=steer"),
        ("bench", ["judge=llm", "tutor.prompts=x"], "tutor=llm"),
        ("bench", ["judge.client.model=x"], "judge=llm"),
    ],
)
def test_a_key_of_another_option_of_its_group_names_that_option(
    program: str, words: list[str], option: str, refused: Refused, run_dir: str
) -> None:
    """The key of the same name elsewhere, such as tutor.prompts, is another setting."""
    key = words[-1].partition("=")[0]
    said = f"{key}: there is no such key in this run. {option} has it. `--cfg job` lists them all"
    assert refused(*words, run_dir, program=program) == said


def test_a_benchmark_refuses_an_adapter_of_another_model_by_its_key(
    refused: Refused, run_dir: str, tmp_path: Path
) -> None:
    empty_adapter(tmp_path / "a")
    (tmp_path / "a" / "steer_lit.json").write_text('{"base": "smol"}')
    message = refused("bench.limit=1", f"policies.a={tmp_path / 'a'}", run_dir, program="bench")
    assert message.splitlines()[0] == "1 problem in the configuration:"
    assert f"* policies.a='{tmp_path / 'a'}': was trained on base 'smol', this run's is model=tiny" in message


@pytest.mark.parametrize("words", [[], ["policies.kind={adapter: base, system_prompt: Be kind.}"]])
def test_a_benchmark_of_random_weights_only_names_what_to_add(words: list[str], refused: Refused, run_dir: str) -> None:
    message = refused(*words, run_dir, program="bench")
    assert "bench.limit=null: plays 3,227 dialogues, and model=tiny is random weights: name what to measure" in message
    assert "model=nano policies.<name>=<run>/adapter, or say bench.limit=20" in message


def test_a_benchmark_of_random_weights_on_ones_own_rows_names_no_model(
    refused: Refused, run_dir: str, tmp_path: Path
) -> None:
    """`nano` knows STEER-mini alone."""
    rows = tmp_path / "bench.jsonl"
    rows.write_text("".join(json.dumps({"id": str(number), "turns": [f"{number}?"]}) + "\n" for number in range(1001)))
    message = refused("data=steer", f"data.source.bench={rows}", run_dir, program="bench")
    assert "plays 1,001 dialogues, and model=tiny is random weights: name what to measure, policies.<name>=" in message


@pytest.mark.parametrize("word", ["reward.alpha=0", "reward.alpha=0,0.3", "reward.return=final"])
def test_a_key_of_the_return_is_refused_with_score_credit(refused: Refused, tmp_path: Path, word: str) -> None:
    """A sweep over alpha with `grpo_nano` would train the same policy several times."""
    start = ["+experiment=grpo_nano", f"init_from={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}"]
    message = refused(*start, word, *(["-m"] if "," in word else []))
    assert f"* {word.partition('=')[0]}=" in message
    assert ": changes nothing that this run learns" in message
    by_return = refused(*start, "reward.alpha=0", "reward.credit=trajectory")  # refused: there is no adapter
    assert "changes nothing" not in by_return


def test_a_benchmark_refuses_keys_of_data_that_only_training_reads(refused: Refused, tmp_path: Path) -> None:
    message = refused("data.val_size=3", f"hydra.run.dir={tmp_path / 'run'}", program="bench")
    assert "* data.val_size=3: nothing of a benchmark reads it; of data it reads source" in message


def test_a_benchmark_without_a_policy_is_refused(refused: Refused, tmp_path: Path) -> None:
    words = ["~policies.base", "bench.limit=5", f"hydra.run.dir={tmp_path / 'run'}"]
    message = refused(*words, "attacker=adaptive", program="bench")
    assert "policies={}: is empty" in message
    assert "constant policies answer the script alone" in message


def test_a_benchmark_of_a_served_policy_only_names_no_other_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server = ["server.base_url=http://127.0.0.1:9/v1", "server.retries=1", "server.backoff=0.01"]
    words = ["~policies.base", "policies.mine=server:mine", *server, "bench.limit=5", f"hydra.run.dir={tmp_path}"]
    assert cli.run("bench", words) == 2
    out, err = capsys.readouterr()
    assert f"benchmark, into {tmp_path}" in out + err
    assert "model=tiny" not in out + err


@pytest.mark.parametrize(("limit", "hinted"), [([], True), (["bench.limit=121"], False)])
def test_a_benchmark_prints_what_it_will_play_first(
    run_dir: str, limit: list[str], hinted: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []
    made = "steer_lit.bench.policies.Policies.make"
    monkeypatch.setattr(made, lambda _, rows, turns: checked.append(len(rows)) or {"base": ALWAYS_REFUSE})
    monkeypatch.setattr("steer_lit.bench.run.run_bench", lambda played: checked.append(len(played.policies)) or {})
    assert cli.run("bench", ["data.source.scale=0.05", *limit, run_dir]) == 0
    assert checked[0] > 100  # to check that all rows fit
    assert checked[1:] == [4]  # before any policy plays
    first, said = capsys.readouterr().out.splitlines()
    assert first.startswith("benchmark with model=tiny, into ")
    count = r"1\d\d" if hinted else "the first 121"
    assert re.match(
        rf"INFO: to play: {count} dialogues, each by 4 policies, base, always-refuse, always-comply, gold", said
    )
    assert said.endswith("; bench.limit=120 is a quick look") == hinted


def test_an_unreadable_record_is_reported_before_a_model_loads(
    run_dir: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer_lit.bench.policies.Policies.make", pytest.fail)
    folder = Path(run_dir.partition("=")[2])
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text('{"policy": "sft"}\n')
    assert "records.jsonl, row 1" in refused("bench.limit=2", run_dir, program="bench")


PLAIN = [{"id": str(number), "turns": [f"What is {number}?", "And what colour?"]} for number in range(4)]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a file of four rows without gold facts. No policy may be loaded or made."""
    monkeypatch.setattr("steer_lit.policy.load.load_policy", pytest.fail)
    monkeypatch.setattr("steer_lit.bench.policies.Policies", pytest.fail)
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, PLAIN)))
    return str(path)


def test_rows_that_the_rubric_cannot_grade_are_refused_before_playing(
    refused: Refused, run_dir: str, rows: str
) -> None:
    message = refused("data=steer", f"data.source.bench={rows}", run_dir, program="bench")
    assert "* judge='rubric': grades by gold facts, and of 4 dialogues none has them" in message
    assert "use judge=llm server.base_url=" in message
    served = ("server.base_url=http://localhost:1/v1", "server.model=m")
    message = refused("data=steer", f"data.source.bench={rows}", run_dir, *served, program="bench")
    assert message.rstrip().endswith("use judge=llm")


def test_rows_that_cannot_be_trained_on_are_refused_before_the_policy_loads(
    refused: Refused, run_dir: str, rows: str
) -> None:
    words = ["+experiment=grpo_tiny", "init_from=null", "data=steer", f"data.source.rl={rows}", "data.val_size=4"]
    message = refused(*words, run_dir)
    assert "* tutor='rubric': scores by gold facts, and of 4 rows none has them" in message
    assert "use tutor=llm server.base_url=" in message
    assert "use tutor=llm server.model=<name>" in refused(*words, run_dir, "server.base_url=http://localhost:1/v1")
    assert not Path(run_dir.partition("=")[2]).exists()
    assert message.endswith("* data.val_size=4: leaves nothing to train on: of 4 rows, at most 3 can be held out")


def test_too_few_rows_to_hold_some_out_are_told_with_those_that_cannot_be_used(
    refused: Refused, run_dir: str, rows: str
) -> None:
    """A file of two rows was said to hold one, and the bad one was the next error, after the advice was followed."""
    asked = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    Path(rows).write_text(f"{json.dumps({'messages': asked})}\n{json.dumps({'turns': ['Hi']})}\n")
    words = ["+experiment=sft_tiny", "data=steer", f"data.source.sft={rows}", "data.val_size=1"]
    message = refused(*words, run_dir)
    assert "* data.val_size=1: leaves nothing to train on: of 1 row, at most 0 can be held out" in message
    assert f"; 1 other row cannot be used, the first: {rows}, row 2: is no dialogue" in message


def test_our_own_error_is_shown_without_hydras() -> None:
    own = SteerError("the adapter belongs to another base")
    hydras = RuntimeError("Error in call to target")
    hydras.__cause__ = own
    assert refusal_in(hydras) is own
    assert refusal_in(RuntimeError("a bug")) is None


def test_conf_is_found_in_the_checkout(repository: Path) -> None:
    assert conf_files.conf_dir() == repository / "conf"
    assert command("train") == "python train.py"


def test_trap_40_other_ranks_read_one_frozen_config_not_the_sweeps_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning starts further ranks with `sys.argv`, and with Hydra's own arguments if Hydra is initialized."""
    from lightning.pytorch.strategies.launchers.subprocess_script import _basic_subprocess_cmd

    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "+experiment=grpo_tiny", "seed=1,2"])
    monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": {}}))
    with run_folder.children_read(tmp_path / "config.yaml"):
        assert not HydraConfig.initialized()
        assert _basic_subprocess_cmd()[-1] == f"--frozen={tmp_path / 'config.yaml'}"
        assert sys.argv[1:] == [f"--frozen={tmp_path / 'config.yaml'}"]
    assert sys.argv[1:] == ["-m", "+experiment=grpo_tiny", "seed=1,2"]
    assert HydraConfig.initialized()


@pytest.mark.parametrize("given", ["0", None])
def test_trap_40_a_sweeps_next_run_starts_ranks_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    """Lightning starts none if LOCAL_RANK is set, and reuses a connection that is left. `given` is torchrun's."""
    closed: list[bool] = []
    group = SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True, get_world_size=lambda: 2)
    group.destroy_process_group = lambda: closed.append(True)
    monkeypatch.setitem(sys.modules, "torch.distributed", group)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if given is not None:
        monkeypatch.setenv("LOCAL_RANK", given)
    with run_folder.children_read(tmp_path / "config.yaml"):
        monkeypatch.setenv("LOCAL_RANK", "7")
    assert os.environ.get("LOCAL_RANK") == given
    with pytest.raises(RuntimeError), run_folder.children_read(tmp_path / "config.yaml"):
        raise RuntimeError  # closing would wait for the others
    assert closed == [True]


@pytest.mark.parametrize("name", ["run", "größe [2]"])
def test_trap_40_a_frozen_config_is_run_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Its path is not an override typed by a user, so no check of those may refuse it."""
    folder = tmp_path / name
    config = OmegaConf.create({"run_dir": str(folder), "seed": "${other}", "other": 7})
    path = run_folder.freeze(config, folder)
    assert "seed: 7" in path.read_text()
    assert config.other == 7
    seen: list[object] = []
    monkeypatch.setitem(cli.RUNS, "train", lambda config, run_dir: seen.append((config.seed, run_dir)))
    assert cli.run("train", [f"--frozen={path}"]) == 0
    assert seen == [(7, folder)]


def test_what_lightning_logs_is_shown_once_and_its_banners_are_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Hydra's handlers show it in any case. Lightning adds a handler of its own when it loads."""
    own, shown = logging.getLogger("lightning"), logging.StreamHandler(stream := io.StringIO())
    monkeypatch.setattr(own, "handlers", [shown])
    quieten()
    said = {"fabric": "a process has ended", "pytorch.utilities": "GPU available", "pytorch.profilers.simple": "table"}
    with caplog.at_level("INFO"):
        for name, message in said.items():
            logging.getLogger(f"lightning.{name}").info(message)
    assert (caplog.messages, stream.getvalue()) == (["a process has ended", "table"], "")


def test_a_log_file_that_a_full_disk_refuses_prints_no_pages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run's own files meet the same disk, and its last lines say so."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logging, "raiseExceptions", True)
    quieten()
    handler = logging.StreamHandler(SimpleNamespace(write=full, flush=full))
    handler.handle(logging.LogRecord("any", logging.INFO, __file__, 1, "a line", None, None))
    assert capsys.readouterr().err == ""


def test_an_error_of_tensorboards_thread_is_told_by_the_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a log folder that was removed, say. The thread's traceback came before the run's own lines."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    shown: list[object] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    quieten()
    writer = EventFileWriter(str(tmp_path / "log"))
    writer.flush()
    shutil.rmtree(tmp_path / "log")
    writer.add_event(Event(step=1))
    writer._async_writer._worker.join()
    with pytest.raises(FileNotFoundError):
        writer.flush()
    assert shown == []
    (other := threading.Thread(target=lambda: 1 / 0)).start()
    other.join()
    assert len(shown) == 1


def test_the_judge_sees_the_picture_if_the_policy_sees_a_blank_one() -> None:
    """data.blank_images measures what the pictures add to a policy. The judge must still see them."""
    from steer_lit.data.images import blank
    from steer_lit.types import ImageRef

    knife = ImageRef("mini://knife?colour=red&x=1&y=1&size=50&bg=0")
    opened: list[ImageRef] = []
    player = players.build_player(OmegaConf.create({"_target_": f"{__name__}.Seeing"}), opened.append, "judge")
    player.open_image(blank(knife))
    player.open_image(knife)
    assert opened == [knife, knife]


@pytest.mark.parametrize("judge", ["rubric", "llm"])
def test_a_judge_with_the_parameter_open_image_gets_it(judge: str) -> None:
    """No key of the config stands for the function that the program passes."""
    config = OmegaConf.create(composed("bench", [f"judge={judge}", *SERVED]))
    assert "open_image" not in config.judge
    players.build_player(config.judge, str, "judge")


class Awaited:
    async def score(self, dialogues: object) -> list[object]:
        return []


@pytest.mark.parametrize(
    ("made", "said"),
    [("Seeing", "must have a method score, which is called with dialogues, and this has none"), ("Awaited", "async")],
)
def test_a_player_that_cannot_be_called_is_refused_as_it_is_built(made: str, said: str) -> None:
    """A coroutine would be made for each call and never awaited."""
    target = f"{__name__}.{made}"
    with pytest.raises(ConfigError, match=f"tutor._target_='{target}'.*{said}"):
        players.build_player(OmegaConf.create({"_target_": target}), str, "tutor")


@dataclass
class OwnReward:
    credit: str = "turn"
    made: int = field(default=0, init=False)

    def of(self, trajectory: object) -> None: ...


class WithoutCredit:
    def of(self, trajectory: object) -> None: ...


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"_target_": "Awaited"}, "a method of, which is called with a trajectory, and this has none"),
        ({"_target_": "WithoutCredit"}, "one of trajectory, turn, gain, score, and this has None"),
        ({"_target_": "OwnReward", "credit": "turns"}, "one of trajectory, turn, gain, score, and this has 'turns'"),
        ({"_target_": "OwnReward"}, None),
        ({"_target_": "OwnReward", "credit": "trajectory"}, None),
    ],
)
def test_a_reward_without_of_or_a_known_credit_is_refused_as_it_is_built(
    node: dict[str, str], said: str | None
) -> None:
    """It was found out after a step of rollouts, or never: an unknown credit was taken for `turn`."""
    config = OmegaConf.create({**node, "_target_": f"{__name__}.{node['_target_']}"})
    if said is None:
        assert players.build_player(config, str, "reward").credit in ("turn", "trajectory")
        return
    with pytest.raises(ConfigError, match=f"reward._target_='{config._target_}': must have .*{said}"):
        players.build_player(config, str, "reward")


def test_a_run_with_a_reward_that_cannot_be_used_stops_before_the_policy_loads(
    run_dir: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_run, "_module", lambda *_: pytest.fail("the policy would load"))
    words = ["+experiment=grpo_tiny", "init_from=null", "reward=custom", f"reward._target_={__name__}.OwnReward"]
    assert "and this has 'turns'" in refused(*words, "+reward.credit=turns", run_dir)


@pytest.mark.parametrize("safe", [[], ["-P"]])
def test_an_installed_program_finds_modules_in_the_current_folder_after_all_others(
    tmp_path: Path, repository: Path, safe: list[str]
) -> None:
    """As `python train.py` does in its own folder. Python's -P says not to."""
    for name in ("my_tutor", "yaml"):
        (tmp_path / f"{name}.py").write_text("class Mine:\n    def score(self, dialogues): ...\n", encoding="utf-8")
    (script := tmp_path / "bin" / "steer-train").parent.mkdir()
    script.write_text("from steer_lit.cli.programs import train\ntrain()\n", encoding="utf-8")
    words = ["+experiment=grpo_tiny", "init_from=null", "tutor._target_=my_tutor.Mine", "rollout.group_size=1"]
    done = subprocess.run(
        [sys.executable, *safe, script, *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(repository)},
    )  # fmt: skip
    assert "rollout.group_size=1: must be a whole number from 2 up" in done.stderr
    assert ("is not a class or function" in done.stderr) == bool(safe)


def test_a_bug_of_ours_is_not_blamed_on_a_word() -> None:
    def said(act: Callable[[], object]) -> str:
        try:
            act()
        except Exception as error:
            return refusals.unforeseen(error)
        raise AssertionError

    assert said(lambda: int("x")).startswith("Hydra cannot use one of these words, ValueError: invalid literal")
    assert said(lambda: key_of(None)) == ""  # type: ignore[arg-type]


def test_a_bug_in_a_run_is_no_refusal_though_it_is_a_value_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one of `json`: a line without its place in the code helps nobody."""
    monkeypatch.setitem(cli.RUNS, "train", lambda config, run_dir: json.loads("{"))
    with pytest.raises(json.JSONDecodeError):
        cli.run("train", [f"hydra.run.dir={tmp_path}/run"])


SERVED = ("server.base_url=http://localhost:1/v1", "server.model=any")


class Seeing:
    def __init__(self, open_image: Callable[[object], object]) -> None:
        self.open_image = open_image

    def grade(self, dialogues: object) -> list[object]:
        return []


def test_a_tutor_behind_a_server_reaches_the_module() -> None:
    """`run_training` builds it once, with the pictures, and passes it on unchanged."""
    from steer_lit.tutor.llm import LlmTutor

    config = OmegaConf.create(composed("train", ["experiment=grpo_tiny", "tutor=llm", *SERVED]))
    config.module = {"_target_": "types.SimpleNamespace", "tutor": "${tutor}", "reward": "${reward}", "unfit": None}
    config.model = {"_target_": "builtins.dict"}
    made = players.build_player(config.module.tutor, str, "tutor")
    assert type(made) is LlmTutor
    assert made.client.place == "tutor.client"
    given = {"tutor": made, "reward": OwnReward()}  # which Hydra would make anew: it is a dataclass
    module: Any = train_run._module(config, Mock(), Mock(), given, None)
    assert all(getattr(module, name) is part for name, part in given.items())


def test_one_runs_expected_failure_does_not_end_a_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    def run(config: DictConfig, run_dir: Path) -> None:
        begun.append(config.seed)
        if config.seed in (2, 3):
            raise SteerError(f"no luck with {config.seed}")

    monkeypatch.setitem(cli.RUNS, "train", run)
    assert cli.run("train", ["-m", "seed=1,2,3,4", f"hydra.sweep.dir={tmp_path}"]) == REFUSED
    assert begun == [1, 2, 3, 4]
    last = "not finished, for the reasons above: #1, #2 of this sweep"
    again = f"next:    python train.py -m seed=1,2,3,4 hydra.sweep.dir={tmp_path}"
    told = ["no luck with 2", "no luck with 3", last, again]
    assert capsys.readouterr().err.splitlines() == told


def test_a_sweeps_folders_are_named_by_its_swept_values_and_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    monkeypatch.setitem(cli.RUNS, "train", lambda config, run_dir: found.append(str(run_dir.relative_to(tmp_path))))
    words = ["-m", "+experiment=grpo_tiny", "reward.alpha=0.3", "seed=range(1,3)", f"hydra.sweep.dir={tmp_path}"]
    for _ in range(2):
        assert cli.run("train", words) == 0
    assert found == ["0_seed-1", "1_seed-2"] * 2


@pytest.mark.parametrize(
    ("typed", "of_run", "name"),
    [
        (["reward.alpha=0,0.3", "seed=1,2"], ["reward.alpha=0.3", "seed=2"], "_reward.alpha-0.3_seed-2"),
        (["init_from=a/b,../../c", "seed=1,2"], ["init_from=../../c", "seed=2"], "_seed-2"),  # a path is no name
        (["data.source.rl='a, b','c=d'"], ["data.source.rl='a, b'"], ""),
        ([f"name={'x' * 200},y", "seed=1,2"], [f"name={'x' * 200}", "seed=1"], "_seed-1"),
        (["name=x"], ["name=x", "optim.lr=1e-3"], "_optim.lr-1e-3"),  # swept by the config's hydra.sweeper.params
    ],
)  # fmt: skip
def test_the_name_of_a_sweeps_folder(typed: list[str], of_run: list[str], name: str) -> None:
    assert sweeps._swept(typed, of_run) == name


def test_a_sweeps_folders_have_numbers_if_its_words_are_unknown() -> None:
    """For example in a process that a launcher started."""
    sweeps.name_sweeps_folders([])
    assert OmegaConf.create({"a": ["seed=1"], "b": "3${swept:${a}}"}).b == "3"


@pytest.mark.parametrize("stop", [SystemExit(130), KeyboardInterrupt()])  # the run has printed it, or it had not begun
@pytest.mark.parametrize("named", [True, False])
def test_ctrl_c_ends_a_sweep_with_the_command_that_runs_the_rest(
    stop: BaseException,
    named: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[Path] = []

    def run(config: DictConfig, run_dir: Path) -> None:
        begun.append(run_dir)
        raise stop

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(cli.RUNS, "train", run)
    words = ["-m", "+experiment=grpo_tiny", "seed=1,2"]
    assert cli.run("train", [*words, "hydra.sweep.dir=a b"] if named else words) == 130
    (folder,) = begun
    *_, last = capsys.readouterr().err.splitlines()
    sweep = '"a b"' if named else str(folder.parent.relative_to(tmp_path))
    expected = ["next:", "python", "train.py", *words, f"hydra.sweep.dir={sweep}"]
    assert shlex.split(last) == expected


@pytest.mark.parametrize("wanted", [None, "0"])
def test_child_processes_of_a_run_do_not_inherit_hydra_full_error(
    wanted: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str | None] = []
    monkeypatch.setitem(cli.RUNS, "train", lambda config, run_dir: found.append(os.environ.get("HYDRA_FULL_ERROR")))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    if wanted is not None:
        monkeypatch.setenv("HYDRA_FULL_ERROR", wanted)
    assert cli.run("train", [f"hydra.run.dir={tmp_path}"]) == 0
    assert found == ["0"]
    assert os.environ.get("HYDRA_FULL_ERROR") == wanted


def test_the_guides_run_from_python_works(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (repository / "docs/runs.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
    assert "adapter: outputs/try/adapter" in capsys.readouterr().out
    command = json.loads(Path("outputs/try/versions.json").read_text())["commands"][-1]
    assert command == "python train.py +experiment=sft_tiny debug=step hydra.run.dir=outputs/try"
    with pytest.raises(AssertionError):
        exec(snippet.replace("=step", "=stepp"), {})
    assert "stepp" in capsys.readouterr().err


def test_a_refused_run_leaves_nothing_on_disk(refused: Refused, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    message = refused("+experiment=grpo_tiny", "tutor=llm", "server.api_key_env=sk-1234", f"hydra.run.dir={folder}")
    assert "never the key itself" in message
    assert not folder.exists()
    folder.mkdir()
    (folder / "kept").write_text("of an earlier run")
    refused("rollout.group_size=1", "+experiment=grpo_tiny", f"hydra.run.dir={folder}")
    assert (folder / "kept").is_file()
    assert "sk-1234" not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def folders(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_a_refused_run_removes_its_own_empty_folder(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those above it, nor the folder that the user is in: every further command there would fail."""
    monkeypatch.chdir(tmp_path)
    for words, left in (
        ([], {"outputs", "outputs/sft_tiny"}),
        (["hydra.run.dir=new/run"], {"outputs", "outputs/sft_tiny", "new"}),
    ):
        refused("optim.lr=abc", *words)
        assert folders(tmp_path) == left
    monkeypatch.chdir("new")
    refused("optim.lr=abc", "hydra.run.dir=.")
    assert folders(tmp_path) == {"outputs", "outputs/sft_tiny", "new"}
    (tmp_path / "new" / "err.log").touch()  # a shell writes there what the program is about to say
    refused("optim.lr=abc", f"hydra.run.dir={tmp_path}/new")
    assert (tmp_path / "new" / "err.log").is_file()


def test_a_refused_run_of_a_sweep_keeps_the_sweeps_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(config: DictConfig, run_dir: Path) -> None:
        if config.seed == 2:
            raise SteerError("no luck")
        (run_dir / "kept").touch()

    monkeypatch.setitem(cli.RUNS, "train", run)
    words = ["-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=of/${seed}/a"]
    assert cli.run("train", words) == REFUSED
    assert {"multirun.yaml", "of/1/a/kept"} < folders(tmp_path)
    assert not (tmp_path / "of" / "2" / "a").exists()


def test_a_dry_run_leaves_no_folder_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run("synthesize", ["kind=benign", "rows=4", "dry_run=true"]) == 0
    assert "dry_run=true: nothing was made" in capsys.readouterr().out
    assert folders(tmp_path) == {"outputs", "outputs/synthesize"}


def test_each_program_has_a_help_text(capsys: pytest.CaptureFixture[str]) -> None:
    for name, word in (("train", "+experiment=<name>"), ("bench", "bench.limit"), ("synthesize", "dry_run")):
        assert cli.run(name, ["--help"]) == 0
        shown = capsys.readouterr().out
        assert word in shown
        assert shown.rstrip().endswith(f"by <group>=<option>:\n{overrides.choices(name)}")


def test_help_lists_exactly_the_possible_choices() -> None:
    listed = dict(line.split(": ") for line in overrides.choices("train").splitlines())
    assert (listed["reward"], listed["tutor"]) == ("balanced, custom, final_only, mean, tcsr", "llm, rubric")
    assert not {"generator", "judge", "hydra"} & set(listed)
    assert [line.split(": ")[0] for line in overrides.choices("synthesize").splitlines()] == ["generator", "server"]
    assert "judge: llm, rubric" in overrides.choices("bench").splitlines()


def test_control_characters_in_a_row_are_not_obeyed(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"\\u001b[2J\\u202ekey": 1}\n')
    words = ["data=steer", f"data.source.sft={tmp_path / 'rows.jsonl'}", "data.val_size=0"]
    message = refused(*words, f"hydra.run.dir={tmp_path / 'run'}")
    assert r"it has '\x1b[2J\u202ekey'" in message
    assert not {"\x1b", "\u202e"} & set(message)
