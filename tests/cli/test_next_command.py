"""The command that a training run or a sweep ends with can be run as it is."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from safetensors.numpy import save_file

from steer_lit.checks.programs import bench_problems, train_problems
from steer_lit.cli import main as cli
from steer_lit.cli.closing import Result, closing
from steer_lit.cli.next_command import compared
from steer_lit.cli.overrides import normalise_override
from steer_lit.errors import Problem
from steer_lit.policy import gpus, preflight
from steer_lit.terminal.commands import typed_words
from steer_lit.terminal.conf_files import composed
from tests.test_conf import compose, empty_adapter

SERVER = ["server.base_url=http://localhost:9/v1", "server.model=any"]
OWN = ["tutor.client.base_url=http://localhost:9/v1", "tutor.client.model=any"]
TRAINED = "those are the rows it was trained on: to see what it does on others, name their file there"
UNSCORED = (
    "rows without gold facts need a model as tutor: tutor=llm server.base_url=<address> server.model=<name>, "
    "or a class of your own"
)
UNGRADED = UNSCORED.replace("tutor", "judge")


@pytest.mark.parametrize(
    ("words", "has", "notes"),
    [
        (["experiment=sft_tiny", "data=steer", "data.source.sft=a.jsonl", "data.source.rl=b.jsonl", "data.val_size=3"],
         ["+experiment=grpo_tiny", "data=steer", "data.source.rl=b.jsonl", "data.val_size=3"], [UNSCORED]),
        (["experiment=sft_tiny", "data=steer", "data.source.sft=[a.jsonl,b.jsonl]"],
         ["data.source.rl=rl.jsonl"], [UNSCORED]),
        (["experiment=sft_7b", *SERVER], ["+experiment=grpo_7b", *SERVER], []),
        (["experiment=grpo_7b", *SERVER], ["model=qwen2_5_vl_7b", "rollout.max_new_tokens=256"], []),
        (["experiment=ablation_7b", "ablation=single_turn", *SERVER], ["rollout.max_new_tokens=256"], []),
        (["experiment=grpo_smol", "data=steer", "data.source.rl=[a.jsonl,b.jsonl]", "data.source.folder=."],
         ["data=steer", "data.source.bench=[a.jsonl,b.jsonl]", "data.source.folder=."], [TRAINED]),
        (["experiment=grpo_nano", "data=steer", "data.source.rl=a.jsonl", "data.source.bench=b.jsonl", "tutor=llm",
          "data.source.kind=benign", "data.max_bad_rows=3", *SERVER],
         ["data=steer", "data.source.bench=b.jsonl", "data.source.kind=benign", "data.max_bad_rows=3", "judge=llm",
          *SERVER], []),
        (["experiment=grpo_tiny", "data=steer", "data.source.rl=a.jsonl", "tutor=llm", *OWN],
         ["data.source.bench=a.jsonl", "judge=llm", *(word.replace("tutor", "judge") for word in OWN)], [TRAINED]),
        (["experiment=grpo_tiny", "data=steer", "data.source.rl=a.jsonl", "~tutor", "+tutor._target_=mine.Tutor"],
         ["data.source.bench=a.jsonl"], [UNGRADED, TRAINED]),
    ],
)  # fmt: skip
def test_the_next_command_runs_as_it_is(
    words: list[str], has: list[str], notes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preflight, "resource_problems", lambda model: [])
    monkeypatch.setattr(gpus, "has_gpu", lambda: True)
    for file in ("a", "b", "rl"):  # the last, as a synthesis names its scripts
        Path(f"{file}.jsonl").write_text(json.dumps({"turns": ["What is this?", "And that?"]}))
    empty_adapter(Path("adapter"))
    config = compose(*words, "init_from=null")
    command, *said = closing(config, Path.cwd(), Result("val/loss"), words).splitlines()[1:]
    assert [line.strip()[1:-1] for line in said] == notes
    _, script, *following = shlex.split(command.removeprefix("next:"))
    program = script.removesuffix(".py")
    assert set(has) <= set(following)
    config = compose(*(normalise_override(word, program) for word in following), name=program)
    assert list(map(str, {"train": train_problems, "bench": bench_problems}[program](config))) == []


@pytest.mark.parametrize("experiment", ["sft_smol", "sft_own"])
def test_a_next_command_whose_rows_are_not_filled_in_is_refused(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would train on STEER-mini, or be measured there, what was taught by rows of one's own."""
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text(json.dumps({"turns": ["What is this?", "And that?"]}))
    empty_adapter(Path("adapter"))
    words = ["experiment=sft_smol", "data=steer", "data.source.sft=a.jsonl", f"name={experiment}"]
    said = closing(compose(*words), Path.cwd(), Result("val/loss"), words).splitlines()[1]
    _, script, *following = shlex.split(said.removeprefix("next:"))
    assert cli.run(script.removesuffix(".py"), following) == 2
    part = "rl" if script == "train.py" else "bench"
    assert f"data.source.{part}='<your rows to play>': is no such file" in capsys.readouterr().err


