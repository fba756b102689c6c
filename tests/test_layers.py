"""The structure of the package, read from its source: allowed imports, heavy libraries, and the length of files."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "steer_lit"
SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = [ROOT / "train.py", ROOT / "bench.py", ROOT / "synthesize.py"]

# Level of each module or folder directly under steer_lit/. An import may only go to a lower level.
LEVELS = {
    "types": 0,
    "answer_format": 0,
    "mini_world": 0,
    "digests": 0,
    "dotted": 0,
    "numbers": 0,
    "texts": 0,
    "errors": 0,
    "ranks": 0,
    "waiting": 0,
    "verdict_scale": 0.1,  # which of its halves holds follows from the row
    "allowed": 0.1,  # turns what does not fit a type into problems
    "files": 0.2,
    "terminal": 0.2,  # what a user types and sees; nothing about runs
    "stages": 0.3,  # what a stage leaves has a name in files/
    "chat": 0.5,  # one client for all parts above; imports its libraries on connecting
    "prompts": 0.7,  # what is sent through the client, and how replies are read
    "data": 1,
    "policy": 1,
    "attacker": 1,
    "tutor": 1,
    "reward": 1,
    "objective": 1,
    "rollout": 2,
    "lit": 3,
    "bench": 3,
    "synthesis": 3,
    "checks": 4,
    "cli": 5,
}
STDLIB = frozenset(sys.stdlib_module_names)
# What the lowest parts may import besides the standard library, and what some parts above may not.
LIBRARIES = {
    "allowed": {"pydantic"},
    "files": {"pydantic"},
    "terminal": {"hydra", "omegaconf", "rich", "yaml"},
    "stages": set(),
    "prompts": {"pydantic", "PIL"},
    "objective": {"torch"},
}
NEVER = {
    "reward": {"torch"},
    "rollout": {"lightning", "hydra", "transformers"},
    "bench": {"lightning", "pytorch_lightning"},
}
HEAVY = {"torch", "torchvision", "transformers", "datasets", "lightning", "peft", "bitsandbytes", "scipy", "matplotlib"}
HEAVY |= {"openai", "httpx2"}
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every (line, dotted name) imported anywhere in `tree`; `from a import b` gives `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; this package writes imports in full"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def part_of(path: Path) -> str:
    """Return the module or folder of steer_lit/ that a source file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def offence(importer: str, name: str) -> str | None:
    """Return why a module of `importer` may not import `name`, or None if it may."""
    top, _, rest = name.partition(".")
    if top != "steer_lit":
        allowed = LIBRARIES.get(importer, set() if LEVELS[importer] < 0.2 else None)
        if allowed is not None and top not in STDLIB | allowed:
            return f"{importer} needs the standard library and {sorted(allowed)}"
        return f"{importer} never imports {top}" if top in NEVER.get(importer, ()) else None
    target = rest.split(".")[0]
    if target in {importer, "__version__"}:
        return None
    if target not in LEVELS:
        return f"{target} has no level in this test"
    if LEVELS[target] >= LEVELS[importer]:
        return f"{importer} (level {LEVELS[importer]}) may not import {target} (level {LEVELS[target]})"
    return None


@pytest.mark.parametrize(
    ("importer", "name", "allowed"),
    [
        ("rollout", "steer_lit.reward.tcsr", True),
        ("data", "steer_lit.data.images", True),
        ("bench", "steer_lit.lit.progress", False),  # same level
        ("attacker", "steer_lit.tutor.rubric", False),  # sideways
        ("reward", "steer_lit.rollout.play", False),  # upwards
        ("types", "numpy", False),
        ("reward", "torch.nn", False),
        ("objective", "numpy", False),
        ("objective", "torch.nn.functional", True),
        ("bench", "lightning.Trainer", False),
        ("files", "hydra", False),
        ("files", "pydantic.Field", True),
        ("prompts", "requests", False),
        ("terminal", "torch", False),
        ("stages", "numpy", False),
        ("rollout", "lightning", False),
    ],
)
def test_forbidden_imports_are_recognised(importer: str, name: str, allowed: bool) -> None:
    assert (offence(importer, name) is None) is allowed


def test_imports_point_down_only() -> None:
    found = []
    for path in SOURCES:
        if path == PACKAGE / "__init__.py":
            continue
        for line, name in imports(ast.parse(path.read_text())):
            if (why := offence(part_of(path), name)) is not None:
                found.append(f"{path.relative_to(ROOT)}:{line}: {name}: {why}")
    assert not found, "\n".join(found)


def test_every_part_of_the_package_has_a_level() -> None:
    parts = {part_of(path) for path in SOURCES} - {"__init__"}
    assert parts == set(LEVELS)


def test_scripts_only_call_the_programs() -> None:
    for script in SCRIPTS:
        names = {name for _, name in imports(ast.parse(script.read_text())) if name.startswith("steer_lit")}
        assert names, f"{script.name} does not call steer_lit"
        assert all(name.startswith("steer_lit.cli.programs") for name in names), (
            f"{script.name} imports {sorted(names)}"
        )


def test_nothing_heavy_loads_before_the_config_is_checked() -> None:
    """`train.py --help` imports only the cli, so the cli must not import the heavy libraries."""
    code = "import sys, steer_lit.cli.main; print(*(set(sys.argv[1:]) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code, *sorted(HEAVY)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []


def test_no_file_has_a_vague_name() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "base", "core"}
    assert [str(path.relative_to(ROOT)) for path in SOURCES if {part_of(path), path.stem} & vague] == []


def test_files_and_functions_have_a_maximum_length() -> None:
    found = []
    for path in [*SOURCES, *SCRIPTS]:
        text = path.read_text()
        where = path.relative_to(ROOT)
        if (lines := text.count("\n")) > MAX_FILE_LINES:
            found.append(f"{where}: {lines} lines, at most {MAX_FILE_LINES}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    found.append(f"{where}:{node.lineno}: {node.name}: {length} lines, at most {MAX_FUNCTION_LINES}")
    assert not found, "\n".join(found)
