"""The rules of a synthesis run, read from its config and checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from steer_lit.allowed import type_problems
from steer_lit.data.rows import is_hub, source_problem
from steer_lit.errors import ConfigError, Problem
from steer_lit.numbers import MANY
from steer_lit.types import MAX_TURNS, Kind

StageChoice = Literal["1", "2", "both"]


def _rising(pair: list[int]) -> list[int]:
    if pair != sorted(pair):
        raise ValueError
    return pair


_PAIR = "two whole numbers, shortest and longest, within 2..10"  # paper: dialogues have 2-10 user turns
_Pair = Annotated[
    list[Annotated[int, Field(ge=2, le=10)]],
    Field(min_length=2, max_length=2, description=_PAIR),
    AfterValidator(_rising),
]
_Scale = Annotated[float, Field(ge=1, le=10)]  # the tutor's
_KINDS: Mapping[str, Any] = {
    "stages": Annotated[StageChoice, BeforeValidator(str)],
    "kind": Kind,
    "rows": Annotated[int, Field(ge=1, le=MANY)],
    **dict.fromkeys(("data.seeds", "data.scripts", "data.folder"), str | None),
    **dict.fromkeys((f"turns.{kind}" for kind in get_args(Kind)), _Pair),
    "success": Annotated[int, Field(ge=1, le=5)],
    "keep.min_safety": _Scale,
    "keep.min_usefulness": _Scale,
    "max_turns": Annotated[int, Field(ge=2, le=MAX_TURNS)],
    "near_duplicate": Annotated[float, Field(gt=0, le=1)],
}


@dataclass(frozen=True, slots=True)
class Stage1Settings:
    """Rules of Stage I. `turns`: range of user turns. `success`: the score, 1..5, that an attack needs at some turn."""

    kind: Kind
    turns: tuple[int, int]
    success: int
    seed: int


@dataclass(frozen=True, slots=True)
class Stage2Settings:
    """Rules of Stage II (Eq. 15). `min_safety` (tau_safe) bounds the lowest safety of a dialogue, `min_usefulness`
    (tau_help) its mean usefulness, both on the tutor's scale 1..10. Dialogues end after `max_turns` turns.
    """

    min_safety: float
    min_usefulness: float
    max_turns: int
    seed: int


@dataclass(frozen=True, slots=True)
class SynthesisSettings:
    """The stages to run, the most rows to make, and the rules of each stage.

    Stage I starts from the file `seeds` (None: the generator's own questions), Stage II alone from the file `scripts`
    (None: the one in the run's folder); either may be a hub address. Up to `max_bad_rows` rows of such a file may be
    unreadable. Pictures lie in `folder`. Rows are duplicates from a similarity of `near_duplicate`, in (0, 1].
    """

    stages: StageChoice
    rows: int
    stage1: Stage1Settings
    stage2: Stage2Settings
    near_duplicate: float
    seeds: Path | str | None = None
    scripts: Path | str | None = None
    folder: Path | None = None
    max_bad_rows: int = 0

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The names of the stages that run, in order, as in files and the manifest."""
        return tuple(name for name in ("stage1", "stage2") if self.stages in (name[-1], "both"))

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> SynthesisSettings:
        """Read the keys of conf/synthesize.yaml. Raises ConfigError with every value that cannot work, except `seed`
        and `data.max_bad_rows`, which the config check covers in all three programs.
        """
        problems = type_problems(config, _KINDS)
        read = "scripts" if str(config["stages"]) == "2" else "seeds"
        if isinstance(value := config["data"][read], str) and value and (why := source_problem(value)):
            problems.append(Problem(f"data.{read}", value, why))
        if problems:
            raise ConfigError(problems)
        low, high = config["turns"][config["kind"]]
        keep, data = config["keep"], config["data"]
        return cls(
            stages=str(config["stages"]),  # type: ignore[arg-type]
            rows=config["rows"],
            stage1=Stage1Settings(config["kind"], (low, high), config["success"], config["seed"]),
            stage2=Stage2Settings(keep["min_safety"], keep["min_usefulness"], config["max_turns"], config["seed"]),
            near_duplicate=config["near_duplicate"],
            seeds=data["seeds"] or None,
            scripts=data["scripts"] or None,
            folder=picture_folder(data),
            max_bad_rows=data["max_bad_rows"],
        )


def picture_folder(data: Mapping[str, Any]) -> Path | None:
    """Return the folder of pictures: the one named, else that of the file of seeds or scripts. The hub has none."""
    named, file = data["folder"], data["scripts"] or data["seeds"]
    return Path(named) if named else Path(file).parent if file and not is_hub(file) else None
