"""Standard output, whatever it is: a terminal without UTF-8, a pipe that closes early, a full disk. And the exit codes
of the small programs that print there.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from steer_lit.errors import SteerError
from steer_lit.terminal.visible import visible

CLOSED = 141  # as shells report a program that a closed pipe ended
LOST = REFUSED = 2


def printing(main: Callable[[], int]) -> int:
    """The exit code of `main`; LOST where it has done its work, and not all that it printed could be written.

    What the encoding lacks is printed as an escape. Where nobody reads on, as after `| head`, it ends with
    SystemExit(CLOSED) as soon as that is known, or as `stop_unread_by` says. Standard error may be lost too: a run goes
    on without.
    """
    given = sys.__stdout__
    if given is None:  # closed; not every library asks before it writes
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the program lasts
        return main()
    if sys.stdout is not given:  # someone else's
        return main()
    raw = _Output(given.fileno(), "w", closefd=False)
    # No buffer between: a signal heard as `write` returns would leave there what has been written, to be written again.
    # The wrapper gives its text away before.
    sys.stdout = io.TextIOWrapper(raw, given.encoding, "backslashreplace", line_buffering=given.line_buffering)
    if (errors := sys.__stderr__) is not None and sys.stderr is errors:
        unheard = _Errors(errors.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(unheard, errors.encoding, "backslashreplace", line_buffering=True)
    code = main()
    sys.stdout.flush()
    return max(code, LOST) if raw.failed else code


def carried_out(parser: ArgumentParser, arguments: Sequence[str], work: Callable[[Namespace], int]) -> int:
    """The exit code of `work` on what the parser makes of the arguments; that of --help and of arguments that are none;
    or REFUSED, with the reason on standard error, where a file or a folder keeps it from being done.
    """
    try:
        given = parser.parse_args(arguments)
    except SystemExit as asked:
        return int(asked.code or 0)
    try:
        return work(given)
    except (SteerError, OSError) as error:
        print(visible(str(error)), file=sys.stderr)
        return REFUSED


def stop_unread_by(stop: Callable[[], None] | None) -> None:
    """Have `stop` called once nobody reads standard output any more, in place of SystemExit(CLOSED); None: no more."""
    _Output.stops[:] = [] if stop is None else [stop]


class _Output(io.FileIO):
    """Says once what keeps it from being written, which is no reason to stop a run: it is not the run's disk that is
    full.
    """

    failed = False
    stops: ClassVar[list[Callable[[], None]]] = []  # what is called instead, at most one

    def write(self, data: Any) -> int:
        """Write all of `data`: the system may take it in parts."""
        left = memoryview(data)
        while left and not self.failed:
            try:
                left = left[super().write(left) or 0 :]
            except OSError as error:
                self.failed = True
                self._lost(error)
        return len(data)

    def _lost(self, error: OSError) -> None:
        if error.errno != errno.EPIPE:
            print(f"standard output: {error.strerror}", file=sys.stderr)
        elif self.stops:
            self.stops[0]()
        else:
            raise SystemExit(CLOSED) from None


class _Errors(_Output):
    """Standard error: once it is lost, there is nobody to tell."""

    def _lost(self, error: OSError) -> None:
        pass
