from __future__ import annotations

import asyncio
import os

import pytest

from benchmarks.load import ANSWER, TEXT, Phase, answer_to, measure, run_role


def phase(in_flight: int) -> Phase:
    return Phase("any", in_flight, seconds=0.05, router_pid=os.getpid())


def test_the_task_is_256_bytes_each_way() -> None:
    assert len(TEXT.encode()) == len(ANSWER.encode()) == 256
    assert answer_to(TEXT) == ANSWER != TEXT


@pytest.mark.parametrize("in_flight", [1, 8])
async def test_that_many_calls_are_open_at_once(in_flight: int) -> None:
    now = most = answered = 0

    async def call(text: str) -> str:
        nonlocal now, most, answered
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        answered += 1
        return answer_to(text)

    figures = await measure(call, phase(in_flight))

    assert most == in_flight
    assert now == 0
    assert figures.tasks == answered >= in_flight
    assert figures.seconds >= 0.05
    assert 0 < figures.p50_seconds < figures.seconds
    assert figures.router_cpu_seconds >= 0


async def test_a_text_is_as_long_as_the_phase_says() -> None:
    seen: set[str] = set()

    async def call(text: str) -> str:
        seen.add(text)
        await asyncio.sleep(0)
        return answer_to(text)

    await measure(call, Phase("any", 1, seconds=0.01, router_pid=os.getpid(), repeats=4096))
    assert {len(text) for text in seen} == {1024 * 1024}


async def test_no_two_texts_are_the_same_whatever_the_phase() -> None:
    seen = []

    async def call(text: str) -> str:
        seen.append(text)
        await asyncio.sleep(0)
        return answer_to(text)

    for _ in range(2):
        await measure(call, phase(4))
    assert len(set(seen)) == len(seen) > 8


@pytest.mark.parametrize("wrong", ["9", ""])
async def test_an_answer_to_another_text_ends_the_phase(wrong: str) -> None:
    async def call(text: str) -> str:
        return answer_to(text)[:-1] + wrong

    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="expected the text reversed")):
        await measure(call, phase(1))


async def test_a_wrong_answer_ends_the_phase() -> None:
    async def call(text: str) -> str:
        return text

    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="expected the text reversed")):
        await measure(call, phase(1))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_role_runs_on_the_event_loop_named(loop: str) -> None:
    pytest.importorskip(loop)
    seen = []

    async def role() -> None:
        seen.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])

    run_role(role(), loop)
    assert seen == [loop]
