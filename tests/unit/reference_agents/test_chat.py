"""The client of a model's endpoint, against one that speaks the same and misbehaves as told."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from a2a import Agent, AttemptFailed
from reference_agents import chat as module
from reference_agents.chat import Chat, Settings, configured, serve
from tests.endpoint import Endpoint, Reply, endpoint

BOUND = 30.0
KEY = "sk-" + "0123456789abcdef" * 3
ASKED = [{"role": "user", "content": "how are you?"}]


class Account:
    """Remembers what was used, and for how long somebody would have waited."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.pauses: list[float] = []

    def used(self, *, tokens: int) -> None:
        self.tokens.append(tokens)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


def environment(url: str, **changes: str) -> dict[str, str]:
    return {"A2A_MODEL_URL": url, "A2A_MODEL_NAME": "stand-in", "A2A_MODEL_KEY": KEY, **changes}


async def say(here: Endpoint | str, account: Account, tokens: int | None = None, **changes: str) -> str:
    url = here if isinstance(here, str) else here.url
    settings = Settings.of(environment(url, **changes))
    with anyio.fail_after(BOUND):
        async with Chat(settings, used=account.used, tokens=tokens, sleep=account.sleep) as chat:
            return await chat.say(ASKED)


@contextmanager
def failing(code: str, words: str, *, retryable: bool = False) -> Any:
    with pytest.raises(AttemptFailed, match=words) as caught:
        yield
    assert (caught.value.error_code, caught.value.retryable) == (code, retryable)
    told: BaseException | None = caught.value
    while told is not None:
        assert KEY not in str(told) and KEY not in repr(told)
        told = told.__cause__ or told.__context__


async def test_a_message_is_sent_and_the_answer_and_its_tokens_come_back() -> None:
    account = Account()
    with endpoint(Reply("fine", usage={"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12})) as here:
        assert await say(here, account, A2A_MODEL_ANSWER_TOKENS="900") == "fine"
    [request] = here.requests
    assert request.path == "/v1/chat/completions"
    assert request.body == {"model": "stand-in", "messages": ASKED, "max_tokens": 900}
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert (account.tokens, account.pauses) == ([12], [])


async def test_without_a_key_none_is_sent_and_the_limit_is_called_as_the_endpoint_calls_it() -> None:
    with endpoint("fine") as here:
        await say(here, Account(), A2A_MODEL_KEY="", A2A_MODEL_LIMIT_FIELD="max_completion_tokens")
    [request] = here.requests
    assert "authorization" not in request.headers
    assert "max_completion_tokens" in request.body and "max_tokens" not in request.body


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": "7", "completion_tokens": -1}, {"prompt_tokens": 7, "completion_tokens": 10**30}, [1]],
)
async def test_an_endpoint_that_does_not_say_what_was_used_costs_an_estimate(usage: Any) -> None:
    account = Account()
    with endpoint(Reply("fine " * 300, usage=usage)) as here:
        await say(here, account)
    [tokens] = account.tokens
    assert 500 < tokens < 2000


@pytest.mark.parametrize("bad", [Reply(status=429), Reply(status=500), Reply(status=503), Reply(hangs_up=True)])
async def test_what_may_pass_is_tried_again_after_a_growing_pause(bad: Reply) -> None:
    account = Account()
    with endpoint(bad, bad, "fine") as here:
        assert await say(here, account) == "fine"
    assert len(here.requests) == 3
    first, second = account.pauses
    assert 0.25 <= first <= 0.5 <= second <= 1.0
    assert len(account.tokens) == 1


async def test_repeats_end() -> None:
    account = Account()
    with endpoint(Reply(status=503, raw=b"busy\x1b[31m")) as here:
        with failing("model_unavailable", r"cannot be reached \(4 tries\): 503 busy \[31m", retryable=True):
            await say(here, account)
    assert len(here.requests) == module.TRIES_MAX == len(account.pauses) + 1


async def test_an_endpoint_that_is_not_there_is_tried_again_and_told() -> None:
    with endpoint("gone") as here:
        pass
    account = Account()
    with failing("model_unavailable", "ConnectError", retryable=True):
        await say(here, account)
    assert len(account.pauses) == module.TRIES_MAX - 1


async def test_the_endpoint_says_how_long_to_wait() -> None:
    account = Account()
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    with endpoint(
        Reply(status=429, headers={"retry-after": "7"}),
        Reply(status=429, headers={"retry-after": soon}),
        Reply(status=429, headers={"retry-after": "soon"}),
        "fine",
    ) as here:
        assert await say(here, account) == "fine"
    seconds, date, none = account.pauses
    assert seconds == 7
    assert 20 < date <= 30
    assert 1.0 <= none <= 2.0, "what nobody can read is as good as nothing"


async def test_whoever_wants_to_be_left_alone_for_long_is_left_alone() -> None:
    account = Account()
    with endpoint(Reply(status=429, headers={"retry-after": "3600"})) as here:
        with failing("model_unavailable", r"one try.*wants no repeat for 3600 s", retryable=True):
            await say(here, account)
    assert (len(here.requests), account.pauses) == (1, [])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 307])
