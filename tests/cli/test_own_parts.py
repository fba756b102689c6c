"""Parts that a config names, the user's own among them: what texts they are given, and what is said when they raise."""

from __future__ import annotations

from errno import ENOSPC
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from steer_lit.cli import main as cli
from steer_lit.cli.players import build, build_player
from steer_lit.cli.signals import FROZEN
from steer_lit.errors import ServerDown
from steer_lit.rollout.threads import run_in_thread
from steer_lit.terminal.stdout import REFUSED

OWN = """\
class Own:
    def of(self, trajectory):
        return self.lookup()

    attack = score = grade = of

    def lookup(self):
        raise KeyError("the user's bug")

class Inherits(Own): ...

class Unmade:
    def __init__(self):
        Own().lookup()

def generator(**settings):
    return type("Made", (), {"write": lambda self, asked: Own().lookup()})()
"""
BUG = """    raise KeyError("the user's bug")\nKeyError: "the user's bug\""""


class Parts(SimpleNamespace):
    """Keeps what it is given."""


def test_an_escaped_interpolation_stays_a_text_wherever_it_is_given() -> None:
    """Hydra resolved the values of a part a second time; a policy behind a server got the text."""
    part = {"_target_": f"{__name__}.Parts", "prompt": "${prompt}"}
    nested = {**part, "texts": ["${prompt}"], "section": {"prompt": "${prompt}"}, "part": part}
    config = OmegaConf.create({"prompt": r"Say \${this} and \\\${that}, not ${three}", "three": 3, "model": nested})
    text = r"Say ${this} and \${that}, not 3"
    assert config.prompt == text
    made = build(config.model, "model", given=1)
    assert made.part == Parts(prompt=text)
    assert type(made.texts) is list
    assert made == Parts(prompt=text, texts=[text], section={"prompt": text}, part=made.part, given=1)


