"""The files around the code match it: the documents' commands and links, the wheel, the dependencies."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig
from packaging.requirements import Requirement

import steer_lit
from steer_lit.bench import tables
from steer_lit.bench.charts import CHARTS
from steer_lit.checks import programs
from steer_lit.cli import main as cli
from steer_lit.dotted import ABSENT, at
from steer_lit.errors import ConfigError, Problem
from steer_lit.policy import gpus, preflight
from steer_lit.terminal.conf_files import composed
from tests.test_conf import empty_adapter

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REQUIREMENTS = {(found := Requirement(line)).name: found for line in PYPROJECT["project"]["dependencies"]}
MODULE_OF = {"hydra-core": "hydra", "pillow": "PIL", "pyyaml": "yaml"}  # distributions whose module has another name


PAGES = ("benchmark", "experiments", "gpus", "method", "results", "rows", "runs", "servers")
GUIDE = ("README.md", *(f"docs/{page}.md" for page in PAGES))  # the pages for users


def bash_blocks(page: str) -> str:
    return "\n".join(re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL))


def guide_commands() -> list[list[str]]:
    """Return the command lines of the guide's bash blocks, split as by a shell, without comments and continuations."""
    lines = "\n".join(map(bash_blocks, GUIDE)).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def entry_commands() -> list[list[str]]:
    return [words for words in guide_commands() if words[0] == "python" and words[1].endswith(".py")]


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_readme_shows_the_two_commands() -> None:
    readme = bash_blocks("README.md").splitlines()
    assert {"make demo", "make test"} <= set(readme)


def test_the_commands_of_the_documents_can_be_pasted() -> None:
    """An interactive zsh, the default shell of macOS, does not treat `#` as the start of a comment."""
    assert all(bash_blocks(page) for page in ("README.md", "CONTRIBUTING.md"))
    for page in (*GUIDE, "CONTRIBUTING.md"):
        assert "#" not in bash_blocks(page), page


def test_every_make_target_of_the_guide_exists() -> None:
    asked = {words[1] for words in guide_commands() if words[0] == "make"}
    assert asked <= makefile_targets()


def test_every_link_of_the_documents_leads_to_a_file_and_a_heading() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    link = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]+))?\)")
    links = [(document, *found) for document in documents for found in link.findall(document.read_text())]
    broken = [
        f"{document.name}: {target}#{anchor}"
        for document, target, anchor in links
        if not (page := document.parent / target if target else document).exists()
        or (anchor and anchor not in anchors(page))
    ]
    assert any(anchor for *_, anchor in links)
    assert broken == []


