"""A language model behind any endpoint that speaks OpenAI's chat completions: `POST BASE/chat/completions`.

    async with Chat(Settings.of(os.environ), used=task.use) as chat:
        text = await chat.say([{"role": "user", "content": "..."}])

Everything about one exchange is bounded: its time, its repeats, the size of the answer, the tokens it may spend. The
key is sent in one header and appears nowhere else: not in an error, a log or a return value. This module knows nothing
of what is asked; the agents with a model use it.
"""

from __future__ import annotations

import argparse
import email.utils
import json
import math
import os
import random
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self
from urllib.parse import urlsplit

import anyio

from a2a import Agent, AttemptFailed

try:
    import httpx2
except ModuleNotFoundError as exc:
    raise ModuleNotFoundError(
        "an agent with a model needs httpx2: pip install 'a2a-coordinator[model]'", name=exc.name
    ) from None

__all__ = ["Chat", "Message", "Settings", "Used", "configured", "serve"]

TRIES_MAX: Final = 4
BACKOFF: Final = (0.5, 8.0)
"""First and longest pause before a repeat, in seconds, if the endpoint does not name one."""
RETRY_AFTER_MAX: Final = 60.0
"""An endpoint that asks for a longer pause counts as gone; the coordinator may try again later."""
CONNECT_SECONDS: Final = 10.0
RESPONSE_BYTES_MAX: Final = 4 * 1024 * 1024
"""A patch of 128 KiB, escaped twice, with everything that a verbose endpoint adds, stays far below this."""
ERROR_BYTES_MAX: Final = 4096
SHOWN_CHARS_MAX: Final = 300
CHARS_PER_TOKEN: Final = 3
"""For endpoints that do not report usage: better too many tokens than a budget that never ends."""
TOKENS_TOLD_MAX: Final = 1_000_000_000
"""More than any model reads or writes in one exchange: a larger report is wrong. The protocol has a limit too."""

Message = Mapping[str, str]
"""With `role` and `content`."""


class Used(Protocol):
    """Told what an exchange has used: `TaskContext.use`."""

    def __call__(self, *, tokens: int) -> None: ...