@pytest.mark.parametrize(
    ("program", "words"), [("train", ["data.source.scale=0.02", "data.val_size=0"]), ("bench", ["bench.limit=1"])]
)
def test_a_local_policy_gets_its_system_prompt_as_it_was_meant(
    program: str, words: list[str], run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []

    def load(**settings: Any) -> None:
        given.append(settings)
        raise SystemExit(7)  # before it would be used

    monkeypatch.setattr("steer_lit.policy.load.load_policy", load)
    assert cli.run(program, [*words, r"system_prompt='Look at \${this}.'", run_dir]) == 7
    assert given[0]["system_prompt"] == "Look at ${this}."


@pytest.mark.parametrize(
    ("program", "key", "method", "words"),
    [
        ("train", "reward", "of", ["reward=custom"]),
        ("train", "tutor", "score", []),
        ("train", "attacker", "attack", ["attacker=scripted"]),
        ("bench", "judge", "grade", []),
        ("synthesize", "generator", "write", []),
    ],
)
@pytest.mark.parametrize("own", ["Own", "Inherits", "Unmade"])
def test_an_own_part_that_raises_is_named_with_its_key_and_the_lines_from_its_first(
    program: str,
    key: str,
    method: str,
    words: list[str],
    own: str,
    tmp_path: Path,
    run_dir: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it is made or as it is called, in a thread perhaps. How to go on comes last, once."""
    (file := tmp_path / f"own_of_{key}_{own}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)

    def run(config: DictConfig, folder: Path) -> None:
        called = key in ("tutor", "attacker", "judge") and own != "Unmade"
        part = build_player(config[key], str, key) if called else build(config[key], key)
        try:
            run_in_thread(getattr(part, method), None).result()
        except KeyError as error:
            error.add_note("the way on")
            raise

    monkeypatch.setitem(cli.RUNS, program, run)
    target = f"{file.stem}.{'generator' if key == 'generator' and own != 'Unmade' else own}"
    keys = [f"~generator.{name}" for name in ("name", "seed", "patience") if program == "synthesize"]
    assert cli.run(program, [*words, *keys, f"{key}._target_={target}", run_dir]) == REFUSED
    said, way_on = capsys.readouterr().err.rstrip("\n"), "" if own == "Unmade" else "\nthe way on"
    assert said.startswith(
        f'{key}._target_={target} raised KeyError\nTraceback (most recent call last):\n  File "{file}", line '
    )
    assert said.endswith(f"{BUG}{way_on}")
    assert said.count("  File ") == said.count(f'  File "{file}"') == 2


SEVERAL = """\
class Tutor:
    def score(self, asked):
        raise asked

class Attacker:
    @classmethod
    def from_config(cls, **settings):
        return cls()

    def attack(self, asked):
        raise asked

class Module:
    train = Tutor.score
"""


def _raised(error: Exception, by: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    """Run a training in which one of several classes of one file raises `error`. Return its exit code."""
    (folder / f"own_{by}.py").write_text(SEVERAL)
    (folder / "own_broken.py").write_text("import nowhere\n")
    monkeypatch.syspath_prepend(folder)
    method = {"tutor": "score", "attacker": "attack", "module": "train"}[by]

    def run(config: DictConfig, folder: Path) -> None:
        made = {key: build(config[key], key) for key in ("attacker", "tutor")}
        made["module"] = build(OmegaConf.create({"_target_": config.module._target_}), "module")
        getattr(made[by], method)(error)

    monkeypatch.setitem(cli.RUNS, "train", run)
    words = ["+experiment=grpo_tiny", "attacker=scripted", f"attacker._target_=own_{by}.Attacker.from_config"]
    words += [f"tutor._target_=own_{by}.Tutor", f"module._target_=own_{by}.Module"]
    return cli.run("train", [*words, "+callbacks.never._target_=own_broken.Made", *more])


@pytest.mark.parametrize("by", ["tutor", "attacker.from_config", "module"])
def test_of_several_own_classes_in_one_file_the_one_that_raised_is_named(
    by: str, tmp_path: Path, run_dir: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a part that the run never makes cannot even be imported."""
    name, _, made_by = by.partition(".")
    assert _raised(KeyError("a bug"), name, tmp_path, monkeypatch, run_dir) == REFUSED
    target = f"own_{name}.{name.capitalize()}{'.' + made_by if made_by else ''}"
    assert capsys.readouterr().err.startswith(f"{name}._target_={target} raised KeyError\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ServerDown("the server is gone"), "the server is gone\n"),
        (OSError(ENOSPC, "No space left", "/x"), "/x: No space left\n"),
    ],
)
def test_what_an_own_class_passes_on_is_told_as_ever(
    error: Exception,
    said: str,
    tmp_path: Path,
    run_dir: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _raised(error, "tutor", tmp_path, monkeypatch, run_dir) == REFUSED
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


def test_a_further_rank_names_an_own_class_too(
    tmp_path: Path, run_dir: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_rank.py").write_text(SEVERAL)
    monkeypatch.syspath_prepend(tmp_path)

    def run(config: DictConfig, folder: Path) -> None:
        build(config.tutor, "tutor").score(KeyError("a bug"))

    monkeypatch.setitem(cli.RUNS, "train", run)
    (frozen := tmp_path / "config.yaml").write_text("run_dir: here\ntutor: {_target_: own_rank.Tutor}\n")
    assert cli.run("train", [f"{FROZEN}{frozen}"]) == REFUSED
    assert capsys.readouterr().err.startswith("tutor._target_=own_rank.Tutor raised KeyError\n")


def test_a_bug_of_ours_is_not_blamed_on_an_own_part(
    tmp_path: Path, run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_and_well.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.RUNS, "train", lambda config, folder: {}["ours"])
    with pytest.raises(KeyError, match="ours"):
        cli.run("train", ["tutor._target_=own_and_well.Own", run_dir])
