"""Cases of section 17: values that the tasks of a context share."""

from __future__ import annotations

import functools
import json
from typing import Any

from ..case import Role, case
from ..conversation import check
from ..peer import Coordinator, Peer
from ..scenes import ok, only
from ..wire import Frame, as_bytes

coordinator = functools.partial(case, Role.COORDINATOR)


async def write(peer: Peer, context: str, *ops: dict[str, Any], **fields: Any) -> Frame:
    """Write, and return the answer."""
    key = fields.pop("key", None) or peer.next_id()
    return await peer.request("context.write", contextId=context, key=key, ops=list(ops), **fields)


async def written(peer: Peer, context: str, *ops: dict[str, Any], **fields: Any) -> dict[str, int]:
    """Write, and return the new revisions."""
    answer = await write(peer, context, *ops, **fields)
    check(answer.kind == "context.written", "context.written", answer)
    revs: dict[str, int] = answer.body["revs"]
    return revs


async def read(peer: Peer, context: str, **fields: Any) -> list[dict[str, Any]]:
    """Return the revisions a read shows."""
    answer = await peer.request("context.read", contextId=context, **fields)
    check(answer.kind == "context.values", "context.values", answer)
    values: list[dict[str, Any]] = answer.body.get("values", [])
    return values


def value_of(revision: dict[str, Any]) -> Any:
    """Return the JSON value of a revision, or None."""
    payload = as_bytes(revision.get("payload"))
    return json.loads(payload) if payload else None


def refused_for(answer: Frame, code: str) -> dict[str, Any]:
    """Check that a write was refused with a code, and return the error's data."""
    check(answer.kind == "error" and answer.code == code, f"error {code}", answer)
    return answer.body.get("data") or {}


@coordinator("CTX-1", also=("AUTH-6",))
async def names_the_author_of_each_revision(under: Coordinator) -> None:
    """A member reads what another wrote, with the author's name and the reason."""
    one, two, context = await under.peer(f"{under.name()}#1"), await under.peer(), under.name("context")
    await written(one, context, {"key": "a", "value": b'{"x": 1}'}, reason="because")
    values = await read(two, context)
    check(len(values) == 1 and values[0].get("author") == one.name, f"one value by {one.name}", values)
    check(values[0].get("at", 0) > 0, "the time it was written at", values)
    check(value_of(values[0]) == {"x": 1} and values[0].get("reason") == "because", "value and reason", values)


@coordinator("CTX-2")
async def counts_revisions_over_a_delete(under: Coordinator) -> None:
    """Three writes, the second a delete, are revisions 1, 2, 3; an unwritten key has revision 0."""
    peer, context = await under.peer(), under.name("context")
    operations: tuple[dict[str, Any], ...] = ({"value": b"1"}, {"delete": True}, {"value": b"3"})
    for number, operation in enumerate(operations, 1):
        check(await written(peer, context, {"key": "a"} | operation) == {"a": number}, f"revision {number}", "")
        if number == 2:
            deleted = await read(peer, context, keys=["a"])
            check(deleted[0].get("deleted") is True and not deleted[0].get("payload"), "a deleted key", deleted)
    never = await read(peer, context, keys=["never"])
    check(never[0].get("rev") == 0, "revision 0", never)


@coordinator("CTX-3")
async def applies_a_patch(under: Coordinator) -> None:
    """A JSON Patch adds, replaces, tests and removes; the new value is in canonical form."""
    peer, context = await under.peer(), under.name("context")
    await written(peer, context, {"key": "a", "value": b'{"list": [1], "old": true, "a/b": {"~": 0}}'})
    patch = [
        *({"op": "test", "path": "/list/0", "value": 1}, {"op": "add", "path": "/list/-", "value": "z"}),
        *({"op": "add", "path": "/list/0", "value": 0}, {"op": "remove", "path": "/old"}),
        *({"op": "replace", "path": "/a~1b/~0", "value": 9}, {"op": "copy", "from": "/list/0", "path": "/first"}),
        {"op": "move", "from": "/list/1", "path": "/second"},
    ]
    await written(peer, context, {"key": "a", "patch": json.dumps(patch).encode()})
    values = await read(peer, context, keys=["a"])
    expected = b'{"a/b":{"~":9},"first":0,"list":[0,"z"],"second":1}'
    check(as_bytes(values[0].get("payload")) == expected, expected.decode(), values)


