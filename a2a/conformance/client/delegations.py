"""Cases for a client that delegates one task, waits for its result and confirms it."""

from __future__ import annotations

import functools
from typing import Any

from ..case import Failed, Missed, Need, Role, case
from ..conversation import check
from ..requirements import Level
from ..socket import Closed
from ..stand_in import Line, UnderTest
from ..wire import Frame, encode, result, result_hash

client = functools.partial(case, Role.CLIENT)

TASK = "conformance-1"


async def begins(line: Line) -> None:
    """Create the task, and have an agent begin it."""
    await line.happens(TASK, "created", "queued", data={"delegator": line.agent_id})
    await line.happens(TASK, "grant", "leased", data={"agent": "worker", "attempt": 1, "fence": 2})


async def created(line: Line, delegation: Frame, *, is_new: bool = True) -> None:
    """Answer a delegation, and have an agent begin the task."""
    await begins(line)
    await line.send(
        "task.created", re=delegation.id, task=TASK, gen=1, created=is_new, state="queued", contextId="context-1"
    )


def review_of(**fields: Any) -> dict[str, Any]:
    """Return the fields of a review of the task's result."""
    payload = result({"words": 3})
    return {
        "task": TASK,
        "gen": 3,
        "rev": 0,
        "resultHash": result_hash("completed", payload),
        "payload": payload,
        "agent": "worker",
        "confirmMs": 60_000,
    } | fields


async def reports(line: Line) -> None:
    """Have the agent report its result."""
    line.told.result = review_of()["payload"]
    await line.happens(TASK, "report", "reported", data={"outcome": "completed", "agent": "worker", "fence": 2})


async def reviews(line: Line, **fields: Any) -> dict[str, Any]:
    """Have the agent report its result, and send the client the review."""
    await reports(line)
    return await line.post("task.review", **review_of(**fields))


async def reported_before(line: Line, delegation: Frame) -> None:
    """Answer a delegation whose task existed, and whose review went to another process."""
    await begins(line)
    await reports(line)
    await line.send(
        "task.created", re=delegation.id, task=TASK, gen=3, created=False, state="reported", contextId="context-1"
    )


async def settle(line: Line, confirm: Frame) -> None:
    """Answer the confirm, and tell the client that the task has ended."""
    await line.send("ok", re=confirm.id, state="completed")
    await line.happens(TASK, "complete", "completed", data={"by": line.agent_id})
    await line.post("task.settled", task=TASK, gen=4, state="completed", confirmedBy=line.agent_id)


async def has_seen(line: Line, mseq: int) -> None:
    """Wait until the client has acknowledged an entry, or has left: one that needs no more may leave at once."""
    try:
        await line.acknowledged_up_to(mseq)
    except Missed:
        if line.closed is None:
            raise


async def word_on(line: Line, *, within: float = 2.0) -> Frame | None:
    """Return the confirm of a result, or None if none comes: the client has left, or says nothing."""
    try:
        return await line.take("task.confirm", task=TASK, within=within)
    except (Failed, Closed):
        return None


def accepts(word: Frame | None) -> bool:
    """Whether the confirm accepts a result."""
    return word is not None and word.body.get("verdict", "accept") == "accept"


async def delegated(under: UnderTest) -> tuple[Line, Frame]:
    """Start the client and return its connection and its delegation, not answered yet."""
    await under.start()
    line = await under.line()
    return line, await line.take("task.delegate", within=10.0)


@client("HELLO-1", also=("HELLO-2", "ID-1", "ID-5", "AUTH-1"))
async def says_hello_first(under: UnderTest) -> None:
    """The first frame is a hello with versions, an agent id, an instance and the token it was given."""
    await under.start()
    line = await under.line(welcomed=False)
    body = line.hello.body
    check(len(body.get("versions") or []) == 2 and bool(body.get("agentId")), "versions and an agentId", line.hello)
    check(bool(body.get("instanceId")) and isinstance(body.get("incarnation"), int), "an instance", line.hello)
    check(body.get("token", "") == under.settings.token, "the token it was given", line.hello)


@client("HELLO-2")
async def gives_up_over_a_version_it_did_not_name(under: UnderTest) -> None:
    """The client ends the connection at a welcome with a version beyond those of its hello."""
    await under.start()
    line = await under.line(version="9.0")
    await line.ended()


