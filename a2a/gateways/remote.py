"""A remote agent that speaks A2A, as an agent of a coordinator here.

Each attempt at a task is carried to the remote agent, and followed there until it ends. What was sent, and the id that
the remote agent gave it, are a checkpoint: the next attempt goes on with the remote task, and sends nothing again.
`calling` knows how to call operations; the agent does leases and heartbeats.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import re
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Any, Final
from urllib.parse import urlsplit

import anyio

from ..agent import Agent
from ..content import UNREADABLE, artifacts_value, parts_payload, read_json
from ..context import TaskContext
from ..errors import A2AError, AttemptFailed, Gone, NotFound, Refused
from ..protocol.operations import BINDING, are_parts, encode
from .calling import CARD_PATH, Caller, Unanswered, useless
from .carrier import Faulted

__all__ = ["AWAY", "RemoteAgent", "agent_name"]

log = logging.getLogger("a2a.remote")

AWAY: Final = 300.0
"""Seconds for which a remote agent may be away, by default."""
_CARD_EVERY: Final = 300.0
_PAUSES: Final = (0.5, 5.0)
"""First and longest pause in seconds, between two looks and before a repeat."""
_CANCEL_WITHIN: Final = 10.0
"""Seconds in which the remote task may end after it was canceled."""
_WORDS_MAX: Final = 20_000
_NAME_MAX: Final = 96
"""Characters of an agent id before a `#` (spec ID-1)."""
_TASK_MAX: Final = 128
"""Characters of a task id here."""
_SLUG_MAX: Final = 32
"""Characters of the agent's name on the card that go into its id, so that its address fits as well."""
_TASK_NOT_FOUND, _UNSUPPORTED, _INTERNAL = -32001, -32004, -32603
_ENDED: Final = frozenset(f"TASK_STATE_{name}" for name in ("COMPLETED", "FAILED", "CANCELED", "REJECTED"))
_INTERRUPTED: Final = frozenset({"TASK_STATE_INPUT_REQUIRED", "TASK_STATE_AUTH_REQUIRED"})
_OVER_HERE: Final = frozenset({"completed", "failed", "canceled", "rejected", "canceling"})
"""States of a task after which nobody here goes on with the remote task."""


