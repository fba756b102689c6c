"""Values of a wrong type: all are reported at once, and none causes a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from steer_lit.cli import main as cli
from tests.settings import Refused

GRPO = ("~experiment", "stage=grpo", "init_from=null", "rollout.max_new_tokens=32")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trainer=1", "trainer=1: must hold keys"),
        ("optim=3", "optim=3: must hold keys"),
        ("optim=[]", "Error merging override optim=[]\nCannot merge DictConfig with ListConfig"),
        ("optim.betas=5", "optim.betas=5: must be two numbers"),
        ("optim.lr=inf", "optim.lr=inf: must be a number, above 0"),
        ("optim.lr=1e300", "optim.lr=1e+300: must be a number, above 0 and at most 10"),
        ("optim.weight_decay=1e308", "optim.weight_decay=1e+308: must be a number, at least 0 and at most 1"),
        ("data.source.scale=1e308", "data.source.scale=1e+308: must be a number, above 0 and at most 1000"),
        ("data.batch_size=1.5", "data.batch_size=1.5: must be a whole number, above 0"),
        ("trainer.max_steps=1.5", "trainer.max_steps=1.5: must be a whole number, above 0, or -1"),
        ("trainer.max_steps=abc", "trainer.max_steps='abc': must be a whole number, above 0, or -1"),
        ("trainer.max_epochs=abc", "trainer.max_epochs='abc': must be a whole number, above 0, or -1"),
        ("trainer.devices=[]", "trainer.devices=[]: must be a number of devices, a list of them"),
        ("trainer.devices=[0]", "trainer.devices=[0]: names GPUs, and this run is on the CPU: give a number"),
        ("trainer.devices=-1", "trainer.devices=-1: names GPUs, and this run is on the CPU: give a number"),
        ("trainer.val_check_interval=0.3", "trainer.val_check_interval=0.3: must be a whole number from 1 up, of"),
        ("+callbacks.x=5", "callbacks.x=5: must name a class, callbacks.x._target_=<module>.<class>, or be null"),
        ("+callbacks.x={a: 1}", "callbacks.x={'a': 1}: must name a class, callbacks.x._target_="),
        ("callbacks.export=false", "callbacks.export=false: must name a class"),
        ("+logger.y=1", "logger.y=1: must name a class, logger.y._target_=<module>.<class>, or be null"),
        ("trainer.accelerator=[1]", "trainer.accelerator=[1]: must be one of auto, cpu, gpu, cuda"),
        ("+trainer.precision=[1]", "trainer.precision=[1]: model.dtype and model.lora.dtype say"),
        (
            "trainer.val_check_interval=0",
            "trainer.val_check_interval=0: must be a whole number from 1 up, of step",
        ),
        ("trainer.val_check_interval={}", "trainer.val_check_interval={}: must be a whole number from 1 up, of steps"),
        (
            "trainer.check_val_every_n_epoch=0",
            "trainer.check_val_every_n_epoch=0: must be a whole number, above 0, or null",
        ),
        ("module=7", "module=7: must hold keys"),
        ("module._target_=null", "module._target_=null: must name a class, <module>.<class>"),
        ("optim._target_=[]", "1 problem in the configuration:\n  * optim._target_=[]: must name a class"),
        ("data.source=5", "data.source=5: must hold keys"),
        ("data.source=null", "data.source=null: must hold keys"),
        ("data.source.sft=[1]", "data.source.sft=[1]: must be a number of rows"),
        ("data.max_turns=10000000000", "data.max_turns=10000000000: must be a whole number from 2 to 100"),
        ("model=null", "model"),
        ("stage=[]", "stage"),
        ("stage={a: 1}", "stage={'a': 1}: must be one of pretrain, ground, sft, grpo"),
        ("model.lora=null", "model.lora=null: must hold keys"),
        ("model.lora.targets=5", "model.lora.targets=5: must be a list"),
        ("model.lora.r=inf", "model.lora.r=inf: must be a whole number, at least 1 and at most 4096"),
        ("model.lora.r=5000", "model.lora.r=5000: must be a whole number, at least 1 and at most 4096"),
        ("model.lora.alpha=nan", "model.lora.alpha=nan: must be a number, above 0 and at most 10000"),
        ("model=7", "Could not find 'model/7'"),
        ("server=3", "Could not find 'server/3'"),
        ("reward=null", "Could not find 'reward/null'"),
        (
            "seed=99999999999999999999",
            "=99999999999999999999: must be a whole number, at least 0 and at most 4294967295",
        ),
        ("init_from=[1]", "init_from=[1]: must be text, or null"),
        ("ckpt_path=[1]", "ckpt_path=[1]: must be text, or null"),
        ("system_prompt=null", "system_prompt=null: must be text"),
        ("name=5", "name=5: must be text"),
        ("name=é", "name=é: is not a <key>=<value> that Hydra can read"),
        ("policies.x={model: é, x-api-key: s3cret}", "policies.x={...: is not a <key>=<value>"),
        ("name=..", "name='..': must be text that names the run's log and a folder: 1 to 100 letters without a /"),
        (f"name={'x' * 101}", "names the run's log and a folder: 1 to 100 letters without a /"),
        ("name=''", "name='': must be text that names the run's log and a folder"),
        ("data.blank_images=no", "data.blank_images='no': must be true or false"),
        ("data.blank_images=[false]", "data.blank_images=[False]: must be true or false"),
        ("model.seed=1.9", "model.seed=1.9: must be a whole number, at least 0"),
        ("model.seed=abc", "model.seed='abc': must be a whole number, at least 0"),
        ("data.seed=1.5", "data.seed=1.5: must be a whole number, at least 0"),
        ("model.system_prompt=[]", "model.system_prompt=[]: must be text"),
        ("model.init_from=3", "model.init_from=3: must be text, or null"),
        ("model.name=[1]", "model.name=[1]: must be text"),
        ("model.gradient_checkpointing=off", "model.gradient_checkpointing='off': must be true or false"),
        ("+trainer.enable_progress_bar=0", "trainer.enable_progress_bar=0: must be true or false"),
    ],
)
def test_training_refuses_values_of_a_wrong_type(refused: Refused, run_dir: str, word: str, said: str) -> None:
    assert said in refused(word, run_dir)


@pytest.mark.parametrize(
    "words",
    [
        ["trainer.val_check_interval=0.3", "trainer.check_val_every_n_epoch=1"],
        ["trainer.val_check_interval=null", "trainer.devices=auto"],
        ["+callbacks.x=null", "name=of_${stage}"],
        ["optim={lr: 0.1}", 'name="é"'],
    ],
)
def test_training_accepts_unusual_but_valid_values(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    monkeypatch.setattr("steer_lit.cli.train_run._train", lambda config, run_dir: None)
    assert cli.run("train", [*words, f"hydra.run.dir={tmp_path}"]) == 0


def test_device_numbers_with_accelerator_auto_are_refused_without_a_gpu(
    refused: Refused, run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer_lit.policy.gpus.has_gpu", lambda: False)
    said = refused("trainer.accelerator=auto", "trainer.devices=[0]", run_dir)
    assert "trainer.devices=[0]: names GPUs, and this run is on the CPU" in said


@pytest.mark.parametrize("program", ["train", "bench", "synthesize"])
def test_a_name_with_a_slash_is_refused(
    program: str, refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before the config was checked, Hydra had begun a log outside the run's folder."""
    monkeypatch.chdir(tmp_path)
    words = {"bench": ["~policies.base"], "synthesize": ["+name=../../x"]}.get(program, [])
    for word in ("name=../../x", "++name='a/b'"):
        message = refused(*words[:1], word, "hydra.run.dir=a/run", program=program)
        assert "names the run's log and a folder: 1 to 100 letters without a /" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("+trainer.profiler=abc", "When passing string value for the `profiler`"),
        ("+trainer.max_step=3", "Trainer.__init__() got an unexpected keyword argument 'max_step'"),
    ],
)
def test_an_error_of_lightnings_trainer_is_one_line_before_rows_are_read(
    refused: Refused, run_dir: str, word: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer_lit.data.datamodule.SteerDataModule.__init__", pytest.fail)
    (told,) = refused(word, run_dir).splitlines()
    assert told.startswith(f"trainer: lightning.Trainer says: {said}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rollout=3"], "rollout=3: must hold keys"),
        (["objective=null"], "objective=null: must hold keys"),
        (["rollout.max_turns=10000000000"], "=10000000000: must be a whole number, at least 1 and at most 100"),
        (["data=steer", "data.source.rl=5"], "data.source.rl=5: must be a row file, a list of such, or null"),
        (["data=steer", "data.source.rl=[]"], "data.source.rl=[]: must be a row file, a list of such, or null"),
        (["data=steer", "data.source.rl=[a.jsonl,5]"], "data.source.rl=['a.jsonl', 5]: must be a row file"),
        (["data=steer", "data.source.folder=5"], "data.source.folder=5: must be text, or null"),
        (["model=smol", "model.tower=5"], "model.tower=5: must be text, or null"),
        (
            ["trainer.max_steps=5", "objective.epochs=2"],
            "trainer.max_steps=5: must be a multiple of objective.epochs=2, the steps that a batch takes, such as 4 or",
        ),
        (["trainer.max_steps=1", "objective.epochs=3"], "the steps that a batch takes, such as 3"),
    ],
)
def test_grpo_refuses_values_of_a_wrong_type(refused: Refused, run_dir: str, words: list[str], said: str) -> None:
    assert said in refused(*GRPO, *words, run_dir)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("rollout=3", "rollout=3: must hold keys"),
        ("judge=null", "Could not find 'judge/null'"),
        ("data.source=5", "data.source=5: must hold keys"),
        ("system_prompt=null", "system_prompt=null: must be text"),
        ("model.system_prompt=[]", "model.system_prompt=[]: must be text"),
        ("model.seed=1.9", "model.seed=1.9: must be a whole number"),
        ("from_run=[1]", "from_run=[1]: must be a run's folder, a list of such, or null"),
        ("bench.constants=no", "bench.constants='no': must be true or false"),
        ("judge_check=1", "judge_check=1: must be true or false"),
        ("judge._target_=null", "judge._target_=null: must name a class, <module>.<class>"),
        ("++policies={1: base, 1.5: base}", "policies.1='base': YAML does not read its name as text: choose another"),
        ("++policies={1.5: {model: m}}", "policies.1.5='***': YAML does not read its name as text: choose another"),
        ("++policies={true: [base, base]}", "policies.True='***': YAML does not read its name as text"),
        ("policies.x={adapter: a, foo: 1}", "policies.x='***': nothing reads its foo; must be base"),
        ("policies.x={model: m, foo: 1}", "policies.x='***': nothing reads its foo; must be base, an"),
        ("policies.x={model: 1}", "policies.x='***': must be base, an adapter folder"),
        ("policies=[]", "Cannot merge DictConfig with ListConfig"),
        ("policies={a: base}", "policies.a: there is no such key in this run. Did you mean policies or policies.base?"),
        ("+policies={a: /none}", "policies.a='/none': no such folder"),
        ("data.blank_images=null", "data.blank_images=null: must be true or false"),
        ("bench=null", "bench=null: must hold keys"),
        ("policies=foo", "policies='foo': must hold keys"),
        ("bench.max_turns=abc", "bench.max_turns='abc': must be a whole number"),
        ("bench.seed=-1", "bench.seed=-1: must be"),
        ("bench.chunk=2.5", "bench.chunk=2.5: must be"),
        ("bench.max_turns=10000000000", "=10000000000: must be a whole number, at least 1 and at most 100"),
        ("bench.resamples=10000000000", "=10000000000: must be a whole number, at least 100 and at most 100000"),
        ("bench.horizon=10000000000", "bench.horizon=10000000000: must be a whole number, at least 1 and at most 100"),
        ("bench.limit=99999999999999999999999", "must be a whole number, at least 1 and at most 1000000000, or null"),
        ("data.source.bench=99999999999999999999999", "must be a number of rows, from 1 to a billion"),
        ("server.connect_timeout=abc", "server.connect_timeout='abc': must be at least 30 s"),
        ("server.connect_timeout=nan", "server.connect_timeout=nan: must be at least 30 s"),
    ],
)
def test_the_benchmark_refuses_values_of_a_wrong_type(refused: Refused, run_dir: str, word: str, said: str) -> None:
    assert said in refused(word, run_dir, program="bench")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("turns=5", "turns=5: must hold keys"),
        ("keep=null", "keep=null: must hold keys"),
        ("data.seeds=[1]", "data.seeds=[1]: must be text, or null"),
        ("generator=null", "Could not find 'generator/null'"),
        ("system_prompt=null", "system_prompt=null: must be text"),
        ("dry_run=sure", "dry_run='sure': must be true or false"),
        ("stage=2", "stage: there is no such key in this run."),
        ("keep.min_safety=nan", "keep.min_safety=nan"),
        ("max_turns=10000000000", "max_turns=10000000000: must be a whole number, at least 2 and at most 100"),
        (
            "rows=99999999999999999999",
            "=99999999999999999999: must be a whole number, at least 1 and at most 1000000000",
        ),
    ],
)
def test_synthesis_refuses_values_of_a_wrong_type(refused: Refused, run_dir: str, word: str, said: str) -> None:
    assert said in refused(word, run_dir, program="synthesize")


