"""metrics.csv is complete after every step. A resumed run keeps it, without the steps that it takes again."""

from __future__ import annotations

import csv
from pathlib import Path

from steer_lit.lit.csv_log import CsvLog


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(newline="")))


def test_rows_are_there_at_once_and_new_columns_keep_the_old_rows(tmp_path: Path) -> None:
    log = CsvLog(str(tmp_path / "csv" / "m.csv"))
    log.log_metrics({"b": 1.5}, 0)
    log.log_metrics({"b": float("nan")}, 1)
    assert table(log.path) == [{"b": "1.5", "step": "0"}, {"b": "nan", "step": "1"}]
    log.log_metrics({"a": 2.0}, 1)
    last = {"a": "2.0", "b": "", "step": "1"}
    assert table(log.path) == [{"a": "", "b": "1.5", "step": "0"}, {"a": "", "b": "nan", "step": "1"}, last]


def test_a_resumed_run_keeps_earlier_rows_and_repeats_none(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("a,step\n1,0\n2,1\n3,2\nrubbish\n3")  # a kill cut the last line
    log = CsvLog(str(path))
    log.log_metrics({"a": 9.0}, 1)
    log.log_metrics({"a": 8.0}, 2)
    assert table(path) == [{"a": "1", "step": "0"}, {"a": "9.0", "step": "1"}, {"a": "8.0", "step": "2"}]
    CsvLog(str(path)).log_metrics({"c": 7.0}, 0)
    assert table(path) == [{"c": "7.0", "step": "0"}]


def test_a_validation_made_up_by_a_resumed_run_keeps_its_steps_row(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("step,train/a,val/a\n1,1.0,\n2,2.0,\n2,,5.0\n3,3.0,\n")
    CsvLog(str(path)).log_metrics({"val/a": 6.0}, 2)
    assert [(row["step"], row["train/a"], row["val/a"]) for row in table(path)] == [
        ("1", "1.0", ""), ("2", "2.0", ""), ("2", "", "6.0")
    ]  # fmt: skip
