"""No case fails for what the specification leaves open: our own peers, with frames changed in ways it allows."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from a2a import server
from a2a.conformance import conversation
from a2a.conformance.case import Role
from a2a.conformance.conversation import Conversation
from a2a.conformance.peer import Peer, Settings
from a2a.conformance.playing import cases, play_coordinator, play_peer, selected
from a2a.conformance.stand_in import PeerSettings
from a2a.conformance.wire import JSON, Frame, decode
from a2a.hosting import host

from .conftest import unmet

ENVELOPE = ("re", "mseq", "ttlMs", "slackMs", "trace", "ext", "task", "fence", "gen", "payload")

LEAVES_AT_ONCE = """
import asyncio, json, os, sys

from websockets.asyncio.client import connect

url, skill, key = sys.argv[1:]

async def main():
    async with connect(url, subprotocols=["a2a.coord+json"], proxy=None) as socket:
        async def send(number, kind, **fields):
            await socket.send(json.dumps({"id": f"w{number}", "kind": kind} | fields))
        hello = {"versions": ["1.0", "1.0"], "agentId": "caller#1", "instanceId": "1", "incarnation": 1}
        await send(1, "hello", body=hello | {"token": os.environ["A2A_TOKEN"]})
        async for message in socket:
            for frame in map(json.loads, message.splitlines()):
                if frame["kind"] == "welcome":
                    await send(2, "task.delegate", payload="[]", body={"key": key, "spec": {"skill": skill}})
                if frame["kind"] in ("task.review", "task.settled"):
                    return

asyncio.run(main())
"""
"""A client that has nothing to say to what it is shown, and leaves without an acknowledgement."""


def more(frame: Frame) -> Frame:
    """Return a frame with fields that this version does not name (WIRE-6)."""

    def widened(value: Any) -> Any:
        return value | {"later": [1, None]} if isinstance(value, dict) else value

    body = {
        name: [*map(widened, value)] if isinstance(value, list) and name not in ("versions", "cycle") else value
        for name, value in frame.get("body", {}).items()
    }
    return Frame(frame | {"later": {"a": None}, "body": body | {"later": 1}})


def empty(frame: Frame) -> Frame:
    """Return a frame with `null` where nothing was said (WIRE-8)."""
    body = frame.get("body", {})
    agents = [{"seenMs": None} | agent for agent in body.get("agents", [])]
    data = {"data": {"value": None, "author": None} | body.get("data", {})} if body.get("code") == "conflict" else {}
    told = body | data | ({"agents": agents} if agents else {})
    return Frame(dict.fromkeys(ENVELOPE) | frame | {"body": told})


def in_data(frame: Frame) -> Frame:
    """Return a refusal with other words, and what it said as a fact (ERR-2)."""
    body = frame.get("body", {})
    if frame.kind != "error":
        return frame
    return Frame(frame | {"body": body | {"detail": "no", "data": body.get("data", {}) | {"path": body["detail"]}}})


async def played(names: Sequence[str]) -> list[str]:
    """Return the cases that did not pass on a coordinator."""
    async with host() as hosted:
        settings = Settings(hosted.url, token=hosted.tokens.token, operator_token=hosted.tokens.operator_token)
        chosen = selected(cases(Role.COORDINATOR), names)
        return unmet(await play_coordinator(chosen, settings, encoding=JSON))


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        (in_data, ["a_cycle_may_lead_over_other_work"]),
        (more, ["a_name_that_is_there_twice_counts_once", "CTX-10", "CONFLICT-16"]),
        (
            empty,
            [
                "tells_what_an_agent_has_and_when_it_was_heard",
                "a_question_parks_the_task_until_it_is_answered",
                "shows_a_task_as_a2a_does",
                "CTX-4",
                "CTX-5",
            ],
        ),
    ],
)
async def test_a_frame_may_say_more_or_say_it_elsewhere(
    changed: Callable[[Frame], Frame], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "decode", lambda *given: [changed(frame) for frame in decode(*given)])
    assert await played(names) == []


async def test_a_coordinator_may_notice_late_that_a_connection_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Conversation, "cut", lambda _: None)
    assert await played(["a_frame_cut_in_the_middle_does_nothing"]) == []


async def test_a_ping_may_be_answered_before_an_offer_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived, on_their_way = Peer.arrived, []

    async def late(peer: Peer, frame: Frame) -> None:
        await arrived(peer, frame)
        if frame.kind == "task.offer":
            frame["kind"] = "not here yet"
            on_their_way.append(asyncio.create_task(come(peer, frame)))

    async def come(peer: Peer, frame: Frame) -> None:
        await asyncio.sleep(0.1)
        async with peer._changed:
            frame["kind"] = "task.offer"
            peer._changed.notify_all()

    monkeypatch.setattr(Peer, "arrived", late)
    assert await played(["a_task_has_one_offer_open"]) == []
    assert on_their_way


async def test_a_client_may_leave_without_an_acknowledgement(tmp_path: Path) -> None:
    program = tmp_path / "client.py"
    program.write_text(LEAVES_AT_ONCE, encoding="utf-8")
    settings = PeerSettings(command=f"{sys.executable} {program} {{url}} {{skill}} {{key}}", token="letmein")
    names = ["does_not_confirm_what_is_not_what_its_hash_says", "takes_the_end_from_the_coordinator"]
    chosen = selected(cases(Role.CLIENT), names)
    assert unmet(await play_peer(chosen, settings, encoding=JSON, jobs=2)) == []


async def test_a_refusal_may_be_shown_some_time_after_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    early: set[str] = set()

    def kept_later(frame: Frame) -> Frame:
        shows = frame.body.get("view", {}).get("metadata", {}) if frame.kind == "task.found" else frame.get("body", {})
        if "refused" in shows and frame.kind not in early:
            early.add(frame.kind)
            del shows["refused"]
        return frame

    monkeypatch.setattr(conversation, "decode", lambda *given: [kept_later(frame) for frame in decode(*given)])
    names = ["keeps_who_wanted_what_and_might_not", "tells_of_hellos_in_the_name_of_who_is_no_agent"]
    assert await played(names) == []
    assert early == {"task.found", "agent.found"}


async def test_two_things_may_happen_in_one_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "wall_clock", lambda: lambda: 1_800_000_000_000)
    assert await played(["lists_tasks_by_when_they_changed"]) == []
