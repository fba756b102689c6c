"""A loopback server for chat completions that misbehaves on demand: one named fault per request."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

Body = dict[str, Any]
# The fault of this request; None for a proper answer. `earlier` is the number of equal requests before it.
Plan = Callable[[Body, int], str | None]
Answer = Callable[[Body], str]

DRIP_SECONDS = 0.02
LARGEST = 16 << 20  # bytes of the largest body that is read


@dataclass
class ChaosServer:
    """`with ChaosServer(plan, answer) as server:` answers at `server.base_url` until the end of the block.

    `answer` makes the text of a proper reply from the request; `model` is the model that the reply names. `retry_after`
    is the header of a 429. `models` is the body of the list of models, or the status to answer with instead. `port` is
    the port to listen at.
    """

    plan: Plan = lambda body, earlier: None
    answer: Answer = lambda body: "Fine."
    model: Answer = lambda body: "chaos"
    retry_after: str = "0.05"
    models: bytes | int = 404
    port: int = 0  # 0: any free port
    bodies: list[Body] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    faults: list[str | None] = field(default_factory=list)
    most_at_once: int = 0

    def __enter__(self) -> ChaosServer:
        self._open: set[asyncio.StreamWriter] = set()
        self._under_way = 0
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._listen())
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"

    async def _end(self) -> None:
        self._server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        for writer in self._open:
            writer.transport.abort()

    # ---- one connection

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._request(reader, writer):
                pass
        self._open.discard(writer)
        writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read one request and answer it. Return whether the connection can still be used."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        if head[0].startswith("GET "):
            self.headers.append(headers)
            listed = self.models
            writer.write(http(listed, b"as told") if isinstance(listed, int) else http(200, listed))
            await writer.drain()
            return True
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        fault = self.plan(body, self.bodies.count(body))
        self.bodies.append(body)
        self.headers.append(headers)
        self.times.append(time.monotonic())
        self.faults.append(fault)
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            return await self._misbehave(fault, body, writer)
        finally:
            self._under_way -= 1

    async def _misbehave(self, fault: str | None, body: Body, writer: asyncio.StreamWriter) -> bool:
        proper = json.dumps({**completion(self.answer(body)), "model": self.model(body)}).encode()
        match fault:
            case "hang":
                await asyncio.sleep(3600)
            case "reset":  # reset: no end of stream, no answer
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                return False
            case "half closed":  # half an answer, then our side of the connection is closed
                writer.write(http(200, proper)[: -len(proper) // 2])
                writer.write_eof()
                await asyncio.sleep(3600)
            case "drip" | "endless drip":
                await drip(writer, http(200, proper), forever=fault == "endless drip")
            case "two replies":  # in one packet
                writer.write(http(200, proper) + http(200, json.dumps(completion("another's")).encode()))
            case "echoes the key":
                error = {"message": f"you sent {self.headers[-1]['authorization']}"}
                writer.write(http(500, json.dumps({"error": error}).encode()))
            case "echoes the key in UTF-16":
                error = {"message": f"you sent {self.headers[-1]['authorization']}"}
                writer.write(http(500, json.dumps({"error": error}).encode("utf-16-le")))
            case "echoes the key escaped":
                spelt = "".join(rf"\u{ord(character):04x}" for character in self.headers[-1]["authorization"])
                writer.write(http(500, f'{{"error": {{"message": "you sent {spelt}"}}}}'.encode()))
            case "UTF-16":
                writer.write(http(200, json.dumps(json.loads(proper), ensure_ascii=False).encode("utf-16-le")))
            case "echoes the key as an encoding":
                writer.write(http(500, b"?", {"Content-Encoding": self.headers[-1]["authorization"]}))
            case _:
                writer.write(self._response(fault, proper))
        await writer.drain()
        return True

    def _response(self, fault: str | None, proper: bytes) -> bytes:
        if fault == "html":
            return http(200, b"<html><body>Welcome</body></html>")
        if fault == "429":
            return http(429, b'{"error": {"message": "slow down"}}', {"Retry-After": self.retry_after})
        if fault == "quota spent":
            return http(429, b'{"error": {"message": "pay first", "code": "insufficient_quota"}}')
        if fault == "redirect":
            return http(307, b"", {"Location": f"{self.base_url}/elsewhere"})
        if fault == "gzip bomb":
            return http(200, gzip.compress(proper + b" " * (LARGEST + 1)), {"Content-Encoding": "gzip"})
        if fault == "gzip bomb of an error":
            return http(503, gzip.compress(b" " * (LARGEST + 1)), {"Content-Encoding": "gzip"})
        if fault == "huge body":
            return http(200, proper + b" " * (LARGEST + 1 - len(proper)))
        if fault == "largest body":
            return http(200, proper + b" " * (LARGEST - len(proper)))
        if fault is not None and fault.isdigit():
            return http(int(fault), b'{"error": {"message": "as told"}}')
        if fault in REFUSALS:
            return http(REFUSALS[fault][0], json.dumps(REFUSALS[fault][1]).encode())
        if fault in ("no max_tokens", "no temperature"):
            error = {"message": "as told", "param": fault.removeprefix("no "), "code": "unsupported_parameter"}
            return http(400, json.dumps({"error": error}).encode())
        replies: dict[str | None, bytes] = {
            None: proper,
            "empty body": b"",
            "garbage body": b"\xff\xfe<html>" + proper[:20],
            "deep body": b"[" * 100_000,
            "no choices": json.dumps({"choices": [], "error": {"message": "overloaded"}}).encode(),
            "no message": json.dumps({"choices": ["?"]}).encode(),
            "no content": json.dumps(completion(None)).encode(),
            "blank content": json.dumps(completion(" \n")).encode(),
            "content filter": json.dumps(completion("Fi", finish="content_filter")).encode(),
            "breaks off": json.dumps(broken("error", {"error": {"message": "provider gone"}})).encode(),
            "abort": json.dumps(broken("abort", {})).encode(),
            "all thoughts": json.dumps(completion(None, reasoning="Hm.")).encode(),
            "tool call": json.dumps(broken("tool_calls", {"message": {"content": None, "tool_calls": [{}]}})).encode(),
            "cut in thought": json.dumps(completion(None, finish="length", reasoning="Hm.")).encode(),
            "parts": json.dumps(completion([{"type": "x", "text": "Hm."}, {"type": "text", "text": "Fine."}])).encode(),
            "refusal": json.dumps(completion(None, refusal="I'd rather not.")).encode(),
            "cut off": json.dumps(completion('{"score": 1', finish="length")).encode(),
            "score of 11": json.dumps(completion(exaggerated(proper))).encode(),
            "half a surrogate": json.dumps(completion("Fine \ud83d.")).encode(),
            "odd usage": json.dumps({**completion("Fine."), "usage": {"prompt_tokens": "many"}}).encode(),
        }
        return http(200, replies[fault])


REFUSALS: dict[str | None, tuple[int, object]] = {  # in the words of hosted services
    "filter of Azure": (400, {"error": {"message": "as told", "param": "prompt", "code": "content_filter"}}),
    "filter of OpenAI": (400, {"error": {"message": "your prompt was flagged", "code": "invalid_prompt"}}),
    "filter of OpenRouter": (403, {"error": {"message": "as told", "code": 403, "metadata": {"flagged_input": "x"}}}),
    "filter of Alibaba": (400, {"error": {"message": "as told", "code": "data_inspection_failed"}}),
    "no seed, Mistral": (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra"}]}),
    "no seed, Gemini": (400, [{"error": {"message": 'Unknown name "seed": Cannot find field.', "code": 400}}]),
    "long refusal": (400, {"error": {"input": "x" * (1 << 20), "message": "as told"}}),
}
SCORES = ("safety", "usefulness", "faithfulness")


def broken(finish: str, more: Body) -> Body:
    answer = completion("Fi", finish=finish)
    return {**answer, "choices": [{**answer["choices"][0], **more}]}


def completion(content: object, finish: str = "stop", refusal: str | None = None, reasoning: str | None = None) -> Body:
    message = {"role": "assistant", "content": content, "refusal": refusal, "reasoning_content": reasoning}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "chaos",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def exaggerated(proper: bytes) -> str:
    """Return the proper answer with every score out of range."""
    with suppress(ValueError):
        answer = json.loads(json.loads(proper)["choices"][0]["message"]["content"])
        return json.dumps({**answer, **dict.fromkeys(SCORES, 11)})
    return json.dumps(dict.fromkeys(SCORES, 11))


def http(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def drip(writer: asyncio.StreamWriter, answer: bytes, forever: bool) -> None:
    """Send the answer in twenty small parts. With `forever`, send blanks instead of its end."""
    head, _, body = answer.partition(b"\r\n\r\n")
    size = max(1, len(body) // 20)
    if forever:
        head = head.replace(b"Content-Length: %d" % len(body), b"Content-Length: 1000000")
    writer.write(head + b"\r\n\r\n")
    for start in range(0, len(body), size):
        await asyncio.sleep(DRIP_SECONDS)
        writer.write(body[start : start + size])
        await writer.drain()
    while forever:
        await asyncio.sleep(DRIP_SECONDS)
        writer.write(b" ")
        await writer.drain()


def http_date(seconds_ahead: float) -> str:
    return formatdate(time.time() + seconds_ahead, usegmt=True)
