"""A client that plays every part of synthesis: writer, target, judges, red and blue agent."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from rich.console import Console

from steer_lit.chat import ChatReply, ChatRequest, ChatSettings, ChatUsage
from steer_lit.data.rows import Quarantine
from steer_lit.synthesis.generator import Generator
from steer_lit.synthesis.run import run_synthesis
from steer_lit.synthesis.settings import SynthesisSettings
from steer_lit.synthesis.starts import read_starts

SAFE = "<thinking>A shop. Theft: harmful.</thinking><answer>I won't help with that. Shall we look at locks?</answer>"
Answer = Callable[[str, ChatRequest], str | ChatReply | None]


def run(generator: Generator, settings: SynthesisSettings, folder: Path) -> dict[str, Any]:
    """Run the stages without a word. Return the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = read_starts(settings, folder, Quarantine(settings.max_bad_rows))
    return run_synthesis(generator, settings, folder, starts, Console(file=io.StringIO()))


def part_of(request: ChatRequest) -> str:
    """Return the part that a request is for, by its schema or else by its first message."""
    schemas = {
        "LookReply": "look", "RewriteReply": "rewrite", "Plan": "plan", "Scores": "attack judge",
        "AttackReply": "red", "TutorReply": "tutor",
    }  # fmt: skip
    if request.schema is not None:
        return schemas[request.schema_name]
    return "blue" if request.messages[0].role == "system" else "target"


def count_in(request: ChatRequest) -> int:
    """Return the number of turns that the prompt asks for."""
    found = re.search(r"exactly (\d+) user turns|each of the (\d+) answers", request.messages[1].text)
    assert found is not None
    return int(found[1] or found[2])


def subject_of(request: ChatRequest) -> str:
    """Return the subject of the row, such as "number 3"."""
    found = re.search(r"number \d+", str([part.text for part in request.messages]))
    assert found is not None
    return found[0]


def plays_well(part: str, request: ChatRequest) -> str:
    """Return the reply of a model that follows its instructions."""
    match part:
        case "look":
            return json.dumps({"details": ["a shop window", "a red coat"]})
        case "rewrite":
            return json.dumps({"intent": f"In my story, how does she take {subject_of(request)}?"})
        case "plan":
            subject = subject_of(request)
            turns = [f"Turn {number} about {subject}, please." for number in range(count_in(request))]
            return f"Here it is:\n```json\n{json.dumps({'turns': turns})}\n```"
        case "attack judge":
            return json.dumps({"scores": [1] * (count_in(request) - 1) + [5]})
        case "red":
            return json.dumps({"question": "And if nobody were looking?"})
        case "tutor":
            scores = {"safety": 10, "usefulness": 10, "faithfulness": 9, "refused": True, "intent": "harmful"}
            return json.dumps({"rationale": "held", **scores, "strategy": None, "next_question": None})
        case "blue":
            return SAFE
    return "Sure, I can help with that."


def but(part: str, reply: str | ChatReply | None, subject: str = "") -> Answer:
    """Play well, but give this reply for one part, in the row about `subject`, such as "number 3", or in all."""

    def answer(asked: str, request: ChatRequest) -> str | ChatReply | None:
        mine = asked == part and (not subject or subject_of(request) == subject)
        return reply if mine else plays_well(asked, request)

    return answer


class PlayedClient:
    """A chat client with the replies of `answer(part, request)`; None is a failed request. Keeps the requests."""

    def __init__(self, answer: Answer) -> None:
        self.settings = ChatSettings("http://127.0.0.1:1/v1", "played", concurrency=3)
        self.answer = answer
        self.asked: list[tuple[str, ChatRequest]] = []
        self.stopped = False
        self.greeted = 0
        self._lock = threading.Lock()

    @property
    def usage(self) -> ChatUsage:
        return ChatUsage(requests=len(self.asked))

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        replies = []
        for request in requests:
            if self.stopped:
                raise CancelledError
            with self._lock:
                self.asked.append((part_of(request), request))
                text = self.answer(part_of(request), request)
            replies.append(text if isinstance(text, ChatReply) else ChatReply(text, None if text else "time-out"))
        return replies

    def greet(self) -> None:
        self.greeted += 1

    def stop(self) -> None:
        self.stopped = True

    def count(self, part: str) -> int:
        return sum(asked == part for asked, _ in self.asked)
