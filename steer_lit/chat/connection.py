"""The network connection: the openai client, and the event loop and thread it runs in.

A body is bounded before it is held in memory: it is read in chunks, never decompressed, and only up to a limit.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from inspect import CORO_CREATED, getcoroutinestate
from typing import TYPE_CHECKING, Any, TypeVar, cast

from steer_lit.chat.settings import SECRET, ChatSettings
from steer_lit.chat.wire import brief, error_object, retry_after
from steer_lit.errors import ConfigError, Problem

if TYPE_CHECKING:
    import httpx2

_TRANSIENT = frozenset({408, 409, 425, 429})  # and 500 up
_PATIENCE = 5.0  # seconds for a list of models, once connected
_UNHEARD = ("ConnectError", "ConnectTimeout", "ProxyError")  # raised by httpx if no server can be reached
_OPENAI = "OPENAI_API_KEY"  # the openai client also reads account and headers from variables beside it
_HEADERS = re.compile("accept|accept-encoding|authorization|connection|content-.*|host|user-agent|x-stainless-.*")
T = TypeVar("T")
_MAX_BODY = 16 << 20  # bytes; an answer of 100,000 tokens has half a million
_MAX_REFUSAL = 64 << 10  # bytes read of a refusal, in the thread in which all other requests wait


@dataclass(frozen=True, slots=True)
class Fault:
    """An attempt that gave no answer. `transient`: a retry may help. `wait`: the seconds that the server asked for.
    `error`: its error object. Not `connected`: nothing was heard from the server. `timed_out`: it took too long.
    """

    reason: str
    transient: bool
    status: int | None = None
    wait: float | None = None
    error: object = None
    connected: bool = True
    timed_out: bool = False


class _UnfitBody(Exception):
    """A body that is not read. The message says why and becomes the `reason` of a `Fault`."""


class Connection:
    """The openai client, and the event loop and thread it lives in."""

    def __init__(self, settings: ChatSettings, key: Callable[[str], str]) -> None:
        """`key` gives the config's key of a setting, for messages."""
        import httpx2
        import openai

        self._key = settings.key
        if not (self._key.isascii() and self._key.isprintable()):
            remedy = f"{settings.api_key_env} holds characters that no key has: set it again"
            raise ConfigError([Problem(key("api_key_env"), settings.api_key_env, remedy)])
        # As many connections as slots: no request ever waits for one, so none times out waiting (TRAPS 37).
        # Each serves one request: what a faulty server or proxy sends after a reply would be read as the next one's.
        limits = httpx2.Limits(max_connections=settings.concurrency, max_keepalive_connections=0)
        timeout = httpx2.Timeout(settings.read_timeout, connect=settings.connect_timeout)
        hooks = {"request": [self._own_headers], "response": [self._bounded]}
        self._ambient = settings.api_key_env == _OPENAI
        try:
            http = openai.DefaultAsyncHttpx2Client(
                limits=limits, timeout=timeout, follow_redirects=False, event_hooks=hooks
            )
        except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:
            # Nothing of the error is shown or chained: it may hold the login of a proxy's address.
            remedy = (
                f"no client can be made: look at the proxies and SSL_CERT_* of the environment ({type(error).__name__})"
            )
            raise ConfigError([Problem(key("base_url"), settings.base_url, remedy)]) from None
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url,
            api_key=self._key or "none",
            max_retries=0,
            timeout=timeout,
            default_headers={"Accept-Encoding": "identity"},
            http_client=http,
        )
        # Those that go to OpenAI alone are put together for any server, before `_own_headers` drops them.
        headers = "".join(f"{name}{value}" for name, value in self._client.default_headers.items())
        if not (headers.isascii() and headers.isprintable()):
            remedy = "an OPENAI_* variable of the environment holds characters that no header has: set it again"
            raise ConfigError([Problem(key("base_url"), settings.base_url, remedy)])
        self._base_url, self._place = settings.base_url, key("base_url")
        self._connect_timeout = settings.connect_timeout
        self._deadline = settings.connect_timeout + settings.read_timeout
        self.slots = asyncio.Semaphore(settings.concurrency)
        self._taking = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="steer-lit-chat", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the connection's loop. `close` cancels it; once closed, this raises CancelledError."""
        with self._taking:
            if self._closed:
                work.close()
                raise CancelledError
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def send(self, body: Mapping[str, Any]) -> bytes | Fault:
        """Request a chat completion. Return the body of a 200, whatever it holds, or a `Fault`."""
        return await self._body(self._client.chat.completions.with_raw_response.create(**body), self._deadline)

    async def models(self) -> bytes | Fault:
        """Request the list of models. Return what `send` returns."""
        # Longer than the connect time-out: a server that is absent must not pass for one that is slow.
        return await self._body(self._client.models.with_raw_response.list(), self._connect_timeout + _PATIENCE)

    async def _body(self, call: Awaitable[Any], deadline: float) -> bytes | Fault:
        import openai

        try:
            async with asyncio.timeout(deadline):  # the client's own time-outs are per read
                answer = await call
        except TimeoutError:
            return Fault(f"no answer within {deadline:g} s", transient=True, timed_out=True)
        except openai.APITimeoutError as error:
            name = type(error.__cause__).__name__
            return Fault(f"timed out: {name}", transient=True, connected=name not in _UNHEARD, timed_out=True)
        except _UnfitBody as error:
            return Fault(str(error), transient=False)
        except openai.APIStatusError as error:
            return self._refusal(error.status_code, error.response.content, error.response.headers)
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            connected = type(cause).__name__ not in _UNHEARD
            to = "" if connected else f" to {self._base_url}"
            return Fault(f"no connection{to}: {brief(self._hidden(repr(cause)))}", transient=True, connected=connected)
        content = answer.http_response.content
        return self._hidden_in(content) if len(self._key) >= SECRET else content

    def _refusal(self, status: int, content: bytes, headers: Mapping[str, str]) -> Fault:
        if 300 <= status < 400:
            to = brief(self._hidden(headers.get("location", "nowhere")))
            why = f"a redirect to {to}, which is not followed: let {self._place} say where the server is"
            return Fault(f"HTTP {status}: {why}", transient=False, status=status)
        error = error_object(self._hidden_in(content[:_MAX_REFUSAL]))
        spent = isinstance(error, Mapping) and error.get("code") == "insufficient_quota"  # a 429 that stays
        return Fault(
            f"HTTP {status}: {brief(error)}" if error else f"HTTP {status}",
            transient=(status in _TRANSIENT or status >= 500) and not spent,
            status=status,
            wait=retry_after(headers.get("retry-after"), time.time()),
            error=error,
        )

    def _hidden(self, text: str) -> str:
        """Replace the key by `***`: some servers and proxies send back the header they were given."""
        return text.replace(self._key, "***") if self._key else text

    def _hidden_in(self, content: bytes) -> bytes:
        """Return a body without the key. JSON is written anew, since it may escape any character or be UTF-16."""
        try:
            text = json.dumps(json.loads(content))
            text = text.replace(json.dumps(self._key)[1:-1], "***") if self._key else text
        except (ValueError, RecursionError):
            text = self._hidden(content.decode("utf-8", "replace").replace("\0", ""))  # UTF-16 has zeros
        return text.encode()

    async def _own_headers(self, request: httpx2.Request) -> None:
        """Unless OpenAI's key is sent, drop what openai adds from the environment: the account, other keys."""
        if not self._ambient:
            for name in [name for name in request.headers if not _HEADERS.fullmatch(name)]:
                del request.headers[name]
            request.headers["authorization"] = f"Bearer {self._key or 'none'}"

    async def _bounded(self, response: httpx2.Response) -> None:
        """Refuse a compressed body, and bound any other, before it is read: a little gzip can unpack to gigabytes."""
        encoding = response.headers.get("content-encoding", "").strip()
        if encoding.lower() not in ("", "identity"):
            packed = brief(self._hidden(encoding))
            raise _UnfitBody(f"the body is compressed ({packed}), although an uncompressed one was asked for")
        response.stream = _limited(response.stream)

    def close(self) -> None:
        with self._taking:  # what began after `_end` would be neither cancelled nor finished
            self._closed = True
            ended = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        ended.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        while under_way := asyncio.all_tasks() - {asyncio.current_task()}:  # a task may begin others as it ends
            # A task of anyio's that is cancelled before it starts would be told as never awaited.
            started = [task for task in under_way if _state(task) != CORO_CREATED]
            for task in started:
                task.cancel()
            await asyncio.gather(*started, return_exceptions=True)
            await asyncio.sleep(0)
        await self._client.close()


def _state(task: asyncio.Task[Any]) -> str:
    return getcoroutinestate(cast(Coroutine[Any, Any, Any], task.get_coro()))


def _limited(stream: Any) -> httpx2.AsyncByteStream:
    import httpx2

    class Limited(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            left = _MAX_BODY
            async for chunk in stream:
                if (left := left - len(chunk)) < 0:
                    raise _UnfitBody(f"the body is larger than {_MAX_BODY >> 20} MiB")
                yield chunk

        async def aclose(self) -> None:
            await stream.aclose()

    return Limited()