@coordinator("CTX-3")
async def a_write_is_accepted_as_a_whole_or_not_at_all(under: Coordinator) -> None:
    """If the second operation does not apply, the first changes nothing; the error names which."""
    peer, context = await under.peer(), under.name("context")
    await written(peer, context, {"key": "b", "value": b"{}"})
    test = json.dumps([{"op": "test", "path": "", "value": {"other": 1}}]).encode()
    data = refused_for(await write(peer, context, {"key": "a", "value": b"1"}, {"key": "b", "patch": test}), "conflict")
    check(data.get("key") == "b" and data.get("operation") == 0, "key b, operation 0", data)
    check((await read(peer, context, keys=["a"]))[0].get("rev") == 0, "key a unwritten", "")
    refused_for(await write(peer, context, {"key": "c", "delete": True}), "conflict")
    refused_for(await write(peer, context, {"key": "b", "patch": b'{"op": "add"}'}), "schema")
    await written(peer, context, {"key": "b", "value": b"not json"})
    refused_for(await write(peer, context, {"key": "b", "patch": b"[]"}), "schema")


@coordinator("CTX-3")
async def a_write_says_one_thing_of_each_key(under: Coordinator) -> None:
    """Two operations on one key, and an operation with two values or none, are `malformed`; nothing is written."""
    peer, context = await under.peer(), under.name("context")
    await written(peer, context, {"key": "a", "value": b"1"})
    for ops in (
        ({"key": "a", "value": b"2"}, {"key": "a", "value": b"3"}),
        ({"key": "a", "value": b"2", "patch": b"[]"},),
        ({"key": "a", "value": b"2", "delete": True},),
        ({"key": "a"},),
    ):
        refused_for(await write(peer, context, *ops), "malformed")
    check((await read(peer, context, keys=["a"]))[0].get("rev") == 1, "revision 1", "")


@coordinator("CTX-3", also=("CTX-4",))
async def who_patches_in_vain_is_told_what_is_there(under: Coordinator) -> None:
    """A patch that fails is told author and value; a delete or patch of a deleted key is told no value."""
    one, two, context = await under.peer(), await under.peer(), under.name("context")
    await written(one, context, {"key": "a", "value": b"{}"})
    patch = json.dumps([{"op": "add", "path": "/x", "value": 1}, {"op": "remove", "path": "/none"}]).encode()
    data = refused_for(await write(two, context, {"key": "a", "patch": patch}), "conflict")
    told = (data.get("rev"), data.get("author"), as_bytes(data.get("value")), data.get("operation"))
    check(told == (1, one.name, b"{}", 1), "revision 1, its author and value, operation 1", data)
    await written(one, context, {"key": "a", "delete": True})
    for operation in ({"delete": True}, {"patch": b"[]"}):
        data = refused_for(await write(two, context, {"key": "a"} | operation), "conflict")
        check((data.get("rev"), data.get("author")) == (2, one.name), "revision 2 and its author", data)
        check(data.get("value") is None, "no value", data)


@coordinator("CTX-4")
async def compares_and_sets_several_keys_at_once(under: Coordinator) -> None:
    """A write for the current revisions passes; if one has moved, the whole write is refused and told which."""
    one, two, context = await under.peer(), await under.peer(), under.name("context")
    await written(one, context, {"key": "a", "value": b"1"}, {"key": "b", "value": b"1"})
    await written(one, context, {"key": "a", "ifRev": 1, "value": b"2"}, {"key": "new", "ifRev": 0, "value": b"2"})
    ops = ({"key": "b", "ifRev": 1, "value": b"3"}, {"key": "a", "ifRev": 1, "value": b"3"})
    data = refused_for(await write(two, context, *ops), "conflict")
    told = (data.get("key"), data.get("rev"), data.get("author"), as_bytes(data.get("value")))
    check(told == ("a", 2, one.name, b"2"), "key a, revision 2, its author and value", data)
    check((await read(one, context, keys=["b"]))[0]["rev"] == 1, "key b as it was", "")


