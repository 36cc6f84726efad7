"""A2A's operations asked over HTTP: where the requests go, what is taken for an answer, and what is told of it."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import anyio
import pytest
import trustme

from a2a.gateways import calling as module
from a2a.gateways.calling import Caller, Unanswered, card_url, interface_of, wanted
from a2a.gateways.carrier import Faulted
from tests.far_agent import FarAgent

BOUND = 20
MESSAGE = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}}


@asynccontextmanager
async def reach(far: FarAgent | None = None, **options: Any) -> AsyncIterator[tuple[FarAgent, Caller]]:
    with anyio.fail_after(BOUND):
        async with (far or FarAgent()).listening() as there, Caller(card_url(there.url), **options) as caller:
            await caller.card()
            yield there, caller


# The card -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "at"),
    [
        ("https://h", "https://h/.well-known/agent-card.json"),
        ("http://h:8/a/", "http://h:8/a/.well-known/agent-card.json"),
        ("https://h/cards/x.json?v=1", "https://h/cards/x.json?v=1"),
    ],
)
def test_the_address_of_an_agent_or_of_its_card_leads_to_the_card(url: str, at: str):
    assert card_url(url) == at


@pytest.mark.parametrize(
    "url",
    [
        "h",
        "ws://h",
        "http://",
        "http://me:secret@h",
        "http://h:0",
        "http://h:x",
        "http://h/\x7f",
        "http://\N{SNOWMAN}",
        f"http://h/{'x' * 70_000}",
    ],
)
def test_what_is_no_address_is_refused_without_its_password(url: str):
    with pytest.raises(ValueError, match="expected http") as raised:
        card_url(url)
    assert "secret" not in str(raised.value)


def interface(url: str, binding: str = "JSONRPC", version: str = "1.0") -> dict[str, Any]:
    return {"url": url, "protocolBinding": binding, "protocolVersion": version}


def test_the_first_interface_that_is_spoken_here_is_taken():
    offered = [
        interface("https://h/old", version="0.3"),
        interface("https://h/grpc", "GRPC"),
        interface("wss://h/rpc"),
        interface("https://h/rest/", "HTTP+JSON", "1.0.1") | {"tenant": "t"},
        interface("https://h/rpc"),
    ]
    assert interface_of({"supportedInterfaces": offered}, "https://h/c.json") == module.Interface(
        "https://h/rest", "HTTP+JSON", "t"
    )


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("https://other/rpc", {}, "another host, other: --allow-host other allows it"),
        ("http://h/rpc", {}, "from https to http"),
        ("http://u:p@h/rpc", {}, "without a user"),
    ],
)
def test_an_interface_elsewhere_is_refused(url: str, options: Any, words: str):
    with pytest.raises(ValueError, match=words):
        interface_of({"supportedInterfaces": [interface(url)]}, "https://h/c.json", **options)


def test_a_host_that_is_allowed_is_taken():
    card = {"supportedInterfaces": [interface("https://other/rpc")]}
    assert interface_of(card, "https://h/c.json", ["other"]).url == "https://other/rpc"


@pytest.mark.parametrize("host", ["h", "10.0.0.1"])
def test_credentials_go_to_another_machine_over_https_alone(host: str):
    card, asked = {"supportedInterfaces": [interface(f"http://{host}/rpc")]}, f"http://{host}/c.json"
    assert interface_of(card, asked).url == f"http://{host}/rpc"
    with pytest.raises(ValueError, match="over https only"):
        interface_of(card, asked, secret=True)
    here = {"supportedInterfaces": [interface("http://127.0.0.1/rpc")]}
    assert interface_of(here, "http://127.0.0.1/c.json", secret=True).binding == "JSONRPC"


@pytest.mark.parametrize(
    "offered", [None, [], ["x"], [interface("https://h", "GRPC")], [interface("https://h", "JSONRPC", "0.3")]]
)
def test_without_an_interface_it_says_what_there_is(offered: Any):
    with pytest.raises(
        ValueError, match=r"JSONRPC or HTTP\+JSON of A2A 1\.0 in the card, got (none|GRPC 1.0|JSONRPC 0.3)$"
    ):
        interface_of({"supportedInterfaces": offered}, "https://h/c.json")


BEARER = {"httpAuthSecurityScheme": {"scheme": "Bearer"}}
KEY = {"apiKeySecurityScheme": {"location": "header", "name": "X-Key"}}


@pytest.mark.parametrize(
    ("schemes", "demands", "headers", "told"),
    [
        (None, None, [], ""),
        ({"token": BEARER}, None, [], "a bearer token: --bearer-file FILE"),
        ({"token": {"httpAuthSecurityScheme": {"scheme": "bearer"}}}, None, [], "a bearer token: --bearer-file FILE"),
        ({"sso": {"oauth2SecurityScheme": {}}}, None, [], "a bearer token: --bearer-file FILE"),
        ({"sso": {"openIdConnectSecurityScheme": {}}}, None, [], "a bearer token: --bearer-file FILE"),
        ({"token": BEARER}, None, ["Authorization"], ""),
        (
            {"user": {"httpAuthSecurityScheme": {"scheme": "Basic"}}},
            None,
            [],
            "credentials of the scheme Basic: --header-file Authorization=FILE",
        ),
        ({"user": {"httpAuthSecurityScheme": {"scheme": "Basic"}}}, None, ["authorization"], ""),
        ({}, [["odd"]], [], "odd: --header-file Authorization=FILE"),
        ({"token": BEARER, "key": KEY}, [["token", "key"]], ["Authorization"], "an API key: --header-file X-Key=FILE"),
        (
            {"token": BEARER, "key": KEY},
            [["token", "key"]],
            [],
            "a bearer token: --bearer-file FILE and an API key: --header-file X-Key=FILE",
        ),
        ({"token": BEARER, "key": KEY}, [["token"], ["key"]], ["x-key"], ""),
        ({"token": BEARER, "key": KEY}, [["token"], []], [], ""),
        (
            {"token": BEARER, "key": KEY},
            [["token"], ["key"]],
            [],
            "a bearer token: --bearer-file FILE, or an API key: --header-file X-Key=FILE",
        ),
        (
            {"key": {"apiKeySecurityScheme": {"location": "cookie", "name": "k"}}},
            None,
            [],
            "an API key in the cookie k: --header-file Cookie=FILE",
        ),
        ({"tls": {"mtlsSecurityScheme": {}}}, None, [], "a client's certificate (tls), which cannot be given here"),
        (
            {"key": {"apiKeySecurityScheme": {"location": "query", "name": "k"}}},
            None,
            [],
            "an API key in the query (key), which cannot be given here",
        ),
    ],
)
def test_what_the_card_demands_and_is_not_given_is_told(schemes: Any, demands: Any, headers: list[str], told: str):
    card: dict[str, Any] = {"securitySchemes": schemes}
    if demands is not None:
        card["securityRequirements"] = [{"schemes": {name: {"list": []} for name in way}} for way in demands]
    assert wanted(card, headers) == told


@pytest.mark.parametrize("schemes", [5, None, "token", [{"token": []}]])
def test_a_demand_of_another_form_demands_nothing(schemes: Any):
    card = {"securitySchemes": {"token": BEARER}, "securityRequirements": [{"schemes": schemes}]}
    assert wanted(card, []) == ""


async def test_the_card_is_asked_for_without_credentials_and_all_else_with_them():
    token = ["one"]
    async with reach(headers=lambda: {"Authorization": f"Bearer {token[0]}"}) as (far, caller):
        await caller.call("SendMessage", MESSAGE)
        token[0] = "two"
        await caller.call("SendMessage", MESSAGE)
        assert [one.get("authorization") for one in far.headers] == [None, "Bearer one", "Bearer two"]


async def test_a_card_that_is_too_large_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_CARD_MAX", 100)
    with pytest.raises(Faulted, match="more than 100 bytes"):
        async with reach():
            pass


# Answers --------------------------------------------------------------------------------------------------------------


async def test_a_tenant_is_named_in_either_binding():
    for binding in ("JSONRPC", "HTTP+JSON"):
        async with reach(FarAgent(binding=binding)) as (far, caller):
            caller.interface = module.Interface(caller.interface.url, binding, "acme")
            if binding == "JSONRPC":
                await caller.call("SendMessage", MESSAGE)
                assert far.asked[0][1]["tenant"] == "acme"
            else:
                caller.interface = module.Interface(far.url, binding, "rest")
                await caller.call("SendMessage", MESSAGE)
                assert far.count("SendMessage") == 1, "by the path /rest/message:send"


@pytest.mark.parametrize(
    ("wrong", "counts"),
    [(503, True), (502, True), (504, True), (408, True), (429, False), ("cut", True)],
)
@pytest.mark.parametrize("operation", ["SendMessage", "SendStreamingMessage"])
async def test_who_cannot_answer_now_may_be_asked_again(wrong: Any, counts: bool, operation: str):
    async with reach() as (far, caller):
        far.wrong[operation] += [wrong]
        with pytest.raises(Unanswered) as raised:
            if operation == "SendMessage":
                await caller.call(operation, MESSAGE)
            else:
                await anext(caller.events(operation, MESSAGE))
        assert raised.value.may_count is counts


@pytest.mark.parametrize("wrong", ["hang", "drip", "drip 503"])
@pytest.mark.parametrize("operation", ["SendMessage", "SendStreamingMessage"])
async def test_who_does_not_answer_is_not_waited_for(wrong: str, operation: str):
    async with reach() as (far, caller):
        far.wrong[operation] += [wrong]
        with pytest.raises(Unanswered) as raised:
            if operation == "SendMessage":
                await caller.call(operation, MESSAGE, within=0.1)
            else:
                await anext(caller.events(operation, MESSAGE, within=0.1))
        assert (raised.value.may_count, raised.value.waited) == (True, 0.1)


@pytest.mark.parametrize("operation", ["SendMessage", "SendStreamingMessage"])
async def test_who_is_not_reached_in_time_has_done_nothing(operation: str):
    async with reach() as (_, caller):
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first:
            first.connect(full.getsockname())  # the next one is neither accepted nor refused
            caller.interface = module.Interface(f"http://127.0.0.1:{full.getsockname()[1]}/", "JSONRPC")
            with pytest.raises(Unanswered) as raised:
                if operation == "SendMessage":
                    await caller.call(operation, MESSAGE, within=0.2)
                else:
                    await anext(caller.events(operation, MESSAGE, within=0.2))
            assert not raised.value.may_count


async def test_a_stream_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_QUIET_MAX", 0.05)
    async with reach() as (far, caller):
        far.does = far.work
        events = caller.events("SendStreamingMessage", MESSAGE)
        assert "task" in await anext(events)
        with pytest.raises(Unanswered, match=r"silent for 0\.05 s"):
            await anext(events)


async def test_nobody_there_has_done_nothing():
    async with Caller("http://127.0.0.1:9/c.json") as caller:
        with pytest.raises(Unanswered) as raised:
            await caller.card()
        assert not raised.value.may_count


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        (302, -32600, r"redirects to http://127\.0\.0\.2/, which is not followed"),
        (401, -32600, "is answered with 401: no"),
        (404, -32600, "is answered with 404: no"),
        (500, -32603, "is answered with 500: no"),
        ("nonsense", -32006, "is not answered with JSON"),
        ("gzip", -32006, "is answered in the encoding gzip"),
        ((-32001, "no such"), -32001, "no such"),
    ],
)
async def test_what_is_refused_is_told(wrong: Any, code: int, words: str):
    for binding in ("JSONRPC", "HTTP+JSON"):
        async with reach(FarAgent(binding=binding)) as (far, caller):
            far.wrong["SendMessage"] += [wrong]
            with pytest.raises(Faulted, match=words) as raised:
                await caller.call("SendMessage", MESSAGE)
            assert raised.value.fault.code == code


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"error": {"code": -32004, "message": "x"}}, -32004),
        ({"error": {"code": 404, "message": "x", "details": [{"reason": "TASK_NOT_FOUND"}]}}, -32001),
        ({"error": {"code": -32603, "message": "x", "data": {"reason": "TASK_NOT_FOUND"}}}, -32001),
        ({"type": "https://a2a-protocol.org/errors/task-not-found", "status": 404, "detail": "x"}, -32001),
        ({"error": {"code": "x"}}, -32600),
        ({"error": {"code": [1], "data": [7, {"reason": []}]}}, -32600),
    ],
)
def test_an_error_is_read_in_the_form_of_either_binding(said: Any, code: int):
    fault = module._fault(said, "GetTask")
    assert isinstance(fault, Faulted)
    assert fault.fault.code == code


def test_an_error_that_says_so_may_pass():
    data = [{"reason": "INTERNAL", "metadata": {"retryable": "true"}}]
    assert isinstance(module._fault({"error": {"code": -32603, "message": "away", "data": data}}, "x"), Unanswered)


async def test_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_BODY_MAX", 1000)
    async with reach() as (_, caller):
        large = {"message": MESSAGE["message"] | {"parts": [{"text": "x" * 2000}]}}
        with pytest.raises(Faulted, match="more than 1000 bytes"):
            await caller.call("SendMessage", large)
        with pytest.raises(Faulted, match="more than 1000 bytes"):
            async for _ in caller.events("SendStreamingMessage", large):
                pass


async def test_no_error_and_no_log_has_what_opens_the_door(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    async with reach(headers=lambda: {"Authorization": "Bearer hush-hush"}) as (far, caller):
        far.wrong["SendMessage"] += [401, "cut", 503]
        for _ in range(3):
            with pytest.raises((Faulted, Unanswered)) as raised:
                await caller.call("SendMessage", MESSAGE)
            assert "hush-hush" not in f"{raised.value!r} {json.dumps(str(raised.value.__cause__))}"
    assert "hush-hush" not in caplog.text


async def test_a_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    authority = trustme.CA()
    tls = SSLContext(PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with anyio.fail_after(BOUND):
        async with FarAgent().listening(tls) as there:
            async with Caller(card_url(there.url)) as caller:
                with pytest.raises(Faulted, match="its certificate is not trusted"):
                    await caller.card()
            authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
            async with Caller(card_url(there.url)) as caller:
                assert (await caller.card())["name"] == "Far Agent"
