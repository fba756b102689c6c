"""Converts a file of rows to another row shape, for a run or for another program.

    python -m steer_lit.data.convert rows/train.parquet rows/sft.json --as sharegpt

What a row looks like is told by the key of its messages, as in `shapes.py`. Rows that the shape cannot hold are put in
a quarantine beside the new file, with the reason, and the exit code is then 1. What the others hold and the shape has
no place for, such as the answers of an SFT row that becomes a question to play, is left out and counted. Pictures keep
their names; those that lie inside rows become files in a folder beside the new file. A row whose picture is no file is
written and counted: the file may come later, and until then a run puts the row aside.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console

from steer_lit.data.content import says_something
from steer_lit.data.images import PictureError, picture_path
from steer_lit.data.rows import Quarantine, is_hub, read_records
from steer_lit.data.shapes import read_dialogue, read_scenario
from steer_lit.data.sources import pictures_of
from steer_lit.data.unpack import PictureFolder
from steer_lit.data.writers import WriteError, WrittenRow, bench_row, rl_row, sft_row, stage1_row, write_rows
from steer_lit.errors import RowError, SteerError
from steer_lit.numbers import few
from steer_lit.terminal.bars import running_count
from steer_lit.terminal.stdout import carried_out, printing
from steer_lit.terminal.visible import visible_line
from steer_lit.types import Dialogue, Scenario

_SHOWN = 8  # losses

_DIALOGUES: dict[str, Callable[[Dialogue], WrittenRow]] = {
    "messages": sft_row,
    "conversations": partial(sft_row, style="conversations"),
    "sharegpt": partial(sft_row, style="conversations"),
}
_SCENARIOS: dict[str, Callable[[Scenario], WrittenRow]] = {
    "question": rl_row,
    "messages_fixed": bench_row,
    "multiturn_qa": stage1_row,
}
SHAPES = (*_DIALOGUES, *_SCENARIOS)


class Asked(dict[str, object]):
    """An object of a row. `asked` are the keys that `get` was called with."""

    def __init__(self, values: Mapping[str, object]) -> None:
        super().__init__({key: asked(item) for key, item in values.items()})
        self.asked: set[str] = set()

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
        self.asked.add(key)
        return super().get(key, default)


def asked(value: object) -> object:
    """Return a row whose objects are `Asked`."""
    if isinstance(value, Mapping):
        return Asked(value)
    return [asked(item) for item in value] if isinstance(value, list | tuple) else value


def unread(value: object, place: str = "") -> Iterator[str]:
    """Yield the keys, such as `messages[user].note`, that say something and that no reader of the row asked for.

    An object of which no key was asked for was taken as a whole.
    """
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, Asked) or not item.asked:
            continue
        role = dict.get(item, "role") or dict.get(item, "from")
        within = f"{place}[{role}]." if isinstance(role, str) else f"{place}." if place else ""
        for key, held in item.items():
            if key in item.asked:
                yield from unread(held, f"{within}{key}")
            elif says_something(held):
                yield f"{within}{key}"


@dataclass(slots=True)
class Converted:
    """The outcome of a conversion. `lost` counts the rows that held each fact which their shape has no place for."""

    written: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    aside: Sequence[RowError] = ()
    pictures: bool = False  # whether a row names a picture file, beside the source
    saved: int = 0  # pictures that lay inside rows
    missing: int = 0  # rows with a picture that no run would find beside the source


def convert(source: str, out: Path, shape: str) -> Converted:
    """Write the rows of `source`, a file or a hub address, to `out` as rows of `shape`, one of SHAPES.

    Raises SteerError if `out` exists, if a file cannot be read or written, if no row can be written, or if some rows
    embed pictures while others name files in a folder other than `out`'s.
    """
    aside = quarantine_of(out)
    if out.exists() or aside.resolve() == Path(source).resolve():
        raise SteerError(f"{out} or its quarantine is there already: remove it, or name another file to write")
    aside.unlink(missing_ok=True)  # left by an earlier try
    quarantine = Quarantine(sys.maxsize, aside)
    done = Converted(aside=quarantine.errors)
    folder, beside = PictureFolder(out), Path(source).parent

    def rows() -> Iterator[WrittenRow]:
        for row, losses, pictures in read_records(source, partial(_converted, shape, folder), quarantine):
            named = [name for name in pictures if name not in folder.names]
            converted()
            done.written += 1
            done.lost.update(losses)
            done.pictures |= bool(named)
            done.saved = len(folder.names)
            if done.pictures and done.saved and not is_hub(source) and out.parent.resolve() != beside.resolve():
                raise SteerError(
                    f"pictures of {source} lie inside rows and beside it: name a file in {beside} to write"
                )
            done.missing += not is_hub(source) and not all(_is_in(beside, name) for name in named)
            yield row
        if not done.written:
            remedy = f"; --as {', '.join(_SCENARIOS)} need no answers" if shape in _DIALOGUES else ""
            first = f"; the first of {len(quarantine):,}: {quarantine.errors[0]}{remedy}" if quarantine.errors else ""
            raise SteerError(f"no row of {source} can be written as {shape}{first}")

    with running_count(Console(stderr=True), "rows converted") as converted:
        write_rows(out, rows())
    return done


def _is_in(folder: Path, name: str) -> bool:
    """Return whether a run whose rows lie in `folder` finds the picture. Files outside of it are read by none."""
    try:
        picture_path(name, folder)
    except PictureError:
        return False
    return True


def quarantine_of(out: Path) -> Path:
    return out.with_name(f"{out.stem}.quarantine.jsonl")


def report(source: str, out: Path, shape: str, done: Converted) -> Iterator[str]:
    """Yield lines that say what was left out, what was put aside, and how a run names the new file."""
    if done.lost:
        shown = few([f"{name} ({count:,})" for name, count in done.lost.most_common()], _SHOWN)
        yield f"left out of so many rows, as {shape} has no place for it: {shown}"
    if done.aside:
        yield f"{quarantine_of(out)} says why rows were put aside; the first: {done.aside[0]}"
    if done.saved:
        yield f"pictures that lay inside rows: {done.saved:,}, now files in {PictureFolder(out).path}"
    split = "sft" if shape in _DIALOGUES else "bench" if shape == "messages_fixed" else "rl"
    keys = ["data=steer", f"data.source.{split}={out}"]
    if done.pictures and not is_hub(source) and out.parent.resolve() != (folder := Path(source).parent).resolve():
        keys.append(f"data.source.folder={folder}")  # where the pictures still lie
    missing = f" ({done.missing:,} with a picture that is no file in {Path(source).parent})" if done.missing else ""
    yield f"rows written: {done.written:,}{missing}, put aside: {len(done.aside):,}; to use them: {shlex.join(keys)}"


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 1 if some rows were put aside, 2 if nothing was written."""
    parser = argparse.ArgumentParser("python -m steer_lit.data.convert", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", metavar="IN", help="a .jsonl, .json, .csv or .parquet file, or hf://owner/name")
    parser.add_argument("out", metavar="OUT", type=Path, help="the .jsonl, .json or .parquet file to write")
    shapes = "messages and conversations (sharegpt) hold dialogues; question (RL), messages_fixed (bench) and "
    shapes += "multiturn_qa (Stage I) what is asked in them. Default: messages"
    parser.add_argument("--as", dest="shape", choices=SHAPES, default="messages", help=shapes)
    return carried_out(parser, arguments, _convert)


def _convert(given: argparse.Namespace) -> int:
    done = convert(given.source, given.out, given.shape)
    print(*map(visible_line, report(given.source, given.out, given.shape, done)), sep="\n")
    return int(bool(done.aside))


def _converted(
    shape: str, folder: PictureFolder, value: object, source: str, number: int
) -> tuple[WrittenRow, list[str], list[str]]:
    """Return (the row in its new shape, the facts lost, the pictures named). Raises RowError."""
    record: Dialogue | Scenario
    value = asked(folder.unpacked(value, source, number))
    try:
        if shape in _DIALOGUES:
            record = read_dialogue(value, source, number)
            row = _DIALOGUES[shape](record)
            if read_dialogue(value, source, 0).id != record.id:  # the row has no id: this one is its place in the file
                del row["id"]
        else:
            record = read_scenario(value, source, number)
            row = _SCENARIOS[shape](record)
            if read_scenario(value, source, number, "benign").kind != record.kind:
                del row["kind"]  # the row names no kind: data.source.kind decides, as before
    except WriteError as error:
        raise RowError(source, number, "", str(error)) from error
    # Facts in `metadata` that no reader asks for are written again.
    lost = [key for key in unread(value) if not re.match(r"metadata\.(?!rest_messages)", key)]
    given = value if isinstance(value, Mapping) else {}  # what a reader asks for and no shape holds
    lost += [name for name in ("is_safe", "is_response_safe") if name in given and name not in row]
    lost += [name for name in ("id", "question_id") if name in given and str(given[name]) != record.id]
    pictures = [ref.uri for ref in pictures_of(record) if not ref.uri.startswith("mini://")]
    return row, list(dict.fromkeys(lost)), pictures


if __name__ == "__main__":
    sys.exit(printing(partial(main, sys.argv[1:])))
