"""Writes what is frozen of a version beside its schemas: a ledger with nearly every kind of record, and one of each.

`python -m tests.unit.spec.ledgers spec/frozen/X.Y`, once, when X.Y is released.
"""

from __future__ import annotations

import json
import sys
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any

from a2a.engine.policy import Policy
from a2a.engine.records import RECORDS, Record, to_bytes
from a2a.protocol.messages import (
    AttemptError,
    ClaimAcquire,
    ClaimGranted,
    ClaimRelease,
    ClaimRenew,
    ContextOp,
    ContextWrite,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCheckpoint,
    TaskHandoff,
    TaskLimits,
    TaskOffer,
    TaskReview,
    TaskSteer,
    TaskYield,
)
from tests.unit.engine.conftest import DURATIONS, START, Peer, Town

__all__ = ["lived", "one_of_each", "write"]

_SAMPLES: dict[Any, Any] = {int: 7, str: "text", bool: True, bytes: b"[]", Any: 1}


def lived() -> list[tuple[int, Record]]:
    """Return the records of a busy while: tasks done, sent back, lost, handed on, cancelled, and what goes beside."""
    town = Town(Policy(durations=DURATIONS), [], START)
    desk, rival = town.join("desk"), town.join("rival")
    workers = [town.worker(f"worker{number}", "echo", "count", tasks=4) for number in range(3)]
    _done_in_two_revisions(desk, workers)
    _lost_and_handed_on(town, desk, workers)
    worker, offer = _offered(workers, desk.delegate("doc-3", "count"))
    worker.beat(offer)
    desk.cancel(offer.task, "coop", grace_ms=500)
    town.pass_time(600)
    _shared(town, desk, rival)
    _disputed(town, desk, workers)
    desk.delegate("doc-5", "nobody-has-it")
    workers[2].drop()
    desk.acknowledge()
    workers[0].acknowledge()
    town.pass_time(20_000)
    return town.records


def _offered(workers: list[Peer], task: str) -> tuple[Peer, TaskOffer]:
    """Return who was offered the task last, of those whose mail was not opened yet."""
    found = [(worker, mail) for worker in workers for mail in worker.mail() if isinstance(mail, TaskOffer)]
    return [(worker, offer) for worker, offer in found if offer.task == task][-1]


def _review(desk: Peer) -> TaskReview:
    return [mail for mail in desk.mail() if isinstance(mail, TaskReview)][-1]


def _done_in_two_revisions(desk: Peer, workers: list[Peer]) -> None:
    worker, offer = _offered(workers, desk.delegate("doc-1", "echo", payload=b'[{"text":"one"}]'))
    worker.beat(offer, progress_no=1, note="half")
    worker.say(TaskCheckpoint(offer.task, offer.fence, 1, b'[{"data":{"row":1}}]'))
    worker.say(TaskArtifact(offer.task, offer.fence, "log", 0, b'[{"text":"started"}]'))
    desk.say(TaskSteer(offer.task, "s1", b'[{"text":"shorter"}]'))
    worker.report(offer, payload=b'[{"artifactId":"result","parts":[{"text":"ONE"}]}]', steer_no=1)
    desk.confirm(_review(desk), verdict="reject", rework=True, reason_code="style", payload=b'[{"text":"again"}]')
    worker, offer = _offered(workers, offer.task)
    worker.say(TaskAsk(offer.task, 1, b'[{"text":"which?"}]', offer.fence))
    desk.say(TaskAnswer(offer.task, 1, b'[{"text":"this"}]'))
    worker.report(offer, payload=b'[{"artifactId":"result","parts":[{"text":"one"}]}]', steer_no=1)
    desk.confirm(_review(desk))


def _lost_and_handed_on(town: Town, desk: Peer, workers: list[Peer]) -> None:
    worker, offer = _offered(workers, desk.delegate("doc-2", "echo", limits=TaskLimits(attempts=3)))
    worker.beat(offer)
    town.pass_time(3_100)
    worker.beat(offer)  # it lapsed, and revives
    worker.say(TaskYield(offer.task, offer.fence, "tired"))
    town.pass_time(100)
    second, given = _offered(workers, offer.task)
    second.beat(given)
    second.say(TaskHandoff(given.task, given.fence, None, {}, b'[{"text":"yours"}]'))
    town.pass_time(100)
    third, handed = _offered(workers, offer.task)
    third.report(handed, "failed", payload=b"[]", error=AttemptError("disk", "full", True))
    town.pass_time(1_500)
    fourth, last = _offered(workers, offer.task)
    fourth.report(last, "failed", payload=b"[]", error=AttemptError("input", "no text"))
    second.report(given)  # too late, and kept


def _shared(town: Town, desk: Peer, rival: Peer) -> None:
    desk.say(
        ContextWrite("plans", "w1", [ContextOp("plan", value=b'{"a":1}'), ContextOp("decisions/db", 0, b'"sqlite"')])
    )
    patch = b'[{"op":"add","path":"/b","value":2}]'
    rival.say(ContextWrite("plans", "w2", [ContextOp("plan", 1, patch=patch)]))
    granted = desk.say(ClaimAcquire(1, [{"name": "repo/a/**", "mode": "x"}], ttl_ms=5_000))
    assert isinstance(granted, ClaimGranted)
    rival.say(ClaimAcquire(1, [{"name": "repo/a/b"}], wait_ms=10_000, priority=3))
    town.pass_time(100)
    desk.say(ClaimRenew(granted.claim_fence, 5_000))
    desk.say(ClaimRelease(granted.claim_fence))


def _disputed(town: Town, desk: Peer, workers: list[Peer]) -> None:
    desk.delegate("doc-4", spec={"redundancy": {"n": 3, "policy": [{"strategy": "majority"}, {"strategy": "abort"}]}})
    for worker, word in zip(workers, (b"A", b"B", b"B"), strict=True):
        worker.report(worker.offer(), payload=b'[{"artifactId":"result","parts":[{"text":"%s"}]}]' % word)
    town.pass_time(100)
    desk.confirm(_review(desk))


def one_of_each() -> list[Record]:
    """Return one record of each kind, with a value in every field."""
    return [
        kind(**{item.name: _sample(typing.get_type_hints(kind)[item.name]) for item in fields(kind)})
        for kind in RECORDS.values()
    ]


def _sample(hint: Any) -> Any:
    if hint in _SAMPLES:
        return _SAMPLES[hint]
    inside = [part for part in typing.get_args(hint) if part is not type(None)]
    if typing.get_origin(hint) is list:
        return [_sample(inside[0])]
    return {"name": _sample(inside[1])} if typing.get_origin(hint) is dict else _sample(inside[0])


def write(folder: Path) -> None:
    """Write both as lines of JSON, with bytes in hexadecimal digits."""
    whole = [
        {"lsn": lsn, "kind": type(record).__name__, "task": getattr(record, "task", None), "at": record.at}
        | _stored(record)
        for lsn, record in lived()
    ]
    each = []
    for record in one_of_each():
        values = {item.name: getattr(record, item.name) for item in fields(record)}
        shown = {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
        each.append({"record": type(record).__name__, "version": record.version, "fields": shown} | _stored(record))
    for name, lines in (("ledger", whole), ("records", each)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def _stored(record: Record) -> dict[str, str | None]:
    body, payload = to_bytes(record)
    return {"body": body.hex(), "payload": None if payload is None else payload.hex()}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