@coordinator("CTX-4")
async def a_write_may_depend_on_what_it_read(under: Coordinator) -> None:
    """A write that depends on a revision which has moved is refused, and passes with the new one."""
    one, two, context = await under.peer(), await under.peer(), under.name("context")
    await written(one, context, {"key": "premise", "value": b"1"})
    await written(one, context, {"key": "premise", "value": b"2"})
    data = refused_for(
        await write(two, context, {"key": "a", "value": b"1"}, depends=[{"key": "premise", "rev": 1}]), "conflict"
    )
    check(data.get("key") == "premise" and data.get("rev") == 2, "premise, revision 2", data)
    await written(two, context, {"key": "a", "value": b"1"}, depends=[{"key": "premise", "rev": 2}])
    holds, wrong, late = ({"key": key, "rev": rev} for key, rev in (("premise", 2), ("a", 0), ("premise", 1)))
    for depends, key in (([holds, wrong], "a"), ([wrong, late], "a"), ([late, wrong], "premise")):
        data = refused_for(await write(two, context, {"key": "b", "value": b"1"}, depends=depends), "conflict")
        check(data.get("key") == key, f"{key}, the first that moved", data)
    await written(two, context, {"key": "b", "value": b"1"}, depends=[{"key": "b", "rev": 0}])


@coordinator("CTX-4", also=("CONFLICT-14",))
async def no_update_is_lost_between_two_writers(under: Coordinator) -> None:
    """Two agents that each count a key up 100 times by compare-and-set leave 200 there."""
    context = under.name("context")
    one, two = await under.peer(), await under.peer()
    await written(one, context, {"key": "count", "value": b"0"})
    left = {one: 100, two: 100}
    seen = {one: (1, 0), two: (1, 0)}
    while any(left.values()):
        for peer in (one, two):
            if not left[peer]:
                continue
            rev, value = seen[peer]
            operation = {"key": "count", "ifRev": rev, "value": str(value + 1).encode()}
            answer = await write(peer, context, operation, rebases=True)
            if answer.kind == "context.written":
                left[peer] -= 1
                seen[peer] = (rev + 1, value + 1)
            else:
                data = refused_for(answer, "conflict")
                seen[peer] = (data["rev"], json.loads(as_bytes(data["value"])))
    values = await read(one, context, keys=["count"])
    check(value_of(values[0]) == 200 and values[0]["rev"] == 201, "200 in revision 201", values)


@coordinator("CTX-5")
async def decisions_and_guarded_keys_are_written_for_a_revision(under: Coordinator) -> None:
    """A key under `decisions/`, one marked as a decision and a guarded key need `ifRev`, even after a delete."""
    peer, context = await under.peer(), under.name("context")
    await written(peer, context, {"key": "decisions/a", "ifRev": 0, "value": b"1"})
    await written(peer, context, {"key": "b", "ifRev": 0, "value": b"1", "decision": True})
    await written(peer, context, {"key": "c", "ifRev": 0, "value": b"1", "guarded": True})
    for key in ("decisions/a", "b", "c"):
        data = refused_for(await write(peer, context, {"key": key, "value": b"2"}), "conflict")
        check(data.get("key") == key and data.get("rev") == 1, f"{key}, revision 1", data)
    await written(peer, context, {"key": "c", "ifRev": 1, "delete": True})
    refused_for(await write(peer, context, {"key": "c", "value": b"2"}), "conflict")


@coordinator("CTX-5")
async def a_decision_stays_one(under: Coordinator) -> None:
    """A mark stays even if a later write does not repeat it, and is shown; the first write needs `ifRev` too."""
    peer, context = await under.peer(), under.name("context")
    marks: dict[str, dict[str, bool]] = {"decisions/a": {}, "b": {"decision": True}, "c": {"guarded": True}}
    for key, mark in marks.items():
        data = refused_for(await write(peer, context, {"key": key, "value": b"1"} | mark), "conflict")
        check((data.get("key"), data.get("rev")) == (key, 0) and data.get("author") is None, f"{key}, unwritten", data)
        await written(peer, context, {"key": key, "ifRev": 0, "value": b"1"} | mark)
        await written(peer, context, {"key": key, "ifRev": 1, "value": b"2"})
        refused_for(await write(peer, context, {"key": key, "value": b"3"}), "conflict")
    shown = {value["key"]: (value.get("decision"), value.get("guarded")) for value in await read(peer, context)}
    told = [bool(shown[key][is_guard]) for key, is_guard in (("decisions/a", 0), ("b", 0), ("c", 1))]
    check(all(told), "two decisions, and one guarded", shown)


