"""What could not be graded, by policy, and why."""

from __future__ import annotations

from steer_lit.bench.records import Records
from steer_lit.numbers import counted


def ungraded(records: Records) -> dict[str, tuple[int, str]]:
    """Return, by policy with a dialogue that could not be graded, the number of these and the first reason."""
    found = {}
    for name, rows in records.items():
        if failed := [row for row in rows if row.failed]:
            reasons = [turn.failed for row in failed for turn in row.turns if turn.failed is not None]
            found[name] = (len(failed), reasons[0] if reasons else "no grades")
    return found


def left_out(records: Records) -> list[str]:
    """Return a line for each policy with dialogues that could not be graded."""
    lines = []
    for name, (failed, reason) in ungraded(records).items():
        which = f"{name}: {failed:,} of {counted(len(records[name]), 'dialogue')}"
        lines.append(f"{which} could not be graded and count nowhere: {reason}")
    return lines
