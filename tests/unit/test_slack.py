"""Replies that are kept back: for how long, and what they are taken along by."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from a2a import slack
from a2a.protocol.codec import Frame
from a2a.protocol.messages import Ok
from a2a.slack import KeptReplies

BOUND = 20
LONG = 600_000


class Sent:
    """What was sent, and when."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, list[str]]] = []
        self.news = asyncio.Event()

    def __call__(self, connection: int, frames: list[Frame]) -> None:
        self.frames.append((connection, [frame.id for frame in frames]))
        self.news.set()


def replies(*ids: str) -> list[Frame]:
    return [Frame(name, Ok()) for name in ids]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack, "KEPT_AT_MOST_MS", LONG)


@pytest.mark.usefixtures("patient")
async def test_what_is_kept_for_a_connection_is_taken_once_and_in_order() -> None:
    kept = KeptReplies(Sent())
    kept.keep(1, replies("a", "b"), LONG)
    kept.keep(2, replies("c"), LONG)
    kept.keep(1, replies("d"), LONG)
    assert [frame.id for frame in kept.take(1)] == ["a", "b", "d"]
    assert kept.take(1) == []
    assert [frame.id for frame in kept.take(2)] == ["c"]
    kept.cancel()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("times", [(LONG, 5), (5, LONG)])
async def test_the_first_that_has_to_go_takes_the_others_along(times: tuple[int, int]) -> None:
    sent = Sent()
    kept = KeptReplies(sent)
    for number, slack_ms in enumerate(times):
        kept.keep(number, replies(f"{number}"), slack_ms)
    with anyio.fail_after(BOUND):
        await sent.news.wait()
    assert sent.frames == [(0, ["0"]), (1, ["1"])]
    assert kept.take(0) == []


async def test_nobody_is_taken_for_more_patient_than_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack, "KEPT_AT_MOST_MS", 5)
    sent = Sent()
    KeptReplies(sent).keep(1, replies("a"), LONG)
    with anyio.fail_after(BOUND):
        await sent.news.wait()
    assert sent.frames == [(1, ["a"])]


@pytest.mark.usefixtures("patient")
async def test_what_is_kept_after_the_timer_ran_out_has_a_timer_again() -> None:
    sent = Sent()
    kept = KeptReplies(sent)
    for name in "ab":
        sent.news.clear()
        kept.keep(1, replies(name), 5)
        with anyio.fail_after(BOUND):
            await sent.news.wait()
    assert sent.frames == [(1, ["a"]), (1, ["b"])]


@pytest.mark.usefixtures("patient")
async def test_all_can_be_sent_at_once() -> None:
    sent = Sent()
    kept = KeptReplies(sent)
    kept.keep(1, replies("a"), LONG)
    kept.keep(2, replies("b"), LONG)
    kept.send_all()
    kept.send_all()
    assert sent.frames == [(1, ["a"]), (2, ["b"])]