@coordinator("CTX-6", also=("RPC-4",))
async def a_write_again_is_a_repeat(under: Coordinator) -> None:
    """A repeated write under its key is done once; the key with another value is `idempotency_mismatch`."""
    peer, context = await under.peer(), under.name("context")
    for _ in range(2):
        check(await written(peer, context, {"key": "a", "value": b"1"}, key="one") == {"a": 1}, "revision 1", "")
    refused_for(await write(peer, context, {"key": "a", "value": b"2"}, key="one"), "idempotency_mismatch")
    check((await read(peer, context, keys=["a"]))[0]["rev"] == 1, "one revision", "")


@coordinator("CTX-6", also=("RPC-4",))
async def a_writes_key_is_its_principals(under: Coordinator) -> None:
    """Another process of the principal repeats a write; another principal writes anew under the same key."""
    name, context = under.name("writer"), under.name("context")
    one, two, other = await under.peer(f"{name}#1"), await under.peer(f"{name}#2"), await under.peer()
    ops = ({"key": "a", "value": b"1"}, {"key": "b", "value": b"1"})
    for peer, rev in ((one, 1), (two, 1), (other, 2)):
        revs = await written(peer, context, *ops, key="one")
        check(revs == {"a": rev, "b": rev}, f"revision {rev} of both", revs)
    revs = await written(one, context, *ops, key="one")
    check(revs == {"a": 1, "b": 1}, "the revisions it became, not the newest", revs)


@coordinator("CTX-6", also=("RPC-4",))
async def a_repeat_says_all_that_the_write_said(under: Coordinator) -> None:
    """Another revision, premise, reason or attempt is a mismatch; a repeat is known even after all has moved on."""
    skill, context = under.skill(), under.name("context")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    offer = await worker.offered((await client.delegate(skill, contextId=context)).task)
    await written(worker, context, {"key": "premise", "value": b"1"})
    op = {"key": "a", "ifRev": 0, "value": b"1"}
    said = {
        "depends": [{"key": "premise", "rev": 1}],
        "reason": "so",
        "attempt": {"task": offer.task, "fence": offer.fence},
    }
    await written(worker, context, op, key="one", **said)
    others: tuple[dict[str, Any], ...] = ({"depends": []}, {"reason": "else"}, {"attempt": None})
    for other in others:
        refused_for(await write(worker, context, op, key="one", **(said | other)), "idempotency_mismatch")
    refused_for(await write(worker, context, op | {"ifRev": 1}, key="one", **said), "idempotency_mismatch")
    await written(worker, context, {"key": "premise", "value": b"2"}, {"key": "a", "value": b"2"})
    await worker.admitted(offer)
    check(await written(worker, context, op, key="one", **said) == {"a": 1}, "revision 1", "")


@coordinator("CTX-6", also=("FENCE-7", "LEASE-4"))
async def a_lapsed_attempt_may_write(under: Coordinator) -> None:
    """An attempt whose lease has lapsed writes while nobody else has the task; for no task it is `not_found`."""
    skill, context = under.skill(), under.name("context")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    timers = {"leaseMs": 300, "offerMs": 60_000, "heartbeatMs": 100}
    offer = await worker.offered((await client.delegate(skill, contextId=context, timers=timers)).task)
    await worker.heartbeat(offer)
    await worker.request("agent.update", status="draining")
    await client.request("task.watch", task=offer.task)
    await client.take("task.event", task=offer.task, event="expire")
    attempt = {"task": offer.task, "fence": offer.fence}
    await written(worker, context, {"key": "a", "value": b"1"}, attempt=attempt)
    nobody = {"task": under.name("task"), "fence": offer.fence}
    refused_for(await write(worker, context, {"key": "a", "value": b"2"}, attempt=nobody), "not_found")