@dataclass(frozen=True)
class Settings:
    """Which model to use, and how much of it."""

    url: str
    """The base URL, to which `/chat/completions` is added, such as `http://127.0.0.1:11434/v1`."""
    model: str
    key: str = field(default="", repr=False)
    """Sent as a bearer token unless empty."""
    seconds: float = 180.0
    """For one exchange, from the connection to the last byte."""
    source_chars: int = 120_000
    """How much source or patch goes into one question; a quarter of it is roughly the number of tokens."""
    answer_tokens: int = 16_000
    limit_field: str = "max_tokens"
    """The endpoint's name for the bound on an answer's tokens; some models know only `max_completion_tokens`."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Settings:
        """Read A2A_MODEL_URL, A2A_MODEL_NAME, A2A_MODEL_KEY and the others.

        Our own tools and foreign tests never see variables with that prefix.

        Raises:
            ValueError: a variable is missing or not valid; the text says which.
        """
        url, model = environment.get("A2A_MODEL_URL", ""), environment.get("A2A_MODEL_NAME", "")
        for name, value in (("A2A_MODEL_URL", url), ("A2A_MODEL_NAME", model)):
            if not value:
                raise ValueError(f"{name} is not set: it says which model to use")
        key = environment.get("A2A_MODEL_KEY", "")
        if not _is_base(url):
            raise ValueError("A2A_MODEL_URL: expected http(s)://HOST[:PORT]/PATH with neither user nor query")
        parts = urlsplit(url)
        if key and parts.scheme == "http" and not _is_here(parts.hostname or ""):
            raise ValueError("A2A_MODEL_URL: a key is sent to another machine over https only")
        if not key.isascii() or not key.isprintable():
            raise ValueError("A2A_MODEL_KEY: expected printable ASCII")
        return cls(
            url.rstrip("/"),
            model,
            key,
            seconds=_positive(environment, "A2A_MODEL_SECONDS", cls.seconds),
            source_chars=int(_positive(environment, "A2A_MODEL_SOURCE_CHARS", cls.source_chars)),
            answer_tokens=int(_positive(environment, "A2A_MODEL_ANSWER_TOKENS", cls.answer_tokens)),
            limit_field=environment.get("A2A_MODEL_LIMIT_FIELD") or cls.limit_field,
        )

    @property
    def is_here(self) -> bool:
        """Whether the endpoint is on this machine."""
        return _is_here(urlsplit(self.url).hostname or "")


class _Response(NamedTuple):
    status: int
    retry_after: str
    content: bytes


class Chat:
    """Exchanges with one model on behalf of one attempt.

    Args:
        used: told of the tokens of each exchange, even if its answer is useless.
        tokens: how many may be spent in all; None means no limit.
        sleep: how to wait before a repeat.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        used: Used,
        tokens: int | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.settings = settings
        self._used = used
        self._tokens = tokens
        self._sleep = sleep
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json"}
        if settings.key:
            headers["Authorization"] = f"Bearer {settings.key}"
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(settings.seconds, connect=min(CONNECT_SECONDS, settings.seconds)),
            follow_redirects=False,  # the key is for this endpoint, not for wherever it points
            trust_env=not settings.is_here,  # a proxy is asked for other machines only
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def say(self, messages: Sequence[Message]) -> str:
        """Return the model's next message.

        Raises:
            AttemptFailed: there is none. `model_unavailable` (another attempt may do better), `model_timeout`,
                `model_refused` (the endpoint refuses this request), `bad_answer` or `budget`.
        """
        limit = self.settings.answer_tokens
        if self._tokens is not None:
            if self._tokens <= 0:
                raise AttemptFailed("no tokens are left to ask the model with", code="budget")
            limit = min(limit, self._tokens)
        asked = {"model": self.settings.model, "messages": list(messages), self.settings.limit_field: limit}
        body = json.dumps(asked, ensure_ascii=False).encode()
        response = await self._answered(body)
        text = response.content.decode(errors="replace")
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            answer = None
        self._count(answer, len(body) + len(text))
        if self.settings.key and self.settings.key in text:
            raise AttemptFailed("the endpoint sent the key back: nothing of that is used", code="bad_answer")
        return _content(answer)

    async def _answered(self, body: bytes) -> _Response:
        """Send a request until there is an answer, as often as allowed."""
        pause, longest = BACKOFF
        for number in range(1, TRIES_MAX + 1):
            try:
                response = await self._exchange(body)
            except (TimeoutError, httpx2.ReadTimeout, httpx2.WriteTimeout) as exc:
                # No repeat: a model that thinks for too long would do so again, and be paid again.
                text = f"the model did not answer within {self.settings.seconds:g} s"
                raise AttemptFailed(text, code="model_timeout") from exc
            except httpx2.TransportError as exc:
                problem, wait = self._shown(f"{type(exc).__name__}: {exc}"), None
            else:
                if response.status == 200:
                    return response
                said = self._shown(response.content.decode(errors="replace"))
                problem, wait = f"{response.status} {said}".strip(), _seconds(response.retry_after)
                if response.status != 429 and response.status < 500:
                    raise AttemptFailed(f"the model's endpoint refuses: {problem}", code="model_refused")
            if wait is not None and wait > RETRY_AFTER_MAX:
                problem += f" (and wants no repeat for {wait:.0f} s)"
                break
            if number < TRIES_MAX:
                # With jitter, so that agents that were turned away together do not come back together.
                await self._sleep(wait if wait is not None else pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, longest)
        tried = f"{number} tries" if number > 1 else "one try"
        raise AttemptFailed(
            f"the model cannot be reached ({tried}): {problem}", code="model_unavailable", retryable=True
        )

    async def _exchange(self, body: bytes) -> _Response:
        with anyio.fail_after(self.settings.seconds):
            async with self._client.stream("POST", f"{self.settings.url}/chat/completions", content=body) as response:
                encoding = response.headers.get("content-encoding", "identity")
                if encoding != "identity":
                    # Nobody asked for it, and a few encoded bytes may expand to any number.
                    raise AttemptFailed(f"the endpoint answers in {self._shown(encoding)}", code="bad_answer")
                is_error = response.status_code != 200
                content = bytearray()
                async for chunk in response.aiter_raw():
                    content += chunk
                    if is_error and len(content) > ERROR_BYTES_MAX:
                        break
                    if len(content) > RESPONSE_BYTES_MAX:
                        text = f"the endpoint answers with more than {RESPONSE_BYTES_MAX} bytes"
                        raise AttemptFailed(text, code="bad_answer")
                return _Response(response.status_code, response.headers.get("retry-after", ""), bytes(content))

    def _count(self, answer: Any, chars: int) -> None:
        usage = answer.get("usage") if isinstance(answer, dict) else None
        told = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
        counts = [count for count in told if isinstance(count, int) and 0 <= count <= TOKENS_TOLD_MAX]
        tokens = sum(counts) if len(counts) == 2 else math.ceil(chars / CHARS_PER_TOKEN)
        self._used(tokens=tokens)
        if self._tokens is not None:
            self._tokens -= tokens

    def _shown(self, text: str) -> str:
        """Return the part of a foreign text that an error may show."""
        if self.settings.key:
            text = text.replace(self.settings.key, "***")
        return re.sub(r"[\x00-\x20\x7f-\x9f]+", " ", text).strip()[:SHOWN_CHARS_MAX]