@client("TASK-1", also=("TASK-3",))
async def delegates_with_the_key_it_was_given(under: UnderTest) -> None:
    """The delegation has the key, the skill, and an input that is a JSON array of Parts."""
    _, delegation = await delegated(under)
    body = delegation.body
    check(body.get("key") == under.values["key"], f"the key {under.values['key']!r}", delegation)
    check((body.get("spec") or {}).get("skill") == under.values["skill"], "the skill", delegation)
    check(delegation.payload.startswith(b"["), "a JSON array of Parts", delegation)


@client("ACCEPT-3", also=("ACCEPT-2", "MAIL-3"))
async def confirms_the_result_it_was_shown(under: UnderTest) -> None:
    """The confirm names the task, the revision and the hash of the review, and the mailbox is acknowledged."""
    line, delegation = await delegated(under)
    await created(line, delegation)
    review = await reviews(line)
    confirm = await line.take("task.confirm", task=TASK)
    body = confirm.body
    is_right = body.get("rev") == 0 and body.get("resultHash") == review["body"]["resultHash"]
    check(is_right and body.get("verdict", "accept") == "accept", "accept of revision 0 and its hash", confirm)
    await settle(line, confirm)
    await line.acknowledged_up_to(1)


@client("RPC-3", also=("TASK-3",))
async def sends_the_same_delegation_again(under: UnderTest) -> None:
    """A delegation that had no answer is sent again after the next handshake: same key, same spec, same input."""
    line, first = await delegated(under)
    line.cut()
    again = await under.line()
    second = await again.take("task.delegate")
    same = [first.body.get(name) == second.body.get(name) for name in ("key", "spec")]
    check(all(same) and first.payload == second.payload, "the same key, spec and input", second)


@client("RPC-3", also=("ACCEPT-6",))
async def sends_the_same_word_again(under: UnderTest) -> None:
    """A confirm that had no answer is sent again after the next handshake, for the same revision and hash."""
    line, delegation = await delegated(under)
    await created(line, delegation)
    await reviews(line)
    first = await line.take("task.confirm", task=TASK)
    line.cut()
    again = await under.line(resumed=True)
    second = await again.take("task.confirm", task=TASK)
    same = [first.body.get(name) == second.body.get(name) for name in ("rev", "resultHash", "verdict")]
    check(all(same), "the same word", second)
    await settle(again, second)


@client("TASK-3", also=("RPC-4",))
async def waits_for_a_task_that_was_there(under: UnderTest) -> None:
    """If the delegation is answered `created: false`, the client waits for that task, and confirms its result."""
    line, delegation = await delegated(under)
    await created(line, delegation, is_new=False)
    await reviews(line)
    await settle(line, await line.take("task.confirm", task=TASK))


@client("TASK-7", level=Level.SHOULD)
async def reads_what_was_told_to_another_process(under: UnderTest) -> None:
    """If the task was already reported, no review comes: the client reads the result, and confirms it."""
    line, delegation = await delegated(under)
    await reported_before(line, delegation)
    confirm = await line.take("task.confirm", task=TASK)
    check(confirm.body.get("resultHash") == review_of()["resultHash"], "the hash of the result", confirm)
    await settle(line, confirm)


@client("MAIL-4")
async def passes_over_a_review_it_has_seen(under: UnderTest) -> None:
    """A review that comes again with its number gets no other verdict."""
    line, delegation = await delegated(under)
    await created(line, delegation)
    review = await reviews(line)
    first = await line.take("task.confirm", task=TASK)
    line.cut()
    again = await under.line(nextMseq=1, resumed=False)
    await again.send_frames(review)
    second = await again.take("task.confirm", task=TASK)
    check(second.body.get("resultHash") == first.body.get("resultHash"), "the same hash", second)
    await settle(again, second)
    later = again.holds("task.confirm")
    check(all(frame.body == second.body for frame in later), "no other word", later)


@client("MAIL-7")
async def gives_up_over_a_gap_and_comes_back(under: UnderTest) -> None:
    """An entry beyond the next number ends the connection; on the next connection the review is confirmed."""
    line, delegation = await delegated(under)
    await created(line, delegation)
    await line.send_frames(line.frame("task.review", mseq=2, **review_of()))
    await line.ended()
    again = await under.line(nextMseq=1)
    await reviews(again)
    await settle(again, await again.take("task.confirm", task=TASK))


