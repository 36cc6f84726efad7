"""Cases of section 3: frames, encodings, payloads, limits, and messages that are no frames."""

from __future__ import annotations

import functools
import json
from typing import Any

import msgpack

from ..case import Need, Role, Skipped, case
from ..conversation import check
from ..peer import Coordinator, Peer
from ..requirements import Level
from ..wire import JSON, MSGPACK, Frame, encode, parts, result, result_hash

coordinator = functools.partial(case, Role.COORDINATOR)

SHOWN = 80
"""How many bytes of a wrong message are shown with a failure."""
ODD_TEXT = 'quoted "text", a \\, \t, é, 😀, \u2028 and the end'


async def refused(peer: Peer, message: bytes, *codes: str) -> None:
    """Send a message that has to be answered with an error of one of these codes."""
    expected = f"error {' or '.join(codes)} to {message[:SHOWN].decode(errors='backslashreplace')}"
    await peer.send_bytes(message)
    error = await peer.take_if(lambda frame: frame.kind == "error", expected)
    check(error.code in codes, expected, error)
    peer.asked_for(error)


async def ends_as_malformed(peer: Peer, message: bytes) -> None:
    """Send a message that is malformed, and check that it is answered and ends the connection."""
    await refused(peer, message, "malformed")
    await peer.ended()


async def still_serves(under: Coordinator) -> None:
    """Check that another connection is not disturbed."""
    await (await under.peer()).settle()


def another(number: str) -> str:
    """Return why a default is not tried: the coordinator has another number."""
    return f"{number} here, which nothing announces"


def is_set_to_another(answer: Frame, kind: str, number: str) -> None:
    """Skip the case if what is beyond a default was accepted.

    Raises:
        Skipped: it was accepted.
    """
    if answer.kind == kind:
        raise Skipped(another(number))


@coordinator("WIRE-1")
async def peers_of_both_encodings_work_on_one_task(under: Coordinator) -> None:
    """A task delegated in JSON is done in MessagePack and confirmed, and the other way round."""
    for mine, theirs in ((JSON, MSGPACK), (MSGPACK, JSON)):
        skill = under.skill()
        worker = await under.peer(skills=(skill,), encoding=theirs)
        client = await under.peer(encoding=mine)
        created = await client.delegate(skill, ODD_TEXT)
        offer = await worker.offered(created.task)
        check(json.loads(offer.payload) == [{"data": ODD_TEXT}], "the input as it was written", offer)
        await worker.admitted(offer, ODD_TEXT)
        review = await client.reviewed(created.task)
        check(json.loads(review.payload)[0]["parts"] == [{"data": ODD_TEXT}], "the result as written", review)
        await client.confirm(review)
        await client.settled(created.task, state="completed")


@coordinator("WIRE-1")
async def takes_a_message_in_fragments(under: Coordinator) -> None:
    """A frame in two fragments, the first of which ends within a character, and a ping between them are both accepted:
    the ping is answered by a pong."""
    for encoding in (JSON, MSGPACK):
        peer = await under.peer(encoding=encoding)
        frame = peer.frame("ping", nonce="größer 😀")
        await peer.send_in_pieces(frame)
        pong = await peer.reply(frame["id"], "ping")
        check(pong.body.get("nonce") == "größer 😀", "the nonce as it was", pong)
        peer.check_pong()


