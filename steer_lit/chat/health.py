"""What a client knows of its server: what it has used, who answers, and when the server counts as down."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

from steer_lit.chat.connection import UNTRUSTED, Fault
from steer_lit.chat.messages import ChatReply
from steer_lit.chat.settings import ChatSettings
from steer_lit.chat.wire import brief, listed_models, unknown_model
from steer_lit.errors import ServerDown
from steer_lit.numbers import counted

log = logging.getLogger(__name__)

LONG_WAIT = 5.0  # seconds; shorter waits are not logged
WAITS_TOLD = 300.0  # seconds between two warnings of waits
_HOPELESS = {  # statuses that no retry can help, and the settings that may be wrong
    401: ("refuses the key in the variable {api_key_env}", ["api_key_env"]),
    402: ("wants the account of that key to be topped up", []),
    403: ("does not let that key use {model}", ["api_key_env", "model"]),
    UNTRUSTED: ("has a certificate that is not trusted here (export SSL_CERT_FILE=<its .pem file>, or mend it)", []),
    404: ("knows no such path (most end in /v1), or not {model}", ["base_url", "model"]),
}
_NO_MODEL = "knows no {model}", ["model"]
_KEYLESS = "wants a key, and none was sent: name the variable that holds it"
_UNSET = "wants a key, and the variable {api_key_env} is not set"


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
        self._down: tuple[str, str] | None = None  # of the ServerDown to raise
        self._latest: deque[str | None] = deque(maxlen=settings.min_requests)  # why each failed, None for a success
        self._timed_out = 0  # attempts that timed out in a row, across requests
        self._slow = 0  # all attempts that timed out
        self._tell_wait_at = 0.0  # monotonic time before which no wait is logged
        self._unreached = False  # whether it was told that an attempt found no connection
        self._repliers: dict[str, None] = {}  # who answered, as the server names it, in order
        self._kept = False  # whether a reply of this client is in the cache
        self._unkept = False  # whether a reply could not be cached

    def greeted(self, models: bytes | Fault) -> bool:
        """Take the server's list of models. A list without this client's, or a web page, only gives a warning.

        Returns whether the model may be there: it is listed, or there is no list.
        """
        settings = self._settings
        if isinstance(models, Fault):
            if not models.connected:
                self._give_up(f"nobody answers there ({models.reason}): start the server, or correct the address")
            if models.status in (401, UNTRUSTED):
                self._refuse(models)
        elif models.lstrip().startswith(b"<"):
            said = "%s answers with a web page: is that the whole address of a server, with /v1 at its end?"
            log.warning(said, settings.base_url)
        elif (names := listed_models(models)) and settings.model not in names:
            said = "%s is not among the models that %s lists: %s"
            log.warning(said, self._named("model"), settings.base_url, brief(", ".join(names)))
            return False
        return True

    def forgive(self) -> None:
        """Give a server that counts as down another chance, as if it had just been met."""
        self._down = None
        self._timed_out = 0
        self._latest = deque(maxlen=self._latest.maxlen)  # a new one: `replied` may be reading the old

    def raise_if_down(self) -> None:
        if self._down is not None:
            raise ServerDown(*self._down)

    # ---- one request: each attempt, each retry, the reply

    def heard(self, outcome: bytes | Fault, seconds: float) -> None:
        """Give up on a server that hangs. `replied` would be late: a request fails only after all its attempts."""
        if not (isinstance(outcome, Fault) and outcome.timed_out):
            self._timed_out = 0
            return
        self._timed_out += 1
        if self._timed_out > 2 * self._settings.concurrency + self._settings.retries:
            self._give_up(
                f"the latest {self._timed_out} attempts all timed out, and nothing else came: {outcome.reason}"
            )
        self._slow += 1
        if self._slow.bit_count() == 1:  # the first, and each time their number has doubled
            self._tell_slow(outcome, seconds)

    def refused(self, fault: Fault) -> None:
        """Give up on a server that has never answered and refuses what every request has in common."""
        hopeless = fault.status in _HOPELESS or (fault.status in (400, 422) and unknown_model(fault.error))
        if hopeless and self.usage.requests == self.usage.failed:
            self._refuse(fault)

    def retried(self, fault: Fault) -> None:
        """Count a retry. Warn of a lost server, once, and now and then of waits that the server asks for: nothing else
        is logged meanwhile.
        """
        self.usage = replace(self.usage, retries=self.usage.retries + 1)
        if not (fault.connected or self._unreached):
            self._unreached = True
            said = "%s: %s; each request is tried again, as often as %s says"
            log.warning(said, self._settings.base_url, fault.reason, self._named("retries"))
        if (fault.wait or 0.0) >= LONG_WAIT and time.monotonic() >= self._tell_wait_at:
            said = "%s: %s, and wants a wait of %.0f s, which it gets: lower %s where waits are many"
            log.warning(said, self._settings.base_url, fault.reason, fault.wait, self._named("concurrency"))
            self._tell_wait_at = time.monotonic() + WAITS_TOLD

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
            told = "%s: this reply could not be kept, and of others that cannot nothing more is said: %s"
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

    def _tell_slow(self, fault: Fault, seconds: float) -> None:
        """Warn of attempts that timed out: their retries are silent and may take many minutes."""
        settings, name = self._settings, "read_timeout" if fault.connected else "connect_timeout"
        which = "an attempt timed out" if self._slow == 1 else f"{self._slow:,} attempts timed out so far, the latest"
        log.warning(
            "%s: %s after %.1f s; a request gets %d in all (%s). Where the server is only slow, raise %s or lower %s",
            *(settings.base_url, which, seconds, settings.retries + 1),
            *map(self._named, ("retries", name, "concurrency")),
        )

    def _named(self, setting: str) -> str:
        value = getattr(self._settings, setting)
        return f"{self._key(setting)}={f'{value:g}' if isinstance(value, float) else value}"

    def _refuse(self, fault: Fault) -> NoReturn:
        """Give up over a status in _HOPELESS, or over the model's name. Say which setting may be wrong."""
        variable = self._settings.api_key_env
        said, wrong = _HOPELESS.get(fault.status or 0, _NO_MODEL)
        if unknown_model(fault.error) and fault.status not in (401, 402, 403):
            said, wrong = _NO_MODEL
        elif fault.status == 401 and not self._settings.key:
            said = f"{_KEYLESS} in {self._key('api_key_env')}" if variable is None else _UNSET
        correct = [self._key(name) for name in wrong]
        if "api_key_env" in wrong and variable is not None:
            correct.insert(0, f"${variable}")
        named = {name: self._named(name) for name in ("api_key_env", "model")}
        self._give_up(f"it {said.format(**named)}: {fault.reason}", " or ".join(correct))

    def _give_up(self, why: str, correct: str = "") -> NoReturn:
        kept = f" Replies so far are kept in {self._settings.cache_dir}." if self._kept else ""
        self._down = f"{self._named('base_url')}: {why}.{kept}", correct
        raise ServerDown(*self._down)
