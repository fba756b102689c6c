"""A CSV logger of scalars: a kill costs the last row at most, and a resumed run continues the file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from steer_lit.files.atomic import replacing

STEP = "step"


class CsvLog(Logger):
    """Writes a row to `path` at once whenever something is logged. Columns are sorted.

    Lightning's CSVLogger writes every hundredth step, and removes what an earlier part of the run wrote. Here only the
    rows of steps that are taken again are replaced.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        self._names: list[str] | None = None  # the columns' names, None until something is logged

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *arguments: Any, **named: Any) -> None:
        """Write nothing: the run's config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {STEP: str(step or 0), **{name: str(value) for name, value in metrics.items()}}
        if self._names is None:
            kept = [old for old in _rows(self.path) if _place(old) < _place(row)]
            self._write([*kept, row])
        elif not row.keys() <= set(self._names):
            self._write([*_rows(self.path), row])
        else:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._names).writerow(row)

    def _write(self, rows: Sequence[Mapping[str, str]]) -> None:
        self._names = sorted({name for row in rows for name in row})
        with replacing(self.path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._names)
            writer.writeheader()
            writer.writerows(rows)


def _place(row: Mapping[str, str]) -> tuple[int, bool]:
    """Return a row's sort key: a step's validation, which a resumed run may still owe, comes after the step."""
    return int(row[STEP]), not any(value and name.startswith("train/") for name, value in row.items())


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the complete rows of the file, if it exists: a kill may have cut the last."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    reader = csv.reader(line for line in lines if line.endswith("\n"))
    header = next(reader, [])
    cells = (row for row in reader if len(row) == len(header))
    rows = (dict(zip(header, row, strict=True)) for row in cells)
    return [row for row in rows if row.get(STEP, "").isdecimal()]