def test_all_wrong_types_are_reported_at_once(refused: Refused, run_dir: str) -> None:
    words = ["trainer=1", "module=3", "seed=-1", "data.source=5", "init_from=[1]", "system_prompt=null"]
    shown = refused(*words, run_dir)
    assert shown.startswith("6 problems in the configuration:")
    for word in words:
        assert f"  * {word}: " in shown


NANO, ABLATION = ["+experiment=grpo_nano", "init_from=null"], "+experiment=ablation_nano"


@pytest.mark.parametrize(
    ("program", "words", "said"),
    [
        ("bench", ["from_run=3"], "from_run=3: must be a run's folder, a list of such, or null"),
        ("bench", ["seed=abc"], "seed='abc': must be a whole number, at least 0 and at most 4294967295"),
        ("train", [ABLATION, "sft_adapter=3"], "sft_adapter=3: must be text, or null"),
        (
            "train",
            [*NANO, "rollout.max_new_tokens=${.group_size}", "rollout.group_size=a"],
            "rollout.group_size='a': must be a whole number from 2 up: a group of one has nothing to compare with",
        ),
        (
            "train",
            [*NANO, "optim.max_grad_norm=${..seed}", "seed=-1"],
            "seed=-1: must be a whole number, at least 0 and at most 4294967295",
        ),
    ],
)
def test_a_wrong_value_is_reported_once(
    refused: Refused, run_dir: str, program: str, words: list[str], said: str
) -> None:
    """Not once for each key that is derived from it, and not as another value."""
    assert refused(*words, run_dir, program=program) == f"1 problem in the configuration:\n  * {said}"


@pytest.mark.parametrize("name", ["grpo_nano", "grpo_smol"])
def test_a_single_turn_names_the_key_that_must_stay_at_two(name: str, refused: Refused, run_dir: str) -> None:
    """These experiments set `data.max_turns: ${rollout.max_turns}`, and the user has typed the latter alone."""
    words = [f"+experiment={name}", "init_from=null", "rollout.max_turns=1"]
    found = "rollout.max_turns=1: must be a whole number from 2 to 100 in data.max_turns; openings alone:"
    assert f"{found} rollout.max_turns=1 data.max_turns=2" in refused(*words, run_dir)
    # Something else is refused here, so that nothing is trained.
    assert "max_turns" not in refused(*words, "data.max_turns=2", "optim.lr=-1", run_dir)


def test_a_section_instead_of_a_value_is_named_by_its_key(refused: Refused, run_dir: str) -> None:
    assert "\n  * seed={'_target_'" in refused("seed=${optim}", run_dir)
