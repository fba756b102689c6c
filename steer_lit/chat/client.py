"""A client that sends many requests to a server at once and counts tokens, retries and failures.

`ask` returns one reply per request, in order. A request that fails gives a failed reply. Only a server that looks down
raises (`ServerDown`), so that the run stops and loses nothing. Retries are made here, not by the openai client: a 200
with garbage in it deserves one just as a 503 does, and every attempt needs its own deadline, or a server that drips a
byte a second would never be given up on.

The key comes from the environment and goes only into the request's header.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import asdict, dataclass, replace
from typing import Any

from steer_lit.chat.cache import ReplyCache, request_key
from steer_lit.chat.connection import Connection, Fault
from steer_lit.chat.messages import ChatReply, ChatRequest
from steer_lit.chat.settings import ChatSettings, with_own
from steer_lit.chat.wire import brief, filtered, listed_models, read_answer, refused_feature, request_body
from steer_lit.errors import ServerDown
from steer_lit.numbers import counted
from steer_lit.waiting import result_of

log = logging.getLogger(__name__)

MAX_BACKOFF = 30.0  # seconds
MAX_RETRY_AFTER = 120.0  # seconds; a server that asks for more is not waited for
LONG_WAIT = 5.0  # seconds; shorter waits are not logged
WAITS_TOLD = 300.0  # seconds between two warnings of waits
_TOLD_AGAIN = 8  # time-outs are logged at the first, at this many, and each time their number has doubled
_HOPELESS = {  # statuses that no retry can help, and the setting to change
    401: "refuses the key in the variable server.api_key_env={0.api_key_env}",
    402: "wants the account of that key to be topped up",
    403: "does not let that key use server.model={0.model}",
    404: "knows no such path (most end in /v1), or not server.model={0.model}",
}
_KEYLESS = "wants a key, and none was sent: name the variable that holds it in api_key_env, beside its base_url"
_UNSET = "wants a key, and the variable server.api_key_env={0.api_key_env} is not set"


@dataclass(frozen=True, slots=True)
class ChatUsage:
    """Totals of one client. `seconds` sums the times of single requests, so it may exceed the wall-clock time."""

    requests: int = 0  # finished, failed ones included, stored replies not
    failed: int = 0  # requests that were not `answered`: a model or filter that declines has answered
    cached: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        each = f", {self.seconds / self.requests:.2f} s each" if self.requests else ""
        retries = counted(self.retries, "retry", "retries")
        stored = counted(self.cached, "stored reply", "stored replies")
        return (
            f"{counted(self.requests, 'request')} ({self.failed:,} failed, {retries}){each}; {stored}; "
            f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} completion tokens"
        )


class ChatClient:
    """A client of one server: blocking outside, concurrent inside, safe to call from several threads at once.

    A setting in `own` overrides the one in `settings`, which clients share: see `with_own`. The first request opens
    the connection, in its own thread. `close` logs the usage.
    """

    def __init__(self, settings: ChatSettings | Mapping[str, Any], **own: Any) -> None:
        shared = asdict(settings) if isinstance(settings, ChatSettings) else settings
        self.settings = ChatSettings(**with_own(shared, own))
        self._cache = ReplyCache(self.settings.cache_dir) if self.settings.cache_dir else None
        self._kept = False  # whether a reply of this client is in the cache
        self._unkept = False  # whether a reply could not be cached
        self._starting = threading.Lock()
        self._connection: Connection | None = None
        self._stopped = False
        self._usage = ChatUsage()
        self._latest: deque[str | None] = deque(maxlen=self.settings.min_requests)  # reasons, or None for a success
        self._timed_out = 0  # attempts that timed out in a row, across requests
        self._slow = 0  # all attempts that timed out
        self._tell_at = 1  # the `_slow` at which the next warning is due
        self._tell_wait_at = 0.0  # monotonic time before which no wait is logged
        self._repliers: dict[str, None] = {}  # who answered, as the server names it, in order
        self._refused: frozenset[str] = frozenset()  # features that this server turned out to refuse
        self._down: str | None = None
        self._jitter = random.Random()  # its own: retries must not move the run's random state

    @property
    def usage(self) -> ChatUsage:
        return self._usage

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Return one reply per request, in order.

        Raises ServerDown if too many of the latest requests failed (the circuit breaker), if attempts only time out,
        or if the server refuses the key, path or model before it ever answered. Replies until then are in the cache.
        Raises CancelledError if another thread closes or stops the client meanwhile.
        """
        connection = self._connected()
        future = connection.start(self._ask_all(requests, connection))
        try:
            return result_of(future)
        except BaseException:  # Ctrl-C above all: do not go on paying for answers that nobody reads
            future.cancel()
            raise

    def greet(self) -> None:
        """Ask for the server's list of models: before anything heavy loads, not after the first answers are sampled.

        Raises ServerDown if nobody answers or the key is refused. A list without this model, or a web page, only logs
        a warning: the server may still serve the model.
        """
        connection = self._connected()
        outcome = result_of(connection.start(self._models(connection)))
        if isinstance(outcome, Fault):
            if not outcome.connected:
                self._give_up(f"nobody answers there ({outcome.reason}): start the server, or correct the address")
            if outcome.status == 401:
                self._give_up(f"it {self._remedy(401)}: {outcome.reason}")
        elif outcome.lstrip().startswith(b"<"):
            said = "%s answers with a web page: is that the whole address of a server, with /v1 at its end?"
            log.warning(said, self.settings.base_url)
        elif (names := listed_models(outcome)) and self.settings.model not in names:
            said = "server.model=%s is not among the models that %s lists: %s"
            log.warning(said, self.settings.model, self.settings.base_url, brief(", ".join(names)))

    def _remedy(self, status: int) -> str:
        said = _HOPELESS[status]
        if status == 401 and not self.settings.key:
            said = _KEYLESS if self.settings.api_key_env is None else _UNSET
        return said.format(self.settings)

    def _connected(self) -> Connection:
        with self._starting:
            if self._stopped:
                raise CancelledError
            self._connection = self._connection or Connection(self.settings)
            return self._connection

    def stop(self) -> None:
        """Close the client for good: whoever asks from now on gets a CancelledError."""
        with self._starting:
            self._stopped = True
        self.close()

    def close(self) -> None:
        """Close the connections. The client may be used again: it connects anew, with the circuit breaker reset."""
        with self._starting:
            connection, self._connection = self._connection, None
            self._down = None
            self._latest.clear()
        if connection is not None:
            connection.close()
        if connection is not None and self._usage != ChatUsage():
            log.info("%s: %s", self.settings.base_url, self._usage)

    # ---- in the loop's thread

    async def _models(self, connection: Connection) -> bytes | Fault:
        """Return the list of models. If nobody answers, ask again: the server may be starting."""
        for attempt in range(1, self.settings.retries + 1):
            if not isinstance(outcome := await connection.models(), Fault) or outcome.connected:
                return outcome
            await asyncio.sleep(self._wait(None, attempt))
        return await connection.models()

    async def _ask_all(self, requests: Sequence[ChatRequest], connection: Connection) -> list[ChatReply]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._stored_or_asked(request, connection)) for request in requests]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _stored_or_asked(self, request: ChatRequest, connection: Connection) -> ChatReply:
        settings = self.settings
        key = request_key(request, settings)
        if self._cache is not None and (stored := self._cache.get(key)) is not None and _kept(stored, request):
            self._usage = replace(self._usage, cached=self._usage.cached + 1)
            self._kept = True
            self._note(stored.model)
            return stored
        async with connection.slots:
            if self._down is not None:
                raise ServerDown(self._down)
            started = time.monotonic()
            reply = await self._tried(request, connection)
            reply = replace(reply, seconds=time.monotonic() - started)
        if self._cache is not None and _kept(reply, request):
            try:
                self._cache.put(key, reply, settings.model)
                self._kept = True
            except OSError as error:  # a full disk costs the next run money, not this one its answer
                if not self._unkept:
                    told = "%s: this reply could not be kept, and of others that cannot nothing more is said: %s"
                    log.warning(told, settings.cache_dir, error)
                self._unkept = True
        self._count(reply)
        return reply

    async def _tried(self, request: ChatRequest, connection: Connection) -> ChatReply:
        attempt = 1
        while isinstance(outcome := await self._attempt(request, connection), Fault):
            patient = outcome.transient and (outcome.wait or 0.0) <= MAX_RETRY_AFTER
            if attempt > self.settings.retries or not patient:
                after = f", after {attempt} attempts" if attempt > 1 else ""
                return ChatReply(failed=f"{outcome.reason}{after}")
            self._usage = replace(self._usage, retries=self._usage.retries + 1)
            self._tell_wait(outcome)
            await asyncio.sleep(self._wait(outcome.wait, attempt))
            attempt += 1
        return outcome

    async def _attempt(self, request: ChatRequest, connection: Connection) -> ChatReply | Fault:
        """Ask once, and again without each feature that the server refuses, as long as there is one to leave out."""
        structured, refused = self.settings.structured, self._refused
        while True:
            begun = time.monotonic()
            content = await connection.send(request_body(request, self.settings.model, structured, refused))
            self._hear(content, time.monotonic() - begun)
            if isinstance(content, Fault):
                if filtered(content.error):
                    return ChatReply(failed=f"stopped by the server's content filter: {content.reason}", declined=True)
                if content.status in (400, 422):
                    feature = refused_feature(content.error, request, structured, refused)
                    if feature is not None:
                        refused = refused | {feature}
                        continue
                if content.status in _HOPELESS and self._usage.requests == self._usage.failed:
                    self._give_up(f"it {self._remedy(content.status)}: {content.reason}")
                return content
            if new := refused - self._refused:
                log.warning("%s takes no %s: asked without from now on", self.settings.base_url, ", ".join(sorted(new)))
                self._refused |= refused
            try:
                return read_answer(content, request)
            except ValueError as error:
                return Fault(str(error), transient=True)

    def _hear(self, content: bytes | Fault, seconds: float) -> None:
        """Give up on a server that hangs. `_count` would be late: a request fails only after all its attempts."""
        if not (isinstance(content, Fault) and content.timed_out):
            self._timed_out = 0
            return
        self._timed_out += 1
        if self._timed_out > 2 * self.settings.concurrency + self.settings.retries:
            self._give_up(
                f"the latest {self._timed_out} attempts all timed out, and nothing else came: {content.reason}"
            )
        self._slow += 1
        if self._slow >= self._tell_at:
            self._tell_slow(content, seconds)
            self._tell_at = max(_TOLD_AGAIN, 2 * self._tell_at)

    def _tell_slow(self, fault: Fault, seconds: float) -> None:
        """Warn of attempts that timed out: their retries are silent and may take many minutes."""
        settings, name = self.settings, "read_timeout" if fault.connected else "connect_timeout"
        which = "an attempt timed out" if self._slow == 1 else f"{self._slow:,} attempts timed out so far, the latest"
        log.warning(
            "%s: %s after %.1f s; a request gets %d in all (server.retries=%d). Where the server is only slow, raise "
            "server.%s=%g or lower server.concurrency=%d",
            *(settings.base_url, which, seconds, settings.retries + 1, settings.retries),
            *(name, getattr(settings, name), settings.concurrency),
        )

    def _tell_wait(self, fault: Fault) -> None:
        """Warn now and then of the waits that a server asks for: nothing else is logged meanwhile."""
        if (fault.wait or 0.0) >= LONG_WAIT and time.monotonic() >= self._tell_wait_at:
            told = "%s: %s, and wants a wait of %.0f s, which it gets: lower server.concurrency=%d where waits are many"
            log.warning(told, self.settings.base_url, fault.reason, fault.wait, self.settings.concurrency)
            self._tell_wait_at = time.monotonic() + WAITS_TOLD

    def _wait(self, asked: float | None, attempt: int) -> float:
        """Return the seconds before the next attempt, with jitter to separate requests that failed together."""
        own = min(self.settings.backoff * 2 ** (attempt - 1), MAX_BACKOFF) * self._jitter.uniform(0.5, 1.0)
        return own if asked is None else max(own, asked * self._jitter.uniform(1.0, 1.25))  # not sooner than asked

    def _note(self, model: str) -> None:
        """Warn of a second model, once: a router may pass requests on, and a name may have come to mean another."""
        if model and model not in self._repliers:
            self._repliers[model] = None
            if len(self._repliers) == 2:
                said = "%s: server.model=%s is answered by more than one model: %s"
                log.warning(said, self.settings.base_url, self.settings.model, ", ".join(self._repliers))

    def _count(self, reply: ChatReply) -> None:
        self._note(reply.model)
        used = self._usage
        self._usage = replace(
            used,
            requests=used.requests + 1,
            failed=used.failed + (not reply.answered),
            prompt_tokens=used.prompt_tokens + reply.prompt_tokens,
            completion_tokens=used.completion_tokens + reply.completion_tokens,
            seconds=used.seconds + reply.seconds,
        )
        self._latest.append(None if reply.answered else reply.failed)
        reasons = [reason for reason in self._latest if reason is not None]
        share, allowed = len(reasons) / len(self._latest), self.settings.max_failed_share
        if len(self._latest) == self.settings.min_requests and share > allowed:
            self._give_up(
                f"{len(reasons)} of the latest {len(self._latest)} requests failed ({share:.0%}, "
                f"server.max_failed_share allows {allowed:.0%}). The first reason: {reasons[0]}"
            )

    def _give_up(self, why: str) -> None:
        kept = f" Replies so far are kept in {self.settings.cache_dir}." if self._kept else ""
        self._down = f"server.base_url={self.settings.base_url}: {why}.{kept}"
        raise ServerDown(self._down)


def _kept(reply: ChatReply, request: ChatRequest) -> bool:
    return reply.text is not None and (request.readable is None or request.readable(reply.text))
