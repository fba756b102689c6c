"""Files that grow by lines: an incomplete line is removed, damaged lines are counted, texts may contain anything."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import pytest

from steer_lit.files.lines import append_lines, as_line, readable, whole_lines

TEXTS = ["plain", "a\u2028b\u2029\x85\x0b\x0c\x1c\r\nc", "é \U0001f600", "half a pair \ud83d", ""]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "rows.jsonl"


def test_appended_lines_are_read_back(path: Path) -> None:
    append_lines(path, map(as_line, TEXTS[:3]))
    append_lines(path, map(as_line, TEXTS[3:]))
    assert [json.loads(line) for line in whole_lines(path)] == TEXTS
    assert path.read_bytes().count(b"\n") == 5
    assert "é \U0001f600".encode() in path.read_bytes()  # readable for people


@pytest.mark.parametrize("cut", range(1, 13))
def test_an_incomplete_line_is_ignored_and_removed_by_the_next_writer(path: Path, cut: int) -> None:
    """The kill may come anywhere, also in the middle of a character."""
    append_lines(path, ['"one"\n', '"zwei äß"\n'])
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(whole_lines(path)) == ['"one"\n']
    append_lines(path, ['"three"\n'])
    assert path.read_text() == '"one"\n"three"\n'


def test_incomplete_empty_and_missing_files_have_no_lines(path: Path) -> None:
    assert list(whole_lines(path)) == []
    for content in ("", '{"half', '{"a carriage return\r'):
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        assert list(whole_lines(path)) == []
        append_lines(path, ["1\n"])
        assert path.read_text() == "1\n"


def test_no_line_is_added_if_one_of_them_fails(path: Path) -> None:
    append_lines(path, ["1\n"])
    with pytest.raises(TypeError, match="not JSON serializable"):
        append_lines(path, map(as_line, (2, object())))
    assert path.read_text() == "1\n"


@pytest.mark.parametrize("before", ["", '"one"\n', '"one"\n"torn'])
def test_no_line_is_added_if_they_do_not_fit_on_the_disk(path: Path, before: str) -> None:
    """Neither complete lines that still fit nor, later, what the disk refused."""
    path.parent.mkdir()
    path.write_text(before)
    whole = before.removesuffix('"torn')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # else the system kills whoever writes past the limit
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30, hard))
        with pytest.raises(OSError, match="File too large"):
            append_lines(path, [f'"line {number}"\n' for number in range(9)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_text() == whole
    append_lines(path, ['"two"\n'])
    assert path.read_text() == whole + '"two"\n'


def test_invalid_lines_are_counted(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = ["{", "", "7", "[]", "{}", "null", '{"step": {}}', "[" * 10**5, "\udcff"]
    path.parent.mkdir()
    good = ['{"step": 0}', '{"step": "1"}']
    path.write_bytes("\n".join([good[0], *broken, good[1], "4"]).encode("utf-8", "surrogateescape"))
    assert list(readable(path, lambda line: int(json.loads(line)["step"]), "steps")) == [0, 1]
    assert caplog.messages == [
        f"{path}: 4 of 11 lines are no JSON and are left out",
        f"{path}: 5 of 11 lines are no steps and are left out, such as line 4: 'int' object is not subscriptable",
    ]
    caplog.clear()
    path.write_text(f"{good[0]}\n")
    assert list(readable(path, json.loads, "steps")) == [{"step": 0}]
    assert not caplog.messages
