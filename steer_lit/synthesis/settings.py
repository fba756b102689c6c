"""The rules of a synthesis run, read from its config and checked as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from steer_lit.data.rows import is_hub, source_problem
from steer_lit.errors import ConfigError, Problem
from steer_lit.numbers import MANY, Bound, bound_problems, whole
from steer_lit.types import MAX_TURNS, Kind

StageChoice = Literal["1", "2", "both"]
_SHORTEST, _LONGEST = 2, 10  # user turns; paper: dialogues have 2-10
_SCALE = Bound(1, 10, said="is on the tutor's scale, from 1 to 10")
_BOUNDS = {
    "rows": whole(1, MANY),
    "max_turns": whole(2, MAX_TURNS),
    "success": whole(1, 5, "is a score of the attack judge, a whole number from 1 to 5"),
    "keep.min_safety": _SCALE,
    "keep.min_usefulness": _SCALE,
    "near_duplicate": Bound(
        0, 1, above=True, said="is a similarity, above 0 and at most 1 (1: the same shingles only)"
    ),
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
        if problems := list(_problems(config)):
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


def _problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    if str(config["stages"]) not in get_args(StageChoice):
        yield Problem("stages", config["stages"], f"must be one of {', '.join(get_args(StageChoice))}")
    if config["kind"] not in get_args(Kind):
        yield Problem("kind", config["kind"], f"must be one of {', '.join(get_args(Kind))}")
    read = "scripts" if str(config["stages"]) == "2" else "seeds"
    for key in ("seeds", "scripts", "folder"):
        if not isinstance(value := config["data"][key], str | None):
            yield Problem(f"data.{key}", value, "must be a path, or null")
        elif key == read and value and (why := source_problem(value)):
            yield Problem(f"data.{key}", value, why)
    for kind in get_args(Kind):
        turns = config["turns"][kind]
        pair = isinstance(turns, list) and len(turns) == 2 and all(map(whole(_SHORTEST, _LONGEST).fits, turns))
        if not pair or turns[0] > turns[1]:
            remedy = f"must be two whole numbers, shortest and longest, within {_SHORTEST}..{_LONGEST}"
            yield Problem(f"turns.{kind}", turns, remedy)
    values = {**config, **{f"keep.{key}": value for key, value in config["keep"].items()}}
    yield from bound_problems(values, _BOUNDS)