@coordinator("CTX-6", also=("FENCE-7", "AUTH-4"))
async def a_write_of_an_attempt_needs_its_fence(under: Coordinator) -> None:
    """A write for an attempt passes under its fence alone, and shows task and fence."""
    skill, context = under.skill(), under.name("context")
    worker, client, thief = await under.peer(skills=(skill,)), await under.peer(), await under.peer()
    created = await client.delegate(skill, contextId=context)
    offer = await worker.offered(created.task)
    attempt = {"task": offer.task, "fence": offer.fence}
    await written(worker, context, {"key": "a", "value": b"1"}, attempt=attempt)
    values = await read(client, context, keys=["a"])
    check((values[0].get("task"), values[0].get("fence")) == (offer.task, offer.fence), "task and fence", values)
    refused_for(await write(thief, context, {"key": "a", "value": b"2"}, attempt=attempt), "not_holder")
    await worker.admitted(offer)
    refused_for(await write(worker, context, {"key": "a", "value": b"2"}, attempt=attempt), "stale")


@coordinator("CTX-7")
async def reads_keys_prefixes_revisions_and_history(under: Coordinator) -> None:
    """A read by keys, by prefix, of one revision and of the history shows each in the order of the keys."""
    peer, context = await under.peer(), under.name("context")
    for key in ("b/2", "a", "b/1"):
        await written(peer, context, {"key": key, "value": json.dumps(key).encode()})
    await written(peer, context, {"key": "a", "value": b'"a2"'})
    check([value["key"] for value in await read(peer, context)] == ["a", "b/1", "b/2"], "all keys in order", "")
    check([value["key"] for value in await read(peer, context, prefix="b/")] == ["b/1", "b/2"], "the prefix's", "")
    check([value["key"] for value in await read(peer, context, after="a")] == ["b/1", "b/2"], "those behind a", "")
    old = await read(peer, context, keys=["a"], atRev=1)
    check(value_of(old[0]) == "a" and old[0]["rev"] == 1, "revision 1", old)
    history = await read(peer, context, keys=["a"], history=True)
    check([value_of(revision) for revision in history] == ["a", "a2"], "both revisions, the oldest first", history)
    await peer.refused("not_found", "context.read", contextId=context, keys=["a"], atRev=9)


@coordinator("CTX-7")
async def reads_what_was_deleted(under: Coordinator) -> None:
    """A prefix shows deleted keys too, with their history; a read at the revision of a delete shows the delete."""
    peer, context = await under.peer(), under.name("context")
    await written(peer, context, {"key": "x/a", "value": b"1"}, {"key": "x/b", "value": b"2"})
    await written(peer, context, {"key": "x/a", "delete": True})
    shown = [
        (value["key"], value["rev"], bool(value.get("deleted"))) for value in await read(peer, context, prefix="x/")
    ]
    check(shown == [("x/a", 2, True), ("x/b", 1, False)], "both keys, the first one deleted", shown)
    history = await read(peer, context, prefix="x/", history=True)
    came = [(value["key"], value["rev"], value_of(value)) for value in history]
    check(came == [("x/a", 1, 1), ("x/a", 2, None), ("x/b", 1, 2)], "every revision of both", came)
    gone = await read(peer, context, keys=["x/a"], atRev=2)
    check(len(gone) == 1 and gone[0].get("deleted") is True, "the delete", gone)


@coordinator("CTX-7")
async def a_read_that_contradicts_itself_is_malformed(under: Coordinator) -> None:
    """Keys with a prefix, and `atRev` with two keys, with none and with the history, are `malformed`."""
    peer, context = await under.peer(), under.name("context")
    await written(peer, context, {"key": "a", "value": b"1"}, {"key": "b", "value": b"1"})
    wrong: tuple[dict[str, Any], ...] = (
        {"keys": ["a"], "prefix": "a"},
        {"keys": ["a", "b"], "atRev": 1},
        {"atRev": 1},
        {"keys": ["a"], "atRev": 1, "history": True},
    )
    for fields in wrong:
        await peer.refused("malformed", "context.read", contextId=context, **fields)


