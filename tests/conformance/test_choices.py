"""No case fails for what the specification leaves open: our own peers, with frames changed in ways it allows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from a2a.conformance import conversation
from a2a.conformance.case import Role
from a2a.conformance.conversation import Conversation
from a2a.conformance.peer import Peer, Settings
from a2a.conformance.playing import cases, play_coordinator, selected
from a2a.conformance.wire import JSON, Frame, decode
from a2a.hosting import host

from .conftest import unmet

ENVELOPE = ("re", "mseq", "ttlMs", "slackMs", "trace", "ext", "task", "fence", "gen", "payload")


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


async def played(names: Sequence[str]) -> list[str]:
    """Return the cases that did not pass on a coordinator."""
    async with host() as hosted:
        settings = Settings(hosted.url, token=hosted.tokens.token, operator_token=hosted.tokens.operator_token)
        chosen = selected(cases(Role.COORDINATOR), names)
        return unmet(await play_coordinator(chosen, settings, encoding=JSON))


@pytest.mark.parametrize(
    ("changed", "names"),
    [
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
async def test_fields_may_come_with_a_frame_that_say_nothing(
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