@client("WIRE-1")
async def takes_a_message_in_fragments(under: UnderTest) -> None:
    """A review in two fragments, the first of which ends within a character, and a ping between them are both accepted:
    the ping is answered by a pong."""
    line, delegation = await delegated(under)
    await created(line, delegation)
    await reports(line)
    entry = line.frame("task.review", mseq=1, **review_of(agent="Müller"))
    line.mailbox.append(entry)
    await line.send_in_pieces(entry)
    confirm = await line.take("task.confirm", task=TASK)
    line.check_pong()
    await settle(line, confirm)


@client("WIRE-6", also=("WIRE-7",))
async def passes_over_what_it_does_not_know(under: UnderTest) -> None:
    """Unknown fields, in answers and in the review, and a frame of an unknown kind change nothing."""
    line, delegation = await delegated(under)
    fields = {"task": TASK, "gen": 1, "created": True, "state": "queued", "contextId": "c", "later": [1]}
    await line.send("task.created", re=delegation.id, **fields)
    await line.send("no.such.kind", anything=1)
    await reviews(line, laterField={"x": None})
    await settle(line, await line.take("task.confirm", task=TASK))


@client("WIRE-7", also=("MAIL-3", "MAIL-7"))
async def counts_an_entry_of_a_kind_it_does_not_know(under: UnderTest) -> None:
    """A mailbox entry of an unknown kind counts: the review after it is confirmed."""
    line, delegation = await delegated(under)
    await created(line, delegation)
    await line.post("no.such.kind", anything=1)
    await reviews(line)
    await settle(line, await line.take("task.confirm", task=TASK))
    await line.acknowledged_up_to(2)


@client("RPC-5")
async def answers_pings(under: UnderTest) -> None:
    """A `ping` is answered with its nonce."""
    line, _ = await delegated(under)
    sent = await line.send("ping", nonce="here")
    pong = await line.reply(sent, "ping")
    check(pong.kind == "pong" and pong.body.get("nonce") == "here", "pong with the nonce", pong)


