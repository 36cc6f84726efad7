"""Cases and the implementation under test, brought together."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from a2a.conformance.case import CASES, Case, Failed, Need, Role
from a2a.conformance.forms import Forms
from a2a.conformance.peer import Coordinator, Peer, Settings
from a2a.conformance.playing import cases, coordinator_from, play_coordinator, play_peer, selected
from a2a.conformance.runner import Status
from a2a.conformance.socket import Socket
from a2a.conformance.stand_in import PeerSettings, UnderTest
from a2a.conformance.wire import JSON, SUBPROTOCOLS, Frame
from a2a.hosting import host

SERVER = f"{sys.executable} -m a2a coordinator run --listen 127.0.0.1:{{port}} --db {{state}}/ledger.db"
TOKENS = "{state}/coordinators/127.0.0.1_{port}"


def test_every_case_has_a_name_of_its_own_and_is_found_once() -> None:
    found = cases()
    assert found == cases() == CASES
    assert len({(case.role, case.id) for case in found}) == len(found)
    assert [case for role in Role for case in cases(role)] == sorted(
        found, key=lambda case: list(Role).index(case.role)
    )


def test_cases_are_chosen_by_area_requirement_and_name(outcome: Any) -> None:
    known = [outcome(*names).case for names in (("WIRE-1", "a"), ("WIRE-10", "b"), ("LEASE-1", "c"), ("LEASE-1", "d"))]

    def chosen(*names: str) -> str:
        return "".join(case.name for case in selected(known, names))

    assert chosen() == "abcd"
    assert chosen("WIRE") == "ab"
    assert chosen("WIRE-1") == "a"
    assert chosen("d", "WIRE-10") == "bd", "in the order of the cases"
    assert chosen("LEASE-1/c") == "c"
    for nobody in ("W", "LEASE-2", "WIRE-1/b", ""):
        with pytest.raises(LookupError, match="no case is called"):
            chosen("WIRE", nobody)


async def test_each_case_has_a_side_of_its_own_and_its_trace_where_it_failed(outcome: Any) -> None:
    seen: list[Coordinator] = []

    async def fails(under: Coordinator) -> None:
        seen.append(under)
        await under.peer("worker")
        raise Failed("expected more")

    async def passes(under: Coordinator) -> None:
        seen.append(under)
        await under.peer()

    first = replace(outcome("ID-1", "fails").case, run=fails)
    second = replace(outcome("ID-2", "passes").case, run=passes)
    told: list[Case] = []
    async with host() as hosted:
        settings = Settings(hosted.url, token=hosted.tokens.token)
        found = await play_coordinator([first, second], settings, told=lambda known: told.append(known.case))
    assert [known.status for known in found] == [Status.FAILED, Status.PASSED]
    assert found[0].trace[0].startswith('worker: > {"id":')
    assert found[0].trace[1].startswith("worker: < {")
    assert found[1].trace == ()
    assert {known.id for known in told} == {first.id, second.id}
    assert seen[0] is not seen[1]
    assert all(peer.socket._writer.is_closing() for under in seen for peer in under.peers), "nothing stays open"


async def test_what_did_not_come_is_shown_with_what_came_in_its_place(outcome: Any) -> None:
    async def misses(under: Coordinator) -> None:
        other = await under.peer("other")
        await other.refused("not_found", "task.get", task="asked for")
        await other.request("task.get", task="nobody asked")
        worker = await under.peer("worker")
        worker.patience = 0.05
        await worker.offered()

    async def misses_quietly(under: Coordinator) -> None:
        worker = await under.peer("worker")
        await worker.refused("not_found", "task.get", task="asked for")
        worker.patience = 0.05
        await worker.offered()

    async def is_turned_away(under: Coordinator) -> None:
        stranger = await under.connect(name="stranger")
        await stranger.send("ping")
        await stranger.ended()
        await stranger.send("ping")

    runs = (misses, misses_quietly, is_turned_away)
    chosen = [replace(outcome("ID-1", run.__name__).case, run=run) for run in runs]
    async with host() as hosted:
        settings = Settings(hosted.url, token=hosted.tokens.token)
        found = await play_coordinator(chosen, settings, jobs=1)
    expected = "expected task.offer; none came within 0.05 s"
    assert found[0].detail.startswith(f'{expected}; the newest error, to other: {{"id": ')
    assert "nobody asked" in found[0].detail
    assert found[1].detail == expected
    closed = "expected an open connection; the connection is closed (1008); the newest error, to stranger: "
    assert found[2].detail.startswith(closed)


async def test_a_coordinator_that_the_suite_has_started_comes_back_with_its_ledger(outcome: Any) -> None:
    async def stays(under: Coordinator) -> None:
        client = await under.peer()
        created = await client.delegate(under.skill())
        await under.restart()
        assert await (await under.peer()).state(created.task) == "queued"
        await under.operator()

    case = replace(outcome("ID-8", "stays").case, run=stays, needs=frozenset({Need.RESTART}))
    files = {"token_file": f"{TOKENS}/token", "operator_token_file": f"{TOKENS}/operator-token"}
    async with coordinator_from(SERVER, **files, run="1") as settings:
        [found] = await play_coordinator([case], settings)
    assert found.status is Status.PASSED, found.detail


async def judges(under: Coordinator | UnderTest) -> None:
    under.forms.judge()


async def test_frames_of_all_cases_are_judged_by_one_of_them(outcome: Any) -> None:
    async def greets(under: Coordinator) -> None:
        await (await under.peer("one")).send("ping")  # nobody asks for the answer

    judging = replace(outcome("WIRE-3", "judges").case, run=judges, needs=frozenset({Need.OTHERS}))
    greeting = replace(outcome("ID-1", "greets").case, run=greets)
    async with host() as hosted:
        settings = Settings(hosted.url, token=hosted.tokens.token)
        [alone] = await play_coordinator([judging], settings)
        both = await play_coordinator([judging, greeting], settings)
        forms = Forms(Role.COORDINATOR)
        await play_coordinator([greeting], settings, forms=forms)
        [told] = await play_coordinator([judging], settings, forms=forms)
        forms.look_at(Frame(id="1", kind="pong", must="no"), JSON, "one", "greets")
        [wrong] = await play_coordinator([judging], settings, forms=forms)
    assert (alone.status, alone.detail) == (Status.SKIPPED, "no case that was tried had a frame from it")
    assert [found.status for found in both] == [Status.PASSED] * 2
    assert told.status is Status.PASSED
    assert wrong.detail.startswith("expected pong with must, true or false; came: 'no'")
    assert wrong.trace == ('greets: one: < {"id": "1", "kind": "pong", "must": "no"}',)


async def test_frames_of_a_peer_are_judged_without_the_peer(outcome: Any) -> None:
    async def comes(under: UnderTest) -> None:
        async with Peer(await Socket.connect(under.url, SUBPROTOCOLS[JSON]), "worker", JSON) as peer:
            sent = await peer.send("hello", agentId="worker")
            await under.line()
            await peer.reply(sent)

    needs = frozenset({Need.OTHERS})
    judging = replace(outcome("WIRE-3", "judges").case, run=judges, needs=needs, role=Role.AGENT)
    coming = replace(outcome("ID-1", "comes").case, run=comes, role=Role.AGENT)
    urls: list[str] = []
    found = await play_peer([judging, coming], PeerSettings(command=None, announce=urls.append))
    assert [known.status for known in found] == [Status.FAILED, Status.PASSED]
    assert found[0].detail.startswith("expected hello with body.versions; came: nothing")
    assert len(urls) == 1, "nobody is waited for to judge"
