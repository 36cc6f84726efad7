"""What cases for a coordinator share, against peers that are told what to answer."""

from __future__ import annotations

from typing import Any, cast

import pytest

from a2a.conformance.case import Failed, Missed
from a2a.conformance.peer import Coordinator, Peer
from a2a.conformance.scenes import at, beats_until_revoked, begun, ok
from a2a.conformance.wire import Frame

OFFER = Frame(kind="task.offer", task="t", fence=5)


class _Peer:
    def __init__(self, *skills: str) -> None:
        self.skills = skills
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def request(self, kind: str, /, **fields: Any) -> Frame:
        self.asked.append((kind, fields))
        return Frame(kind="ok" if kind == "task.yield" else "error")

    async def delegate(self, skill: str, **fields: Any) -> Frame:
        self.asked.append((skill, fields))
        return Frame(kind="task.created", task="t")

    async def offered(self, task: str) -> Frame:
        return Frame(OFFER | {"task": task})


class _Coordinator:
    def skill(self) -> str:
        return "a skill"

    async def peer(self, *, skills: tuple[str, ...] = ()) -> _Peer:
        return _Peer(*skills)


class _Beating:
    """Answers so many heartbeats, and then tells the attempt to stop: by its mailbox, or in answer to the next one."""

    patience = 0.2

    def __init__(self, beats: int, *, by_mail: bool = False) -> None:
        self.beats, self.by_mail = beats, by_mail
        self.told: list[Any] = []

    async def heartbeat(self, offer: Frame, **fields: Any) -> Frame:
        self.told.append(fields.get("progressNo"))
        return Frame(kind="task.lease" if self.by_mail or len(self.told) <= self.beats else "task.revoke")

    def holds(self, kind: str, **at: Any) -> list[Frame]:
        return [Frame(kind=kind, **at)] if self.by_mail and len(self.told) >= self.beats else []

    async def take(self, kind: str, **at: Any) -> Frame:
        return Frame(kind=kind, **at)


async def test_an_attempt_is_heard_until_it_is_told_to_stop() -> None:
    for peer, told in ((_Beating(2), [None] * 3), (_Beating(2, by_mail=True), [None] * 2)):
        assert (await beats_until_revoked(cast(Peer, peer), OFFER)).kind == "task.revoke"
        assert peer.told == told
    moving = _Beating(2)
    await beats_until_revoked(cast(Peer, moving), OFFER, progressNo=7)
    assert moving.told == [7, 8, 9]
    with pytest.raises(Missed, match=r"expected task.revoke with task 't'; heartbeats were answered for 0.2 s"):
        await beats_until_revoked(cast(Peer, _Beating(100)), OFFER)


async def test_a_task_is_between_a_client_and_a_worker_that_has_its_skill() -> None:
    client, worker, offer = await begun(cast(Coordinator, _Coordinator()), limits={"attempts": 1})
    assert cast(_Peer, client).asked == [("a skill", {"limits": {"attempts": 1}})]
    assert (cast(_Peer, worker).skills, offer) == (("a skill",), OFFER)


async def test_what_an_attempt_says_names_its_task_and_its_fence() -> None:
    peer = _Peer()
    assert at(OFFER) == {"task": "t", "fence": 5}
    assert (await ok(cast(Peer, peer), "task.yield", **at(OFFER))).kind == "ok"
    assert peer.asked == [("task.yield", {"task": "t", "fence": 5})]


async def test_an_answer_that_is_not_ok_fails_the_case() -> None:
    with pytest.raises(Failed, match="ok to task.ask"):
        await ok(cast(Peer, _Peer()), "task.ask")
