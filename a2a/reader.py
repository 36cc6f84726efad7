"""Reading tasks and conflicts from outside the coordinator, and raising conflicts.

Clients and agents share it: an agent that coordinates others reads in the ledger what they did. Everything runs in the
link's event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal

from .content import (
    artifacts_value,
    json_payload,
    parts_payload,
    read_word,
    shown_artifacts,
    shown_json,
)
from .delegator import Delegator, TaskEvent, TaskHandle, expect
from .errors import FencedOff, Gone, NotFound
from .given import require_kind, require_known
from .protocol.messages import (
    ConflictFound,
    ConflictGet,
    ConflictList,
    ConflictPage,
    ConflictRaise,
    ConflictRaised,
    ContextRead,
    ContextValues,
    RaisedSubject,
    TaskFound,
    TaskGet,
    TaskList,
    TaskPage,
)
from .protocol.states import OUTSIDE, TaskState

__all__ = ["Kind", "Reader", "require_object"]

Kind = Literal["result", "context", "resource", "artifact", "instruction", "identity"]

_SUBJECT = ("task", "context", "key", "rev", "resource", "fence", "value")
"""The fields that name a subject."""
_STATES = tuple(dict.fromkeys([*TaskState, *OUTSIDE.values()]))
"""The names of states: the coordinator's words, and A2A's."""
_OBJECTS = {"task": "ID", "context": "ID/KEY", "resource": "NAME", "agent": "ID"}
"""The objects of conflicts: each kind, and the form of its names (spec CONFLICT-11)."""
_NOT_KEPT = {"value": None, "isKept": False}
"""Fields of a subject whose value is no longer kept."""


def _subject(subject: str | Mapping[str, Any]) -> RaisedSubject:
    if isinstance(subject, str):
        return RaisedSubject(task=subject)
    if not isinstance(subject, Mapping):
        raise ValueError(f"a subject: expected a task's id or a map, got {subject!r}")
    named = dict(subject)
    require_known(named, _SUBJECT, "a subject")
    if "value" in named:
        named["value"] = json_payload(named["value"], "value")
    if "context" in named:
        named["context_id"] = named.pop("context")
    return RaisedSubject(**named)


def require_object(about: str) -> None:
    """Check that a text names an object: there are no conflicts about anything else, so none would be found.

    Raises:
        ValueError: it names none.
    """
    kind, _, name = require_kind(about, str, "about").partition(":")
    if kind not in _OBJECTS or not name:
        forms = ", ".join(f"{known}:{form}" for known, form in _OBJECTS.items())
        raise ValueError(f"about: expected one of {forms}, got {about!r}")


class Reader(Delegator):
    """Delegates through a link, and reads everything."""

    async def get(self, task: str) -> dict[str, Any]:
        """Return a task as an A2A Task in its JSON form; `metadata` has the fields that A2A does not define.

        Raises:
            NotFound: there is no such task.
            Gone: it ended longer ago than the namespace keeps tasks.
            ValueError: the id is not a text.
        """
        require_kind(task, str, "task")
        found = expect(await self.link.call(TaskGet(task)), TaskFound)
        shown: dict[str, Any] = dict(found.view)
        shown["artifacts"] = shown_artifacts(found.payload)
        metadata = shown.setdefault("metadata", {})
        metadata["input"] = read_word(found.input)
        metadata["asks"] = [
            {
                "askNo": ask["askNo"],
                "question": read_word(ask["payload"]),
                "answer": read_word(ask["answer"]) if "answer" in ask else None,
                "isOpen": "answer" not in ask,
            }
            for ask in found.asks
        ]
        metadata["provisional"] = [
            {**artifact, "chunks": [read_word(chunk) for chunk in artifact["chunks"]]} for artifact in found.artifacts
        ]
        return shown

    async def outcome(self, task: str) -> dict[str, Any]:
        """Return a task's outcome as `ref`, `agent`, `state`, `value` and `detail`; if it is not kept, it is `gone`."""
        try:
            found = await self.get(task)
        except (Gone, NotFound):
            return {"ref": task, "agent": "", "state": "gone", "value": None, "detail": ""}
        metadata = found["metadata"]
        detail = (metadata.get("error") or {}).get("detail") or metadata.get("detail", "")
        value = artifacts_value(found["artifacts"])
        agent, state = metadata.get("agent", ""), metadata["state"]
        return {"ref": task, "agent": agent, "state": state, "value": value, "detail": detail}

    async def conflict(self, conflict: str) -> dict[str, Any]:
        """Return a conflict's record: its subjects and their values, what its parties said, what was tried and
        answered, and how it ended.

        A subject whose value is no longer kept has None, and `isKept` False; a value that is not JSON is shown as its
        text. A value that was merged without asking anybody is under `merged`: a key's value, or Artifacts that patch.

        Raises:
            NotFound: there is no such conflict.
        """
        found = expect(await self.link.call(ConflictGet(conflict)), ConflictFound)
        shown: dict[str, Any] = {**found.view, "refused": found.refused}
        payloads = {known["ref"]: known["payload"] for known in found.payloads if "ref" in known}
        parties = [known for known in found.payloads if "party" in known]
        said = {known["party"]: read_word(known["payload"]) for known in parties if "ground" not in known}
        appealed = [read_word(known["payload"]) for known in parties if "ground" in known]
        raised = [read_word(known["payload"]) for known in found.payloads if "raiser" in known]
        shown["subjects"] = [
            {**subject, **await self._value_of(subject, payloads.get(subject["ref"]))} for subject in shown["subjects"]
        ]
        if "merged" in payloads:
            shown["merged"] = shown_json(payloads["merged"])
        if "raises" in shown:
            shown["raises"] = [{**told, "value": value} for told, value in zip(shown["raises"], raised, strict=True)]
        shown["positions"] = [{**position, "value": said.get(position["agent"])} for position in shown["positions"]]
        if "appeal" in shown:
            shown["appeal"] = {**shown["appeal"], "value": appealed[0] if appealed else None}
        shown["stages"] = [
            {**stage, "answers": [await self.outcome(asked) for asked in stage["asked"]]} for stage in shown["stages"]
        ]
        return shown

    async def _value_of(self, subject: dict[str, Any], payload: bytes | None) -> dict[str, Any]:
        """Return a subject's value, from the conflict or else from where the subject is."""
        form = subject.get("form", "result")
        if payload is not None:
            if form == "result":
                return {"value": artifacts_value(shown_artifacts(payload))}
            return {"value": (read_word if form == "rejection" else shown_json)(payload)}
        if form == "result":
            return await self._result_of(subject)
        try:
            request = ContextRead(subject["contextId"], [subject["key"]], at_rev=subject["rev"])
            return {"value": shown_json(expect(await self.link.call(request), ContextValues).values[0].payload)}
        except (Gone, NotFound):
            return _NOT_KEPT

    async def _result_of(self, subject: dict[str, Any]) -> dict[str, Any]:
        """Return the result that was the subject: its task may have another one by now, which contradicted nothing."""
        try:
            found = await self.get(subject["ref"])
        except (Gone, NotFound):
            return _NOT_KEPT
        is_same = found["metadata"].get("resultHash") == subject["resultHash"]
        return {"value": artifacts_value(found["artifacts"])} if is_same else _NOT_KEPT

    async def conflicts(
        self,
        *,
        task: str | None = None,
        is_open: bool | None = None,
        limit: int = 100,
        before: str | None = None,
        kind: Kind | None = None,
        about: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return conflicts, newest first, without their values; `about` is an object such as `task:main-7`.

        Raises:
            ValueError: `about` names no object.
        """
        if about is not None:
            require_object(about)
        answer = await self.link.call(ConflictList(task, is_open, before, limit, kind, about))
        return expect(answer, ConflictPage).conflicts

    async def raise_conflict(
        self, kind: Kind, *subjects: str | Mapping[str, Any], about: str = "", claim: str = "", evidence: Any = None
    ) -> str:
        """Report that things contradict each other, and return the conflict's id; a repeat returns the same one.

        If results that wait to be confirmed are among them, their tasks do not settle before the conflict is decided.

        Args:
            kind: what is contended.
            *subjects: the things that contradict each other: a task's id for its result, or `{"context": id, "key":
                key}` with a `rev` if it is not the current one, `{"resource": name, "fence": fence}` or `{"value":
                anything}`. A single subject is a result of this agent that was rejected.
            about: the object, such as `agent:planner`, if the subjects do not imply it.
            claim: how they contradict each other, in a few words.
            evidence: any value that shows it.

        Raises:
            ValueError: a subject has an unknown field.
            NotFound: there is no such task or revision, or the task has no result.
            Denied: a subject is itself a conflict or was asked in one, or a rejection is too long ago.
            QuotaExceeded: there are too many conflicts.
        """
        payload = b"[]" if evidence is None else parts_payload(evidence, "evidence")
        request = ConflictRaise(kind, [_subject(subject) for subject in subjects], about, claim, payload)
        return expect(await self.link.call(request), ConflictRaised).conflict

    async def raise_fenced_off(self, resource: str, refused: FencedOff) -> str:
        """Report that a guarded resource has turned a late writer away; return the conflict: the greater fence has it.

        Args:
            resource: the name that the fences belong to, as it is claimed.
            refused: the guard's error.
        """
        shown = [{"resource": resource, "fence": fence} for fence in (refused.seen, refused.fence)]
        return await self.raise_conflict("resource", *shown, claim=str(refused))

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
            state: only tasks in this state; the coordinator's word (`queued`) or A2A's (`TASK_STATE_SUBMITTED`).
            skill: only tasks for this skill.
            parent: only sub-tasks of this task.
            context_id: only tasks of this context.
            dead_letter: only tasks that were given up after several agents had lost them.
            limit: at most this many, up to 1000.
            before: continue after this task in the list.

        Raises:
            ValueError: there is no such state.
        """
        require_known(() if state is None else (state,), _STATES, "state")
        answer = await self.link.call(TaskList(state, skill, parent, context_id, before, limit, dead_letter))
        return expect(answer, TaskPage).tasks

    async def watch(self, task: str, from_gen: int = 0) -> AsyncGenerator[TaskEvent, None]:
        """Yield a task's events since a generation, and then new ones until it has ended.

        Raises:
            NotFound: there is no such task.
            Gone: it ended longer ago than the namespace keeps tasks.
        """
        self.link.require_loop()
        require_kind(task, str, "task")
        delegations = self.link.delegations
        watched = delegations.follow(task, from_gen)
        handle = TaskHandle(self, watched.request, "human")
        handle._delegation = watched
        self._handles[id(watched)] = handle
        try:
            await self.link.call(delegations.watching(task))
            while (event := await handle.next_event()) is not None:
                yield event
        finally:
            handle._forget()
