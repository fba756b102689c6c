"""Standard output, whether a terminal without UTF-8, a pipe that closes early or a full disk; and the exit codes of the
programs that print there.
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

CLOSED, INTERRUPTED = 141, 130  # as shells report a program that was ended by a closed pipe, or by Ctrl-C
LOST = REFUSED = 2


def printing(main: Callable[[], int]) -> int:
    """Call `main` and return its exit code, or LOST if it succeeded but part of its output could not be written.

    Characters that the encoding lacks are printed as escapes. If the reader closes the pipe, as in `| head`, the
    program ends with SystemExit(CLOSED) at its next write, or as set by `stop_unread_by`. If standard error is lost,
    the run goes on without it.
    """
    given = sys.__stdout__
    if given is None:  # it is closed, and not every library checks before it writes
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the program lasts
        return main()
    if sys.stdout is not given:  # replaced by other code
        return main()
    raw = _Output(given.fileno(), "w", closefd=False)
    # No buffer in between: if a signal came as `write` returns, it would keep text already written and write it again.
    # The text wrapper clears its own pending text before it writes.
    sys.stdout = io.TextIOWrapper(raw, given.encoding, "backslashreplace", line_buffering=given.line_buffering)
    if (errors := sys.__stderr__) is not None and sys.stderr is errors:
        unheard = _Errors(errors.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(unheard, errors.encoding, "backslashreplace", line_buffering=True)
    code = main()
    sys.stdout.flush()
    return max(code, LOST) if raw.failed else code


def carried_out(parser: ArgumentParser, arguments: Sequence[str], work: Callable[[Namespace], int]) -> int:
    """Parse the arguments, call `work` with them and return its exit code.

    For --help and for invalid arguments, return the parser's exit code. If `work` raises SteerError or OSError, print
    it on standard error and return REFUSED; Ctrl-C ends it with one line and INTERRUPTED.
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
    except KeyboardInterrupt:
        print("stopped before the end: give the same command again", file=sys.stderr)
        return INTERRUPTED


def stop_unread_by(stop: Callable[[], None] | None) -> None:
    """Have `stop` called, instead of SystemExit(CLOSED), once nobody reads standard output. None removes it."""
    _Output.stops[:] = [] if stop is None else [stop]


class _Output(io.FileIO):
    """Standard output. An error is reported once and does not stop the run: a full disk there is not the run's disk."""

    failed = False
    stops: ClassVar[list[Callable[[], None]]] = []  # called instead of SystemExit(CLOSED); at most one

    def write(self, data: Any) -> int:
        """Write all of `data`, which the system may take in parts."""
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
    """Standard error. Once it is lost, nothing can be reported."""

    def _lost(self, error: OSError) -> None:
        pass
