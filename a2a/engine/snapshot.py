"""The whole state of a ledger as bytes, and its hash.

A snapshot is what the records up to a position add up to, so that a start need not fold them all. It is no second
truth: if another version wrote it, or it cannot be read, it is ignored and the log is folded. Marks that the passes
clear are not part of the state. Large byte strings kept elsewhere are named in it and not written again. It does not
know where these or the snapshots are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..protocol.codec import pack, unpack
from . import plain
from .claimbook import Claim, ClaimBook, Numbers
from .conflicts.case import Conflict
from .conflicts.folding import index
from .context_state import Context
from .filter import KeyFilter
from .ledger import Agent, Ledger, Mailbox
from .patchbook import PatchBook, Patched
from .refusals import Refusal
from .task_index import TaskIndex
from .task_state import Task

__all__ = ["VERSION", "blobs_of", "load", "none_kept", "state_hash", "to_bytes"]

VERSION = 2
"""Raise it when `apply` makes something else of the same records; changed fields are noticed without it."""


@dataclass(slots=True)
class _State:
    """What a ledger holds, without what can be derived from the rest."""

    version: int
    fields: str
    """The fields of all classes below when it was written."""
    namespace: str
    lsn: int
    at: int
    epoch: int
    proof_key: str
    effects_scoped_from: int
    principals: dict[str, str]
    agents: dict[str, Agent]
    mailboxes: dict[str, Mailbox]
    forgotten: KeyFilter
    tasks: list[Task]
    holding: dict[str, dict[str, int]]
    by_skill: dict[str, list[str]]
    """Skill to its agents, in order."""
    open_tasks: list[str]
    delegating: dict[str, int]
    conflict_mail: dict[str, int]
    archived: KeyFilter
    recalled: list[str]
    claims: list[Claim]
    claim_owners: dict[str, list[int]]
    """Owner to its claims, in order."""
    claim_numbers: dict[str, Numbers]
    conflicts: dict[str, Conflict]
    conflicts_archived: int
    impostures: dict[str, list[Refusal]]
    sealed: str
    records_of: dict[str, tuple[int, int]]
    contexts: list[Context]
    contexts_archived: KeyFilter
    patches: list[Patched]


def _state(ledger: Ledger, tasks: list[Task]) -> _State:
    return _State(
        version=VERSION,
        fields=plain.fingerprint(_State),
        namespace=ledger.namespace,
        lsn=ledger.lsn,
        at=ledger.at,
        epoch=ledger.epoch,
        proof_key=ledger.proof_key,
        effects_scoped_from=ledger.effects_scoped_from,
        principals=ledger.principals,
        agents=ledger.agents,
        mailboxes=ledger.mailboxes,
        forgotten=ledger.forgotten,
        tasks=tasks,
        holding=ledger.holding,
        by_skill={skill: list(agents) for skill, agents in ledger.by_skill.items()},
        open_tasks=list(ledger.open_tasks),
        delegating=ledger.delegating,
        conflict_mail=ledger.conflict_mail,
        archived=ledger.archived,
        recalled=list(ledger.recalled),
        claims=list(ledger.claims.claims.values()),
        claim_owners={owner: list(claims) for owner, claims in ledger.claims.by_owner.items()},
        claim_numbers=ledger.claims.numbers,
        conflicts=ledger.conflicts,
        conflicts_archived=ledger.conflicts_archived,
        impostures=ledger.impostures,
        sealed=ledger.sealed,
        records_of=ledger.records_of,
        contexts=list(ledger.contexts.values()),
        contexts_archived=ledger.contexts_archived,
        patches=list(ledger.patches.known.values()),
    )


def to_bytes(ledger: Ledger, blob_of: Callable[[bytes], bytes | None] = lambda _: None) -> bytes:
    """Return the ledger's state as a snapshot.

    Args:
        ledger: the ledger.
        blob_of: returns the name under which a large byte string is kept, by which `load` asks for it; None: it is not
            kept, and has to be written out.
    """
    names: list[bytes] = []

    def is_kept(piece: bytes) -> bool:
        name = blob_of(piece)
        if name is not None:
            names.append(name)
        return name is not None

    body, _ = plain.to_parts(_state(ledger, list(ledger.tasks.values())), is_kept)
    return plain.with_checksum(pack([names, body]))


class OtherNamespaceError(ValueError):
    """The snapshot is of another namespace than the one asked for."""

    def __init__(self, found: str, wanted: str) -> None:
        super().__init__(f"it is of the namespace {found}, not {wanted}")
        self.found = found


def _read(data: bytes, blob: Callable[[bytes], bytes]) -> _State:
    try:
        names, body = unpack(plain.checked(data))
        state = plain.from_bytes(_State, body, [blob(name) for name in names])
    except (TypeError, ValueError) as error:
        raise ValueError(f"another version of this software wrote it, or it is damaged: {error}") from error
    if (state.version, state.fields) != (VERSION, plain.fingerprint(_State)):
        raise ValueError("another version of this software wrote it")
    return state


def namespace_of(body: bytes) -> str:
    """Return the namespace of a snapshot.

    Raises:
        ValueError: it is no snapshot of this version.
    """
    return _read(body, lambda _: b"").namespace


def blobs_of(body: bytes) -> list[bytes]:
    """Return the names of the large byte strings that a snapshot, of whichever version, does not have itself.

    Raises:
        ValueError: it is no snapshot, or it is damaged.
    """
    try:
        names, _ = unpack(plain.checked(body))
    except (TypeError, ValueError) as error:
        raise ValueError(f"it is no snapshot, or it is damaged: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise ValueError(f"expected the names of large byte strings in a snapshot, got {names!r}")
    return names


def none_kept(name: bytes) -> bytes:
    """Look up a large byte string by name, where none are kept.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{name.hex()} is not kept here")