def agent_name(card: Mapping[str, Any], asked: str) -> str:
    """Return the agent id for a remote agent (spec ID-1), the same for every call.

    It starts with `remote-`, so that no card takes the name of an agent here. It ends with the address, because the
    cards of two remote agents may have the same name.

    Args:
        card: the card.
        asked: its URL.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", str(card.get("name") or "").lower()).strip("-")[:_SLUG_MAX]
    parts = urlsplit(asked)
    at = parts.netloc.lower() + parts.path.removesuffix(CARD_PATH)
    fit = re.sub(r"[^A-Za-z0-9._/:+-]+", "-", at).strip("-")
    name = f"remote-{slug or 'agent'}@{fit}"
    if fit == at and not parts.query and len(name) <= _NAME_MAX:
        return name
    # The part that does not fit may be the only difference between two addresses.
    digest = hashlib.sha256(f"{at}?{parts.query}".encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name[: _NAME_MAX - 9]}-{digest}"


class RemoteAgent(Agent):
    """A remote agent, with the skills of its card.

    Args:
        caller: calls its operations; its card was fetched.
        card: that card.
        name: the agent id here; by default made from the card's name and its address.
        concurrency: attempts it takes at once.
        away: seconds for which it may be away before an attempt fails, and in which it has to answer a message.

    Attributes:
        came_back: set once a carried task has come back to this agent's own coordinator; nothing is sent after that.

    Raises:
        ValueError: the card names no skill, or one that is not valid here.
    """

    def __init__(
        self,
        caller: Caller,
        card: Mapping[str, Any],
        *,
        name: str | None = None,
        concurrency: int = 8,
        away: float = AWAY,
    ) -> None:
        host = urlsplit(caller.asked).hostname or ""
        super().__init__(name or agent_name(card, caller.asked), concurrency=concurrency, labels={"remote": host})
        self.caller = caller
        self.away = away
        self.came_back = asyncio.Event()
        self.leads_elsewhere = False
        """Whether a remote task was looked up here, and is not one of this coordinator's."""
        self._take(card)

    def _take(self, card: Mapping[str, Any]) -> None:
        cards = _skill_cards(card)
        self._taken = card
        self.streams = bool(_object(card.get("capabilities")).get("streaming"))
        self.version = _text(card.get("version")) or "1.0"
        self.description = f"{_text(card.get('description'))} (remote, at {self.caller.asked})".strip()
        self.skill_cards = cards

        async def carry(value: Any, task: TaskContext) -> Any:
            return await _Errand(self, task, value).run()

        for skill_id, skill in cards.items():
            self.skills.pop(skill_id, None)
            self.skill(id=skill_id, description=skill["description"], tags=skill["tags"], takes_value=True)(carry)

    def card(self) -> dict[str, Any]:
        """Return the agent's card: the skills as on the remote card, and its URL."""
        return super().card() | {"skills": list(self.skill_cards.values())}

    async def keep_card(self, every: float = _CARD_EVERY) -> None:
        """Check regularly whether the card has changed, and tell the coordinator if it has."""
        while True:
            await anyio.sleep(every)
            try:
                fresh = await self.caller.card()
                taken, before = self._taken, self.card()
                self._take(fresh)
                if self.card() != before:
                    log.warning("the card at %s has changed: %s", self.caller.asked, ", ".join(self.skill_cards))
                    try:
                        await self.update()
                    except (Refused, ValueError):
                        self._take(taken)  # the coordinator keeps it too
                        raise
                    finally:
                        # Not before: until the coordinator has answered, it may offer the skills of either card.
                        for skill_id in self.skills.keys() - self.skill_cards.keys():
                            del self.skills[skill_id]
            except (ValueError, Unanswered, Faulted, A2AError) as error:
                log.warning("the card at %s could not be renewed: %s", self.caller.asked, error)