@coordinator("CTX-7")
async def an_answer_that_ends_early_goes_on(under: Coordinator) -> None:
    """Sixty values of 60,000 bytes are read in several answers, each key once and in order."""
    peer, context = await under.peer(), under.name("context")
    keys = [f"{number:02}" for number in range(60)]
    value = b'"' + b"x" * min(60_000, peer.payload_max_bytes // 2) + b'"'
    for key in keys:
        await written(peer, context, {"key": key, "value": value})
    came: list[str] = []
    behind: dict[str, Any] = {}
    while True:
        answer = await peer.request("context.read", contextId=context, **behind)
        check(answer.kind == "context.values" and bool(answer.body.get("values")), "context.values", answer)
        came += [value["key"] for value in answer.body["values"]]
        if answer.body.get("nextAfter") is None:
            break
        check(answer.body["nextAfter"] == came[-1] and len(came) < len(keys), "the last key that was shown", answer)
        behind = {"after": answer.body["nextAfter"]}
    check(came == keys, f"the keys {keys[0]} to {keys[-1]}", came)


@coordinator("CTX-8", also=("CTX-9",))
async def tells_a_watcher_every_write_once_in_order(under: Coordinator) -> None:
    """A watch with a prefix gets each write before and after it, its own keys only; `stop` ends it."""
    peer, watcher, context = await under.peer(), await under.peer(), under.name("context")
    await written(peer, context, {"key": "x/0", "value": b"0"})
    await written(peer, context, {"key": "x/1", "value": b"1"}, {"key": "other", "value": b"1"})
    watch = await watcher.send("context.watch", contextId=context, prefix="x/")
    check((await watcher.reply(watch)).kind == "ok", "ok", "")
    await written(peer, context, {"key": "other", "value": b"2"})
    await written(peer, context, {"key": "x/2", "value": b"2"})
    events = [await watcher.take("context.event", re=watch) for _ in range(3)]
    keys = [[value["key"] for value in event.body["values"]] for event in events]
    check(keys == [["x/0"], ["x/1"], ["x/2"]], "x/0, then x/1, then x/2", keys)
    places = [event.body["lsn"] for event in events]
    check(places == sorted(set(places)), "places that grow", places)
    await watcher.request("context.watch", contextId=context, prefix="x/", stop=True)
    await written(peer, context, {"key": "x/3", "value": b"3"})
    await watcher.nothing("context.event")


@coordinator("CTX-8")
async def an_event_shows_what_a_write_wrote(under: Coordinator) -> None:
    """Two watchers get all keys of a write, with author, reason and value; a value replaced since is left out."""
    peer, context = await under.peer(), under.name("context")
    watchers = [await under.peer() for _ in range(2)]
    for watcher in watchers:
        await ok(watcher, "context.watch", contextId=context, prefix="x/")
    await written(peer, context, {"key": "x/a", "value": b"1"}, {"key": "x/b", "value": b"2"}, reason="because")
    for watcher in watchers:
        values = (await watcher.take("context.event")).body["values"]
        shown = {(value["key"], value["rev"], value_of(value)) for value in values}
        check(shown == {("x/a", 1, 1), ("x/b", 1, 2)}, "both keys with their values", values)
        told = {(value.get("author"), value.get("reason")) for value in values}
        check(told == {(peer.name, "because")}, "author and reason", values)
    await written(peer, context, {"key": "x/a", "value": b"3"})
    late = await under.peer()
    await ok(late, "context.watch", contextId=context, prefix="x/")
    first, second = [await late.take("context.event") for _ in range(2)]
    told_late = {(value["key"], value_of(value)) for value in first.body["values"]}
    check(told_late == {("x/a", None), ("x/b", 2)}, "x/a without the value that was replaced", first)
    check([value_of(value) for value in second.body["values"]] == [3], "the value that is there", second)


@coordinator("CTX-9")
async def each_prefix_is_a_watch_of_its_own(under: Coordinator) -> None:
    """A second watch of a prefix replaces the first, from its own place on; one of another prefix stays."""
    peer, watcher, context = await under.peer(), await under.peer(), under.name("context")
    await written(peer, context, {"key": "x/1", "value": b"1"})
    request = {"contextId": context, "prefix": "x/"}
    for _ in range(2):
        watch = await watcher.send("context.watch", **request)
        check((await watcher.reply(watch)).kind == "ok", "ok", "")
        await watcher.take("context.event", re=watch)
    other = await watcher.send("context.watch", contextId=context, prefix="y/")
    check((await watcher.reply(other)).kind == "ok", "ok", "")
    await written(peer, context, {"key": "x/2", "value": b"2"})
    await watcher.take("context.event", re=watch)
    await watcher.nothing("context.event")
    await ok(watcher, "context.watch", **request, stop=True)
    await written(peer, context, {"key": "x/3", "value": b"3"}, {"key": "y/1", "value": b"1"})
    event = await watcher.take("context.event")
    check((event["re"], [value["key"] for value in event.body["values"]]) == (other, ["y/1"]), "y/1 alone", event)
    await watcher.nothing("context.event")


@coordinator("CTX-8")
async def a_read_and_a_watch_from_it_miss_nothing(under: Coordinator) -> None:
    """A watch from the `lsn` of a read gets what was written since, and nothing from before."""
    peer, context = await under.peer(), under.name("context")
    await written(peer, context, {"key": "a", "value": b"1"})
    answer = await peer.request("context.read", contextId=context)
    await written(peer, context, {"key": "a", "value": b"2"})
    await peer.request("context.watch", contextId=context, fromLsn=answer.body["lsn"])
    event = await peer.take("context.event")
    check(event.body["values"][0]["rev"] == 2, "revision 2 alone", event)
    await peer.nothing("context.event")


@coordinator("CTX-10", also=("ACCEPT-7", "CONFLICT-16"))
async def a_result_on_a_decision_that_moved_waits(under: Coordinator) -> None:
    """With the evaluator `auto`, a result whose basis has moved waits for its delegator, who is told what moved."""
    skill, context = under.skill(), under.name("context")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    await written(client, context, {"key": "decisions/a", "ifRev": 0, "value": b"1"})
    auto = {"acceptance": {"evaluator": "auto"}}
    for basis, waits in (([{"key": "decisions/a", "rev": 1}], True), ([{"key": "decisions/a", "rev": 2}], False)):
        created = await client.delegate(skill, waits, contextId=context, spec=auto)
        offer = await worker.offered(created.task)
        if waits:
            await written(client, context, {"key": "decisions/a", "ifRev": 1, "value": b"2"})
        await worker.admitted(offer, basis=basis)
        if not waits:
            await client.settled(created.task, state="completed")
            continue
        review = await client.reviewed(created.task)
        stale = only(review.body.get("staleBasis", []), "key", "seen", "current")
        check(stale == [{"key": "decisions/a", "seen": 1, "current": 2}], "staleBasis of decisions/a", review)
        await client.confirm(review)
        await client.settled(created.task, state="completed")


@coordinator("CTX-10")
async def decisions_alone_hold_a_result_up_and_each_of_them(under: Coordinator) -> None:
    """Of a basis whose keys all moved, only the decisions are named, marked ones too; other keys hold up nothing."""
    skill, context = under.skill(), under.name("context")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    for key, mark in (("a", {}), ("b", {"decision": True}), ("decisions/c", {})):
        for rev in range(2):
            await written(client, context, {"key": key, "ifRev": rev, "value": b"1"} | mark)
    auto = {"acceptance": {"evaluator": "auto"}}
    for basis, waits in ((["a"], False), (["a", "b", "decisions/c"], True)):
        created = await client.delegate(skill, waits, contextId=context, spec=auto)
        await worker.admitted(await worker.offered(created.task), basis=[{"key": key, "rev": 1} for key in basis])
        if not waits:
            await client.settled(created.task, state="completed")
            continue
        stale = only((await client.reviewed(created.task)).body.get("staleBasis", []), "key", "seen", "current")
        expected = [{"key": key, "seen": 1, "current": 2} for key in ("b", "decisions/c")]
        check(sorted(stale, key=str) == sorted(expected, key=str), f"{expected}", stale)


@coordinator("LIMIT-10")
async def keeps_at_least_sixteen_revisions(under: Coordinator) -> None:
    """After twenty writes the newest 16 revisions have values; the first may be `gone`, but its author is known."""
    peer, context = await under.peer(), under.name("context")
    for number in range(1, 21):
        await written(peer, context, {"key": "a", "value": str(number).encode()})
    for rev in range(5, 21):
        check(value_of((await read(peer, context, keys=["a"], atRev=rev))[0]) == rev, f"revision {rev}", "")
    answer = await peer.request("context.read", contextId=context, keys=["a"], atRev=1)
    is_kept = answer.kind == "context.values" or answer.code == "gone"
    check(is_kept, "the value, or error gone", answer)
    first = (await read(peer, context, keys=["a"], history=True))[0]
    check((first.get("rev"), first.get("author")) == (1, peer.name), "the first one's author", first)
