"""The runner: several cases at a time, each bounded, in an order that their ends do not change."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from a2a.conformance.case import Case, Failed, Need, Skipped
from a2a.conformance.requirements import Level
from a2a.conformance.runner import Outcome, Status, judged, run_cases
from a2a.conformance.socket import Closed

BOUND = 20


@pytest.fixture
def cases(outcome: Any) -> list[Case]:
    """Six cases, of which the second and the fourth need to be alone, and the third one all others."""
    found = [outcome("ID-1", f"case_{number}").case for number in range(6)]
    found[1] = replace(found[1], needs=frozenset({Need.ALONE}))
    found[2] = replace(found[2], needs=frozenset({Need.OTHERS}))
    found[3] = replace(found[3], needs=frozenset({Need.RESTART}))
    return found


@pytest.mark.parametrize(
    ("raised", "status", "says"),
    [
        (None, Status.PASSED, ""),
        (Failed("expected ok"), Status.FAILED, "expected ok"),
        (Skipped("no way to"), Status.SKIPPED, "no way to"),
        (Closed(1006), Status.FAILED, "expected an open connection; the connection is closed (1006)"),
        (KeyError("lease"), Status.FAILED, "expected what the specification describes; KeyError: 'lease'"),
        (TypeError("no map"), Status.FAILED, "expected what the specification describes; TypeError: no map"),
    ],
    ids=repr,
)
async def test_what_comes_of_a_case(cases: list[Case], raised: Exception | None, status: Status, says: str) -> None:
    async def try_case(_: Case) -> None:
        if raised is not None:
            raise raised

    [found] = await run_cases(cases[:1], try_case, trace_of=lambda _: ["one: > {}"])
    assert (found.status, found.detail) == (status, says)
    assert found.trace == (("one: > {}",) if status is Status.FAILED else ())


async def test_a_case_that_does_not_end_fails_and_the_others_go_on(cases: list[Case]) -> None:
    ended = []

    async def try_case(chosen: Case) -> None:
        if chosen is cases[0]:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(chosen)

    async with asyncio.timeout(BOUND):
        found = await run_cases(cases, try_case, seconds=0.05)
    assert [outcome.status for outcome in found] == [Status.FAILED, *[Status.PASSED] * 5]
    assert found[0].detail == "expected an end within 0.05 s; the case still goes on"
    assert 0.05 <= found[0].seconds < BOUND
    assert ended == cases[:1], "it was ended"


async def test_what_has_a_bug_of_the_suite_is_not_the_implementations_failure(cases: list[Case]) -> None:
    async def try_case(_: Case) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(ExceptionGroup) as raised:
        await run_cases(cases[:1], try_case)
    assert raised.group_contains(RuntimeError, match="a bug")


async def test_some_run_together_and_those_alone_last(cases: list[Case]) -> None:
    running: set[str] = set()
    together: dict[str, int] = {}
    order: list[str] = []
    everybody = asyncio.Barrier(3)

    async def try_case(chosen: Case) -> None:
        running.add(chosen.name)
        if not chosen.needs:
            await everybody.wait()
        together[chosen.name] = len(running)
        order.append(chosen.name)
        await asyncio.sleep(0)
        running.discard(chosen.name)

    told: list[Outcome] = []
    async with asyncio.timeout(BOUND):
        found = await run_cases(cases, try_case, jobs=4, told=told.append)
    assert [outcome.case for outcome in found] == cases
    assert order[3:] == ["case_1", "case_3", "case_2"]
    assert together["case_1"] == together["case_3"] == together["case_2"] == 1
    assert sorted(outcome.case.name for outcome in told) == sorted(order)


async def test_no_more_run_at_a_time_than_was_said(cases: list[Case]) -> None:
    running, most = 0, 0

    async def try_case(_: Case) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1

    async with asyncio.timeout(BOUND):
        await run_cases(cases, try_case, jobs=2)
    assert most == 2


def test_musts_decide_and_strictly_everything(outcome: Any) -> None:
    should = outcome("ID-1", status=Status.FAILED, level=Level.SHOULD)
    skipped, must = outcome("ID-1", status=Status.SKIPPED), outcome("ID-1", status=Status.FAILED)
    assert judged([outcome("ID-1"), should, skipped])
    assert not judged([outcome("ID-1"), must])
    assert judged([outcome("ID-1")], strict=True)
    assert not judged([should], strict=True)
    assert not judged([skipped], strict=True)