def load(body: bytes, namespace: str, blob: Callable[[bytes], bytes] = none_kept) -> Ledger:
    """Return the ledger of a snapshot.

    Args:
        body: the snapshot.
        namespace: the namespace it has to be of.
        blob: returns the byte string kept under a name.

    Raises:
        OtherNamespaceError: it is of another namespace.
        ValueError: it is no snapshot of this version; the records have to be folded.
    """
    state = _read(body, blob)
    if state.namespace != namespace:
        raise OtherNamespaceError(state.namespace, namespace)
    ledger = Ledger(namespace)
    ledger.lsn, ledger.at, ledger.epoch, ledger.proof_key = state.lsn, state.at, state.epoch, state.proof_key
    ledger.effects_scoped_from = state.effects_scoped_from
    ledger.principals, ledger.agents, ledger.mailboxes = state.principals, state.agents, state.mailboxes
    ledger.forgotten = state.forgotten
    ledger.tasks = {task.id: task for task in state.tasks}
    ledger.wanted_bytes = sum(task.wanted_bytes for task in state.tasks)
    for task in state.tasks:  # of two with the same key the first has it: the other came back
        ledger.keys.setdefault((task.scope, task.key), task.id)
    ledger.holding = state.holding
    ledger.by_skill = {
        skill: {agent: ledger.agents[agent] for agent in agents} for skill, agents in state.by_skill.items()
    }
    ledger.open_tasks = {task: ledger.tasks[task] for task in state.open_tasks}
    ledger.delegating = state.delegating
    for task in ledger.open_tasks.values():
        ledger.at_work.count(task.agents, 1)
        ledger.use_context(task.context_id, 1)
        if task.on_delegator_loss != "continue":
            ledger.attached.setdefault(task.principal, {})[task.id] = task
    ledger.conflict_mail, ledger.archived = state.conflict_mail, state.archived
    ledger.recalled = dict.fromkeys(state.recalled)
    ledger.index = TaskIndex(task for task in state.tasks if task.id not in ledger.recalled)
    ledger.claims = ClaimBook.of(state.claims, state.claim_owners, state.claim_numbers)
    ledger.conflicts, ledger.sealed, ledger.records_of = state.conflicts, state.sealed, state.records_of
    ledger.conflicts_archived, ledger.impostures = state.conflicts_archived, state.impostures
    for conflict in ledger.conflicts.values():
        index(ledger, conflict)
    ledger.patches = PatchBook.of(state.patches)
    ledger.contexts = {context.id: context for context in state.contexts}
    ledger.context_bytes = sum(context.kept_bytes for context in state.contexts)
    ledger.contexts_archived = state.contexts_archived
    return ledger


def state_hash(ledger: Ledger) -> str:
    """Return the SHA-256 of the state, in hex: ledgers with the same hash are the same, down to the order of every map.

    A fingerprint of the state's fields precedes it: hashes of versions with other fields cannot be compared.
    """
    digest = hashlib.sha256()
    for piece in _pieces(ledger):
        digest.update(piece)
    return f"{plain.fingerprint(_State)}:{digest.hexdigest()}"


def _pieces(ledger: Ledger) -> Iterator[bytes]:
    yield plain.to_bytes(_state(ledger, []))
    for task in ledger.tasks.values():
        yield plain.to_bytes(task)
