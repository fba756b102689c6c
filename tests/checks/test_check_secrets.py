"""No key and no login is written to a file or the screen, whether a server is used or not."""

from __future__ import annotations

import os
from pathlib import Path

import hydra
import pytest

from steer_lit.checks.programs import bench_problems, synthesis_problems, train_problems
from steer_lit.checks.servers import key_problems, saved_key_problems
from steer_lit.cli import main as cli
from steer_lit.terminal.conf_files import conf_dir
from steer_lit.terminal.stdout import REFUSED
from tests.settings import Refused

SECRET = "SECRET1234"
PROBLEMS = {"train": train_problems, "bench": bench_problems, "synthesize": synthesis_problems}


@pytest.fixture
def hidden(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Return what `refused` does, in an empty folder that must stay empty. No key may be shown."""
    monkeypatch.chdir(tmp_path)

    def message(*words: str, program: str = "train") -> str:
        assert cli.run(program, list(words)) == REFUSED
        shown = capsys.readouterr()
        assert SECRET not in shown.err + shown.out
        assert os.listdir(tmp_path) == []
        return shown.err

    return message


@pytest.mark.parametrize("program", ["train", "bench", "synthesize"])
@pytest.mark.parametrize(
    "word",
    [
        f"server.base_url=http://u:sk-{SECRET}@h/v1",
        f"server.base_url=http://u:{SECRET}@h/v1",
        f"server.base_url=u:{SECRET}@h/v1",
        f"server.base_url=http://h/v1?key={SECRET}",
        f"server.api_key_env=sk-{SECRET}",
        f"server.api_key_env=hf_{SECRET}x",
        f"++server.api_key=sk-{SECRET}",
        f"+server.token={SECRET}",
        f"server={{base_url: null, api_key_env: hf_{SECRET}x}}",
        f"+server={{api_key: {SECRET}}}",
    ],
)
def test_a_key_on_the_command_line_is_refused_without_showing_or_saving_it(
    hidden: Refused, program: str, word: str
) -> None:
    """Nothing in this config uses a server, but `server` is saved nevertheless."""
    assert "server" in hidden(word, program=program)


@pytest.mark.parametrize(
    "word",
    [
        f"policies.x=server:m@http://u:{SECRET}@h/v1",
        f"policies.x={{model: m, base_url: 'http://u:{SECRET}@h/v1'}}",
        f"policies.x={{model: m, api_key: {SECRET}}}",
        f"+policies.x.api_key_env=sk-{SECRET}",
        f"+policies.x.api_key={SECRET}",
        f"+policies.x.base_url=u:{SECRET}@h",
        f"judge.client.settings.base_url=http://u:{SECRET}@h/v1",
        f"+judge.client.base_url=http://u:{SECRET}@h/v1",
        f"+judge.client.api_key={SECRET}",
        f"generator.target.api_key_env=sk-{SECRET}",
    ],
)
def test_a_key_of_a_policy_or_a_client_is_refused(hidden: Refused, word: str) -> None:
    hidden("judge=llm", word, program="bench")


@pytest.mark.parametrize("word", [f"server.api_key_env=sk-{SECRET}", f"server.api_key_env=OPENAI_API_KEY,hf_{SECRET}x"])
def test_a_sweep_saves_no_key(hidden: Refused, word: str) -> None:
    """Hydra writes multirun.yaml with every word before the first run is checked."""
    hidden("-m", "stage=grpo", "init_from=null", "tutor=llm", word, "seed=1,2", "hydra.sweep.dir=sweep")


@pytest.mark.parametrize(
    "word",
    [
        f"+hydra.job.env_set.OPENAI_API_KEY=sk-{SECRET}",
        f"+hydra.job.env_set.HF_TOKEN={SECRET}",
        f"++hydra.job.env_set={{AWS_SECRET_ACCESS_KEY: 1, OTHER: sk-{SECRET}}}",
        f"hydra.job={{env_set: {{OPENAI_API_KEY: {SECRET}}}}}",
        f"+trainer.api_key={SECRET}",
        f"name=sk-{SECRET}-{SECRET}",
    ],
)
def test_a_key_in_hydras_environment_settings_is_refused(hidden: Refused, word: str) -> None:
    """Hydra sets environment variables itself, and saves them with the words."""
    message = hidden("-m", word, "seed=1,2", "hydra.sweep.dir=sweep")
    assert f"{word.lstrip('+').partition('=')[0]}='***': holds a key" in message


@pytest.mark.parametrize(
    ("variable", "word"),
    [
        ("SOME_API_KEY", "system_prompt=${oc.env:SOME_API_KEY}"),
        ("HF_TOKEN", "name=a-${oc.env:HF_TOKEN}-b"),
        ("OWN", "server={base_url: 'http://h/${oc.env:OWN}/v1', model: m, api_key_env: OWN}"),
    ],
)
def test_a_key_of_the_environment_is_not_saved_with_a_run(
    hidden: Refused, run_dir: str, monkeypatch: pytest.MonkeyPatch, variable: str, word: str
) -> None:
    monkeypatch.setenv(variable, f"{SECRET}{SECRET}")
    assert f"='***': holds the key in ${variable}, and is saved with the run" in hidden(word, run_dir)


@pytest.mark.parametrize("program", ["train", "bench", "synthesize"])
@pytest.mark.parametrize(
    "word",
    [
        "hydra.run.dir=a-${oc.env:SOME_API_KEY}",
        "hydra.run.dir=a-${oc.env:SOME_API_KEY,none}",
        f"hydra.run.dir={SECRET}{SECRET}/run",
        "hydra.sweep.dir=${oc.env:SOME_API_KEY}",
        "+hydra.sweep.subdir=${oc.env:SOME_API_KEY}",
        f"name={SECRET}{SECRET}",
    ],
)
def test_a_key_from_the_environment_is_in_no_folders_name(
    hidden: Refused, monkeypatch: pytest.MonkeyPatch, program: str, word: str
) -> None:
    """Hydra makes the folder before any config can be checked."""
    monkeypatch.setenv("SOME_API_KEY", f"{SECRET}{SECRET}")
    message = hidden(word, program=program)
    assert f"{word.lstrip('+').partition('=')[0]}='***': holds the key in $SOME_API_KEY" in message


def test_a_policys_name_that_is_a_key_is_refused(hidden: Refused) -> None:
    message = hidden(f"policies.sk-{SECRET}{SECRET}=base", "bench.limit=10", program="bench")
    assert "policies='***': is named by a key" in message


@pytest.mark.parametrize("program", ["train", "bench", "synthesize"])
def test_a_key_in_an_unused_server_config_is_refused(program: str) -> None:
    """A config file of the user's own may set it, without a word on the command line."""
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        words = [
            f"server.base_url=http://u:{SECRET}@h/v1",
            f"server.api_key_env=sk-{SECRET}",
            f"+server.api_key={SECRET}",
        ]
        found = PROBLEMS[program](hydra.compose(program, ["run_dir=x", "hydra.run.dir=x", *words]))
    assert {problem.key for problem in found} == {"server.base_url", "server.api_key_env", "server.api_key"}
    assert SECRET not in "".join(map(str, found))


@pytest.mark.parametrize(
    "word",
    [
        f"+tutor.address=u:{SECRET}@h:80",  # of a class of one's own
        f"+tutor.address=http://{SECRET}@h",
        f"+tutor.addresses=[h:80,u:{SECRET}@h:80]",
        f"+tutor.places={{first: 'u:{SECRET}@h/v1'}}",
        f"+tutor.client={{base_url: u:{SECRET}@h:80/v1}}",
        f"++server={{base_url: 'u:{SECRET}@h', model: m}}",
    ],
)
def test_a_login_in_any_address_is_refused_before_a_sweep_saves_it(hidden: Refused, word: str) -> None:
    message = hidden("-m", word, "seed=1,2", "hydra.sweep.dir=sweep")
    assert f"{word.lstrip('+').partition('=')[0]}='***': holds a key or a login" in message


@pytest.mark.parametrize("program", ["train", "bench", "synthesize"])
@pytest.mark.parametrize("login", [f"u:{SECRET}@h:80", f"https://{SECRET}@h/v1", "u:${oc.env:OWN}@h/v1"])
def test_a_login_in_a_config_file_is_refused(program: str, login: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be in the run's folder, and, without `://`, in the loggers' tables of settings."""
    monkeypatch.setenv("OWN", SECRET)
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        words = [f"+own.address='{login}'", f"+own.addresses=['{login}']"]
        found = PROBLEMS[program](hydra.compose(program, ["run_dir=x", "hydra.run.dir=x", *words]))
    assert [problem.key for problem in found] == ["own.address", "own.addresses.0"]
    assert SECRET not in "".join(map(str, found))


def test_a_dry_run_is_checked_for_keys() -> None:
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        words = ["generator=llm", "dry_run=true", f"generator.target.api_key_env=sk-{SECRET}"]
        (problem,) = synthesis_problems(hydra.compose("synthesize", ["run_dir=x", *words]))
    assert problem.key == "generator.target.api_key_env"


def test_values_without_a_key_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    words = [
        "server.base_url=http://localhost:8000/v1",
        "server.api_key_env=OPENAI_API_KEY",
        "server.model=org/model-7b@main",
        "server=openai",
        "server.concurrency=4,8",
        "policies.risk=outputs/risk-1/adapter",
        "policies.other=server:Qwen/Qwen2.5-VL-7B-Instruct",
        "policies.other={model: my-model, base_url: http://localhost:8001/v1}",
        "policies.other=server:model@main",
        "policies.other=[server:model@main,server:other@main]",
        "data.source.sft=hf://owner/name:train@main",
        "data.source.sft=[hf://owner/name:train@main,rows.jsonl]",
        "+logger.mine.host=localhost:8000",
        "+logger.mine.to=${oc.env:USER}@home",
        "system_prompt='Write to mailto:me@home or to me@home: at 12:30 @ home, or me:bob@x.org'",
        "policies.other={model:claude-3-5-sonnet@20240620,base_url:https://h/v1}",
        "policies.other=server:vertex:claude@2024",
        "+logger.mine.to=abfss://container@account.dfs.core.windows.net/x",
        "+logger.mine.tags=[owner:me@lab.org]",
        "+logger.mine.code=git+ssh://git@github.com/x.git",
        "+experiment=sft_smol",
        "hydra.run.dir=outputs/sk-learn-rows-of-2024",
        "data.source.sft=sk-learn.jsonl",
        "rollout.max_new_tokens=32",
        "+hydra.job.env_set.OMP_NUM_THREADS='1'",
        "+hydra.job.env_set.HF_TOKEN=${oc.env:OTHER}",
        "+hydra.job.env_set.HF_TOKEN=${oc.env:HF_TOKEN}",
        "policies.token=base",
        "--cfg",
    ]
    assert list(key_problems(words)) == []


def test_a_key_is_told_where_it_was_given_and_not_where_the_config_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET * 2)
    tutor = {"token": SECRET * 2}
    repeats = {
        "module": {"tutor": {**tutor, "own": SECRET * 2}},
        "callbacks": {"settings": {"settings": {"tutor": tutor}}},
    }
    found = [problem.key for problem in saved_key_problems({"tutor": tutor, **repeats})]
    assert found == ["tutor.token", "module.tutor.own"]
