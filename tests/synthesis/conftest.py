"""Fixtures: six seeds with one picture, settings for both stages, and a generator that one client plays completely."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from steer_lit.synthesis.generator import Generator
from steer_lit.synthesis.llm import llm_generator
from steer_lit.synthesis.settings import Stage1Settings, Stage2Settings, SynthesisSettings
from tests.synthesis.played import Answer, PlayedClient, plays_well

SEEDS = [{"question_id": f"q{number}", "question": f"How would one take number {number}?"} for number in range(6)]


@pytest.fixture
def seeds_file(tmp_path: Path) -> Path:
    """Write six questions about one picture. Return their file."""
    from PIL import Image

    Image.new("RGB", (40, 30), "red").save(tmp_path / "shop.png")
    file = tmp_path / "seeds.jsonl"
    file.write_text("".join(json.dumps({**seed, "image": "shop.png"}) + "\n" for seed in SEEDS))
    return file


@pytest.fixture
def settings(seeds_file: Path) -> Callable[..., SynthesisSettings]:
    """`settings(stages=..., kind=...)`: by default both stages of red_team over the six seeds."""

    def make(stages: str = "both", kind: str = "red_team", turns: tuple[int, int] = (3, 5)) -> SynthesisSettings:
        return SynthesisSettings(
            stages=stages,  # type: ignore[arg-type]
            rows=6,
            stage1=Stage1Settings(kind, turns, 4, seed=1),  # type: ignore[arg-type]
            stage2=Stage2Settings(8, 7, 10, seed=1),
            near_duplicate=1.0,
            seeds=seeds_file,
            folder=seeds_file.parent,
        )

    return make


@pytest.fixture
def played(seeds_file: Path) -> Callable[..., tuple[PlayedClient, Generator]]:
    """`played(answer)` returns a client, and a generator in which it plays every part."""

    def make(answer: Answer = plays_well, **wording: int) -> tuple[PlayedClient, Generator]:
        client = PlayedClient(answer)
        generator = llm_generator(
            "llm",
            client,  # type: ignore[arg-type]
            client,  # type: ignore[arg-type]
            system_prompt="Look, then reply.",
            data={"seeds": str(seeds_file), "scripts": None, "folder": None},
            seed=1,
            **wording,
        )
        return client, generator

    return make