@coordinator("WIRE-2")
async def sends_json_as_text_and_messagepack_as_bytes(under: Coordinator) -> None:
    """JSON comes in text messages, and MessagePack in binary ones: replies, mail and errors."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    await worker.admitted(await worker.offered((await client.delegate(skill)).task))
    await client.refused("not_found", "task.get", task="no-such-task")
    for peer in (worker, client):
        peer.check_kind()


@coordinator("WIRE-2")
async def takes_several_frames_of_one_message_in_order(under: Coordinator) -> None:
    """Twenty pings in one message, or as many as it may have, are all answered, in their order."""
    peer = await under.peer()
    count = min(20, int(peer.welcome.body["limits"]["framesPerMessage"]))
    frames = [peer.frame("ping", nonce=str(number)) for number in range(count)]
    await peer.send_frames(*frames)
    answers = [await peer.take("pong") for _ in frames]
    check(
        [answer.body.get("nonce") for answer in answers] == [str(number) for number in range(count)], "their order", ""
    )


@coordinator("WIRE-2", also=("WIRE-12",))
async def a_message_without_a_frame_is_malformed(under: Coordinator) -> None:
    """An empty message is `malformed` and ends the connection."""
    await ends_as_malformed(await under.peer(encoding=JSON), b"")
    await ends_as_malformed(await under.peer(encoding=MSGPACK), b"")
    await still_serves(under)


@coordinator("WIRE-2")
async def passes_over_blank_lines_between_json_frames(under: Coordinator) -> None:
    """Blank lines before, between and after JSON frames are skipped."""
    peer = await under.peer(encoding=JSON)
    lines = [
        b"",
        encode([peer.frame("ping", nonce="1")], JSON),
        b"",
        encode([peer.frame("ping", nonce="2")], JSON),
        b"",
    ]
    await peer.send_bytes(b"\n".join(lines))
    for nonce in "12":
        await peer.take("pong", nonce=nonce)


@coordinator("WIRE-3")
async def a_frame_without_id_or_kind_is_malformed(under: Coordinator) -> None:
    """A frame without `id`, one without `kind`, and one whose `id` is too long are refused as `malformed`."""
    wrong: list[dict[str, Any]] = [{"kind": "ping"}, {"id": "x"}, {"id": "x" * 65, "kind": "ping"}]
    for frame in wrong:
        peer = await under.peer()
        await refused(peer, encode([frame], peer.encoding), "malformed")


@coordinator("WIRE-3", needs=(Need.OTHERS,))
async def every_frame_fits_the_schema_of_its_kind(under: Coordinator) -> None:
    """No frame that came in any other case lacks a required field or has one of another type, form or word."""
    under.forms.judge()


@coordinator("WIRE-4")
async def an_envelope_field_inside_the_body_is_not_looked_at(under: Coordinator) -> None:
    """A `task` inside the body of `task.get` names nothing: the field belongs in the envelope."""
    client = await under.peer()
    created = await client.delegate(under.skill())
    frame = client.frame("task.get") | {"body": {"task": created.task}}
    await client.send_frames(frame)
    error = await client.reply(frame["id"])
    check(error.code == "malformed", "error malformed: the envelope names no task", error)


@coordinator("WIRE-5")
async def relays_payloads_it_cannot_read(under: Coordinator) -> None:
    """A UTF-8 payload that is not JSON is stored, hashed and relayed unchanged."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    words = b"this is {no JSON: \xe2\x82\xac"
    created = await client.delegate(skill, payload=words)
    offer = await worker.offered(created.task)
    check(offer.payload == words, f"the payload {words!r}", offer)
    await worker.admitted(offer, payload=words)
    review = await client.reviewed(created.task)
    check(review.payload == words, f"the payload {words!r}", review)


@coordinator("WIRE-6")
async def passes_over_fields_it_does_not_know(under: Coordinator) -> None:
    """An unknown field, in the envelope or in the body, changes nothing."""
    peer = await under.peer(newField={"a": [1, None]})
    frame = peer.frame("ping", nonce="n", later=True) | {"newEnvelopeField": 1}
    await peer.send_frames(frame)
    check((await peer.reply(frame["id"])).kind == "pong", "pong", "")


@coordinator("WIRE-6", also=("TASK-2",))
async def keeps_unknown_fields_of_a_spec_and_a_card(under: Coordinator) -> None:
    """Fields that a later version writes into a card and a `spec` are relayed unchanged."""
    skill, name = under.skill(), under.name("worker")
    client = await under.peer()
    hello = under.hello(name, skill)
    hello["card"]["later"] = {"deep": [1, "two", None, True]}
    worker = await under.connect(name=name)
    check((await worker.request("hello", **hello)).kind == "welcome", "welcome", "")
    created = await client.delegate(skill, spec={"later": {"x": None, "y": [1]}})
    offer = await worker.offered(created.task)
    check(offer.body["spec"].get("later") == {"x": None, "y": [1]}, "the unknown field in the spec", offer)
    found = await client.request("agent.find", filter={"agent": name})
    card = found.body["agents"][0]["card"]
    check(card.get("later") == {"deep": [1, "two", None, True]}, "the unknown field in the card", found)


@coordinator("WIRE-16")
async def a_word_that_is_none_is_malformed(under: Coordinator) -> None:
    """An unknown mode, and an unknown evaluator in a `spec`, are refused, and the connection goes on."""
    skill, client = under.skill(), await under.peer()
    created = await client.delegate(skill)
    await client.refused("malformed", "task.cancel", task=created.task, mode="softly")
    spec = {"skill": skill, "acceptance": {"evaluator": "jury"}}
    await client.refused("malformed", "task.delegate", key=under.name("key"), spec=spec)
    check(await client.state(created.task) == "queued", "the task still queued", "")


@coordinator("WIRE-7")
async def refuses_a_kind_it_does_not_take(under: Coordinator) -> None:
    """An unknown kind, and one that only a coordinator sends, get `unsupported_kind`, and the connection goes on."""
    peer = await under.peer()
    await peer.refused("unsupported_kind", "no.such.kind", anything=1)
    await peer.refused("unsupported_kind", "task.created")
    await peer.settle()


@coordinator("WIRE-7")
async def gives_up_over_a_kind_that_must_be_understood(under: Coordinator) -> None:
    """An unknown kind with `must: true` gets `unsupported_kind`, and the connection ends."""
    peer = await under.peer()
    await peer.refused("unsupported_kind", "no.such.kind", must=True)
    await peer.ended()


@coordinator("WIRE-8")
async def a_whole_float_is_the_integer(under: Coordinator) -> None:
    """`7.0` stands for 7, in both encodings."""
    for encoding in (JSON, MSGPACK):
        peer = await under.peer(encoding=encoding, incarnation=7.0)
        answer = await peer.request("ping", nonce="n")
        check(answer.kind == "pong", "pong", answer)


@coordinator("WIRE-8")
async def a_number_written_as_text_is_malformed(under: Coordinator) -> None:
    """A `fence` that is text, and a boolean that is a number or text, are `malformed`; the connection goes on."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    await worker.refused("malformed", "task.heartbeat", task=offer.task, fence=str(offer.fence))
    await client.refused("malformed", "task.get", task=created.task, content=1)
    await client.refused("malformed", "task.get", task=created.task, must="true")
    await worker.heartbeat(offer)


@coordinator("WIRE-8", also=("WIRE-12",))
async def a_number_that_not_every_language_has_ends_the_connection(under: Coordinator) -> None:
    """NaN, infinity, a literal that overflows, and an integer beyond 2^53 - 1 are `malformed`."""
    for literal in (b"NaN", b"Infinity", b"1e999", b"9007199254740993"):
        peer = await under.peer(encoding=JSON)
        await ends_as_malformed(peer, b'{"id":"x1","kind":"ping","body":{"later":' + literal + b"}}")
    for number in (float("nan"), float("inf"), 2**60):
        peer = await under.peer(encoding=MSGPACK)
        await ends_as_malformed(peer, msgpack.packb({"id": "x1", "kind": "ping", "body": {"later": number}}))
    await still_serves(under)


@coordinator("WIRE-8")
async def null_is_the_same_as_absent(under: Coordinator) -> None:
    """A field that is `null` has the value of an absent one."""
    client = await under.peer()
    frame = client.frame("task.list") | {"re": None, "body": {"skill": under.skill(), "state": None, "limit": None}}
    await client.send_frames(frame)
    page = await client.reply(frame["id"])
    check(page.kind == "task.page" and page.body.get("tasks") == [], "an empty task.page", page)


@coordinator("WIRE-9", also=("REPORT-2",))
async def computes_the_hash_of_a_result(under: Coordinator) -> None:
    """The `resultHash` covers outcome and bytes: other bytes for the same value have another hash."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    spaced = b'[ {"artifactId": "result", "parts": [ {"data": 1.50} ] } ]'
    wrong = await worker.report(offer, payload=spaced, resultHash=result_hash("completed", result(1.5)))
    check(wrong.body.get("verdict") == "invalid", "verdict invalid", wrong)
    await worker.admitted(offer, payload=spaced)
    review = await client.reviewed(created.task)
    check(review.payload == spaced, "the result's own bytes", review)


@coordinator("WIRE-10")
async def a_payload_is_bin_in_messagepack_and_text_in_json(under: Coordinator) -> None:
    """The same payload comes as `bin` in MessagePack and as a string in JSON."""
    for encoding, kind in ((JSON, str), (MSGPACK, bytes)):
        skill = under.skill()
        worker = await under.peer(skills=(skill,), encoding=encoding)
        client = await under.peer(encoding=MSGPACK if encoding == JSON else JSON)
        created = await client.delegate(skill, "x")
        offer = await worker.offered(created.task)
        check(isinstance(offer.get("payload"), kind), f"a payload that is {kind.__name__}", offer)


@coordinator("WIRE-12")
async def what_is_not_of_its_encoding_ends_the_connection(under: Coordinator) -> None:
    """Half a frame, no JSON, a list, keys twice, a lone surrogate, two frames on a line: all are `malformed`."""
    wrong = (
        b'{"id":"x1","kind":"ping"',
        b"not json",
        b'[{"id":"x1","kind":"ping"}]',
        b'{"id":"x1","id":"x1","kind":"ping"}',
        b'{"id":"x1","kind":"ping","body":{"nonce":"\\ud800"}}',
        b'{"id":"x1","kind":"ping"} {"id":"x2","kind":"ping"}',
    )
    for message in wrong:
        await ends_as_malformed(await under.peer(encoding=JSON), message)
    await still_serves(under)


@coordinator("WIRE-12")
async def what_is_not_messagepack_ends_the_connection(under: Coordinator) -> None:
    """Half a frame, a key that is no string, a key twice, an extension type, text that is not UTF-8: `malformed`."""
    ping: dict[Any, Any] = {"id": "x1", "kind": "ping"}
    wrong = (
        msgpack.packb(ping)[:-2],
        msgpack.packb([ping]),
        msgpack.packb(ping | {"body": {7: 1}}),
        b"\x83" + b"\xa2id\xa2x1" + b"\xa2id\xa2x1" + b"\xa4kind\xa4ping",
        msgpack.packb(ping | {"body": {"nonce": msgpack.ExtType(5, b"x")}}),
        msgpack.packb(ping | {"body": {"nonce": msgpack.Timestamp(1, 0)}}),
        b"\x82\xa2id\xa2x1\xa4kind\xa4\xff\xfe\xfd\xfc",
        b"\xc1",
    )
    for message in wrong:
        await ends_as_malformed(await under.peer(encoding=MSGPACK), message)
    await still_serves(under)


@coordinator("WIRE-12")
async def a_declared_length_without_its_bytes_costs_nothing(under: Coordinator) -> None:
    """A map that declares four thousand million entries, and a text of four gigabytes, are `malformed`."""
    for message in (b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff"):
        peer = await under.peer(encoding=MSGPACK)
        await refused(peer, message, "malformed", "too_large")
        await peer.ended()
    await still_serves(under)


@coordinator("WIRE-13")
async def tells_points_in_time_in_rfc_3339(under: Coordinator) -> None:
    """A view's `createdAt` is RFC 3339 in UTC."""
    client = await under.peer()
    created = await client.delegate(under.skill())
    at = str((await client.view(created.task))["metadata"].get("createdAt"))
    check(len(at) >= 20 and at[10] == "T" and at.endswith(("Z", "+00:00")), "RFC 3339 in UTC", at)


@coordinator("WIRE-15")
async def closes_with_1008_after_a_frame_that_is_none(under: Coordinator) -> None:
    """A connection that ends for a malformed message is closed with the WebSocket code 1008."""
    peer = await under.peer(encoding=JSON)
    await peer.send_bytes(b"not json")
    closed = await peer.ended()
    check(closed.code == 1008, "the WebSocket code 1008", closed.code)


@coordinator("WIRE-15", also=("WIRE-12",))
async def ends_over_what_is_no_websocket_and_no_text(under: Coordinator) -> None:
    """A frame that is not masked ends the connection with the WebSocket code 1002, and text that is not UTF-8 with
    1007, or like any malformed message with 1008; other connections go on."""
    peer = await under.peer(encoding=JSON)
    await peer.socket.write(b"\x81\x02{}")
    closed = await peer.ended()
    check(closed.code == 1002, "the WebSocket code 1002", closed.code)
    peer = await under.peer(encoding=JSON)
    await peer.send_bytes(b'{"id":"1","kind":"ping","body":{"nonce":"\xe9"}}')
    closed = await peer.ended()
    check(closed.code in (1007, 1008), "the WebSocket code 1007, or 1008", closed.code)
    await still_serves(under)


@coordinator("LIMIT-1")
async def announces_its_limits(under: Coordinator) -> None:
    """`welcome.limits` has every number of the table, each a positive integer."""
    peer = await under.peer()
    limits = peer.welcome.body.get("limits")
    names = (
        *("messageMaxBytes", "payloadMaxBytes", "framesPerMessage", "framesPerSecond"),
        *("requestsInFlight", "outboxMaxBytes", "heartbeatMs", "leaseMs"),
    )
    is_whole = isinstance(limits, dict) and all(
        isinstance(limits.get(name), int) and limits[name] > 0 for name in names
    )
    check(is_whole, f"limits with {', '.join(names)}", peer.welcome)


@coordinator("LIMIT-2")
async def a_payload_beyond_the_limit_is_too_large_and_the_connection_goes_on(under: Coordinator) -> None:
    """One byte more than `payloadMaxBytes` is refused with `too_large`; the largest payload passes."""
    client = await under.peer()
    limits = client.welcome.body["limits"]
    size = int(limits["payloadMaxBytes"])
    if size + 4_096 > int(limits["messageMaxBytes"]):
        raise Skipped("a message is no larger than a payload here")
    client.patience = 20.0
    await client.refused("too_large", "task.delegate", **client.delegation(under.skill(), payload=b"x" * (size + 1)))
    await client.delegate(under.skill(), payload=b"x" * size)


@coordinator("LIMIT-2")
async def a_message_beyond_the_limit_ends_the_connection(under: Coordinator) -> None:
    """A message larger than `messageMaxBytes` ends the connection, with or without a `too_large` before that."""
    peer = await under.peer(encoding=JSON)
    size = int(peer.welcome.body["limits"]["messageMaxBytes"])
    peer.patience = 20.0
    await peer.send_bytes(b'{"id":"x1","kind":"ping","body":{"later":"' + b"x" * size + b'"}}')
    await peer.ended()
    errors = peer.holds("error")
    check(not errors or errors[0].code == "too_large", "too_large, or nothing", errors)
    await still_serves(under)


@coordinator("LIMIT-2")
async def what_is_too_deep_or_has_too_many_parts_is_too_large(under: Coordinator) -> None:
    """A body nested 40 deep, 70,000 list items, and more frames than a message holds are `too_large`."""
    deep = b'{"id":"x1","kind":"ping","body":{"later":' + b"[" * 40 + b"]" * 40 + b"}}"
    many = b'{"id":"x1","kind":"ping","body":{"later":[' + b"1," * 70_000 + b"1]}}"
    first = await under.peer(encoding=JSON)
    frames = int(first.welcome.body["limits"]["framesPerMessage"])
    crowd = b"\n".join(b'{"id":"x%d","kind":"pong"}' % number for number in range(frames + 1))
    for message in (deep, many, crowd):
        if len(message) > int(first.welcome.body["limits"]["messageMaxBytes"]):
            continue  # that ends the connection, with or without an error
        peer = await under.peer(encoding=JSON)
        await refused(peer, message, "too_large")
        await peer.ended()
    await still_serves(under)


@coordinator("LIMIT-2")
async def a_flood_of_brackets_ends_no_process(under: Coordinator) -> None:
    """A message of up to a hundred thousand opening brackets, in either encoding, ends only its own connection."""
    brackets = min(100_000, (await under.peer()).payload_max_bytes // len('{"a":'))
    for encoding, message in (
        (JSON, b'{"id":"x1","kind":"ping","body":' + b'{"a":' * brackets),
        (MSGPACK, b"\x82\xa2id\xa2x1\xa4body" + b"\x91" * brackets),
    ):
        peer = await under.peer(encoding=encoding)
        await refused(peer, message, "too_large", "malformed")
        await peer.ended()
    await still_serves(under)


@coordinator("LIMIT-3", also=("LIMIT-6",), level=Level.MUST)
async def nothing_is_refused_for_a_hurry(under: Coordinator) -> None:
    """Two thousand requests sent without waiting are all answered."""
    client = await under.peer()
    client.patience = 20.0
    frames = [client.frame("task.list", skill="no-such-skill") for _ in range(2_000)]
    await client.send_many(frames)
    for frame in frames:
        answer = await client.reply(frame["id"])
        check(answer.kind == "task.page", "task.page", answer)


@coordinator("LIMIT-4")
async def a_task_fails_after_its_attempts(under: Coordinator) -> None:
    """With `limits.attempts` 1, a failure that might be retried ends the task with reason `attempts`."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, limits={"attempts": 1})
    await worker.admitted(
        await worker.offered(created.task), outcome="failed", error={"code": "flaky", "retryable": True}
    )
    settled = await client.settled(created.task)
    check(
        settled.body.get("state") == "failed" and settled.body.get("reason") == "attempts", "failed, attempts", settled
    )


@coordinator("LIMIT-4", also=("OFFER-5",))
async def a_task_fails_after_its_declines(under: Coordinator) -> None:
    """With `limits.declines` 1, one decline ends the task with reason `declines`."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, limits={"declines": 1})
    offer = await worker.offered(created.task)
    await worker.request("task.decline", task=offer.task, fence=offer.fence, reason="policy")
    settled = await client.settled(created.task)
    check(settled.body.get("reason") == "declines", "failed, declines", settled)


@coordinator("LIMIT-4", also=("OFFER-6", "LEASE-4"))
async def a_task_fails_after_its_losses(under: Coordinator) -> None:
    """With `limits.losses` 0, one grant that nobody answers ends the task with reason `losses`."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, limits={"losses": 0}, timers={"offerMs": 200})
    await worker.offered(created.task)
    settled = await client.settled(created.task)
    check(settled.body.get("reason") == "losses", "failed, losses", settled)


@coordinator("LIMIT-4", also=("LIMIT-8", "OFFER-6"))
async def a_task_survives_as_many_losses_as_it_has(under: Coordinator) -> None:
    """With `limits.losses` 1 the second unanswered grant ends the task; if one agent had both, it is no dead letter."""
    skill = under.skill()
    _, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, limits={"losses": 1}, timers={"offerMs": 200})
    await client.settled(created.task, reason="losses")
    metadata = (await client.view(created.task))["metadata"]
    counters = metadata.get("counters") or {}
    told = counters.get("losses"), metadata.get("attempt"), bool(metadata.get("deadLetter"))
    check(told == (2, 2, False), "two losses in two attempts, and no dead letter", metadata)


@coordinator("LIMIT-4", also=("ACCEPT-5",))
async def a_task_fails_after_its_reworks(under: Coordinator) -> None:
    """With `limits.reworks` 0, a reject with `rework` ends the task with reason `reworks`."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, limits={"reworks": 0})
    await worker.admitted(await worker.offered(created.task))
    await client.confirm(await client.reviewed(created.task), "reject", rework=True)
    settled = await client.settled(created.task)
    check(settled.body.get("reason") == "reworks", "failed, reworks", settled)


@coordinator("LIMIT-5")
async def a_peer_that_does_not_read_loses_its_connection_and_no_mail(under: Coordinator) -> None:
    """A client that stops reading disturbs nobody; on its next connection it gets what it missed."""
    name, skill = under.name("client"), under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer(name)
    created = [await client.delegate(skill) for _ in range(3)]
    client.acknowledges = False
    client.pause()
    for task in created:
        await worker.admitted(await worker.offered(task.task))
    await still_serves(under)
    client.cut()
    back = await under.peer(name)
    for task in created:
        await back.reviewed(task.task)


@coordinator("LIMIT-5")
async def who_asks_for_much_at_once_gets_it(under: Coordinator) -> None:
    """Answers of 80 MB together, each of up to 2 MB and all requested before one is read, all come."""
    client = await under.peer()
    client.patience = 20.0
    size = min(2_000_000, client.payload_max_bytes - len(parts("")))
    task = (await client.delegate(under.skill(), payload=parts("x" * size))).task
    frames = [client.frame("task.get", task=task) for _ in range(80_000_000 // size)]
    await client.send_many(frames)
    for frame in frames:
        answer = await client.reply(frame["id"])
        check(answer.kind == "task.found", "task.found", answer)


@coordinator("LIMIT-7")
async def a_task_is_watched_and_asked_within_its_numbers(under: Coordinator) -> None:
    """A checkpoint of more than 262,144 bytes is refused with `too_large`, and the attempt goes on."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    content = parts("x" * 262_144)
    if len(content) > worker.payload_max_bytes:
        raise Skipped("no payload here is larger than a checkpoint may be by default, 262,144 bytes")
    offer = await worker.offered((await client.delegate(skill)).task)
    at = {"task": offer.task, "fence": offer.fence}
    answer = await worker.request("task.checkpoint", cpNo=1, payload=content, **at)
    worker.asked_for(answer)
    await worker.admitted(offer)
    is_set_to_another(answer, "ok", "a checkpoint may have more than 262,144 bytes")
    check(answer.code == "too_large", "error too_large to task.checkpoint", answer)


@coordinator("LIMIT-7", also=("STEER-1",))
async def what_is_said_to_a_task_is_within_its_bytes(under: Coordinator) -> None:
    """Words to a task are refused with `quota` before they have more than 16,777,216 bytes together."""
    client = await under.peer()
    task = (await client.delegate(under.skill())).task
    word = parts("x" * (min(2_000_000, client.payload_max_bytes) - len(parts(""))))
    for number in range(16_777_216 // len(word) + 1):
        answer = await client.request("task.steer", task=task, key=f"word-{number}", payload=word)
        if answer.kind == "error":
            break
    is_set_to_another(answer, "ok", "what is said to a task may have more than 16,777,216 bytes")
    check(answer.code == "quota", "error quota to task.steer", answer)


@coordinator("LIMIT-7", also=("REPORT-6",))
async def of_reports_without_authority_so_many_are_kept(under: Coordinator) -> None:
    """Of twenty different reports by a stranger, some are kept, and at most 4."""
    skill = under.skill()
    worker, client, stranger = await under.peer(skills=(skill,)), await under.peer(), await under.peer()
    offer = await worker.offered((await client.delegate(skill)).task)
    for number in range(20):
        await stranger.report(offer, number)
    kept = len((await client.view(offer.task))["metadata"].get("evidence") or [])
    if kept > 4:
        raise Skipped(another("more than 4 reports of others are kept for a task"))
    check(kept > 0, "some of twenty reports in the task's evidence", kept)


@coordinator("REPORT-6", also=("LIMIT-7",))
async def reports_of_others_keep_out_none_of_who_had_the_task(under: Coordinator) -> None:
    """After twenty different reports by a stranger, a late report of the worker is still in the task's evidence."""
    skill = under.skill()
    worker, client, stranger = await under.peer(skills=(skill,)), await under.peer(), await under.peer()
    offer = await worker.offered((await client.delegate(skill)).task)
    for number in range(20):
        await stranger.report(offer, number)
    await worker.request("task.yield", task=offer.task, fence=offer.fence)
    await worker.report(offer, "late")
    evidence = (await client.view(offer.task))["metadata"].get("evidence") or []
    check(worker.name in [kept.get("agent") for kept in evidence], "the worker's report in the evidence", evidence)


@coordinator("LIMIT-8", also=("OFFER-6",))
async def a_task_lost_by_two_agents_is_a_dead_letter(under: Coordinator) -> None:
    """A task that two agents lost is a dead letter, and `task.list` finds it as one."""
    skill = under.skill()
    client = await under.peer()
    for _ in range(2):  # both are offered it in turn, and neither answers
        await under.peer(skills=(skill,))
    created = await client.delegate(skill, limits={"losses": 1}, timers={"offerMs": 200})
    await client.settled(created.task, state="failed", reason="losses")
    page = await client.request("task.list", skill=skill, deadLetter=True)
    check([view.get("id") for view in page.body.get("tasks", [])] == [created.task], "the task as a dead letter", page)


@coordinator("LIMIT-9", also=("CTX-3",))
async def a_value_beyond_the_limit_is_too_large(under: Coordinator) -> None:
    """A context value of more than 65,536 bytes is refused with `too_large`, and nothing of its write is kept."""
    client, context = await under.peer(), under.name("context")
    ops = [{"key": "a", "value": b"1"}, {"key": "b", "value": b'"' + b"x" * 65_536 + b'"'}]
    if int(client.welcome.body["limits"]["messageMaxBytes"]) < 65_536 + 4_096:
        raise Skipped("no message here is larger than a value may be, 65,536 bytes")
    await client.refused("too_large", "context.write", contextId=context, key=under.name("write"), ops=ops)
    values = await client.request("context.read", contextId=context, keys=["a"])
    check(values.body.get("values", [{}])[0].get("rev", 0) == 0, "key a unwritten", values)


@coordinator("LIMIT-11")
async def a_raise_with_too_many_subjects_is_too_large(under: Coordinator) -> None:
    """`conflict.raise` about 17 instructions is refused with `too_large`."""
    client = await under.peer()
    about = f"task:{(await client.delegate(under.skill())).task}"
    subjects = [{"value": b"%d" % number} for number in range(17)]
    answer = await client.request("conflict.raise", conflictKind="instruction", object=about, subjects=subjects)
    if answer.code == "denied":
        raise Skipped("nothing says here how a conflict of kind instruction is decided (CONFLICT-13)")
    is_set_to_another(answer, "conflict.raised", "a conflict may have more than 16 subjects")
    check(answer.code == "too_large", "error too_large to conflict.raise", answer)
