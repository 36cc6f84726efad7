"""What a run has left with a coordinator, ended and forgotten again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from a2a.conformance.clearing import clear
from a2a.conformance.peer import Coordinator, Peer, Settings
from a2a.conformance.scenes import LONG, begun, ok
from a2a.conformance.wire import Frame
from a2a.hosting import Hosted, host

GREETING = "peer-greeting-0-1"


@pytest.fixture
async def hosted() -> AsyncIterator[Hosted]:
    async with host() as found:
        yield found


def settings_of(hosted: Hosted, run: str = "0") -> Settings:
    return Settings(hosted.url, token=hosted.tokens.token, operator_token=hosted.tokens.operator_token, run=run)


async def open_of_each_kind(under: Coordinator) -> list[str]:
    """Leave a task that is held, one that waits, a conflict and two claims, of which one waits for the other."""
    client, _, offer = await begun(under, timers=LONG)
    waits = await client.delegate(under.skill("nobody"))
    raised = {"conflictKind": "resource", "object": f"resource:{under.name()}"}
    await client.request("conflict.raise", subjects=[{"value": b"1"}, {"value": b"2"}], **raised)
    name = under.name("file")
    for number in (1, 2):
        owner = await under.peer()
        claims = [{"name": name, "mode": "x"}]
        await owner.request("claim.acquire", claimNo=number, claims=claims, ttlMs=600_000, waitMs=600_000)
    return [offer.task, waits.task]


async def states(settings: Settings, tasks: list[str]) -> list[str]:
    looking = Coordinator(settings, "looking")
    reader = await looking.peer()
    found = [await reader.state(task) for task in tasks]
    await looking.aclose()
    return found


async def test_what_a_run_left_open_is_ended_and_its_agents_are_forgotten(hosted: Hosted) -> None:
    settings, others = settings_of(hosted), settings_of(hosted, "another")
    under, foreign = Coordinator(settings, "case"), Coordinator(others, "case")
    tasks, kept = await open_of_each_kind(under), await open_of_each_kind(foreign)
    await under.aclose()
    await foreign.aclose()
    cleared = await clear(settings)
    assert (cleared.canceled, cleared.stayed, cleared.forgotten) == (2, {GREETING}, settings.agents - {GREETING})
    assert len(cleared.forgotten) == 4
    assert sorted({kind for kind, _ in cleared.ended}) == ["claim.release", "conflict.vote", "task.cancel"]
    assert await states(others, [*tasks, *kept]) == ["canceled", "canceled", "leased", "queued"]
    ledger = hosted.server.coordinator.ledger
    assert len(ledger.open_conflicts) == 1 and len(ledger.claims.by_owner) == 2, "those of the other run"
    assert not cleared.forgotten & {*ledger.agents, *ledger.mailboxes, *ledger.principals}


async def test_an_agent_that_the_coordinator_keeps_is_told_with_why(hosted: Hosted) -> None:
    settings = settings_of(hosted)
    under = Coordinator(settings, "case")
    here = await under.peer()
    await (await under.peer()).request("bye")
    cleared = await clear(settings)
    await under.aclose()
    assert cleared.stayed == {here.name, GREETING} and len(cleared.forgotten) == 1
    assert cleared.why == f"{here.name} is here: stop it first"


async def test_who_was_never_welcomed_is_neither_forgotten_nor_has_it_stayed(hosted: Hosted) -> None:
    settings = settings_of(hosted)
    under = Coordinator(settings, "case")
    peer = await under.connect()
    for name in ("no id of an agent", under.name()):
        await peer.refused("malformed" if " " in name else "auth", "hello", **under.hello(name, token="another"))
        peer = await under.connect()
    await under.aclose()
    assert len(settings.agents) == 2
    cleared = await clear(settings)
    assert (cleared.stayed, cleared.forgotten, cleared.why) == ({GREETING}, set(), "")


async def test_who_is_silent_or_gone_is_waited_for_no_longer_than_it_may_take() -> None:
    connections = []

    async def keep(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    silent = await asyncio.start_server(keep, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    settings = Settings(url, operator_token="known", agents={"one"})
    async with asyncio.timeout(4):
        assert (await clear(settings, within=0.1)).why == "it took longer than 0.1 s"
        silent.close()
        for writer in connections:
            writer.close()
        cleared = await clear(settings)
    assert cleared.why.startswith(f"expected a WebSocket at {url}")
    assert cleared.stayed == {"one", GREETING} and not cleared.forgotten


async def test_an_answer_of_another_form_ends_it(hosted: Hosted, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(hosted)
    under = Coordinator(settings, "case")
    await ok(await under.peer(), "bye")
    request = Peer.request

    async def odd(self: Peer, kind: str, /, **fields: Any) -> Frame:
        return Frame(kind="ok") if kind == "task.list" else await request(self, kind, **fields)

    monkeypatch.setattr(Peer, "request", odd)
    cleared = await clear(settings)
    await under.aclose()
    assert cleared.why == "'tasks'" and len(cleared.stayed) == 2