@client("RPC-3", also=("WIRE-2",))
async def survives_a_connection_that_ends_in_a_frame(under: UnderTest) -> None:
    """Half a review and the end of the connection do nothing; the whole review on the next connection is confirmed."""
    line, delegation = await delegated(under)
    await created(line, delegation)
    entry = line.frame("task.review", mseq=1, **review_of())
    whole = line.socket.framed(encode([entry], line.encoding))
    await line.socket.write(whole[: len(whole) // 2])
    line.cut()
    again = await under.line(nextMseq=1)
    again.mailbox.append(entry)
    await reports(again)
    await again.send_frames(entry)
    await settle(again, await again.take("task.confirm", task=TASK))


@client("WATCH-3", also=("WATCH-1", "WATCH-2"))
async def watches_again_behind_what_it_has_seen(under: UnderTest) -> None:
    """If it watches its task and its connection is cut after two events, it watches on from the second, and the result
    is confirmed. A client that does not watch need not do so then either."""
    line, delegation = await delegated(under)
    await created(line, delegation)
    try:
        await line.take("task.watch", task=TASK, within=1.0)
        watches = True
    except Missed:
        watches = False
    await line.settle()  # the client has seen its events
    line.cut()
    again = await under.line()
    if watches:
        watch = await again.take("task.watch", task=TASK)
        check(watch.body.get("fromGen") == 2, "fromGen 2", watch)
    await reviews(again)
    await settle(again, await again.take("task.confirm", task=TASK))


@client("WIRE-10", also=("WIRE-1", "WIRE-2", "WIRE-12"))
async def writes_payloads_of_its_encoding(under: UnderTest) -> None:
    """The input is `bin` in MessagePack, in binary messages, and a string in JSON, in text messages."""
    line, delegation = await delegated(under)
    wanted = str if line.is_json else bytes
    expected = f"a payload that is {'a text' if line.is_json else 'bin'} (WIRE-10)"
    check(isinstance(delegation.get("payload"), wanted), expected, delegation)
    line.check_kind()


@client("ACCEPT-3", level=Level.SHOULD)
async def does_not_confirm_what_is_not_what_its_hash_says(under: UnderTest) -> None:
    """A review whose payload has another hash than it names is not confirmed under that hash."""
    line, delegation = await delegated(under)
    await created(line, delegation)
    wrong = "sha256:" + "0" * 64
    await reviews(line, resultHash=wrong)
    await has_seen(line, 1)
    word = await word_on(line)
    is_right = word is None or not accepts(word) or word.body.get("resultHash") != wrong
    check(is_right, "the hash of what it was shown", word)


@client("ACCEPT-3", also=("TASK-7",), level=Level.SHOULD)
async def does_not_confirm_what_it_reads_under_another_hash(under: UnderTest) -> None:
    """A result that it reads, because no review comes, is not confirmed under a wrong hash in the view."""
    line, delegation = await delegated(under)
    wrong = "sha256:" + "0" * 64
    line.told.shown = {"resultHash": wrong}
    await reported_before(line, delegation)
    word = await word_on(line)
    is_right = word is None or not accepts(word) or word.body.get("resultHash") != wrong
    check(is_right, "the hash of what it has read", word)


@client("CTX-10", level=Level.SHOULD)
async def does_not_confirm_what_relies_on_what_has_moved(under: UnderTest) -> None:
    """A review that names decisions which have moved is not accepted before the client has read them."""
    line, delegation = await delegated(under)
    stale = [{"key": "decisions/a", "seen": 1, "current": 2}]
    line.told.shown = {"staleBasis": stale}
    await created(line, delegation)
    await reviews(line, staleBasis=stale)
    word = await word_on(line)
    check(not accepts(word) or bool(line.holds("context.read")), "no accept of it", word)


@client("CONFLICT-15", also=("ACCEPT-8",), level=Level.SHOULD)
async def does_not_accept_what_was_overruled_meanwhile(under: UnderTest) -> None:
    """If its confirm is refused with `generation_mismatch`, and the view names a conflict decided against the result,
    it does not accept unseen."""
    line, delegation = await delegated(under)
    await created(line, delegation)
    await reviews(line)
    first = await line.take("task.confirm", task=TASK)
    if first.body.get("ifGen") is None:
        return await settle(line, first)  # it counts whatever was decided, which ACCEPT-8 is about
    told = {"conflict": "conflict-1", "kind": "result", "rule": "raised"}
    await line.happens(TASK, "dispute", "disputed", data=told)
    await line.happens(TASK, "resolve", "reported", data={"conflict": "conflict-1", "outcome": "resolved", "ref": "r2"})
    line.told.shown = {"overruled": "conflict-1"}
    data = {"generation": 5, "state": "reported"}
    detail = f"{TASK} has generation 5"
    await line.send("error", re=first.id, code="generation_mismatch", detail=detail, retryable=True, data=data)
    word = await word_on(line)
    check(not accepts(word) or bool(line.holds("conflict.get")), "no accept of it", word)


@client("ACCEPT-8", level=Level.SHOULD)
async def names_the_generation_it_was_shown(under: UnderTest) -> None:
    """The confirm names the generation of its review, so that a later decision against the result is noticed."""
    line, delegation = await delegated(under)
    await created(line, delegation)
    review = await reviews(line)
    confirm = await line.take("task.confirm", task=TASK)
    check(confirm.body.get("ifGen") == review["gen"], f"ifGen {review['gen']}", confirm)
    await settle(line, confirm)


@client("TASK-10")
async def takes_the_end_from_the_coordinator(under: UnderTest) -> None:
    """A task that fails ends the client's wait: it sends no confirm."""
    line, delegation = await delegated(under)
    await created(line, delegation)
    await line.happens(TASK, "fail", "failed", data={"reason": "error"})
    await line.post("task.settled", task=TASK, gen=3, state="failed", reason="error", detail="it did not work")
    await has_seen(line, 1)
    check(not line.holds("task.confirm"), "no word on a result", line.waiting)


@client("ID-3", level=Level.SHOULD)
async def each_run_is_a_process_of_its_own(under: UnderTest) -> None:
    """Started twice, the client is one principal with different parts after `#`."""
    await under.start()
    first = str((await under.line()).hello.body.get("agentId"))
    await under.restart()
    second = str((await under.line()).hello.body.get("agentId"))
    check(first.partition("#")[0] == second.partition("#")[0], "one principal", (first, second))
    check(first != second and "#" in first, "ids that differ behind #", (first, second))


@client("WIRE-11", level=Level.SHOULD)
async def leaves_out_what_it_does_not_say(under: UnderTest) -> None:
    """Neither the hello nor the delegation has a field that is `null`, in the envelope or in the body."""
    line, delegation = await delegated(under)
    for frame in (line.hello, delegation):
        empty = [name for name, value in [*frame.items(), *(frame.get("body") or {}).items()] if value is None]
        check(not empty, "no field that is null", empty)


@client("WIRE-3", needs=(Need.OTHERS,))
async def every_frame_fits_the_schema_of_its_kind(under: UnderTest) -> None:
    """No frame that came in any other case lacks a required field or has one of another type, form or word."""
    under.forms.judge()
