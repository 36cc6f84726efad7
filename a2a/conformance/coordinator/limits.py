"""Cases of section 3.2: how many of each thing there may be, and what still works once no more are accepted.

An implementation that accepts more than a default of LIMIT-7 or LIMIT-11, which nothing announces, is not tried on it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from ..case import Need, Role, Skipped, case
from ..conversation import check
from ..peer import Coordinator, Peer, card
from ..scenes import LONG, at, ok
from ..wire import parts
from .claims import granted
from .conflicts import raised
from .contexts import read, refused_for, write, written
from .wire import another, is_set_to_another

coordinator = functools.partial(case, Role.COORDINATOR)


async def filled(peer: Peer, frames: Sequence[dict[str, Any]], kind: str, number: str = "") -> int:
    """Make requests until no more are accepted, and return how many were.

    Args:
        peer: the peer that makes them.
        frames: the requests, one more than the limit.
        kind: the kind that answers an accepted request.
        number: what exceeds the default if all are accepted; empty if the limit is no default.

    Raises:
        Skipped: all were accepted, and the limit may be another.
    """
    for start in range(0, len(frames), 50):  # other cases run at the same time
        await peer.send_many(frames[start : start + 50])
    answers = [await peer.reply(frame["id"], frame["kind"]) for frame in frames]
    taken = next((place for place, answer in enumerate(answers) if answer.kind == "error"), len(answers))
    for answer in answers[:taken]:
        check(answer.kind == kind, kind, answer)
    for answer in answers[taken:]:
        check(answer.code == "quota", f"error quota to {frames[0]['kind']}", answer)
        peer.asked_for(answer)
    if taken == len(answers) and number:
        raise Skipped(another(number))
    check(taken > 0, f"{kind} to the first {frames[0]['kind']}", answers[0])
    return taken


@coordinator("LIMIT-7", also=("ASK-2",))
async def a_task_asks_so_many_questions_and_no_more(under: Coordinator) -> None:
    """Beyond 100 a question is refused with `quota`, even after one was answered; a repeat is still known."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    offer = await worker.offered((await client.delegate(skill, timers=LONG)).task)
    asked = {"payload": parts("which?")} | at(offer)
    frames = [worker.frame("task.ask", askNo=number, **asked) for number in range(1, 102)]
    await filled(worker, frames, "ok", "a task may ask more than 100 questions")
    await ok(client, "task.answer", task=offer.task, askNo=1, payload=parts("this"))
    await worker.refused("quota", "task.ask", askNo=200, **asked)
    await ok(worker, "task.ask", askNo=1, **asked)
    await worker.admitted(offer)


@coordinator("LIMIT-7", also=("STEER-2",))
async def a_task_hears_so_many_words_and_no_more(under: Coordinator) -> None:
    """Beyond 100 a word is refused with `quota`; a repeat is still known, and all words are in the offer."""
    skill = under.skill()
    client = await under.peer()
    task = (await client.delegate(skill)).task
    frames = [client.frame("task.steer", task=task, key=f"{number}", payload=parts(number)) for number in range(101)]
    taken = await filled(client, frames, "ok", "a task may hear more than 100 words")
    await ok(client, "task.steer", task=task, key="0", payload=parts(0))
    offer = await (await under.peer(skills=(skill,))).offered(task)
    check(len(offer.body.get("steers") or []) == taken, f"{taken} words", offer.body.get("steers"))


@coordinator("LIMIT-7", also=("CLAIM-4", "CLAIM-6"))
async def an_agent_has_so_many_claims_at_a_time(under: Coordinator) -> None:
    """Beyond 1,000 claims of an agent the next is refused with `quota`, until one is released; another agent has its
    own limit."""
    root, one, two = under.name("a"), await under.peer(), await under.peer()
    frames = [
        one.frame("claim.acquire", claimNo=number, claims=[{"name": f"{root}/{number}"}], ttlMs=600_000)
        for number in range(1, 1_002)
    ]
    await filled(one, frames, "claim.granted", "an agent may have more than 1,000 claims")
    await granted(two, 1, f"{root}/two")
    await ok(one, "claim.release", claimNo=1)
    await granted(one, 2_000, f"{root}/more")


