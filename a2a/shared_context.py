"""The state that the tasks of one context share: keys with values to read, write by compare-and-set, and watch.

    plan = await task.context.get("plan")
    await task.context.put("plan", {**plan.value, "step": 2}, if_rev=plan.rev)

The calls are the same in a handler (`TaskContext.context`), in a client (`Client.context`) and, blocking, in the plain
functions of both. This module knows links and loops only through what its owner passes in.
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
    """Stands for a value that is not given, since None is a value."""


_UNSET: Final = _Unset()
_END: Final = _Unset()


@dataclass(frozen=True, slots=True)
class ContextValue:
    """One revision of a key."""

    key: str
    rev: int
    """Counts the writes of the key, from 1; 0 if nobody has written it."""
    value: Any
    """None if there is none, or if the value of an old revision is no longer kept."""
    deleted: bool
    author: str
    """The agent id of the writer."""
    task: str | None
    """The task of the attempt that wrote it, if an attempt did."""
    fence: int | None
    at: float
    """Seconds since the epoch, by the coordinator's clock."""
    reason: str
    decision: bool
    """Whether results that rely on another revision are looked at before they count."""
    guarded: bool
    """Whether every write has to name the revision it replaces."""
    is_kept: bool
    """Whether `value` is what was written."""

    @property
    def exists(self) -> bool:
        """Whether the key has a value in this revision."""
        return self.rev > 0 and not self.deleted

    @classmethod
    def from_wire(cls, value: ValueOnTheWire) -> ContextValue:
        """Return the public form of a value that the coordinator sent.

        Raises:
            RemoteProtocolError: the value is not JSON; the coordinator does not check (spec WIRE-5).
        """
        try:
            held = read_json(value.payload)
        except UNREADABLE as error:
            told = f"expected JSON under {value.key}, got revision {value.rev} by {value.author}, which is not: {error}"
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
    """The change of one key in a write of several: exactly one of `value`, `patch` and `delete`."""

    key: str
    value: Any = _UNSET
    patch: Sequence[Mapping[str, Any]] | None = None
    """A JSON Patch (RFC 6902) of the current value."""
    delete: bool = False
    if_rev: int | None = None
    """Write only if this is the key's revision; 0: only if nobody has written it."""
    decision: bool = False
    guarded: bool = False

    def to_wire(self) -> ContextOp:
        """Return the form that travels.

        Raises:
            ValueError: the key is not a text, the value has no JSON form, or the patch is not a list.
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
        owner: the client or agent whose link to use.
        context_id: the id of the context.
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
        """Return the value of a key; one with `rev` 0 if nobody has written it.

        Args:
            key: its name.
            at_rev: return the value of this revision.

        Raises:
            NotFound: there is no such revision.
            Gone: its value is no longer kept.
            RemoteProtocolError: the value is not JSON: a peer that does not use this package may write such a value.
        """
        found = await self._call(ContextRead(self.id, [key], at_rev=at_rev), ContextValues)
        if at_rev is None:
            self._saw(found.values)
        return ContextValue.from_wire(found.values[0])

    async def get_many(self, keys: Sequence[str] | None = None, *, prefix: str = "") -> dict[str, ContextValue]:
        """Return the values of several keys, by key: the named ones, or all with the prefix that are not deleted."""
        keys = None if keys is None else several(keys, "keys")
        if keys is not None and not keys:
            return {}
        _, values = await self._read(keys, prefix)
        self._saw(values)
        return {value.key: ContextValue.from_wire(value) for value in values if keys is not None or not value.deleted}

    async def history(self, key: str) -> list[ContextValue]:
        """Return the revisions of a key, oldest first; older ones only with author, time and reason."""
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
        """Set a key and return its new revision. Durable when this returns.

        Args:
            key: its name. A key that begins with `decisions/` is a decision.
            value: any JSON value.
            if_rev: only if this is its revision; 0: only if nobody has written it. Decisions and guarded keys need it.
            decision: results that rely on another revision of it are looked at before they count. Stays so.
            guarded: every write has to name the revision it replaces. Stays so.
            depends: other keys, and the revisions they must still have.
            reason: for people who read the history.

        Raises:
            Conflict: a revision differs; `data` has the current `key`, `rev`, `author` and `value`, and the `conflict`
                that is open about the key, if any: then nobody can write it until that is decided.
            StaleFence: the attempt has lost its authority.
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
        """Change a part of a key's value by a JSON Patch (RFC 6902), and return its new revision; see `put`.

        Raises:
            Conflict: an operation does not apply to the current value; `data.operation` says which.
            SchemaMismatch: it is not a JSON Patch.
        """
        change = ContextChange(key, patch=operations, if_rev=if_rev)
        return (await self.write([change], depends=depends, reason=reason))[key]

    async def delete(
        self, key: str, *, if_rev: int | None = None, depends: Mapping[str, int] | None = None, reason: str = ""
    ) -> int:
        """Delete a key, and return the revision of the deletion; see `put`."""
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
        """Change several keys, all or none, and return their new revisions. Errors as for `put`.

        Args:
            changes: the change of each key.
            depends: other keys, and the revisions they must still have.
            reason: for people who read the history.
            key: the same key is the same write, now and after any restart. None: a new write each time.
            rebases: if the write loses, the caller reads the current values and tries again, so no conflict opens.
        """
        changes = [require_kind(change, ContextChange, "changes") for change in several(changes, "changes")]
        ops = [change.to_wire() for change in changes]
        seen = [Seen(name, rev) for name, rev in mapped(depends or {}, "depends").items()]
        message = ContextWrite(self.id, key or new_id(), ops, seen, self._attempt, reason, rebases)
        written = await self._call(message, ContextWritten)
        # The coordinator knows best whether a key is a decision; what was written is what was seen last.
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
        """Set a key to what the function returns for its value (None if there is none), and return that.

        If somebody else writes the key meanwhile, the function is called again with the new value.

        Args:
            key: its name.
            function: a plain function or a coroutine function, without effects that must not happen twice.
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
        """Yield the values of the keys with the prefix, and then each revision that is written, in order.

        A lost connection loses no revision. A revision that was overwritten before it could be sent comes without its
        value (`is_kept`); the next one follows.
        """
        seen: dict[str, int] = {}
        while True:
            lsn, values = await self._read(None, prefix)
            followed: list[Watched] = []
            try:
                watched = await self._across(self._follow(prefix, lsn, followed))
                # Keys deleted before anybody watched are no news.
                for value in self._news([value for value in values if not value.deleted or value.key in seen], seen):
                    yield value
                while True:
                    for value in self._news(await self._across(self._owner.next_written(watched)), seen):
                        yield value
            except Gone:
                continue  # more was written meanwhile than a watch delivers: read again
            finally:
                with anyio.CancelScope(shield=True):
                    await self._across(self._unfollow(followed))

    async def _follow(self, prefix: str, lsn: int, followed: list[Watched]) -> Watched:
        """In the owner's loop: watch, and note that in `followed`, since a cancelled caller may not get the result."""
        followed.append(await self._owner.follow_context(self.id, prefix, lsn))
        return followed[-1]

    async def _unfollow(self, followed: list[Watched]) -> None:
        for watched in followed:
            await self._owner.unfollow_context(watched)

    def _news(self, values: Sequence[ValueOnTheWire], seen: dict[str, int]) -> Iterator[ContextValue]:
        """Yield values newer than the last seen of their key: a read of several pages overlaps with the watch."""
        for value in values:
            if value.rev > seen.get(value.key, 0):
                seen[value.key] = value.rev
                self._saw([value])
                yield ContextValue.from_wire(value)

    # Talking ----------------------------------------------------------------------------------------------------------

    async def _read(self, keys: Sequence[str] | None, prefix: str) -> tuple[int, list[ValueOnTheWire]]:
        """Return the position of the newest write when reading began, and the values, page by page."""
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
        run: runs a coroutine function in the context's loop, and waits for its result.
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
    """Yield what an asynchronous iterator yields, each fetched with `run`; both are closed together."""

    async def following() -> Any:
        return await anext(values, _END)

    try:
        while (value := run(following)) is not _END:
            yield value
    finally:
        # If its loop has ended, the iterator has ended too.
        with contextlib.suppress(RuntimeError, ConnectionLost):
            run(cast(AsyncGenerator[T, None], values).aclose)
