"""Records as tests of the fold apply them, and what the mailboxes say then."""

from dataclasses import asdict

from a2a.engine.policy import Bounds, Durations
from a2a.engine.records import (
    Delegated,
    Reported,
)


def delegated(task, **fields):
    given = {
        "at": 10,
        "task": task,
        "scope": "principal:boss",
        "key": task,
        "delegator": "boss",
        "context_id": "c",
        "spec": {"skill": "s"},
        "spec_hash": "sha256:0",
        "durations": asdict(Durations()),
        "bounds": asdict(Bounds()),
        "payload": b"[]",
    }
    return Delegated(**(given | fields))


def reported(fence=2, outcome="completed", at=20, **fields):
    return Reported(at, "main-1", fence, "w1", outcome, "sha256:1", b"[1]", **fields)


def boxes(ledger):
    return {
        agent: [(entry.mseq, entry.kind, entry.number) for entry in box.entries]
        for agent, box in ledger.mailboxes.items()
    }
