"""`python synthesize.py`: what runs, what is refused, and the next command it prints."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import DictConfig

from steer_lit.chat import ChatClient
from steer_lit.checks.programs import synthesis_problems, train_problems
from steer_lit.cli import main as cli
from steer_lit.data.sources import FileSource
from steer_lit.data.steps import holding_out_fails
from steer_lit.synthesis.screen import next_steps
from steer_lit.synthesis.settings import SynthesisSettings
from steer_lit.terminal import conf_files

REFUSED = 2
SERVER = ["server.base_url=http://127.0.0.1:1/v1", "server.model=played"]


def compose(*overrides: str, name: str = "synthesize") -> DictConfig:
    with hydra.initialize_config_dir(str(conf_files.conf_dir()), version_base="1.3"):
        return hydra.compose(name, ["run_dir=unused", *overrides])


def finished(rows: int, generator: str = "llm") -> dict[str, Any]:
    """Return a manifest of two stages with these numbers of written rows."""
    stage = {"failed": 0, "written": rows, "generator": {"generator": generator}}
    return {"stages": {"stage1": {**stage}, "stage2": {**stage}}}


def test_rows_are_made_and_the_next_command_trains_on_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "a, run"  # shell and Hydra would each split this name
    assert cli.run("synthesize", ["kind=red_team", "rows=30", f'hydra.run.dir="{run}"']) == 0
    out = capsys.readouterr().out
    (command,) = re.findall(r"next: +python train\.py (.*)", out)
    assert (run / "versions.json").is_file()
    config = compose(*(word.removeprefix("+") for word in shlex.split(command)), name="train")
    assert train_problems(config) == []
    assert config.model.name == "nano"  # nano knows STEER-mini's words; `tiny` has random weights and learns nothing
    assert config.data.source.sft == str(run / "sft.jsonl")
    assert "mean_turns" not in config.data.source  # an option of STEER-mini that FileSource does not have


def test_a_stopped_run_can_be_resumed_in_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["kind=benign", "rows=20", f"hydra.run.dir={tmp_path}"]
    assert cli.run("synthesize", words) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    journal = tmp_path / "work.stage2.jsonl"
    journal.write_bytes(journal.read_bytes()[:-100])
    (tmp_path / "sft.jsonl").unlink()
    assert cli.run("synthesize", words) == 0
    after = {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    assert after == before


def test_scripts_that_name_no_kind_have_the_runs(tmp_path: Path) -> None:
    """A benign row's refusal is of no use: as red team it might be kept."""
    assert cli.run("synthesize", ["kind=benign", "rows=4", "stages=1", f"hydra.run.dir={tmp_path / 'one'}"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "one" / "stage1.jsonl").read_text().splitlines()]
    file = tmp_path / "scripts.jsonl"
    unnamed = [{key: value for key, value in row.items() if key not in ("kind", "category")} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in unnamed))
    words = ["stages=2", "kind=benign", f"data.scripts={file}", f"hydra.run.dir={tmp_path / 'two'}"]
    assert cli.run("synthesize", words) == 0
    assert json.loads((tmp_path / "two" / "manifest.json").read_text())["stages"]["stage2"]["kinds"] == ["benign"]


def test_the_manifest_keeps_how_each_stage_was_made(tmp_path: Path) -> None:
    """The stages are made one after the other in one folder."""
    folder = f"hydra.run.dir={tmp_path}"
    assert cli.run("synthesize", ["kind=benign", "rows=3", "stages=1", "seed=5", "near_duplicate=0.9", folder]) == 0
    assert cli.run("synthesize", ["kind=benign", "rows=3", "stages=2", "seed=5", folder]) == 0
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    first, second = (manifest["stages"][stage] for stage in ("stage1", "stage2"))
    assert (first["kinds"], first["seed"], first["settings"]["near_duplicate"]) == (["benign"], 5, 0.9)
    assert (second["kinds"], second["seed"], second["settings"]["near_duplicate"]) == (["benign"], 5, 0.8)
    assert not manifest.keys() & {"kind", "seed", "settings"}  # they differ between stages
    assert [*first["files"], *second["files"]] == ["stage1.jsonl", "rl.jsonl", "sft.jsonl"]