async def test_what_will_not_pass_is_not_tried_again(status: int) -> None:
    account = Account()
    with endpoint(Reply(status=status, raw=f"no: {KEY}".encode(), headers={"location": "/v1/elsewhere"})) as here:
        with failing("model_refused", rf"refuses: {status} no: \*\*\*"):
            await say(here, account)
    assert (len(here.requests), account.pauses, account.tokens) == (1, [], [])


async def test_a_model_that_thinks_for_too_long_is_not_asked_twice() -> None:
    release = threading.Event()
    with endpoint(Reply("late", waits=release)) as here:
        with failing("model_timeout", "did not answer within 1 s"):
            await say(here, Account(), A2A_MODEL_SECONDS="1")
        release.set()
    assert len(here.requests) == 1


async def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESPONSE_BYTES_MAX", 1000)
    with endpoint(Reply("x" * 1000)) as here:
        with failing("bad_answer", "more than 1000 bytes"):
            await say(here, Account())


async def test_of_an_error_only_the_beginning_is_read_and_shown() -> None:
    with endpoint(Reply(status=400, raw=b"y" * 20_000_000)) as here:
        with failing("model_refused", "400 y{300}$"):
            await say(here, Account())


async def test_what_is_packed_is_not_unpacked() -> None:
    with endpoint(Reply("fine", headers={"content-encoding": "gzip"})) as here:
        with failing("bad_answer", "answers in gzip"):
            await say(here, Account())
    assert here.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(raw=b"<html>"), "is no chat completion"),
        (Reply(raw=b"[" * 100_000), "is no chat completion"),
        (Reply(raw=b'{"choices": []}'), "is no chat completion"),
        (Reply(raw=b'{"choices": ["x"]}'), "is no chat completion"),
        (Reply(raw=b'{"choices": [{"message": {"content": null}}]}'), "with nothing"),
        (Reply("  \n"), "with nothing"),
        (Reply("half a", finish="length"), "longer than it may be"),
        (Reply(f"your key is {KEY}"), "sent the key back"),
    ],
)
async def test_an_answer_that_is_none_is_told_and_costs(reply: Reply, words: str) -> None:
    account = Account()
    with endpoint(reply) as here:
        with failing("bad_answer", words):
            await say(here, account)
    assert len(here.requests) == 1
    assert len(account.tokens) == 1


async def test_half_a_character_is_none() -> None:
    raw = b'{"choices": [{"message": {"content": "a \\ud83d\\ude00 and \\ud83d"}}]}'
    with endpoint(Reply(raw=raw)) as here:
        assert await say(here, Account()) == "a \N{GRINNING FACE} and ?"


async def test_tokens_that_are_left_bound_the_answer_and_then_the_asking() -> None:
    account = Account()
    with endpoint(Reply("fine", usage={"prompt_tokens": 60, "completion_tokens": 50})) as here:
        async with Chat(Settings.of(environment(here.url)), used=account.used, tokens=200) as chat:
            await chat.say(ASKED)
            await chat.say(ASKED)
            with failing("budget", "no tokens are left"):
                await chat.say(ASKED)
    assert [request.body["max_tokens"] for request in here.requests] == [200, 90]