@coordinator("LIMIT-7", also=("REG-3",))
async def a_connection_watches_with_so_many_finds(under: Coordinator) -> None:
    """Beyond 256 a find with `watch` is refused with `quota`; one without, or on another connection, is answered."""
    one, two = await under.peer(), await under.peer()
    wanted = {"agent": one.name}
    frames = [one.frame("agent.find", filter=wanted, watch=True) for _ in range(257)]
    await filled(one, frames, "agent.found", "a connection may watch with more than 256 finds")
    for peer, fields in ((one, {}), (two, {"watch": True})):
        found = await peer.request("agent.find", filter=wanted, **fields)
        check(found.kind == "agent.found", "agent.found", found)


@coordinator("LIMIT-7", also=("REG-4",))
async def a_card_is_so_large_and_no_larger(under: Coordinator) -> None:
    """A card of more than 1,048,576 bytes is refused with `too_large`, and the one on file stays."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    if int(worker.welcome.body["limits"]["messageMaxBytes"]) < 1_048_576 + 4_096:
        raise Skipped("no message here is larger than a card may be by default, 1,048,576 bytes")
    large = card(worker.name, skill) | {"description": "x" * 1_048_576}
    answer = await worker.request("agent.update", card=large)
    is_set_to_another(answer, "ok", "a card may have more than 1,048,576 bytes")
    check(answer.code == "too_large", "error too_large to agent.update", answer)
    worker.asked_for(answer)
    (found,) = (await client.request("agent.find", filter={"agent": worker.name})).body["agents"]
    check(found.get("card") == card(worker.name, skill), "the card on file", found)


@coordinator("LIMIT-9", also=("CTX-8",))
async def a_connection_has_so_many_watches_of_contexts(under: Coordinator) -> None:
    """Beyond 4,096 watches of contexts the next is refused with `quota`; one may come again, or end for another."""
    peer, context = await under.peer(), under.name("context")
    frames = [peer.frame("context.watch", contextId=context, prefix=f"{number}") for number in range(4_097)]
    taken = await filled(peer, frames, "ok")
    check(taken == 4_096, "4,096 watches", taken)
    await ok(peer, "context.watch", contextId=context, prefix="0")
    await ok(peer, "context.watch", contextId=context, prefix="0", stop=True)
    await ok(peer, "context.watch", contextId=context, prefix="more")


@coordinator("LIMIT-9", also=("CTX-2",))
async def a_context_has_so_many_keys_and_no_more(under: Coordinator) -> None:
    """Beyond 10,000 keys one is refused with `quota`, even after another was deleted; known keys are still written."""
    peer, context = await under.peer(), under.name("context")
    frames = []
    for start in range(0, 10_000, 250):
        ops = [{"key": f"{number}", "value": b"1"} for number in range(start, start + 250)]
        frames.append(peer.frame("context.write", contextId=context, key=f"{start}", ops=ops))
        await peer.send_frames(frames[-1])
    for frame in frames:
        answer = await peer.reply(frame["id"])
        check(answer.kind == "context.written", "context.written", answer)
    more = {"key": "more", "value": b"1"}
    refused_for(await write(peer, context, more), "quota")
    await written(peer, context, {"key": "0", "delete": True})
    refused_for(await write(peer, context, more), "quota")
    check(await written(peer, context, {"key": "0", "value": b"2"}) == {"0": 3}, "revision 3", "")


@coordinator("LIMIT-9", also=("CTX-3", "CTX-4"))
async def a_write_is_so_large_and_no_larger(under: Coordinator) -> None:
    """257 operations, 17 patches, patches of 262,145 bytes together, 1,025 keys it depends on, and a patch of 257
    operations, of 65,537 bytes or of too deep a value are `too_large`; one less of each is written."""
    peer, context = await under.peer(), under.name("context")
    if peer.payload_max_bytes < 262_144:
        raise Skipped("no message here is as large as the values of a write may be, 262,144 bytes")
    values = {f"{number}": b"[]" for number in range(17)}
    values |= {f"large/{number}": b'"%s"' % (b"x" * 65_534) for number in range(4)} | {"large/more": b"1"}
    values |= {f"levels/{levels}": b"[" * levels + b"]" * levels for levels in (64, 66)}
    for names in (list(values)[:17], list(values)[17:21], list(values)[21:]):
        await written(peer, context, *({"key": name, "value": values[name]} for name in names))
    seen = [{"key": f"never/{number}", "rev": 0} for number in range(1_025)]
    test = b'{"op":"test","path":"","value":[]}'

    def new(many: int) -> list[dict[str, Any]]:
        return [{"key": f"new/{number}", "value": b"1"} for number in range(many)]

    def patches(*names: str, patch: bytes = b"[]") -> list[dict[str, Any]]:
        return [{"key": name, "patch": patch} for name in names]

    few, large = [f"{number}" for number in range(17)], [f"large/{number}" for number in range(4)]
    # A write that fits and one that does not, by one more, or by a level that only some implementations count.
    writes: tuple[tuple[Any, Any, Any], ...] = (
        (new(256), new(257), {}),
        (patches(*few[:16]), patches(*few), {}),
        (patches(*large), patches(*large, "large/more"), {}),
        (
            patches("0", patch=b"[%s]" % b",".join([test] * 256)),
            patches("0", patch=b"[%s]" % b",".join([test] * 257)),
            {},
        ),
        (patches("0", patch=b"[]" + b" " * 65_534), patches("0", patch=b"[]" + b" " * 65_535), {}),
        (patches("levels/64"), patches("levels/66"), {}),
        (new(1), new(1), {"depends": seen[:1_024]}),
    )
    for fits, beyond, fields in writes:
        await written(peer, context, *fits, **fields)
        further = {"depends": seen} if fields else {}
        refused_for(await write(peer, context, *beyond, **further), "too_large")
    after = await read(peer, context, keys=["new/0", "new/256"])
    check([value.get("rev") for value in after] == [2, 0], "new/0 written twice, new/256 never", after)


async def _objects(peer: Peer, skill: str, many: int) -> list[str]:
    """Return tasks to raise conflicts about."""
    return [f"task:{(await peer.delegate(skill, number)).task}" for number in range(many)]


def _raise(peer: Peer, about: str, number: int = 0) -> dict[str, Any]:
    subjects = [{"value": b"%d" % value} for value in (2 * number, 2 * number + 1)]
    return peer.frame("conflict.raise", conflictKind="artifact", object=about, subjects=subjects)


@coordinator("LIMIT-11", also=("CONFLICT-6", "CONFLICT-12"), needs=(Need.OPERATOR,))
async def a_principal_raises_so_many_conflicts_and_no_more(under: Coordinator) -> None:
    """Beyond 16 open conflicts a raise is refused with `quota`, also by another process, until one is over; a repeat is
    answered, and another principal may raise."""
    name, operator = under.name("raiser"), await under.operator()
    one, two, other = await under.peer(f"{name}#1"), await under.peer(f"{name}#2"), await under.peer()
    abouts = await _objects(other, under.skill(), 18)
    await _opens(one, abouts[17])
    frames = [_raise(one, about) for about in abouts[:16]]
    taken = 1 + await filled(one, frames, "conflict.raised", "a principal may have raised more than 16 open conflicts")
    fields = _raise(two, abouts[16])["body"]
    await two.refused("quota", "conflict.raise", **fields)
    again = await raised(one, "artifact", *fields["subjects"], object=abouts[0])
    check(again["created"] is False, "the conflict there is", again)
    await raised(other, "artifact", *fields["subjects"], object=abouts[16])
    await ok(operator, "conflict.vote", conflict=again["conflict"])
    await one.take("conflict.resolved", conflict=again["conflict"])
    told = await raised(two, "artifact", *fields["subjects"], object=abouts[taken - 1])
    check(told["created"], "a conflict of its own", told)


async def _opens(peer: Peer, about: str) -> None:
    """Skip the case if a conflict that is raised does not wait for anybody."""
    frame = _raise(peer, about)
    answer = await peer.request("conflict.raise", **frame["body"])
    if answer.code == "denied" or answer.body.get("isOpen") is False:
        raise Skipped("a conflict of kind artifact is decided at once here, or does not open (CONFLICT-13)")
    check(answer.kind == "conflict.raised", "conflict.raised", answer)


@coordinator("LIMIT-11", also=("CONFLICT-12",))
async def an_evidence_is_so_large_and_no_larger(under: Coordinator) -> None:
    """Values of more than 1,048,576 bytes together are refused with `too_large`."""
    peer = await under.peer()
    if int(peer.welcome.body["limits"]["messageMaxBytes"]) < 1_100_000:
        raise Skipped("no message here is larger than a conflict may be by default, 1,048,576 bytes")
    (about,) = await _objects(peer, under.skill(), 1)
    await _opens(peer, about)
    (about,) = await _objects(peer, under.skill(), 1)
    subjects = [{"value": b'"%s"' % (letter * 530_000)} for letter in (b"x", b"y")]
    answer = await peer.request("conflict.raise", conflictKind="artifact", object=about, subjects=subjects)
    is_set_to_another(answer, "conflict.raised", "a conflict may have more than 1,048,576 bytes")
    check(answer.code == "too_large", "error too_large to conflict.raise", answer)
    peer.asked_for(answer)