def test_one_stage_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["kind=obfuscated", "rows=60", "max_turns=3"]  # not the defaults, which Stage II would otherwise use
    assert cli.run("synthesize", ["stages=1", *words, f"hydra.run.dir={tmp_path / 'stage one'}"]) == 0
    (command,) = re.findall(r"next: +python synthesize\.py (.*)", capsys.readouterr().out)
    assert shlex.split(command)[:3] == words
    assert not (tmp_path / "stage one" / "sft.jsonl").exists()
    assert cli.run("synthesize", [*shlex.split(command), f"hydra.run.dir={tmp_path / 'two'}"]) == 0
    assert len((tmp_path / "two" / "sft.jsonl").read_text().splitlines()) == 60


@pytest.mark.parametrize(("rows", "held_out"), [(1, 0), (2, 1), (9, 1), (10, 2), (1000, 64)])
def test_the_next_command_leaves_rows_to_train_on(
    settings: Callable[..., SynthesisSettings], rows: int, held_out: int
) -> None:
    said = next_steps(finished(rows), settings("both"), Path("run"), [])
    assert said.endswith(f" data.val_size={held_out}")
    assert holding_out_fails(rows, 1, held_out) is None


@pytest.mark.parametrize(("generator", "experiment"), [("template", "sft_nano"), ("llm", "sft_smol")])
def test_the_next_command_trains_a_model_that_knows_the_words(
    settings: Callable[..., SynthesisSettings], generator: str, experiment: str
) -> None:
    said = next_steps(finished(5, generator), settings("both"), Path("run"), [])
    assert f"python train.py +experiment={experiment} data=steer" in said
    assert f"data.max_turns={settings('both').stage2.max_turns} " in said  # the rows as they were made


def test_the_next_command_keeps_the_system_prompt(settings: Callable[..., SynthesisSettings]) -> None:
    words = ["rows=5", "system_prompt='Look, and say.'"]
    command = next_steps(finished(5), settings("both"), Path("run"), words).splitlines()[-1]
    assert shlex.split(command)[-1] == words[1]
    assert "rows=5" not in command


def test_the_next_command_can_train_on_a_few_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run("synthesize", ["rows=5", f"hydra.run.dir={tmp_path / 'rows'}"]) == 0
    (command,) = re.findall(r"next: +python train\.py (.*)", capsys.readouterr().out)
    words = [*shlex.split(command), "trainer.max_steps=1", f"hydra.run.dir={tmp_path / 'run'}"]
    assert cli.run("train", words) == 0
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(("stages", "failed"), [("1", 2), ("2", 1), ("both", 3)])
def test_the_command_that_makes_missing_rows_is_printed(
    settings: Callable[..., SynthesisSettings], stages: str, failed: int
) -> None:
    """A stage that an earlier command ran is not repeated by this one's command."""
    manifest = finished(5)
    manifest["stages"]["stage1"]["failed"], manifest["stages"]["stage2"]["failed"] = 2, 1
    first = next_steps(manifest, settings(stages), Path("run"), ["rows=6"]).splitlines()[0]
    again = "python synthesize.py rows=6 hydra.run.dir=run"
    rows, them = ("1 row", "it") if failed == 1 else (f"{failed} rows", "them")
    assert first == f"{rows} had no answer, and this makes only {them} again: {again}"


