"""A client that sends many requests to a server at once.

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
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import asdict, replace
from typing import Any, TypeVar

from steer_lit.chat.cache import ReplyCache, request_key
from steer_lit.chat.connection import Connection, Fault
from steer_lit.chat.health import ChatUsage, ServerHealth
from steer_lit.chat.messages import ChatMessage, ChatReply, ChatRequest
from steer_lit.chat.settings import ChatSettings, with_own
from steer_lit.chat.wire import filtered, read_answer, refused_feature, request_body
from steer_lit.errors import ServerDown
from steer_lit.waiting import result_of

log = logging.getLogger(__name__)

MAX_BACKOFF = 30.0  # seconds
MAX_RETRY_AFTER = 120.0  # seconds; a server that asks for more is not waited for
_UNFIT = (400, 422)  # statuses of a request that is refused itself
_BUSY = 429
_WORD = ChatRequest((ChatMessage("user", "Hello"),), max_tokens=16)
T = TypeVar("T")


class ChatClient:
    """A client of one server: blocking outside, concurrent inside, safe to call from several threads at once.

    A setting in `own` overrides the one in `settings`, which clients share: see `with_own`. The first request opens
    the connection, in its own thread. `close` logs the usage. `place` is where the config names the client, such as
    `judge.client`: messages name settings of its own by the keys below that, shared ones by those below `server`.
    """

    place = ""
    whole = ""  # the setting that the config gives as the value of `place` itself: the model of `server:<model>`

    def __init__(self, settings: ChatSettings | Mapping[str, Any], **own: Any) -> None:
        shared = asdict(settings) if isinstance(settings, ChatSettings) else settings
        self.settings = ChatSettings(**with_own(shared, own))
        self._cache = ReplyCache(self.settings.cache_dir) if self.settings.cache_dir else None
        self._own = {name for name, value in own.items() if value is not None}
        self._own |= {name for name, value in shared.items() if getattr(self.settings, name) != value}
        self._health = ServerHealth(self.settings, self.key)
        self._refused: frozenset[str] = frozenset()  # features that this server turned out to refuse
        self._jitter = random.Random()  # its own: retries must not move the run's random state
        self._starting = threading.Lock()
        self._connection: Connection | None = None
        self._stopped = False

    @property
    def usage(self) -> ChatUsage:
        return self._health.usage

    def key(self, setting: str) -> str:
        """Return the config's key of one of the settings."""
        if not self.place or setting not in self._own:
            return f"server.{setting}"
        return self.place if setting == self.whole else f"{self.place}.{setting}"

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

        Raises ServerDown if nobody answers or the key is refused.
        """
        connection = self._connected()
        self._health.greeted(result_of(connection.start(self._models(connection))))

    def confirm(self) -> None:
        """Ask for a word if any of the latest requests failed: a server that has died since has not yet failed often
        enough for the circuit breaker. Raises ServerDown if it fails too, unless only the request itself is refused.
        """
        connection = self._connected()
        result_of(connection.start(self._confirm(connection)))

    def stop(self) -> None:
        """Close the client for good: whoever asks from now on gets a CancelledError."""
        with self._starting:
            self._stopped = True
        self.close()

    def close(self) -> None:
        """Close the connections. The client may be used again: it connects anew, and no past failure counts."""
        with self._starting:  # until all has ended: a request of the old connection must not speak for the next
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
            self._health.forgive()
        if connection is not None and self.usage != ChatUsage():
            role = f"{self.place.removesuffix('.client')}, " if self.place else ""
            log.info("%s%s: %s", role, self.settings.base_url, self.usage)

    def _connected(self) -> Connection:
        with self._starting:
            if self._stopped:
                raise CancelledError
            self._connection = self._connection or Connection(self.settings, self.key)
            return self._connection

    # ---- in the loop's thread

    async def _ask_all(self, requests: Sequence[ChatRequest], connection: Connection) -> list[ChatReply]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._stored_or_asked(request, connection)) for request in requests]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _stored_or_asked(self, request: ChatRequest, connection: Connection) -> ChatReply:
        key = request_key(request, self.settings)
        if self._cache is not None and (stored := self._cache.get(key)) is not None and _worth_keeping(stored, request):
            self._health.reused(stored)
            return stored
        async with connection.slots:
            self._health.raise_if_down()
            started = time.monotonic()
            reply = await self._tried(lambda: self._attempt(request, connection))
            reply = ChatReply(failed=reply.reason) if isinstance(reply, Fault) else reply
            reply = replace(reply, seconds=time.monotonic() - started)
        if self._cache is not None and _worth_keeping(reply, request):
            try:
                self._cache.put(key, reply, self.settings.model)
                self._health.kept()
            except OSError as error:
                self._health.not_kept(error)
        self._health.replied(reply)
        return reply

    async def _confirm(self, connection: Connection) -> None:
        if self._health.doubtful:
            heard = await self._tried(lambda: self._sent(_WORD, self._refused, connection))
            if isinstance(heard, Fault) and heard.status not in (*_UNFIT, _BUSY):
                self._health.gone(heard)

    async def _tried(self, attempt: Callable[[], Awaitable[T | Fault]]) -> T | Fault:
        """Repeat the attempt until it gives no fault, or no retry is left or of any use."""
        attempts = 1
        while isinstance(outcome := await attempt(), Fault):
            patient = outcome.transient and (outcome.wait or 0.0) <= MAX_RETRY_AFTER
            if attempts > self.settings.retries or not patient:
                after = f", after {attempts} attempts" if attempts > 1 else ""
                return replace(outcome, reason=f"{outcome.reason}{after}")
            self._health.retried(outcome)
            await asyncio.sleep(self._wait(outcome.wait, attempts))
            attempts += 1
        return outcome

    async def _attempt(self, request: ChatRequest, connection: Connection) -> ChatReply | Fault:
        """Ask once, and again without each feature that the server refuses, as long as there is one to leave out."""
        structured, refused = self.settings.structured, self._refused
        while isinstance(content := await self._sent(request, refused, connection), Fault):
            if filtered(content.error):
                return ChatReply(failed=f"stopped by the server's content filter: {content.reason}", declined=True)
            unfit = content.status in _UNFIT
            feature = refused_feature(content.error, request, structured, refused) if unfit else None
            if feature is None:
                self._health.refused(content)
                return content
            refused |= {feature}
        if new := refused - self._refused:
            log.warning("%s takes no %s: asked without from now on", self.settings.base_url, ", ".join(sorted(new)))
            self._refused |= refused
        try:
            return read_answer(content, request)
        except ValueError as error:
            return Fault(str(error), transient=True)

    async def _sent(self, request: ChatRequest, refused: frozenset[str], connection: Connection) -> bytes | Fault:
        content = await connection.send(request_body(request, self.settings.model, self.settings.structured, refused))
        self._health.heard(content)
        return content

    async def _models(self, connection: Connection) -> bytes | Fault:
        """Return the list of models. If nobody answers, ask again: the server may be starting."""
        for attempt in range(1, self.settings.retries + 1):
            if not isinstance(outcome := await connection.models(), Fault) or outcome.connected:
                return outcome
            await asyncio.sleep(self._wait(None, attempt))
        return await connection.models()

    def _wait(self, asked: float | None, attempt: int) -> float:
        """Return the seconds before the next attempt, with jitter to separate requests that failed together."""
        own = min(self.settings.backoff * 2 ** (attempt - 1), MAX_BACKOFF) * self._jitter.uniform(0.5, 1.0)
        return own if asked is None else max(own, asked * self._jitter.uniform(1.0, 1.25))  # not sooner than asked


def greet_all(clients: Iterable[Any]) -> None:
    """Greet each server once, however many clients ask it. Raises one ServerDown about all that cannot be used."""
    down: list[ServerDown] = []
    for client in {getattr(client, "settings", client): client for client in clients}.values():
        try:
            client.greet()
        except ServerDown as error:
            down.append(error)
    if down:
        said = dict.fromkeys(str(error) for error in down)
        raise ServerDown("\n".join(said)) from down[0]


def _worth_keeping(reply: ChatReply, request: ChatRequest) -> bool:
    return reply.text is not None and (request.readable is None or request.readable(reply.text))
