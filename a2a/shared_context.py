"""What the tasks of one context share: keys with values that are read, written by compare-and-set, and watched.

    plan = await task.context.get("plan")
    await task.context.put("plan", {**plan.value, "step": 2}, if_rev=plan.rev)

The same calls in a handler (`TaskContext.context`), in a client (`Client.context`) and, blocking, in the plain
functions of both. Nothing here knows of links or loops but what its owner passes in.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import anyio

from .content import UNREADABLE, json_payload, read_json
from .errors import Conflict, ConnectionLost, Gone, RemoteProtocolError
from .given import mapped, require_kind, several
from .ids import new_id
from .protocol.messages import ContextOp, ContextRead, ContextValues, ContextWrite, ContextWritten, Held, Message, Seen
from .protocol.messages import ContextValue as ValueOnTheWire

if TYPE_CHECKING:
    from .delegator import Delegator
    from .engine.context_watching import Watched

__all__ = ["ContextChange", "ContextValue", "SharedContext", "SyncSharedContext", "each"]

T = TypeVar("T")
M = TypeVar("M", bound=Message)


class _Unset:
    """Stands for a value that is not given: None is one."""


_UNSET: Final = _Unset()
_END: Final = _Unset()


@dataclass(frozen=True, slots=True)
class ContextValue:
    """One revision of a key."""

    key: str
    rev: int
    """Counts the writes of the key, from 1; 0: nobody has written it."""
    value: Any
    """None where there is none, and where the value of an old revision is not kept any more."""
    deleted: bool
    author: str
    """The agent id of whoever wrote it."""
    task: str | None
    """The task of the attempt that wrote it, where one did."""
    fence: int | None
    at: float
    """Seconds since the epoch, the coordinator's clock."""
    reason: str
    decision: bool
    """Results that rely on another revision are looked at before they count."""
    guarded: bool
    """Every write has to name the revision it replaces."""
    is_kept: bool
    """Whether `value` is what was written."""

    @property
    def exists(self) -> bool:
        """Whether the key has a value in this revision."""
        return self.rev > 0 and not self.deleted

    @classmethod
    def from_wire(cls, value: ValueOnTheWire) -> ContextValue:
        """Return the public form of what the coordinator sent.

        Raises:
            RemoteProtocolError: what was written is no JSON; the coordinator does not look (spec WIRE-5).
        """
        try:
            held = read_json(value.payload)
        except UNREADABLE as error:
            told = f"expected JSON under {value.key}, revision {value.rev} by {value.author} is something else: {error}"
            raise RemoteProtocolError(told) from error
        return cls(
            value.key,
            value.rev,
            held,
            value.deleted,
            value.author,
            value.task,
            value.fence,
            value.at / 1000,
            value.reason,
            value.decision,
            value.guarded,
            value.payload is not None or value.deleted or value.rev == 0,
        )


@dataclass(frozen=True, slots=True)
class ContextChange:
    """What becomes of one key in a write of several: exactly one of `value`, `patch` and `delete`."""

    key: str
    value: Any = _UNSET
    patch: Sequence[Mapping[str, Any]] | None = None
    """A JSON Patch (RFC 6902) of the current value."""
    delete: bool = False
    if_rev: int | None = None
    """Only if this is the key's revision; 0: only if nobody has written it."""
    decision: bool = False
    guarded: bool = False

    def to_wire(self) -> ContextOp:
        """Return the form that travels.

        Raises:
            ValueError: the key is no text, the value has no JSON form, or the patch is no list.
        """
        require_kind(self.key, str, "key")
        value = None if isinstance(self.value, _Unset) else json_payload(self.value, "value")
        patch = None
        if self.patch is not None:
            what = f"the patch of {self.key}"
            operations = [mapped(operation, f"{what}: an operation") for operation in several(self.patch, what)]
            patch = json_payload(operations, what)
        return ContextOp(self.key, self.if_rev, value, patch, self.delete, self.decision, self.guarded)