def anchors(document: Path) -> set[str]:
    """Return GitHub's anchors for the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_listing_in_contributing_names_every_part() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    (listing,) = re.findall(r"## What is where\n\n```\n(.*?)```", page, flags=re.DOTALL)
    patterns = ("*.py", "conf/*.yaml", "conf/*/*.yaml", "steer_lit/*.py", "steer_lit/*/*.py")
    files = [path.relative_to(ROOT) for pattern in patterns for path in ROOT.glob(pattern)]
    parts = {f"{file.parts[1]}/" if len(file.parts) == 3 else file.name for file in files} - {"__init__.py"}
    assert {"rollout/", "judge/", "train.yaml"} <= parts
    assert parts - set(listing.split()) == set()


def test_every_trap_has_tests_and_every_mention_of_one_an_entry() -> None:
    entries = set(map(int, re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "traps.md").read_text(), re.MULTILINE)))
    sources = [path.read_text() for folder in ("steer_lit", "tests") for path in (ROOT / folder).rglob("*.py")]
    tested = {int(number) for text in sources for number in re.findall(r"def test_trap_(\d+)_", text)}
    mentioned = {int(number) for text in sources for number in re.findall(r"TRAPS (\d+)", text)}
    assert tested == entries
    assert mentioned <= entries


def test_the_metrics_page_names_the_labels_of_the_report() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    labels = [
        *tables.RATES.values(),
        *tables.STRICT.values(),
        tables.HELD,
        tables.MEDIAN,
        tables.CUT,
        *(title for title, _ in CHARTS.values()),
    ]
    assert [label for label in labels if label not in page] == []


def test_every_key_beside_other_libraries_names_exists() -> None:
    table = (ROOT / "docs/method.md").read_text().partition("## Coming from TRL")[2].partition("\n## ")[0]
    here = " ".join(re.findall(r"^\| (.*?) \| ", table, re.MULTILINE))
    keys = [key for key in re.findall(r"`([a-z_]+\.[\w.]+)", here) if not key.startswith("hydra.")]
    config = composed("train", ["experiment=grpo_nano"]) or {}
    assert len(keys) > 20
    assert [key for key in keys if at(config, key) is ABSENT] == []


def test_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    described = set(re.findall(r"^([a-z][\w-]*):.*?## ", text, flags=re.MULTILINE))
    assert described == makefile_targets()


@pytest.mark.parametrize("words", entry_commands(), ids=lambda words: " ".join(words[1:]))
@pytest.mark.usefixtures("a_machine_that_has_everything")
def test_every_command_of_the_guide_passes_the_config_check(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert passes(words[1:]), capsys.readouterr().err


@pytest.mark.usefixtures("a_machine_that_has_everything")
def test_every_command_of_make_demo_passes_the_config_check(capsys: pytest.CaptureFixture[str]) -> None:
    make = ["make", "--dry-run", "--always-make", "demo"]
    lines = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout.replace("\\\n", " ")
    commands = [words[1:] for line in lines.splitlines() if (words := shlex.split(line)) and words[1].endswith(".py")]
    assert [script for script, *_ in commands] == ["train.py", "train.py", "bench.py"]
    for command in commands:
        assert passes(command), capsys.readouterr().err
    assert "model.device=cpu" in commands[-1]  # otherwise the benchmark would use a GPU after training on the CPU


@pytest.fixture
def a_machine_that_has_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Simulate a GPU and the presence of all model weights. A program ends after its config check."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpus, "has_gpu", lambda: True)
    monkeypatch.setattr(preflight, "resource_problems", lambda model: [])

    def refuse(check: Callable[[DictConfig], list[Problem]], config: DictConfig, folder: Path) -> None:
        if problems := check(config):
            raise ConfigError(problems)

    monkeypatch.setitem(cli.RUNS, "train", partial(refuse, programs.train_problems))
    monkeypatch.setitem(cli.RUNS, "bench", partial(refuse, programs.bench_problems))
    monkeypatch.setitem(cli.RUNS, "synthesize", partial(refuse, programs.synthesis_problems))


def passes(command: list[str]) -> bool:
    """Return whether the program's config check passes. Creates the adapters and row files that the command names."""
    script, *arguments = command
    assert (ROOT / script).is_file()
    if "-m" in arguments:  # check one point of the sweep: the first value of every comma list
        arguments.remove("-m")
        arguments = [re.sub(r"^([^=]+=[^,\[\]{}]+),.*$", r"\1", argument) for argument in arguments]
    values = (word.partition("=")[2].strip("[]") for word in arguments)
    for path in (Path(one) for value in values for one in value.split(",")):
        if path.name == "adapter":
            empty_adapter(path)
        elif path.suffix == ".jsonl":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return cli.run(script.removesuffix(".py"), arguments) == 0


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not line.startswith(("set ", "cd "))] == ["make test"]


def test_the_wheel_holds_configs_and_weights(tmp_path: Path) -> None:
    """The wheel holds every config and weight file of the checkout, and nothing from tests/ or outputs/."""
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling builds the wheel; it is in the dev extra")
    (built,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(built).namelist())
    configs = {f"steer_lit/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    weights = {str(path.relative_to(ROOT)) for path in (ROOT / "steer_lit").rglob("*.safetensors")}
    assert configs
    assert configs <= names
    assert weights <= names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"steer_lit", f"steer_lit-{steer_lit.__version__}.dist-info"}