async def test_the_key_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with endpoint(Reply(status=500), "fine") as here:
        await say(here, Account())
    assert caplog.records, "the library has something to say"
    assert KEY not in caplog.text


def test_the_key_is_not_shown_with_the_settings() -> None:
    assert KEY not in repr(Settings.of(environment("https://models.example/v1")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"A2A_MODEL_URL": ""}, "A2A_MODEL_URL is not set"),
        ({"A2A_MODEL_NAME": ""}, "A2A_MODEL_NAME is not set"),
        ({"A2A_MODEL_URL": "ftp://here/v1"}, r"expected http\(s\)"),
        ({"A2A_MODEL_URL": f"https://me:{KEY}@models.example/v1"}, r"expected http\(s\)"),
        ({"A2A_MODEL_URL": f"https://:{KEY}@models.example/v1"}, r"expected http\(s\)"),
        ({"A2A_MODEL_URL": "https://models.example/v1?x=1"}, r"expected http\(s\)"),
        ({"A2A_MODEL_URL": "https://models.example/v1#x"}, r"expected http\(s\)"),
        ({"A2A_MODEL_URL": "https://models.example:https/v1"}, r"expected http\(s\)"),
        ({"A2A_MODEL_URL": "https://models example/v1"}, r"expected http\(s\)"),
        ({"A2A_MODEL_URL": "https://[::1/v1"}, r"expected http\(s\)"),
        ({"A2A_MODEL_URL": "http://models.example/v1"}, "over https only"),
        ({"A2A_MODEL_KEY": f"{KEY}\nX-Other: 1"}, "expected printable ASCII"),
        ({"A2A_MODEL_SECONDS": "soon"}, "A2A_MODEL_SECONDS: expected a number of at least 1, got soon"),
        ({"A2A_MODEL_ANSWER_TOKENS": "0"}, "A2A_MODEL_ANSWER_TOKENS"),
    ],
)
def test_settings_that_cannot_be_meant_are_told_without_the_key(changes: Mapping[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        Settings.of(environment("https://models.example/v1") | changes)
    assert KEY not in str(caught.value)


def test_a_key_stays_at_home_or_goes_by_https_and_without_one_anything_goes() -> None:
    for url, key in [("http://[::1]:1/v1", KEY), ("http://localhost/v1", KEY), ("http://models.example/v1", "")]:
        assert Settings.of(environment(url, A2A_MODEL_KEY=key)).url == url


def test_an_agent_without_settings_fails_its_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A2A_MODEL_URL", raising=False)
    with failing("not_configured", "A2A_MODEL_URL is not set"):
        configured()


def test_options_say_what_the_environment_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("A2A_MODEL_URL", "A2A_MODEL_NAME", "A2A_MODEL_KEY"):
        monkeypatch.setenv(name, "")
    started: list[list[str]] = []
    agent = Agent("thinker")
    monkeypatch.setattr(agent, "main", started.append)
    with pytest.raises(SystemExit) as caught:
        serve(agent, ["--name", "other"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "thinker: A2A_MODEL_URL is not set: it says which model to use\n"
    with pytest.raises(SystemExit):
        serve(agent, ["--model-key-file", str(tmp_path / "none")])
    (tmp_path / "key").write_text(f"{KEY}\n")
    named = ("--model-url", "http://127.0.0.1:1/v1", "--model", "small", "--model-key-file", str(tmp_path / "key"))
    serve(agent, [*named, "--name", "other"])
    assert started == [["--name", "other"]]
    assert agent.labels["model"] == "small", "others can see whose judgement is whose"
    assert configured() == Settings("http://127.0.0.1:1/v1", "small", KEY)


def test_without_the_library_it_is_told_what_to_install() -> None:
    code = "import sys; sys.modules['httpx2'] = None; import reference_agents.chat"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=BOUND, check=False)
    assert done.returncode == 1
    told = "ModuleNotFoundError: an agent with a model needs httpx2: pip install 'a2a-coordinator[model]'"
    assert done.stderr.splitlines()[-1].startswith(told)  # Python 3.15 guesses at other names behind it