async def _here(work: Coroutine[Any, Any, T]) -> T:
    return await work


class SharedContext:
    """The values of one context. Made by `Client.context`, and for each attempt at a task.

    Args:
        owner: whose link to use.
        context_id: which context.
        across: runs a coroutine in the owner's loop.
        attempt: the attempt that writes; its writes are refused once it has lost its authority.
        on_seen: gets every value that was read or written.
    """

    def __init__(
        self,
        owner: Delegator,
        context_id: str,
        *,
        across: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]] = _here,
        attempt: Held | None = None,
        on_seen: Callable[[ValueOnTheWire], None] | None = None,
    ) -> None:
        self.id = context_id
        """The context's id."""
        self._owner = owner
        self._across = across
        self._attempt = attempt
        self._on_seen = on_seen

    async def get(self, key: str, *, at_rev: int | None = None) -> ContextValue:
        """Return what a key is; where nobody has written it, a value with `rev` 0.

        Args:
            key: which one.
            at_rev: what it was in this revision.

        Raises:
            NotFound: there is no such revision.
            Gone: its value is not kept any more.
            RemoteProtocolError: it is no JSON, as a peer that does not use this package may write it.
        """
        found = await self._call(ContextRead(self.id, [key], at_rev=at_rev), ContextValues)
        if at_rev is None:
            self._saw(found.values)
        return ContextValue.from_wire(found.values[0])

    async def get_many(self, keys: Sequence[str] | None = None, *, prefix: str = "") -> dict[str, ContextValue]:
        """Return what several keys are, by key: those named, or all that begin with the prefix and are not deleted."""
        keys = None if keys is None else several(keys, "keys")
        if keys is not None and not keys:
            return {}
        _, values = await self._read(keys, prefix)
        self._saw(values)
        return {value.key: ContextValue.from_wire(value) for value in values if keys is not None or not value.deleted}

    async def history(self, key: str) -> list[ContextValue]:
        """Return the revisions of a key, oldest first; of older ones only who wrote them, when and why."""
        found = await self._call(ContextRead(self.id, [key], history=True), ContextValues)
        self._saw(found.values[-1:])
        return [ContextValue.from_wire(value) for value in found.values if value.rev]

    async def put(
        self,
        key: str,
        value: Any,
        *,
        if_rev: int | None = None,
        decision: bool = False,
        guarded: bool = False,
        depends: Mapping[str, int] | None = None,
        reason: str = "",
    ) -> int:
        """Set a key, and return its new revision. Durable when this returns.

        Args:
            key: which one. What begins with `decisions/` is a decision.
            value: any JSON value.
            if_rev: only if this is its revision; 0: only if nobody has written it. Decisions and guarded keys need it.
            decision: results that rely on another revision of it are looked at before they count. Stays so.
            guarded: every write has to name the revision it replaces. Stays so.
            depends: other keys, and the revisions they must still have.
            reason: for people to read in the history.

        Raises:
            Conflict: a revision is another; `data` has `key`, `rev`, `author` and `value` of what is there, and the
                `conflict` that is open about the key, where one is: then nobody writes it until that is decided.
            StaleFence: the attempt has no authority any more.
            TooLarge: the value is larger than a context keeps.
        """
        change = ContextChange(key, value, if_rev=if_rev, decision=decision, guarded=guarded)
        return (await self.write([change], depends=depends, reason=reason))[key]

    async def patch(
        self,
        key: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        if_rev: int | None = None,
        depends: Mapping[str, int] | None = None,
        reason: str = "",
    ) -> int:
        """Change a part of a key's value by a JSON Patch (RFC 6902), and return its new revision: as `put`.

        Raises:
            Conflict: an operation does not apply to what is there; `data.operation` says which.
            SchemaMismatch: it is no patch.
        """
        change = ContextChange(key, patch=operations, if_rev=if_rev)
        return (await self.write([change], depends=depends, reason=reason))[key]

    async def delete(
        self, key: str, *, if_rev: int | None = None, depends: Mapping[str, int] | None = None, reason: str = ""
    ) -> int:
        """Delete a key, and return the revision that this is: as `put`."""
        change = ContextChange(key, delete=True, if_rev=if_rev)
        return (await self.write([change], depends=depends, reason=reason))[key]

    async def write(
        self,
        changes: Sequence[ContextChange],
        *,
        depends: Mapping[str, int] | None = None,
        reason: str = "",
        key: str | None = None,
        rebases: bool = False,
    ) -> dict[str, int]:
        """Change several keys, all or none, and return the revisions they became. Errors as for `put`.

        Args:
            changes: what becomes of each.
            depends: other keys, and the revisions they must still have.
            reason: for people to read in the history.
            key: the same key is the same write, now and after any restart. None: a new write each time.
            rebases: where it loses, the caller looks at what is there and tries again: no conflict opens.
        """
        changes = [require_kind(change, ContextChange, "changes") for change in several(changes, "changes")]
        ops = [change.to_wire() for change in changes]
        seen = [Seen(name, rev) for name, rev in mapped(depends or {}, "depends").items()]
        message = ContextWrite(self.id, key or new_id(), ops, seen, self._attempt, reason, rebases)
        written = await self._call(message, ContextWritten)
        # Whether a key is a decision the coordinator knows better; what was written is what was seen last.
        self._saw([ValueOnTheWire(op.key, written.revs[op.key], decision=op.decision) for op in ops])
        return written.revs

    async def update(
        self,
        key: str,
        function: Callable[[Any], Any],
        *,
        decision: bool = False,
        guarded: bool = False,
        reason: str = "",
    ) -> Any:
        """Set a key to what the function makes of its value (None where there is none), and return that.

        Where somebody else wrote it meanwhile, the function is called again with what is there then.

        Args:
            key: which one.
            function: a plain function or a coroutine function, without effects that may not happen twice.
            decision, guarded, reason: as for `put`.
        """
        if not callable(function):
            raise ValueError(f"function: expected a function of the value, got {function!r}")
        current = await self.get(key)
        value, rev = current.value, current.rev
        while True:
            wanted = function(value)
            if isawaitable(wanted):
                wanted = await wanted
            try:
                change = ContextChange(key, wanted, if_rev=rev, decision=decision, guarded=guarded)
                await self.write([change], reason=reason, rebases=True)
                return wanted
            except Conflict as conflict:
                facts = conflict.data
                if facts.get("key") != key or facts.get("rev") == rev:
                    raise
                value, rev = facts.get("value"), facts["rev"]

    async def watch(self, prefix: str = "") -> AsyncGenerator[ContextValue, None]:
        """Yield what the keys that begin with the prefix are, and then each revision that is written, in order.

        Nothing is missed by a lost connection. Of a revision that was overwritten before it could be told the value is
        not told (`is_kept`); the next one follows.
        """
        seen: dict[str, int] = {}
        while True:
            lsn, values = await self._read(None, prefix)
            followed: list[Watched] = []
            try:
                watched = await self._across(self._follow(prefix, lsn, followed))
                # What was deleted before anybody watched is no news.
                for value in self._news([value for value in values if not value.deleted or value.key in seen], seen):
                    yield value
                while True:
                    for value in self._news(await self._across(self._owner.next_written(watched)), seen):
                        yield value
            except Gone:
                continue  # more was written meanwhile than a watch tells: look again
            finally:
                with anyio.CancelScope(shield=True):
                    await self._across(self._unfollow(followed))

    async def _follow(self, prefix: str, lsn: int, followed: list[Watched]) -> Watched:
        """In the owner's loop: watch, and note that in `followed`: who is cancelled may not hear of it."""
        followed.append(await self._owner.follow_context(self.id, prefix, lsn))
        return followed[-1]

    async def _unfollow(self, followed: list[Watched]) -> None:
        for watched in followed:
            await self._owner.unfollow_context(watched)

    def _news(self, values: Sequence[ValueOnTheWire], seen: dict[str, int]) -> Iterator[ContextValue]:
        """Yield what is newer than what was seen of its key; a read of several pages runs into what follows it."""
        for value in values:
            if value.rev > seen.get(value.key, 0):
                seen[value.key] = value.rev
                self._saw([value])
                yield ContextValue.from_wire(value)

    # Talking ----------------------------------------------------------------------------------------------------------

    async def _read(self, keys: Sequence[str] | None, prefix: str) -> tuple[int, list[ValueOnTheWire]]:
        """Return the place of the newest write when reading began, and the values, page for page."""
        message = ContextRead(self.id, list(keys or ()), prefix=None if keys else prefix)
        found = await self._call(message, ContextValues)
        lsn, values = found.lsn, list(found.values)
        while found.next_after is not None:
            message = ContextRead(self.id, message.keys, prefix=message.prefix, after=found.next_after)
            found = await self._call(message, ContextValues)
            values.extend(found.values)
        return lsn, values

    async def _call(self, message: Message, kind: type[M]) -> M:
        from .delegator import expect

        return expect(await self._across(self._owner.link.call(message)), kind)

    def _saw(self, values: Sequence[ValueOnTheWire]) -> None:
        if self._on_seen is not None:
            for value in values:
                self._on_seen(value)


