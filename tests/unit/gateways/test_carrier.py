"""A2A's operations over one client's link: what waits, how many may, and what a coordinator that is away costs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anyio
import pytest

from a2a import Client
from a2a import link as link_module
from a2a.errors import ConnectError, ErrorCode
from a2a.gateways import carrier as module
from a2a.gateways.carrier import Carrier, Faulted, faulted
from a2a.protocol.messages import A2ACall
from a2a.protocol.operations import encode
from a2a.testing import squad

BOUND = 20


def called(operation: str, request: dict[str, Any]) -> A2ACall:
    return A2ACall(operation, encode(request))


def state_of(answer: bytes) -> str:
    return str(json.loads(answer)["task"]["status"]["state"])


def code_of(raised: pytest.ExceptionInfo[Faulted]) -> str:
    return str(raised.value.fault.data[0]["metadata"]["code"])


async def both_open(client: Client, request: dict[str, Any], gate: Any) -> tuple[Carrier, Any, Any]:
    """Return a carrier by which somebody waits for a task, and its stream has begun: with the wait and the stream."""
    carrier = Carrier(client)
    waiting = asyncio.create_task(carrier.sent(called("SendMessage", request), request, waits=True))
    events = carrier.events(called("SendStreamingMessage", request))
    await anext(events)
    await gate.begun.wait()
    return carrier, waiting, events


def test_an_error_of_this_protocol_is_one_of_a2a():
    told = faulted(ErrorCode.QUOTA, "too many", retryable=True).fault
    assert (told.code, told.name, told.message) == (-32603, "InternalError", "too many")
    assert told.data[0]["metadata"] == {"code": "quota", "retryable": "true"}


async def test_a_message_waits_for_the_end_or_a_question(helper, say):
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            carrier = Carrier(running.client)
            for skill, state in (("echo", "COMPLETED"), ("sure", "INPUT_REQUIRED"), ("fail", "FAILED")):
                request = say(skill, skill)
                answer = await carrier.sent(called("SendMessage", request), request, waits=True)
                assert state_of(answer) == f"TASK_STATE_{state}"
                again = await carrier.sent(called("SendMessage", request), request, waits=True)
                assert state_of(again) == f"TASK_STATE_{state}"


@pytest.mark.parametrize(
    "wrong", [{"configuration": 7}, {"configuration": {"returnImmediately": "yes"}}, {"message": 7}]
)
async def test_what_is_wrong_with_a_message_is_told_by_the_coordinator(helper, say, wrong):
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            request = say("echo", "m1") | wrong
            with pytest.raises(Faulted, match=r"^SendMessage: ") as raised:
                await Carrier(running.client).sent(called("SendMessage", request), request, waits=True)
            assert raised.value.fault.code == -32602


async def test_a_large_message_that_waits_keeps_nobody_from_asking(helper, say, gate):
    """A connection has eight mebibytes without an answer; a message that waits counts only until it is durable."""
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            carrier, size = Carrier(running.client), running.client.link.session.payload_max - 1_000
            waiting = []
            for number in range(10):
                request = say("wait", f"m{number}") | {"metadata": {"pad": "x" * size}}
                waiting.append(asyncio.create_task(carrier.sent(called("SendMessage", request), request, waits=True)))
            await gate.begun.wait()
            while json.loads(await carrier.answer(called("ListTasks", {})))["totalSize"] < 10:
                await anyio.lowlevel.checkpoint()
            gate.open.set()
            assert {state_of(await one) for one in waiting} == {"TASK_STATE_COMPLETED"}


async def test_no_more_are_open_than_may_be(helper, say, gate, monkeypatch):
    monkeypatch.setattr(module, "OPEN_MAX", 2)
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            carrier, waiting, events = await both_open(running.client, say("wait", "m1"), gate)
            with pytest.raises(Faulted, match="2 calls are open") as raised:
                await carrier.answer(called("ListTasks", {}))
            assert code_of(raised) == "quota"
            await events.aclose()
            await carrier.answer(called("ListTasks", {}))
            gate.open.set()
            await waiting
            assert (carrier._admitted, carrier._open, carrier._streams) == (0, set(), set())


async def test_a_coordinator_that_stays_away_is_told_and_one_that_is_back_is_not(helper, say, gate, monkeypatch):
    monkeypatch.setattr(link_module, "SAID_AGAIN_FOR", 0.3)
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.connect("gateway") as client:
            carrier, request = Carrier(client), say("wait", "m1")
            waiting = asyncio.create_task(carrier.sent(called("SendMessage", request), request, waits=True))
            await gate.begun.wait()
            dial = client.link._dial

            async def nobody() -> None:
                raise ConnectError("nothing listens")

            monkeypatch.setattr(client.link, "_dial", nobody)
            client.link._transport.abort()  # type: ignore[union-attr]
            with pytest.raises(Faulted, match="has not answered for 0.3 s") as raised:
                await waiting
            assert code_of(raised) == "unavailable"
            with pytest.raises(Faulted, match="has not answered"):
                await carrier.answer(called("ListTasks", {}))
            monkeypatch.setattr(client.link, "_dial", dial)
            while not client.link.session.is_open:
                await anyio.lowlevel.checkpoint()
            gate.open.set()
            assert state_of(await carrier.sent(called("SendMessage", request), request, waits=True)).endswith(
                "COMPLETED"
            )


async def test_a_client_that_was_left_is_told(helper):
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.connect("gateway") as client:
                carrier = Carrier(client)
            with pytest.raises(Faulted) as raised:
                await carrier.answer(called("ListTasks", {}))
            assert code_of(raised) == "unavailable"


@pytest.mark.parametrize("comes_in_time", [True, False])
async def test_at_the_end_streams_end_and_others_have_a_while(helper, say, gate, comes_in_time):
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            carrier, waiting, events = await both_open(running.client, say("wait", "m1"), gate)
            assert carrier.is_open
            ending = asyncio.create_task(carrier.end(BOUND if comes_in_time else 0.05))
            with pytest.raises(Faulted, match="the gateway is stopping"):
                async for _ in events:
                    pass
            with pytest.raises(Faulted, match="the gateway is stopping"):
                await carrier.answer(called("ListTasks", {}))
            assert not carrier.is_open, "who spreads requests has to send them elsewhere"
            if comes_in_time:
                gate.open.set()
                assert state_of(await waiting) == "TASK_STATE_COMPLETED"
            else:
                with pytest.raises(Faulted, match="the gateway is stopping"):
                    await waiting
                gate.open.set()
            await ending


async def test_with_nothing_open_the_end_is_there_at_once(helper):
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            await Carrier(running.client).end(1_000)
