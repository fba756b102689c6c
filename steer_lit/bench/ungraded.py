"""What could not be graded, by policy, and why; what no grade tells."""

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


def untold(records: Records) -> list[str]:
    """Return a sentence on over-refusal if there are grades and none says whether an answer refused."""
    told = {turn.refused for rows in records.values() for row in rows if not row.failed for turn in row.turns}
    said = "over-refusal is not known: no grade says whether an answer refused (`refused`, which a judge may leave out)"
    return [said] if told == {None} else []