def _skill_cards(card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the skills of a card by id, in the form of a card here."""
    offered = card.get("skills")
    cards = {}
    for one in offered if isinstance(offered, list) else []:
        said = _object(one)
        skill_id, name = _text(said.get("id")), _text(said.get("name"))
        if not 0 < len(skill_id) <= 128:
            raise ValueError(f"expected ids of skills with 1 to 128 characters in the card, got {skill_id[:150]!r}")
        modes = {
            here: _texts(said.get(here)) or _texts(card.get(default)) or ["text/plain"]
            for here, default in (("inputModes", "defaultInputModes"), ("outputModes", "defaultOutputModes"))
        }
        told: dict[str, Any] = {"id": skill_id, "name": name or skill_id, "description": _text(said.get("description"))}
        cards[skill_id] = told | {"tags": _texts(said.get("tags")), "examples": _texts(said.get("examples"))} | modes
    if not cards:
        raise ValueError("the card names no skill")
    return cards


class _Errand:
    """One attempt, carried to the remote agent."""

    def __init__(self, remote: RemoteAgent, task: TaskContext, value: Any) -> None:
        self._remote = remote
        self._caller = remote.caller
        self._task = task
        self._value = value
        self._irreversible = task.spec.get("effect") == "irreversible"
        self._at = remote.caller.asked
        left = task.restored if isinstance(task.restored, dict) and task.restored.get("at") == self._at else {}
        self._before: dict[str, Any] = {} if left.get("rev") == task.rev else left
        """What the revision before this one has left."""
        self._kept: dict[str, Any] = left if left.get("rev") == task.rev else {"rev": task.rev, "at": self._at}
        """The checkpoint for the next attempt."""
        self._pending: dict[str, Any] | None = None
        """The message that is not known to have arrived."""
        self._answers: dict[str, dict[str, Any]] = {}
        """Question to the message that answers it."""
        self._question = ""
        """The question that the pending message answers."""
        self._delivered: set[str] = set()
        """Questions whose answers the remote agent has."""
        self._streams = remote.streams
        self._note = ""
        self._state = ""
        self._pause = _PAUSES[0]
        self._away_since: float | None = None
        self._lost = 0
        self._was_refused = False

    async def run(self) -> Any:
        """Carry the attempt, and return the result.

        Raises:
            AttemptFailed: it ended without one.
        """
        try:
            return await self._carried()
        except asyncio.CancelledError:
            if not self._task.is_canceled or "task" not in self._kept:
                raise
            ended = None
            with anyio.move_on_after(_CANCEL_WITHIN, shield=True):
                ended = await self._canceled()
            if ended is None or ended["status"]["state"] != "TASK_STATE_COMPLETED":
                raise
            return _result(ended)

    async def _carried(self) -> Any:
        if self._remote.came_back.is_set():
            raise self._circular(retryable=True)
        if "task" not in self._kept:
            self._pending = await self._first()
        while True:
            began = self._pending
            try:
                found = await self._exchange()
            except Unanswered as error:
                await self._waited_out(error, began)
                continue
            except Faulted as error:
                await self._refused(error, began)
                continue
            if found is None:
                continue
            if "parts" in found:
                return _value(found["parts"])
            state, words = found["status"]["state"], _words(found["status"].get("message"))
            if state == "TASK_STATE_COMPLETED":
                return _result(found)
            if state == "TASK_STATE_INPUT_REQUIRED":
                self._pending = await self._answer(found)
            elif state == "TASK_STATE_AUTH_REQUIRED":
                detail = f"the remote agent asks for authorisation, which nobody here can give: {words}"
                raise AttemptFailed(detail, code="auth_required")
            else:
                name = state.removeprefix("TASK_STATE_").lower()
                raise AttemptFailed(f"the remote agent says {name}: {words or 'nothing more'}", code=f"remote_{name}")

    # What is asked ----------------------------------------------------------------------------------------------------

    async def _exchange(self) -> dict[str, Any] | None:
        """Send the pending message, or else look; return the Task once it stands still, or the Message, or None."""
        if self._pending is None:
            task = await self._caller.call("GetTask", {"id": self._kept["task"], "historyLength": 0})
            await self._heard({"task": task})
            if self._stands_still(_status(task)):
                return task
            if not self._streams:
                await self._paused()
                return None
            events = self._caller.events("SubscribeToTask", {"id": self._kept["task"]})
        elif self._streams:
            self._task.check()
            events = self._caller.events("SendStreamingMessage", {"message": self._pending}, within=self._remote.away)
        else:
            self._task.check()
            request = {"message": self._pending, "configuration": {"returnImmediately": True}}
            answer = await self._caller.call("SendMessage", request, within=self._remote.away)
            if isinstance(answer.get("message"), dict):
                return await self._said(answer["message"])
            await self._heard(answer)
            return None
        async with aclosing(events):
            async for event in events:
                if isinstance(event.get("message"), dict):
                    return await self._said(event["message"])
                await self._heard(event)
                told = event.get("task") or event.get("statusUpdate")
                if told and self._stands_still(_status(told)):
                    return None  # only the whole task has its artifacts
        if self._pending is not None:
            raise Unanswered("a stream ended before it said anything")
        await self._paused()
        return None

    async def _heard(self, event: Mapping[str, Any]) -> None:
        """Keep the remote ids as soon as they are known, and report what the remote agent says."""
        told = _object(event.get("task") or event.get("statusUpdate") or event.get("artifactUpdate"))
        task, context = _text(told.get("id") or told.get("taskId")), _text(told.get("contextId"))
        if not task:
            raise useless(f"expected a task, a message or an update, got {', '.join(event)[:100] or 'nothing'}")
        self._away_since = None
        if self._pending is not None:
            if "taskId" in self._pending:
                self._delivered.add(self._question)
            self._pending = None
            self._pause = _PAUSES[0]
        if "task" not in self._kept:
            self._kept |= {"task": task}
            await self._share(context)
        if not self._remote.leads_elsewhere:
            await self._look_here(task)
        if "status" not in told:
            return
        status = _status(told)
        note = _words(status.get("message"))
        if status["state"] != self._state:
            self._state, self._pause = status["state"], _PAUSES[0]
        if note and note != self._note:
            self._note = note
            await self._task.progress(note=note)

    async def _said(self, message: dict[str, Any]) -> dict[str, Any]:
        """Take a Message, which is the whole answer: there is no task to follow."""
        if not isinstance(message.get("parts"), list):
            raise useless("expected the parts of a message, got none")
        if "task" not in self._kept:
            await self._share(_text(message.get("contextId")))
        return message

    async def _share(self, context: str) -> None:
        """Keep the remote context, for the next attempt and for other tasks of the context here."""
        self._kept["context"] = context or self._kept["sent_in"]
        if "task" in self._kept:
            await self._task.checkpoint(self._kept, portable=False)
        if context and context != self._kept["sent_in"]:
            with suppress(Refused):  # another task of the context was first, or the context is full
                await self._task.context.put(self._key, context, if_rev=0)

    def _stands_still(self, status: Mapping[str, Any]) -> bool:
        if status["state"] == "TASK_STATE_INPUT_REQUIRED" and _question(status) in self._delivered:
            return False  # the remote agent has not seen the answer yet
        return status["state"] in _ENDED | _INTERRUPTED

    # What is said -----------------------------------------------------------------------------------------------------

    @property
    def _key(self) -> str:
        """The key under which the tasks of a context find the remote context."""
        return f"remote:{self._at}"[:256]

    def _message_id(self, step: str) -> str:
        """Return a message's id, the same in each attempt: a remote agent that detects repeats does nothing twice."""
        return self._task.effect_key(step)

    async def _first(self) -> dict[str, Any]:
        """Return the message that begins the remote task: the same one, with the same id, in each attempt."""
        task = self._task
        if "sent_in" not in self._kept:
            context = self._before.get("context")
            if not context:
                context = (await task.context.get(self._key)).value
            self._kept |= {"sent_in": _text(context), "before": _text(self._before.get("task"))}
        elif self._irreversible:
            raise self._doubtful("an attempt before this one may have sent it")
        await task.checkpoint(self._kept, portable=False)
        modes = self._remote.skill_cards.get(task.skill, {}).get("inputModes", [])
        feedback = [part for said in task.feedback[-1:] for part in _parts(said, modes)]
        parts = feedback if self._kept["before"] else [*_parts(self._value, modes), *feedback]
        message: dict[str, Any] = {
            "messageId": self._message_id("message"),
            "role": "ROLE_USER",
            "parts": parts,
            "metadata": {BINDING: {"skill": task.skill}},
        }
        if self._kept["sent_in"]:
            message["contextId"] = self._kept["sent_in"]
        if self._kept["before"]:
            message["referenceTaskIds"] = [self._kept["before"]]
        return message

    async def _answer(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the delegator the remote agent's question, and return the answer as a message."""
        self._question = question = _question(found["status"])
        asked = self._kept.setdefault("asked", [])
        if question not in asked:
            asked.append(question)
            await self._task.checkpoint(self._kept, portable=False)
        if question not in self._answers:
            number = asked.index(question) + 1
            # In the same words it would be the same question, and get the previous answer.
            again = f" (question {number})" if number > 1 else ""
            asks = _asks(found["status"].get("message"))
            said = await self._task.ask((asks.pop("question") or "The remote agent wants more input.") + again, **asks)
            self._answers[question] = {
                "messageId": self._message_id(f"answer {question}"),
                "role": "ROLE_USER",
                "taskId": self._kept["task"],
                "parts": _parts(said, self._remote.skill_cards.get(self._task.skill, {}).get("inputModes", [])),
            }
            if self._kept.get("context"):
                self._answers[question]["contextId"] = self._kept["context"]
        return self._answers[question]

    async def _canceled(self) -> dict[str, Any] | None:
        """Cancel the remote task, unless somebody here goes on with it, and return its end."""
        try:
            here = await self._task.get(self._task.id)
        except A2AError:
            return None
        if here["metadata"]["state"] not in _OVER_HERE:
            return None  # the attempt was lost, and the next one resumes the remote task
        named = {"id": self._kept["task"]}
        with suppress(Faulted, Unanswered):
            await self._caller.call("CancelTask", named, within=_CANCEL_WITHIN)
        while True:
            with suppress(Unanswered):
                try:
                    task = await self._caller.call("GetTask", named | {"historyLength": 0})
                except Faulted:
                    return None
                if _status(task)["state"] in _ENDED:
                    return task
            await anyio.sleep(_PAUSES[0])

    # What goes wrong --------------------------------------------------------------------------------------------------

    async def _waited_out(self, error: Unanswered, sent: Mapping[str, Any] | None) -> None:
        """Wait for a remote agent that is away, as long as that is allowed.

        Raises:
            AttemptFailed: it is away for too long, or may have done what must not be asked twice.
        """
        if self._pending is not None and self._pending is sent:
            if "taskId" in self._pending:
                self._pending = None  # its task shows whether the answer arrived
            elif self._irreversible and error.may_count:
                raise self._doubtful(str(error))
        now = asyncio.get_running_loop().time()
        if self._away_since is None:
            self._away_since = now - error.waited
        if now - self._away_since >= self._remote.away:
            if self._irreversible and self._pending is not None:
                del self._kept["sent_in"]  # nothing has arrived, so the next attempt may try
                await self._task.checkpoint(self._kept, portable=False)
            detail = f"no answer from the remote agent for {now - self._away_since:.0f} s: {error}"
            raise AttemptFailed(detail, code="remote_away", retryable=True)
        note = f"no answer from the remote agent: {error}"
        if note != self._note:
            self._note = note
            await self._task.progress(note=note)
        await self._paused()

    async def _refused(self, error: Faulted, sent: Mapping[str, Any] | None) -> None:
        """Handle an error of A2A: go on in another way, or give up.

        Raises:
            AttemptFailed: there is no other way.
        """
        code = error.fault.code
        if self._pending is not None and self._pending is sent:
            if "taskId" in self._pending and code in (_TASK_NOT_FOUND, _UNSUPPORTED) and not self._was_refused:
                self._was_refused = True
                self._pending = None  # the task may have ended meanwhile, and will show it
                return
            retryable = code == _INTERNAL and not self._irreversible
            raise AttemptFailed(f"the remote agent refuses: {error}", code="remote_refused", retryable=retryable)
        if code == _TASK_NOT_FOUND:
            self._kept = {name: value for name, value in self._kept.items() if name not in ("task", "asked")}
            self._lost += 1
            if self._irreversible or self._lost > 1:
                detail = f"the remote agent has lost its task: {error}"
                raise AttemptFailed(detail, code="remote_lost", retryable=not self._irreversible)
            log.warning("task %s: %s lost its task and is sent the message again", self._task.id, self._at)
            self._pending = await self._first()
        elif code == _UNSUPPORTED:
            self._streams = False  # no streams, or the task has ended: a look will tell
            await self._paused()
        else:  # its task may go on, whatever is wrong with requests about it
            await self._waited_out(Unanswered(str(error)), sent)

    async def _look_here(self, task: str) -> None:
        """Check whether the remote task is one of this coordinator's, which would come to this agent again.

        Raises:
            AttemptFailed: it is, and was canceled.
        """
        found: dict[str, Any] = {}
        if len(task) <= _TASK_MAX:
            try:
                found = await self._task.get(task)
            except (NotFound, Gone):
                pass
            except A2AError:
                return  # the next remote task can be looked up instead
        # A task of another ledger may have the same id, but not this key (FENCE-8).
        if _object(found.get("metadata")).get("key") != self._message_id("message"):
            self._remote.leads_elsewhere = True
            return
        self._remote.came_back.set()
        with suppress(Faulted, Unanswered):
            await self._caller.call("CancelTask", {"id": task}, within=_CANCEL_WITHIN)
        raise self._circular(retryable=not self._irreversible)

    def _circular(self, *, retryable: bool) -> AttemptFailed:
        detail = f"{self._at} leads to this same coordinator, where the task would come back to this agent"
        return AttemptFailed(detail, code="remote_circular", retryable=retryable)

    def _doubtful(self, why: str) -> AttemptFailed:
        named = f"message {self._message_id('message')} may be at work at {self._at}"
        return AttemptFailed(f"{named}, and what is irreversible is not sent again: {why}", code="remote_doubtful")

    async def _paused(self) -> None:
        # With jitter, so that many that lost one remote agent do not come back together.
        await anyio.sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(self._pause * 2, _PAUSES[1])


# Parts ----------------------------------------------------------------------------------------------------------------


def _parts(value: Any, modes: list[str]) -> list[dict[str, Any]]:
    """Return a value as the parts of a message, in a form that the remote skill takes."""
    if isinstance(value, list) and are_parts(value):
        return value
    takes_json = any(mode.partition(";")[0].endswith(("json", "*/*", "application/*")) for mode in modes)
    if isinstance(value, str | bytes) or takes_json:
        given: Any = {} if value is None else value
    elif isinstance(value, dict) and list(value) == ["text"] and isinstance(value["text"], str):
        given = value["text"]
    else:
        given = encode({} if value is None else value).decode()
    parts: list[dict[str, Any]] = read_json(parts_payload(given))
    return parts


def _result(task: Mapping[str, Any]) -> Any:
    """Return the value of a remote task's result: its artifacts, else its last message."""
    artifacts = task.get("artifacts") or []
    pieces = [_object(one).get("parts") or [] for one in artifacts] if isinstance(artifacts, list) else [artifacts]
    if not all(isinstance(one, list) for one in pieces):
        raise AttemptFailed("the remote agent's result is not a list of A2A artifacts", code="bad_answer")
    parts = [part for one in pieces for part in one]
    return _value(parts or _object(task["status"].get("message")).get("parts") or [])


def _value(parts: Any) -> Any:
    """Return one part as its value, several as a list of parts, none as None."""
    if not parts:
        return None
    if not are_parts(parts):
        raise AttemptFailed("the remote agent's result is not a list of A2A parts", code="bad_answer")
    try:
        return artifacts_value([{"name": "result", "parts": parts}])
    except UNREADABLE as error:
        raise AttemptFailed(f"the remote agent's result cannot be read: {error}", code="bad_answer") from error


# What came ------------------------------------------------------------------------------------------------------------


def _status(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's status; its state is a non-empty text."""
    status = _object(task.get("status"))
    if not _text(status.get("state")):
        raise useless("expected the state of a task, got none")
    return status


def _question(status: Mapping[str, Any]) -> str:
    """Return an identifier that tells a question apart from all others of its task."""
    message = _object(status.get("message"))
    return _text(message.get("messageId")) or f"{_text(status.get('timestamp'))} {_words(message)[:200]}"


def _asks(message: Any) -> dict[str, Any]:
    """Return a question as arguments of `TaskContext.ask`, with options and schema if it was asked that way."""
    parts = _object(message).get("parts")
    data = _object(_object(parts[0]).get("data")) if isinstance(parts, list) and len(parts) == 1 else {}
    if not _text(data.get("question")) or len(encode(data)) > _WORDS_MAX:
        return {"question": _words(message)}
    asks: dict[str, Any] = {"question": data["question"]}
    options, schema = data.get("options"), data.get("schema")
    if options and options == _texts(options):
        asks["options"] = options
    if isinstance(schema, dict):
        asks["schema"] = schema
    return asks


def _words(message: Any) -> str:
    """Return the text of a message, for people."""
    parts = _object(message).get("parts")
    told = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    said = [_text(part.get("text")) or ("data" in part and encode(part["data"]).decode()) or "" for part in told]
    return "\n".join(one for one in said if one)[:_WORDS_MAX]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