@pytest.mark.parametrize(("most", "played"), [(10, 6), (4, 4)])  # of 4 to 8 turns written, 6 on average
def test_a_dry_run_prints_the_cost_and_sends_nothing(
    most: int, played: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No server is named, because none is needed to compute the cost."""
    words = ["generator=llm", "rows=1000", f"max_turns={most}", "dry_run=true"]
    assert cli.run("synthesize", [*words, f"hydra.run.dir={tmp_path}"]) == 0
    out = capsys.readouterr().out
    (total,) = re.findall(r"all\s+│\s+([\d,]+)", out)
    assert int(total.replace(",", "")) == 1000 * (4 + 6 + (played - 1) + played + played)
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_dry_run_offline_prints_what_it_would_make(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run("synthesize", ["rows=1200", "dry_run=true", f"hydra.run.dir={tmp_path}"]) == 0
    first, second, free, done, following = capsys.readouterr().out.splitlines()
    assert first.startswith("stage 1: up to 1,200 red_team scripts of 4 to 8 turns from STEER-mini's dialogues; kept")
    assert second.startswith("stage 2: up to 1,200 dialogues of at most 10 turns from those scripts; kept with safety")
    assert free == "generator=template asks no server: this run costs nothing but time"
    assert done == "dry_run=true: nothing was made"
    assert following == f"next:    python synthesize.py rows=1200 hydra.run.dir={tmp_path}"
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize(("most", "answers"), [(10, 20), (3, 6)])
def test_a_dry_run_counts_the_turns_of_its_scripts(
    most: int, answers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not those that Stage I would write: 4 to 8."""
    scripts = tmp_path / "scripts.jsonl"
    rows = [{"turns": [f"Is it {row}, or {turn}?" for turn in range(10)]} for row in range(2)]
    scripts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["generator=llm", *SERVER, "stages=2", f"data.scripts={scripts}", f"max_turns={most}", "dry_run=true"]
    assert cli.run("synthesize", [*words, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    said = capsys.readouterr().out
    assert f"but {scripts} has 2 usable scripts, each gives at most one dialogue\n" in said
    assert re.search(rf"blue agent │ +{answers} │", said)


def test_a_dry_run_counts_the_rows_of_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generator=llm", "rows=40", "stages=1", "kind=benign", f"data.seeds={tmp_path / 'seeds.jsonl'}"]
    dry = [*words, "dry_run=true", f"hydra.run.dir={tmp_path / 'run'}"]
    assert cli.run("synthesize", dry) == REFUSED
    assert "seeds.jsonl': is no such file" in capsys.readouterr().err
    rows = [json.dumps({"question_id": f"q{n}", "question": f"How is {n} made?"}) for n in range(8)]
    (tmp_path / "seeds.jsonl").write_text("\n".join([*rows, ""]))
    assert cli.run("synthesize", dry) == 0
    first, fewer, *_, following, lacking = capsys.readouterr().out.splitlines()
    assert first.startswith("stage 1: up to 8 benign scripts")
    assert fewer == f"rows=40, but {tmp_path}/seeds.jsonl has 8 usable questions, each gives at most one script"
    assert shlex.split(following)[3:] == [*words, dry[-1]]
    assert lacking.strip() == "(add server.base_url and server.model)"
    assert not (tmp_path / "run").exists()


def test_a_file_is_read_once_and_its_bad_rows_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading opens every picture, which takes minutes for thousands of photos."""
    assert cli.run("synthesize", ["rows=4", "stages=1", f"hydra.run.dir={tmp_path / 'one'}"]) == 0
    file, run = tmp_path / "scripts.jsonl", tmp_path / "two"
    file.write_text((tmp_path / "one" / "stage1.jsonl").read_text() + '{"nothing\\u001b": 1}\n')
    first, opened = FileSource.first, []
    monkeypatch.setattr(FileSource, "first", lambda self, *given: opened.append(self.rl) or first(self, *given))
    capsys.readouterr()
    words = ["stages=2", f"data.scripts={file}", "data.max_bad_rows=1", f"hydra.run.dir={run}"]
    assert cli.run("synthesize", words) == 0
    assert opened == [str(file)]
    said = capsys.readouterr().out
    assert said.count(f"{file}: 1 row put aside, the first: {file}, row ") == 1
    assert r"'nothing\x1b'" in said
    assert "\x1b" not in said
    before = {path.name: path.read_bytes() for path in run.glob("*.jsonl")}
    assert json.loads(before["quarantine.jsonl"])["source"] == str(file)
    file.write_text('{"prompt": "Another?"}\n{"nothing": 1}\n{"nothing": 2}\n')
    assert cli.run("synthesize", words) == REFUSED
    assert {path.name: path.read_bytes() for path in run.glob("*.jsonl")} == before


def test_seeds_may_come_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    rows: list[tuple[int, object]] = [(1, {"question": "How is glass made?"})]
    monkeypatch.setattr("steer_lit.data.rows.hub_rows", lambda name: asked.append(name) or iter(rows))
    words = ["generator=llm", *SERVER, "dry_run=true", "data.seeds=hf://owner/name", f"hydra.run.dir={tmp_path / 'x'}"]
    assert cli.run("synthesize", words) == 0
    assert "up to 1 red_team script of 4 to 8 turns from hf://owner/name; kept" in capsys.readouterr().out
    assert asked == ["hf://owner/name"]


@pytest.mark.parametrize("greeted", [True, False])
def test_the_cost_is_printed_before_any_request_of_a_run_that_is_not_refused(
    greeted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not greeted:  # so that the dead server is noticed by the first request
        monkeypatch.setattr(ChatClient, "greet", lambda client: None)
    assert cli.run("synthesize", ["generator=llm", *SERVER, "rows=1", "server.retries=0", "server.min_requests=1",
                           "server.max_failed_share=0", "server.cache_dir=null",
                           f"hydra.run.dir={tmp_path}"]) == REFUSED  # fmt: skip
    shown = capsys.readouterr()
    assert ("judge the attack" in shown.out) != greeted
    assert "server.base_url=http://127.0.0.1:1/v1" in shown.err
    assert re.search(
        rf"^next:    python synthesize.py generator=llm .*hydra.run.dir={tmp_path}$", shown.err, re.MULTILINE
    )
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        ([], []),
        (["stages=1"], []),
        (["stages=3"], ["stages"]),
        (["kind=harmless"], ["kind"]),
        (["rows=0", "seed=-1"], ["seed", "rows"]),
        (["turns.benign=[5,3]"], ["turns.benign"]),
        (["turns.red_team=[1,3]"], ["turns.red_team"]),
        (["turns.red_team=4"], ["turns.red_team"]),
        (["success=6"], ["success"]),
        (["keep.min_safety=0", "keep.min_usefulness=high"], ["keep.min_safety", "keep.min_usefulness"]),
        (["near_duplicate=0"], ["near_duplicate"]),
        (["stages=2"], ["data.scripts"]),
        (["data.scripts=somewhere.jsonl"], ["data.scripts"]),
        (["data.seeds=somewhere.jsonl"], ["data.seeds"]),
        (["generator.patience=-1"], ["generator.patience"]),
        (["generator=llm"], ["server.base_url", "server.model"]),
        (["generator=llm", "dry_run=true"], []),
        (["generator=llm", *SERVER], []),
        (["generator=llm", *SERVER, "generator.target.model=''"], ["generator.target.model"]),
        (["generator=llm", *SERVER, "+generator.target.modl=m"], ["generator.target.modl"]),
        (["generator=llm", *SERVER, "generator.temperature=-1"], ["generator.temperature"]),
    ],
)  # fmt: skip
def test_values_that_cannot_work_are_all_named(overrides: list[str], keys: list[str]) -> None:
    assert [problem.key for problem in synthesis_problems(compose(*overrides))] == keys


def test_a_refused_command_gives_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run("synthesize", ["rows=0", "kind=red", f"hydra.run.dir={tmp_path}"]) == REFUSED
    shown = capsys.readouterr().err
    assert shown.splitlines()[0] == "2 problems in the configuration:"
    assert "kind='red': must be one of benign, obfuscated, red_team" in shown


@pytest.mark.parametrize("generator", ["template", "llm"])
def test_every_generator_can_be_built(generator: str) -> None:
    from hydra.utils import instantiate

    made = instantiate(compose(f"generator={generator}", *SERVER, "server.cache_dir=null").generator)
    assert made.identity["generator"] == generator
    json.dumps(dict(made.identity))


def test_every_value_of_the_config_names_its_source() -> None:
    conf = conf_files.conf_dir()
    for path in (conf / "synthesize.yaml", *sorted((conf / "generator").glob("*.yaml"))):
        for line in path.read_text().splitlines():
            number = re.match(r"\s*(\w+): (\[|\d)", line)
            if number and number[1] not in ("seed", "rows", "benign", "obfuscated", "red_team"):
                assert re.search(r"# .*(ours|paper|tau_)", line), line