class SyncSharedContext:
    """The values of one context, for plain functions: as `SharedContext`, with calls that block.

    Args:
        context: the context.
        run: runs a coroutine function where the context lives, and waits for what it returns.
    """

    def __init__(self, context: SharedContext, run: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]) -> None:
        self._context = context
        self._run = run
        self.id = context.id

    def get(self, key: str, **options: Any) -> ContextValue:
        """As `SharedContext.get`."""
        value: ContextValue = self._run(lambda: self._context.get(key, **options))
        return value

    def get_many(self, keys: Sequence[str] | None = None, *, prefix: str = "") -> dict[str, ContextValue]:
        """As `SharedContext.get_many`."""
        values: dict[str, ContextValue] = self._run(lambda: self._context.get_many(keys, prefix=prefix))
        return values

    def history(self, key: str) -> list[ContextValue]:
        """As `SharedContext.history`."""
        values: list[ContextValue] = self._run(lambda: self._context.history(key))
        return values

    def put(self, key: str, value: Any, **options: Any) -> int:
        """As `SharedContext.put`."""
        return int(self._run(lambda: self._context.put(key, value, **options)))

    def patch(self, key: str, operations: Sequence[Mapping[str, Any]], **options: Any) -> int:
        """As `SharedContext.patch`."""
        return int(self._run(lambda: self._context.patch(key, operations, **options)))

    def delete(self, key: str, **options: Any) -> int:
        """As `SharedContext.delete`."""
        return int(self._run(lambda: self._context.delete(key, **options)))

    def write(self, changes: Sequence[ContextChange], **options: Any) -> dict[str, int]:
        """As `SharedContext.write`."""
        revs: dict[str, int] = self._run(lambda: self._context.write(changes, **options))
        return revs

    def update(self, key: str, function: Callable[[Any], Any], **options: Any) -> Any:
        """As `SharedContext.update`."""
        return self._run(lambda: self._context.update(key, function, **options))

    def watch(self, prefix: str = "") -> Iterator[ContextValue]:
        """As `SharedContext.watch`."""
        return each(self._run, self._context.watch(prefix))


def each(run: Callable[..., Any], values: AsyncIterator[T]) -> Iterator[T]:
    """Yield what an asynchronous iterator yields, each waited for by `run`; it is closed with this one."""

    async def following() -> Any:
        return await anext(values, _END)

    try:
        while (value := run(following)) is not _END:
            yield value
    finally:
        # Where its loop has ended, it has ended with it.
        with contextlib.suppress(RuntimeError, ConnectionLost):
            run(cast(AsyncGenerator[T, None], values).aclose)