def configured() -> Settings:
    """Return the settings of this process.

    Raises:
        AttemptFailed: there are none.
    """
    try:
        return Settings.of(os.environ)
    except ValueError as exc:
        raise AttemptFailed(str(exc), code="not_configured") from exc


def serve(agent: Agent, arguments: Sequence[str] | None = None) -> None:
    """Run an agent with a model as a program: `Agent.main`, and options for what the environment does not say."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--model-url", metavar="URL")
    parser.add_argument("--model", metavar="NAME")
    parser.add_argument("--model-key-file", type=Path, metavar="FILE")  # not the key: every user can see arguments
    options, rest = parser.parse_known_args(arguments)
    try:
        told = {"A2A_MODEL_URL": options.model_url, "A2A_MODEL_NAME": options.model}
        if options.model_key_file is not None:
            told["A2A_MODEL_KEY"] = options.model_key_file.read_text().strip()
        os.environ.update({name: value for name, value in told.items() if value})
        agent.labels["model"] = Settings.of(os.environ).model  # agents that share a model are not independent
    except (OSError, ValueError) as exc:
        print(f"{agent.name}: {exc}", file=sys.stderr)
        sys.exit(2)
    agent.main(rest)


def _content(answer: Any) -> str:
    try:
        choice = answer["choices"][0]
        text, why = choice["message"]["content"], choice.get("finish_reason")
    except (TypeError, KeyError, IndexError, AttributeError):
        raise AttemptFailed("the endpoint's answer is no chat completion", code="bad_answer") from None
    if why == "length":
        raise AttemptFailed("the model's answer is longer than it may be", code="bad_answer")
    if not isinstance(text, str) or not text.strip():
        raise AttemptFailed("the model answers with nothing", code="bad_answer")
    # JSON can escape half a surrogate pair. No patch contains one, and it could not be sent back for repair.
    return text.encode(errors="replace").decode()


def _seconds(retry_after: str) -> float | None:
    """Read a Retry-After header: seconds, or a date."""
    if re.fullmatch(r"\d{1,9}(\.\d+)?", retry_after):
        return float(retry_after)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):  # none, or nothing readable
        return None


def _positive(environment: Mapping[str, str], name: str, default: float) -> float:
    said = environment.get(name)
    try:
        value = float(said) if said else default
    except ValueError:
        value = math.nan
    if not 1 <= value < math.inf:
        raise ValueError(f"{name}: expected a number of at least 1, got {said}")
    return value


def _is_base(url: str) -> bool:
    """Tell whether a path can be appended to a URL, and whether the URL can be shown."""
    try:
        parts = urlsplit(url)
        reachable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid host or port
        return False
    return reachable and "@" not in parts.netloc and not re.search(r"[?#\s\x00-\x1f\x7f]", url)


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