def test_console_scripts_name_functions_that_exist() -> None:
    assert set(PYPROJECT["project"]["scripts"]) == {"steer-train", "steer-bench", "steer-synthesize"}
    for target in PYPROJECT["project"]["scripts"].values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def allowed(name: str, *versions: str) -> list[str]:
    return [version for version in versions if version in REQUIREMENTS[name].specifier]


def test_trap_38_compromised_lightning_releases_are_excluded() -> None:
    assert allowed("lightning", "2.6.1", "2.6.2", "2.6.3", "2.6.6") == ["2.6.1", "2.6.6"]


def test_trap_11_transformers_releases_with_wrong_positions_are_excluded() -> None:
    # 5.4.0 to 5.5.3 compute wrong positions for still images. Before 5.17 the rotary embedding did not combine the
    # sections of M-RoPE.
    assert allowed("transformers", "5.4.0", "5.5.3", "5.16.1", "5.17.0", "5.23.0") == ["5.17.0", "5.23.0"]


def test_every_library_imported_is_declared_and_the_other_way_round() -> None:
    imported = set()
    for path in (ROOT / "steer_lit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    imported -= {"steer_lit", *sys.stdlib_module_names}
    declared = {MODULE_OF.get(name, name.replace("-", "_")) for name in REQUIREMENTS}
    # Libraries that we need but do not import: transformers reads GGUF files with gguf and quantizes with bitsandbytes;
    # Lightning's logger writes with tensorboard.
    behind = {"gguf", "bitsandbytes", "tensorboard"}
    assert imported <= declared, f"imported, not declared: {sorted(imported - declared)}"
    assert declared <= imported | behind, f"declared, not used: {sorted(declared - imported - behind)}"


def test_citation_and_changelog_know_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == steer_lit.__version__
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2604.16358"
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[0] in {"Unreleased", steer_lit.__version__}


def test_seeds_of_one_table_were_measured_on_the_same_dialogues() -> None:
    """Summaries of other dialogues look alike: a seed's row was once from the scenarios that it had trained on."""
    for pattern in ("smol_seed*_rl.json", "smol_seed?.json"):
        summaries = [json.loads(path.read_text()) for path in sorted((ROOT / "docs/results").glob(pattern))]
        assert len(summaries) >= 2
        tiers = [{tier: found["n"] for tier, found in summary["grpo"]["by_tier"].items()} for summary in summaries]
        assert all(counts == tiers[0] for counts in tiers)


def intervals(summary: object) -> Iterator[tuple[float, float, float]]:
    """Yield value, low and high of every figure in a summary."""
    if isinstance(summary, dict):
        if {"value", "low", "high"} <= summary.keys() and summary["value"] is not None:
            yield summary["value"], summary["low"], summary["high"]
        for part in summary.values():
            yield from intervals(part)


def test_every_interval_in_the_tables_of_results_stands_in_a_summary() -> None:
    shares, differences = set(), set()
    for path in (ROOT / "docs/results").glob("*.json"):
        for value, low, high in intervals(json.loads(path.read_text())):
            shares.add(f"{value:.1f} ({low:.0f}-{high:.0f})")
            for sign in (1, -1):  # either way round
                ends = sorted(round(sign * end, 1) + 0.0 for end in (low, high))  # + 0.0: no -0.0
                differences.add(f"{sign * value:+.1f} ({ends[0]:.1f} to {ends[1]:.1f})")
    unknown = []
    for page in ("README.md", "docs/results.md"):
        tables = "\n".join(line for line in (ROOT / page).read_text().splitlines() if line.startswith("|"))
        found = re.findall(r"\d+\.\d \(\d+-\d+\)", tables), re.findall(r"[+-]\d+\.\d \(\S+ to \S+?\)", tables)
        assert len(found[0]) > 10
        unknown += [cell for cell in found[0] if cell not in shares]
        unknown += [cell for cell in found[1] if cell not in differences]
    # smol's seed 1 on topics that GRPO trained on: the summary of that run was not kept.
    assert unknown == ["+16.7 (6.9 to 26.3)", "+19.2 (12.1 to 27.0)", "+15.0 (5.0 to 25.4)", "-1.9 (-7.3 to 3.4)"]