OWN_FILES = {
    "experiment/sft_own.yaml": "# @package _global_\ndefaults: [sft_nano, override /model: nano_small]\n"
    "model: {lora: {r: 8, targets: [q_proj]}}\n",
    "experiment/grpo_own.yaml": "# @package _global_\ndefaults: [grpo_nano]\nmodel: {tower: null}\n",
    "model/nano_small.yaml": "defaults: [nano, _self_]\nlora: {alpha: 24}\nmax_pixels: 6272\n",
}


@pytest.mark.parametrize(
    ("words", "following"),
    [
        (["+experiment=sft_own"],
         "train.py --config-dir=conf +experiment=grpo_nano init_from=run/adapter model=nano_small "
         "model.lora.r=8 model.lora.targets=[q_proj]"),
        (["+experiment=sft_nano", "model=nano_small", "model.lora.r=8", "model.lora.targets=[q_proj]"],
         "train.py --config-dir=conf +experiment=grpo_nano init_from=run/adapter model=nano_small "
         "model.lora.r=8 model.lora.targets=[q_proj]"),
        (["+experiment=grpo_own", "init_from=null", "model=nano_small"],
         "bench.py --config-dir=conf model=nano_small policies.grpo=run/adapter bench.limit=300 "
         "rollout.max_new_tokens=64 model.tower=null"),
    ],
)  # fmt: skip
def test_the_next_command_has_the_model_that_a_file_of_ones_own_made(
    words: list[str],
    following: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in OWN_FILES.items():
        (path := Path("conf", name)).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    Path("run/adapter").mkdir(parents=True)
    Path("run/adapter/adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 24}))
    save_file({"layer.q_proj.lora_A.weight": numpy.zeros((8, 1))}, "run/adapter/adapter_model.safetensors")

    def ended(problems: Callable[[DictConfig], list[Problem]], config: DictConfig, folder: Path) -> None:
        assert problems(config) == []
        print(closing(config, folder, Result("val/loss"), typed_words()))

    monkeypatch.setitem(cli.RUNS, "train", partial(ended, train_problems))
    assert cli.run("train", ["--config-dir=conf", *words, "hydra.run.dir=run"]) == 0
    said = capsys.readouterr().out.splitlines()[1]
    assert shlex.split(said) == shlex.split(f"next: python {following}")
    monkeypatch.setitem(cli.RUNS, "bench", lambda config, folder: print(bench_problems(config)))
    _, _, script, *given = shlex.split(said)
    assert cli.run(script.removesuffix(".py"), [*given, "hydra.run.dir=next"]) == 0
    assert script == "train.py" or capsys.readouterr().out == "[]\n"


MADE = {"source": {"_target_": "steer_lit.data.sources.MiniSource"}}
RUBRIC = {"_target_": "steer_lit.tutor.rubric.RubricTutor"}
GRPO = {"stage": "grpo", "model": {"name": "nano"}, "rollout": {"max_new_tokens": 64}, "data": MADE, "tutor": RUBRIC}
SMOL = {**GRPO, "model": {"name": "smol"}}
GROUND = {**GRPO, "stage": "ground"}


@pytest.mark.parametrize(
    ("configs", "runs", "policies"),
    [
        ([GRPO, GRPO], [("seed=1",), ("seed=2",)], "'policies.grpo=[0,1]'"),
        (
            [GRPO, GRPO],
            [("ablation=full", "seed=1"), ("ablation=no_tcsr",)],
            "policies.full=0 policies.no_tcsr=1 bench.baseline=full",
        ),
        ([GRPO, GRPO], [("ablation=full", "seed=1"), ("ablation=full", "seed=2")], "'policies.full=[0,1]'"),
        ([GRPO, GRPO], [("optim.lr=1e-4",), ("optim.lr=3e-4",)], "policies.lr_1e-4=0 policies.lr_3e-4=1"),
        ([{**GRPO, "init_from": "s"}] * 2, [("seed=1",), ("seed=2",)], "policies.sft=s 'policies.grpo=[0,1]'"),
        ([{**GRPO, "init_from": "s"}, GRPO], [("init_from=s",), ("init_from=t",)], "policies.s=0 policies.t=1"),
        ([GRPO, SMOL], [("model=nano",), ("model=smol",)], None),
        ([GRPO, SMOL], [("experiment=grpo_nano",), ("experiment=grpo_smol",)], None),
        ([GRPO, {**GRPO, "stage": "sft"}], [("experiment=grpo_nano",), ("experiment=sft_nano",)], None),
        ([GRPO, {**GRPO, "system_prompt": "b"}], [("system_prompt=a",), ("system_prompt=b",)], None),
        ([GROUND, GROUND], [("seed=1",), ("seed=2",)], None),
    ],
)
def test_the_names_of_a_sweeps_policies(
    configs: list[dict[str, object]],
    runs: list[tuple[str, ...]],
    policies: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    empty_adapter(Path("s"))
    adapters = {run: Path(str(number)) for number, run in enumerate(runs)}
    said = compared(list(map(OmegaConf.create, configs)), adapters, [])
    wanted = f"next:    python bench.py model=nano {policies} bench.limit=300 rollout.max_new_tokens=64"
    assert said == ("" if policies is None else wanted)


def test_the_benchmark_after_a_sweep_can_be_typed_if_the_folders_need_quotes() -> None:
    folders = [Path("my runs/0"), Path("my runs/1")]
    adapters = {(f"seed={number}",): folder for number, folder in enumerate(folders)}
    words = shlex.split(compared([OmegaConf.create(GRPO)] * 2, adapters, []))
    (word,) = (word for word in words if word.startswith("policies."))
    assert OverridesParser.create().parse_override(word).value() == list(map(str, folders))


def test_no_policy_of_a_sweep_is_cut_shorter_than_it_was_trained() -> None:
    configs = [OmegaConf.create({**GRPO, "rollout": {"max_new_tokens": tokens}}) for tokens in (24, 96, 48)]
    adapters = {(f"rollout.max_new_tokens={number}",): Path(str(number)) for number in range(3)}
    assert compared(configs, adapters, []).endswith(" rollout.max_new_tokens=96")


TO_FILL_IN = """'data.source.bench="<your rows to play>"'"""


@pytest.mark.parametrize(
    ("key", "other", "played"),
    [
        ("rl", "a.jsonl", "data.source.bench=a.jsonl"),
        ("rl", "b.jsonl", TO_FILL_IN),
        ("bench", "b.jsonl", TO_FILL_IN),
    ],
)
def test_the_benchmark_after_a_sweep_plays_the_rows_that_all_runs_had(key: str, other: str, played: str) -> None:
    made_of = {"_target_": "steer_lit.data.sources.FileSource", "rl": "r.jsonl", "bench": None}
    configs = [OmegaConf.create({**GRPO, "data": {"source": {**made_of, key: file}}}) for file in ("a.jsonl", other)]
    command, *notes = compared(configs, {("seed=1",): Path("0"), ("seed=2",): Path("1")}, []).splitlines()
    assert command.endswith(f"rollout.max_new_tokens=64 data=steer {played}")
    assert notes == ([] if played == TO_FILL_IN else [f"         ({TRAINED})"])


def test_the_benchmark_after_a_sweep_of_sft_has_no_token_limit() -> None:
    config = OmegaConf.create(composed("train", ["experiment=sft_tiny"]))
    OmegaConf.set_struct(config, True)  # as Hydra does
    said = compared([config, config], {("seed=1",): Path("0"), ("seed=2",): Path("1")}, [])
    assert said == "next:    python bench.py model=tiny 'policies.sft=[0,1]' bench.limit=20"
