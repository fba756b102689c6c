import os
from pathlib import Path

import pytest

from steer_lit.files.atomic import replace_text, replacing
from steer_lit.files.locks import holding


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.txt"
    with replacing(path) as part:
        part.write_text("one")
        assert not path.exists()
        assert part.parent == path.parent  # the same file system, so that a rename is atomic
    assert path.read_text() == "one"
    replace_text(path, "zwei \u00e4")
    assert path.read_bytes() == "zwei \u00e4".encode()
    assert names(path.parent) == ["rows.txt"]


@pytest.mark.parametrize("stop", [OSError("full"), KeyboardInterrupt()])
def test_the_old_file_is_kept_if_writing_fails(tmp_path: Path, stop: BaseException) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("whole")

    def write() -> None:
        with replacing(path) as part:
            part.write_text("ha")
            raise stop

    with pytest.raises(type(stop)):
        write()
    assert path.read_text() == "whole"
    assert names(tmp_path) == ["rows.txt"]


def test_a_written_file_has_ordinary_permissions(tmp_path: Path) -> None:
    path, plain = tmp_path / "a.txt", tmp_path / "b.txt"
    replace_text(path, "x")
    plain.write_text("x")
    assert os.stat(path).st_mode == os.stat(plain).st_mode


def test_leftovers_of_killed_runs_are_removed_and_running_writes_are_not(tmp_path: Path) -> None:
    kept = [".rows[1].txt.7.part", ".rows1.txt.8.part", ".rows[1].txt.txt"]
    for name in (".rows[1].txt.6.part", *kept):
        (tmp_path / name).write_text("{")
        os.utime(tmp_path / name, (0, 0))
    kept.append(".rows[1].txt.5.part")  # recent, perhaps of another machine
    (tmp_path / kept[-1]).write_text("{")
    path = tmp_path / "rows[1].txt"
    with holding(tmp_path / kept[0]), replacing(path) as part:
        part.write_text("first")
        replace_text(path, "another run begins meanwhile, and is done before")
        assert part.read_text() == "first"
    assert path.read_text() == "first"
    assert names(tmp_path) == sorted([*kept, path.name])
