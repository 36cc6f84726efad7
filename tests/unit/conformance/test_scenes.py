"""What cases for a coordinator share, against peers that are told what to answer."""

from __future__ import annotations

from typing import Any, cast

import pytest

from a2a.conformance.case import Failed
from a2a.conformance.peer import Coordinator, Peer
from a2a.conformance.scenes import at, begun, ok
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
