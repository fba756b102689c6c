"""Converts a file of rows to another row shape, for a run or for another program.

    python -m steer_lit.data.convert rows/train.parquet rows/sft.json --as sharegpt

What a row looks like is told by the key of its messages, as in `shapes.py`. Rows that the shape cannot hold are put in
a quarantine beside the new file, with the reason, and the exit code is then 1. Keys that no reader knows are left out
and counted. What a known key holds and the shape has no place for, such as the answers of an SFT row that becomes a
question to play, is left out as well. Pictures keep their names; those that lie inside rows become files in a folder
beside the new file. A row whose picture is no file is written: the file may come later, and until then a run puts the
row aside.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from rich.console import Console

from steer_lit.data.rows import Quarantine, is_hub, read_records
from steer_lit.data.shapes import read_dialogue, read_scenario, told_of_unknown, unknown_keys
from steer_lit.data.sources import pictures_of
from steer_lit.data.unpack import PictureFolder
from steer_lit.data.writers import WriteError, WrittenRow, bench_row, rl_row, sft_row, stage1_row, write_rows
from steer_lit.errors import RowError, SteerError
from steer_lit.terminal.bars import running_count
from steer_lit.terminal.stdout import carried_out, printing
from steer_lit.terminal.visible import visible_line
from steer_lit.types import Dialogue, Scenario

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


def convert(source: str, out: Path, shape: str) -> tuple[list[str], int]:
    """Write the rows of `source`, a file or a hub address, to `out` as rows of `shape`, one of SHAPES.

    Returns what to tell of it (unknown keys, the quarantine, saved pictures, how a run names `out`), and the number of
    rows put aside. Raises SteerError if `out` exists, if a file cannot be read or written, if no row can be written, or
    if some rows embed pictures while others name files in a folder other than `out`'s.
    """
    aside = out.with_name(f"{out.stem}.quarantine.jsonl")
    if out.exists() or aside.resolve() == Path(source).resolve():
        raise SteerError(f"{out} or its quarantine is there already: remove it, or name another file to write")
    aside.unlink(missing_ok=True)  # left by an earlier try
    quarantine, unknown, named = Quarantine(sys.maxsize, aside), Counter[str](), set[str]()
    folder, beside = PictureFolder(out), Path(source).parent
    moved = not is_hub(source) and out.parent.resolve() != beside.resolve()

    def rows() -> Iterator[WrittenRow]:
        for row, pictures in read_records(source, partial(_converted, shape, folder, unknown), quarantine):
            converted()
            named.update(pictures - folder.names)
            if named and folder.names and moved:
                raise SteerError(
                    f"pictures of {source} lie inside rows and beside it: name a file in {beside} to write"
                )
            yield row

    with running_count(Console(stderr=True), "rows converted") as converted:
        if (first := next(new := rows(), None)) is None:
            remedy = f"; --as {', '.join(_SCENARIOS)} need no answers" if shape in _DIALOGUES else ""
            why = f"; the first of {len(quarantine):,}: {quarantine.errors[0]}{remedy}" if quarantine.errors else ""
            raise SteerError(f"no row of {source} can be written as {shape}{why}")
        written = write_rows(out, chain([first], new))
    split = "sft" if shape in _DIALOGUES else "bench" if shape == "messages_fixed" else "rl"
    keys = ["data=steer", f"data.source.{split}={out}"]
    if named and moved:
        keys.append(f"data.source.folder={beside}")  # where the pictures still lie
    told = [f"left out, {told_of_unknown(unknown)}"] if unknown else []
    if quarantine.errors:
        told.append(f"{aside} says why rows were put aside; the first: {quarantine.errors[0]}")
    if folder.names:
        told.append(f"pictures that lay inside rows: {len(folder.names):,}, now files in {folder.path}")
    told.append(f"rows written: {written:,}, put aside: {len(quarantine):,}; to use them: {shlex.join(keys)}")
    return told, len(quarantine)


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
    told, aside = convert(given.source, given.out, given.shape)
    print(*map(visible_line, told), sep="\n")
    return int(aside > 0)


def _converted(
    shape: str, folder: PictureFolder, unknown: Counter[str], value: object, source: str, number: int
) -> tuple[WrittenRow, set[str]]:
    """Return the row in its new shape and the picture files it names; count its unknown keys. Raises RowError."""
    record: Dialogue | Scenario
    value = folder.unpacked(value, source, number)
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
                row.pop("kind", None)  # the row names no kind: data.source.kind decides, as before
                row |= {"kind": ""} if isinstance(value, Mapping) and value.get("kind") == "" else {}
    except WriteError as error:
        raise RowError(source, number, "", str(error)) from error
    unknown.update(unknown_keys(value))
    return row, {ref.uri for ref in pictures_of(record) if not ref.uri.startswith("mini://")}


if __name__ == "__main__":
    sys.exit(printing(partial(main, sys.argv[1:])))
