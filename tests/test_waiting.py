"""Waiting for futures: a signal ends the wait even if it does not wake the main thread."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

import pytest

from steer_lit.waiting import first_done, next_of, result_of


def done(result: object) -> Future[object]:
    future: Future[object] = Future()
    future.set_result(result)
    return future


def queue_of(future: Future[object]) -> SimpleQueue[object]:
    """Return a queue that gets the future once it is done."""
    queue: SimpleQueue[object] = SimpleQueue()
    future.add_done_callback(queue.put)
    return queue


def test_a_finished_future_is_returned() -> None:
    ready, pending = done(1), Future[object]()
    assert first_done([pending, ready]) == {ready}
    assert result_of(ready) == 1


def test_the_works_exception_is_raised() -> None:
    failed: Future[object] = Future()
    failed.set_exception(TimeoutError("the work's own"))
    with pytest.raises(TimeoutError, match="the work's own"):
        result_of(failed)


def test_work_that_takes_longer_than_a_nap_is_waited_for() -> None:
    late: Future[object] = Future()
    timer = threading.Timer(0.7, late.set_result, ["late"])
    timer.start()
    assert result_of(late) == "late"


def test_what_is_put_into_a_queue_is_returned() -> None:
    queue: SimpleQueue[str] = SimpleQueue()
    threading.Timer(0.7, queue.put, ["late"]).start()
    assert next_of(queue) == "late"


@pytest.mark.parametrize(
    "wait",
    [result_of, lambda future: first_done([future]), lambda future: next_of(queue_of(future))],
    ids=["one", "first", "queue"],
)
def test_a_signal_that_another_thread_takes_is_heard(wait: Callable[[Future[object]], object]) -> None:
    """Python notes the signal in that thread and raises KeyboardInterrupt in the main thread once that runs again."""
    never, over = Future[object](), threading.Event()
    threading.Thread(target=over.wait, args=(60,), daemon=True).start()  # receives what the main thread blocks
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    rescue = threading.Timer(10, never.set_result, [None])  # otherwise a failing test would never end
    rescue.start()
    threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with pytest.raises(KeyboardInterrupt):
            wait(never)
        assert not never.done()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, before)
        rescue.cancel()
        over.set()
