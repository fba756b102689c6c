"""What a client knows of its server: what it has used, who answers, and when the server counts as down."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

from steer_lit.chat.connection import Fault
from steer_lit.chat.messages import ChatReply
from steer_lit.chat.settings import ChatSettings
from steer_lit.errors import ServerDown
from steer_lit.numbers import counted

log = logging.getLogger(__name__)

_LASTING = frozenset({401, 402, 403, 404})  # statuses of what all requests share: the key, the model, the path


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


class ServerHealth:
    """Hears everything that comes from one server. Raises ServerDown once it looks down, and warns of less.

    The connection's thread calls all methods but `greeted` and `forgive`, so that they need no lock.
    """

    def __init__(self, settings: ChatSettings, key: Callable[[str], str]) -> None:
        """`key` gives the config's key of a setting, for messages."""
        self._settings, self._key = settings, key
        self.usage = ChatUsage()
        self._down = ""  # why
        self._latest: deque[str | None] = deque(maxlen=settings.min_requests)  # why each failed, None for a success
        self._timed_out = 0  # attempts that timed out in a row, across requests
        self._repliers: dict[str, None] = {}  # who answered, as the server names it, in order
        self._kept = False  # whether a reply of this client is in the cache
        self._unkept = False  # whether a reply could not be cached

    def greeted(self, models: bytes | Fault) -> None:
        """Take the server's list of models, which need not exist. Give up if nobody answers or the key is refused."""
        if isinstance(models, Fault) and not models.connected:
            self._give_up(f"nobody answers there ({models.reason}): start the server, or correct the address")
        if isinstance(models, Fault) and models.status == 401:
            self.refused(models)

    def forgive(self) -> None:
        """Give a server that counts as down another chance, as if it had just been met."""
        self._down = ""
        self._timed_out = 0
        self._latest = deque(maxlen=self._latest.maxlen)  # a new one: `replied` may be reading the old

    def raise_if_down(self) -> None:
        if self._down:
            raise ServerDown(self._down)

    # ---- one request: each attempt, each retry, the reply

    def heard(self, outcome: bytes | Fault) -> None:
        """Give up on a server that hangs. `replied` would be late: a request fails only after all its attempts."""
        if not (isinstance(outcome, Fault) and outcome.timed_out):
            self._timed_out = 0
            return
        self._timed_out += 1
        if self._timed_out > 2 * self._settings.concurrency + self._settings.retries:
            self._give_up(
                f"the latest {self._timed_out} attempts all timed out, and nothing else came: {outcome.reason}"
            )

    def refused(self, fault: Fault) -> None:
        """Give up on a server that has never answered and refuses what every request has in common."""
        if fault.status in _LASTING and self.usage.requests == self.usage.failed:
            model, variable = self._named("model"), self._named("api_key_env")
            check = f"correct this address, which mostly ends in /v1, {model}, or the key in {variable}"
            self._give_up(f"it refuses every request ({fault.reason}): {check}")

    def retried(self, fault: Fault) -> None:
        """Count a retry. Say why the first one is made: many are a sign, of a limit of the server's, for example."""
        if not self.usage.retries:
            told = "%s: a request is tried again (later retries are only counted): %s"
            log.info(told, self._settings.base_url, fault.reason)
        self.usage = replace(self.usage, retries=self.usage.retries + 1)

    def replied(self, reply: ChatReply) -> None:
        """Count a finished request. Give up if too many of the latest failed: the circuit breaker."""
        self._note(reply.model)
        used = self.usage
        self.usage = replace(
            used,
            requests=used.requests + 1,
            failed=used.failed + (not reply.answered),
            prompt_tokens=used.prompt_tokens + reply.prompt_tokens,
            completion_tokens=used.completion_tokens + reply.completion_tokens,
            seconds=used.seconds + reply.seconds,
        )
        latest = self._latest
        latest.append(None if reply.answered else reply.failed)
        reasons = [reason for reason in latest if reason is not None]
        share, allowed = len(reasons) / len(latest), self._settings.max_failed_share
        if len(latest) == self._settings.min_requests and share > allowed:
            self._give_up(
                f"{len(reasons)} of the latest {len(latest)} requests failed ({share:.0%}, "
                f"{self._key('max_failed_share')} allows {allowed:.0%}). The first reason: {reasons[0]}"
            )

    @property
    def doubtful(self) -> bool:
        """Whether the server may have died: those under way at that time may still have ended well."""
        return any([*self._latest][-self._settings.concurrency :])

    def gone(self, fault: Fault) -> None:
        """Give up on a server that failed lately, and now to answer a word."""
        self._give_up(f"requests failed lately, and so did a request of one word ({fault.reason})")

    # ---- the cache

    def reused(self, stored: ChatReply) -> None:
        """Count a stored reply."""
        self.usage = replace(self.usage, cached=self.usage.cached + 1)
        self._kept = True
        self._note(stored.model)

    def kept(self) -> None:
        self._kept = True

    def not_kept(self, error: OSError) -> None:
        """Warn once: a full disk costs the next run money, not this one its answer."""
        if not self._unkept:
            told = "%s: this reply could not be kept (later ones are not reported): %s"
            log.warning(told, self._settings.cache_dir, error)
        self._unkept = True

    # ---- what is said

    def _note(self, model: str) -> None:
        """Warn of a second model, once: a router may pass requests on, and a name may have come to mean another."""
        if model and model not in self._repliers:
            self._repliers[model] = None
            if len(self._repliers) == 2:
                said = "%s: %s is answered by more than one model: %s"
                log.warning(said, self._settings.base_url, self._named("model"), ", ".join(self._repliers))

    def _named(self, setting: str) -> str:
        value = getattr(self._settings, setting)
        return f"{self._key(setting)}={'null' if value is None else value}"

    def _give_up(self, why: str) -> NoReturn:
        kept = f" Replies so far are kept in {self._settings.cache_dir}." if self._kept else ""
        self._down = f"{self._named('base_url')}: {why}.{kept}"
        raise ServerDown(self._down)
