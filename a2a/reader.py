"""Looking at tasks and conflicts from outside the coordinator: the half of a client that changes nothing.

Clients and agents share it; an agent that has others work together reads in the ledger what they did. Everything runs
in the link's event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from .content import artifacts_value, read_artifacts, read_parts, result_value
from .delegator import Delegator, TaskEvent, TaskHandle, expect
from .errors import NotFound
from .protocol.messages import (
    ConflictFound,
    ConflictGet,
    ConflictList,
    ConflictPage,
    TaskFound,
    TaskGet,
    TaskList,
    TaskPage,
    TaskWatch,
)

__all__ = ["Reader"]


class Reader(Delegator):
    """What delegates through a link, and looks at everything."""

    async def get(self, task: str) -> dict[str, Any]:
        """Return a task as an A2A Task in its JSON form; `metadata` has what A2A has no field for.

        Raises:
            NotFound: there is no such task.
        """
        found = expect(await self.link.call(TaskGet(task)), TaskFound)
        shown: dict[str, Any] = dict(found.view)
        shown["artifacts"] = read_artifacts(found.payload)
        metadata = shown.setdefault("metadata", {})
        metadata["input"] = read_parts(found.input)
        metadata["asks"] = [
            {
                "askNo": ask["askNo"],
                "question": read_parts(ask["payload"]),
                "answer": read_parts(ask["answer"]) if "answer" in ask else None,
                "isOpen": "answer" not in ask,
            }
            for ask in found.asks
        ]
        metadata["provisional"] = [
            {**artifact, "chunks": [read_parts(chunk) for chunk in artifact["chunks"]]} for artifact in found.artifacts
        ]
        return shown

    async def outcome(self, task: str) -> dict[str, Any]:
        """Return what any task came to, as `ref`, `agent`, `state`, `value` and `detail`; one not kept is `gone`."""
        try:
            found = await self.get(task)
        except NotFound:
            return {"ref": task, "agent": "", "state": "gone", "value": None, "detail": ""}
        metadata = found["metadata"]
        detail = (metadata.get("error") or {}).get("detail") or metadata.get("detail", "")
        value = artifacts_value(found["artifacts"])
        agent, state = metadata.get("agent", ""), metadata["state"]
        return {"ref": task, "agent": agent, "state": state, "value": value, "detail": detail}

    async def conflict(self, conflict: str) -> dict[str, Any]:
        """Return a conflict's record: its subjects and their values, what was tried and answered, how it ended.

        Raises:
            NotFound: there is no such conflict.
        """
        found = expect(await self.link.call(ConflictGet(conflict)), ConflictFound)
        shown: dict[str, Any] = {**found.view, "refused": found.refused}
        results = {known["ref"]: result_value(known["payload"]) for known in found.payloads if "ref" in known}
        said = {known["party"]: read_parts(known["payload"]) for known in found.payloads if "party" in known}
        for subject in shown["subjects"]:
            if subject["ref"] not in results:  # it has left the coordinator's memory
                results[subject["ref"]] = (await self.outcome(subject["ref"]))["value"]
        shown["subjects"] = [{**subject, "value": results.get(subject["ref"])} for subject in shown["subjects"]]
        shown["positions"] = [{**position, "value": said.get(position["agent"])} for position in shown["positions"]]
        shown["stages"] = [
            {**stage, "answers": [await self.outcome(asked) for asked in stage["asked"]]} for stage in shown["stages"]
        ]
        return shown

    async def conflicts(
        self, *, task: str | None = None, is_open: bool | None = None, limit: int = 100, before: str | None = None
    ) -> list[dict[str, Any]]:
        """Return conflicts, newest first, without their values."""
        answer = await self.link.call(ConflictList(task, is_open, before, limit))
        return expect(answer, ConflictPage).conflicts

    async def list(
        self,
        *,
        state: str | None = None,
        skill: str | None = None,
        parent: str | None = None,
        context_id: str | None = None,
        dead_letter: bool = False,
        limit: int = 100,
        before: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return tasks as A2A Tasks, newest first, without their content.

        Args:
            state: only these; the coordinator's word (`queued`) or A2A's (`TASK_STATE_SUBMITTED`).
            skill: only tasks for this skill.
            parent: only sub-tasks of this task.
            context_id: only tasks of this context.
            dead_letter: only those that were given up after several agents had lost them.
            limit: at most so many, up to 1000.
            before: continue behind this task.
        """
        answer = await self.link.call(TaskList(state, skill, parent, context_id, before, limit, dead_letter))
        return expect(answer, TaskPage).tasks

    async def watch(self, task: str, from_gen: int = 0) -> AsyncGenerator[TaskEvent, None]:
        """Yield what happened to any task since a generation, and then what happens, until it has ended.

        Raises:
            NotFound: there is no such task.
        """
        delegations = self.link.delegations
        watched = delegations.follow(task, from_gen)
        handle = TaskHandle(self, watched.request, "human")
        handle._delegation = watched
        self._handles[id(watched)] = handle
        try:
            await self.link.call(TaskWatch(task, from_gen))
            while (event := await handle.next_event()) is not None:
                yield event
        finally:
            handle._forget()
