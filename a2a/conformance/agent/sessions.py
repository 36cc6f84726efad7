"""Cases for an agent's session: the handshake, the wire, the mailbox."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from ..case import Failed, Need, Role, case
from ..conversation import check
from ..requirements import Level
from ..stand_in import LIMITS, Line, UnderTest
from ..wire import Frame, encode

agent = functools.partial(case, Role.AGENT)

AGENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:+-]{0,95}(#[A-Za-z0-9-]{1,31})?")
ECHO = "conformance.echo"
WORK = "conformance.work"


async def begun(under: UnderTest, skill: str = ECHO) -> Line:
    """Start the agent and welcome it; skip the case if it lacks the skill."""
    await under.start()
    line = await under.line()
    await under.has_skill(line, skill)
    return line


async def echoes(line: Line, value: object = "still here") -> Frame:
    """Check that the agent does a task, and return its report."""
    return await line.reported(await line.offer(ECHO, value))


async def stays_away(under: UnderTest, after: str) -> None:
    """Check that the agent does not come back by itself after this message."""
    try:
        await under.line(within=2.0)
    except Failed:
        return
    raise Failed(f"expected no connection after `{after}`; it came back within 2 s")


def is_version(value: object) -> bool:
    """Whether the value is a version as text: a number such as 1.0 is none."""
    return isinstance(value, str) and re.fullmatch(r"\d+\.\d+", value) is not None


def said(report: Frame) -> object:
    """Return the content of a result: the text or the data of its first part."""
    part = json.loads(report.payload)[0]["parts"][0]
    return part["data"] if "data" in part else part.get("text")


@agent("HELLO-1", also=("HELLO-2", "ID-1", "ID-5"))
async def says_hello_first(under: UnderTest) -> None:
    """The first frame is a hello with versions, an agent id, an instance id and an incarnation."""
    await under.start()
    line = await under.line(welcomed=False)
    body = line.hello.body
    versions = body.get("versions")
    is_range = isinstance(versions, list) and len(versions) == 2 and all(map(is_version, versions))
    check(is_range, "versions: the oldest and the newest, major.minor", line.hello)
    check(AGENT_ID.fullmatch(str(body.get("agentId"))) is not None, "an agent id (ID-1)", line.hello)
    check(isinstance(body.get("instanceId"), str) and bool(body["instanceId"]), "an instanceId", line.hello)
    check(isinstance(body.get("incarnation"), int) and body["incarnation"] >= 0, "an incarnation", line.hello)


@agent("HELLO-2")
async def gives_up_over_a_version_it_did_not_name(under: UnderTest) -> None:
    """The agent ends the connection at a welcome with a version beyond those of its hello."""
    await under.start()
    line = await under.line(version="9.0")
    await line.ended()


@agent("AUTH-1")
async def shows_the_token_it_was_given(under: UnderTest) -> None:
    """The hello carries the token of the command line."""
    await under.start()
    line = await under.line(welcomed=False)
    check(line.hello.body.get("token", "") == under.settings.token, "the token it was given", line.hello)


@agent("ID-4", level=Level.SHOULD)
async def draws_its_secret_itself(under: UnderTest) -> None:
    """The first hello shows a secret."""
    await under.start()
    line = await under.line(welcomed=False)
    check(bool(line.hello.body.get("secret")), "a secret in the first hello", line.hello)


@agent("ID-5")
async def is_a_newer_process_after_a_restart(under: UnderTest) -> None:
    """Killed and started again, it has another instance and a greater incarnation."""
    await under.start()
    before = (await under.line()).hello.body
    await under.restart()
    after = (await under.line()).hello.body
    check(after.get("instanceId") != before.get("instanceId"), "another instanceId", after)
    check(after.get("incarnation", 0) > before.get("incarnation", 0), "a greater incarnation", after)


@agent("ID-4")
async def shows_the_same_secret_after_a_restart(under: UnderTest) -> None:
    """Killed and started again, it has the same id and the same secret, whether issued or its own."""
    await under.start()
    line = await under.line(welcomed=False)
    issued = None if line.hello.body.get("secret") else "issued by the coordinator"
    await line.welcome(secret=issued)
    await line.settle()
    before = line.hello.body
    await under.restart()
    after = (await under.line()).hello.body
    check(after.get("agentId") == before.get("agentId"), "the same agentId", after)
    check(after.get("secret") == (issued or before.get("secret")), "the same secret", after)


@agent("ID-5", also=("HELLO-7",))
async def stays_the_same_instance_over_a_new_connection(under: UnderTest) -> None:
    """After its connection was cut, it comes back as the same instance with the same incarnation."""
    line = await begun(under)
    line.cut()
    again = (await under.line()).hello.body
    before = line.hello.body
    same = [again.get(name) == before.get(name) for name in ("agentId", "instanceId", "incarnation")]
    check(all(same), "the same agentId, instanceId and incarnation", again)


@agent("REG-5")
async def has_a_card_with_its_skills(under: UnderTest) -> None:
    """The card in the hello has a name, a description, a version and skills with id, name, description and tags."""
    await under.start()
    line = await under.line()
    card = line.hello.body.get("card") or {}
    check(all(isinstance(card.get(name), str) for name in ("name", "description", "version")), "an agent card", card)
    for skill in card.get("skills") or [{}]:
        is_whole = all(isinstance(skill.get(name), str) for name in ("id", "name", "description"))
        check(is_whole and bool(skill["id"]), "skills with id, name and description", skill)
        check(isinstance(skill.get("tags"), list), "tags in every skill, a list that may be empty", skill)


@agent("FLOW-3", also=("FLOW-1",))
async def names_its_credit(under: UnderTest) -> None:
    """An agent with skills takes at least one task, by its hello or by `credit`."""
    await under.start()
    line = await under.line()
    tasks = (line.hello.body.get("credit") or {}).get("tasks", 0)
    if not tasks:
        tasks = (await line.take("credit")).body.get("tasks", 0)
    check(tasks >= 1, "credit for a task", line.hello)


@agent("WIRE-1", also=("WIRE-2", "WIRE-3", "WIRE-12"))
async def writes_frames_that_can_be_read(under: UnderTest) -> None:
    """Every frame has its own id and a kind; message and payload have the form of the encoding."""
    line = await begun(under)
    reports = [await echoes(line, value) for value in ("a", {"deep": [1, None, "é"]}, 2.5)]
    odd = [frame for frame in line.waiting if frame.kind == "not a frame"]
    check(not odd, "messages of frames", odd)
    line.check_kind()
    ids = [line.hello.id, *(report.id for report in reports), *(frame.id for frame in line.waiting)]
    check(len(set(ids)) == len(ids) and all(1 <= len(name) <= 64 for name in ids), "ids of their own", ids)
    wanted = str if line.is_json else bytes
    is_right = all(isinstance(report.get("payload"), wanted) for report in reports)
    check(is_right, f"payloads that are {'a text' if line.is_json else 'bin'} (WIRE-10)", reports[0])


@agent("WIRE-1")
async def takes_a_message_in_fragments(under: UnderTest) -> None:
    """An offer in two fragments, the first of which ends within a character, and a ping between them are both accepted:
    the ping is answered by a pong."""
    line = await begun(under)
    entry = line.frame("task.offer", mseq=1, **line.offer_of(ECHO, "größer 😀"))
    line.mailbox.append(entry)
    await line.send_in_pieces(entry)
    report = await line.reported(Frame(entry))
    check(said(report) == "größer 😀", "größer 😀", said(report))
    await line.settle()
    line.check_pong()


@agent("WIRE-2")
async def takes_several_frames_of_one_message(under: UnderTest) -> None:
    """Two offers in one message are both done."""
    line = await begun(under)
    offers = []
    for value in ("one", "two"):
        entry = line.frame("task.offer", mseq=len(line.mailbox) + 1, **line.offer_of(ECHO, value))
        line.mailbox.append(entry)
        offers.append(Frame(entry))
    await line.send_frames(*offers)
    for offer in offers:
        await line.reported(offer)


@agent("WIRE-6")
async def passes_over_fields_it_does_not_know(under: UnderTest) -> None:
    """An offer with unknown fields, in envelope, body and spec, is done like any other."""
    line = await begun(under)
    spec = {"skill": ECHO, "laterField": {"a": None}}
    entry = line.frame("task.offer", mseq=1, **(line.offer_of(ECHO, "x") | {"spec": spec, "later": 1}))
    line.mailbox.append(entry)
    await line.send_frames(entry | {"laterEnvelope": [1]})
    await line.reported(Frame(entry))


@agent("WIRE-7")
async def passes_over_a_kind_it_does_not_know(under: UnderTest) -> None:
    """A frame of an unknown kind changes nothing."""
    line = await begun(under)
    await line.send("no.such.kind", anything=1)
    await echoes(line)


@agent("WIRE-8", also=("WIRE-11",))
async def takes_null_for_absent(under: UnderTest) -> None:
    """An offer with `null` in optional fields of envelope and body is done like any other."""
    line = await begun(under)
    entry = line.frame("task.offer", mseq=1, **line.offer_of(ECHO, "x"))
    entry["body"] |= dict.fromkeys(("deadlineMs", "parent", "checkpoint", "dossier", "budget"))
    line.mailbox.append(entry)
    await line.send_frames(entry | dict.fromkeys(("re", "ttlMs", "trace", "ext")))
    await line.reported(Frame(entry))


@agent("WIRE-7", also=("MAIL-3", "MAIL-7"))
async def counts_an_entry_of_a_kind_it_does_not_know(under: UnderTest) -> None:
    """A mailbox entry of an unknown kind counts: the offer after it is done, and both are acknowledged."""
    line = await begun(under)
    await line.post("no.such.kind", anything=1)
    await echoes(line)
    await line.acknowledged_up_to(2)


@agent("WIRE-7")
async def gives_up_over_a_kind_that_must_be_understood(under: UnderTest) -> None:
    """The agent ends the connection at a frame of an unknown kind with `must: true`."""
    line = await begun(under)
    await line.send("no.such.kind", must=True)
    await line.ended()


@agent("WIRE-5", also=("REPORT-2", "WIRE-9"))
async def reads_and_writes_any_text(under: UnderTest) -> None:
    """Text with quotes, controls, astral characters and separators comes back unchanged."""
    line = await begun(under)
    odd = 'quoted "text", a \\, \t, \u0001, é, 😀, \u2028 and the end'
    report = await echoes(line, odd)
    value = said(report)
    check(value == odd, odd, value)


@agent("WIRE-5")
async def goes_on_with_words_it_cannot_read(under: UnderTest) -> None:
    """An offer whose feedback, answer, word and checkpoint are not JSON, or not of the usual form, is done: they are
    not the input."""
    line = await begun(under)
    said = {
        "rev": 1,
        "feedback": [{"rev": 0, "payload": b"no JSON"}],
        "answers": [{"askNo": 1, "payload": b"[7]"}],
        "steers": [{"steerNo": 1, "payload": b'{"a":1}'}],
        "checkpoint": {"cpNo": 1, "fence": 1, "agent": "another", "payload": b"no JSON"},
    }
    offer = line.offer_of(ECHO, "here", **said)
    await line.post("task.offer", **offer)
    report = await line.take("task.report", task=offer["task"])
    check(report.body.get("outcome") == "completed", "outcome completed", report)


@agent("LIMIT-1")
async def keeps_within_the_limits_it_was_told(under: UnderTest) -> None:
    """If a payload may have 2,000 bytes, a result of 10,000 is not sent; the task is reported as failed instead."""
    await under.start()
    line = await under.line(limits=LIMITS | {"payloadMaxBytes": 2_000})
    await under.has_skill(line, ECHO)
    report = await line.reported(await line.offer(ECHO, "x" * 10_000))
    check(len(report.payload) <= 2_000, "a payload of at most 2,000 bytes", len(report.payload))
    check(report.body.get("outcome") == "failed", "outcome failed", report)


@agent("LIMIT-1")
async def keeps_within_the_size_of_a_message(under: UnderTest) -> None:
    """If a message may have no more bytes than a payload, a result that leaves no room for the rest of its frame is not
    sent; the task is reported as failed instead."""
    await under.start()
    line = await under.line(limits=LIMITS | {"payloadMaxBytes": 20_000, "messageMaxBytes": 20_000})
    await under.has_skill(line, ECHO)
    report = await line.reported(await line.offer(ECHO, "x" * 19_850))
    check(report.body.get("outcome") == "failed", "outcome failed", report)


@agent("LIMIT-1")
async def takes_more_than_it_may_send(under: UnderTest) -> None:
    """An offer of one mebibyte is done."""
    line = await begun(under)
    line.patience = 15.0
    report = await echoes(line, "x" * 1_048_576)
    check(len(report.payload) > 1_048_576, "the whole text", len(report.payload))


@agent("LIMIT-2")
async def takes_frames_that_nest_deeper_than_it_may_send(under: UnderTest) -> None:
    """An offer that nests 40 deep, in an unknown field of its specification, is done."""
    line = await begun(under)
    offer = line.offer_of("conformance.echo", "deep")
    deep: list[Any] = []
    for _ in range(36):  # the frame, its body and the specification are around it
        deep = [deep]
    await line.post("task.offer", **offer | {"spec": offer["spec"] | {"later": deep}})
    await line.take("task.report", task=offer["task"])


@agent("RPC-5")
async def answers_pings(under: UnderTest) -> None:
    """A `ping` is answered with its nonce."""
    line = await begun(under)
    sent = await line.send("ping", nonce="here")
    pong = await line.reply(sent, "ping")
    check(pong.kind == "pong" and pong.body.get("nonce") == "here", "pong with the nonce", pong)


@agent("MAIL-3")
async def acknowledges_its_mailbox(under: UnderTest) -> None:
    """Entries are acknowledged, and none beyond those sent."""
    line = await begun(under)
    for value in ("a", "b", "c"):
        await echoes(line, value)
    await line.acknowledged_up_to(3)
    check(line.acknowledged == 3, "an acknowledgement of 3 entries", line.acknowledged)


@agent("MAIL-4", also=("RPC-4",))
async def passes_over_an_entry_it_has_seen(under: UnderTest) -> None:
    """An offer that comes again on the next connection, while its report has no answer, is reported there once."""
    line = await begun(under)
    offer = await line.offer(ECHO, "x")
    await line.reported(offer, verdict=None)
    line.cut()
    again = await under.line(nextMseq=1, resumed=False)
    await again.send_frames(again.mailbox[0])
    await again.reported(offer)
    await echoes(again, "another")
    old = again.holds("task.report", task=offer.task)
    check(not old, "no second report", old)


@agent("MAIL-5", level=Level.SHOULD)
async def says_what_it_has_of_its_mailbox(under: UnderTest) -> None:
    """After its connection was cut, the hello names the newest entry it has in `resume.lastMseq`."""
    line = await begun(under)
    await echoes(line)
    await line.acknowledged_up_to(1)
    line.cut()
    again = await under.line()
    resume = again.hello.body.get("resume") or {}
    check(resume.get("lastMseq") == 1, "resume.lastMseq 1", again.hello)


@agent("MAIL-5")
async def takes_its_count_from_the_welcome(under: UnderTest) -> None:
    """If the welcome says that the mailbox begins at 1 again, entry 1 is a new one."""
    line = await begun(under)
    await echoes(line)
    line.cut()
    under.told.mailbox.clear()
    again = await under.line(nextMseq=1, resumed=False)
    await echoes(again, "of a new mailbox")


@agent("MAIL-4", also=("MAIL-5", "MAIL-6", "LEASE-6"))
async def looks_at_an_entry_that_comes_again_as_another_kind(under: UnderTest) -> None:
    """If the count goes back, and what was an offer is now the `task.revoke` of its fence, the agent stops."""
    line = await begun(under, WORK)
    offer = await line.offer(WORK, {"ms": 60_000}, heartbeatMs=50)
    await line.take("task.heartbeat", task=offer.task)
    line.cut()
    at = {"task": offer.task, "fence": offer.fence}
    again = await under.line(nextMseq=1, resumed=False, held=[{**at, "verdict": "keep", "leaseMs": 30_000}])
    await again.take("task.heartbeat", task=offer.task)
    await again.send_frames(again.frame("task.revoke", mseq=1, reason="superseded", mode="skip", graceMs=0, **at))
    await again.settle()
    again.waiting = [frame for frame in again.waiting if frame.get("task") != offer.task]
    await again.reported(await again.offer(WORK, {"ms": 400}, heartbeatMs=10_000))
    beats = again.holds("task.heartbeat", task=offer.task)
    check(len(beats) <= 1, "no heartbeats, but for one that was on its way", beats)


@agent("MAIL-7")
async def gives_up_over_a_gap_and_comes_back(under: UnderTest) -> None:
    """An entry beyond the next number ends the connection; on the next connection both come and are done."""
    line = await begun(under)
    entries = [line.frame("task.offer", mseq=mseq, **line.offer_of(ECHO, f"number {mseq}")) for mseq in (1, 2)]
    await line.send_frames(entries[1])
    await line.ended()
    again = await under.line(nextMseq=1)
    again.mailbox.extend(entries)
    await again.send_frames(*entries)
    for entry in entries:
        await again.reported(Frame(entry))


@agent("RPC-3", also=("REPORT-4",))
async def sends_again_what_was_not_answered(under: UnderTest) -> None:
    """A report whose verdict never came is sent again after the next handshake, with the same hash and fence."""
    line = await begun(under)
    offer = await line.offer(ECHO, "x")
    first = await line.reported(offer, verdict=None)
    line.cut()
    again = await under.line()
    second = await again.reported(offer)
    same = first.body.get("resultHash") == second.body.get("resultHash") and first.payload == second.payload
    check(same, "the same report", second)
    await echoes(again)
    repeats = again.holds("task.report", task=offer.task)
    check(not repeats, "no report once it was answered", repeats)


@agent("RPC-3", also=("WIRE-2",))
async def survives_a_connection_that_ends_in_a_frame(under: UnderTest) -> None:
    """Half an offer and the end of the connection do nothing; the whole offer on the next connection is done."""
    line = await begun(under)
    entry = line.frame("task.offer", mseq=1, **line.offer_of(ECHO, "cut off"))
    whole = line.socket.framed(encode([entry], line.encoding))
    await line.socket.write(whole[: len(whole) // 2])
    line.cut()
    again = await under.line(nextMseq=1)
    again.mailbox.append(entry)
    await again.send_frames(entry)
    await again.reported(Frame(entry))


@agent("HELLO-8", also=("ID-8",), level=Level.SHOULD)
async def comes_back_when_the_coordinator_goes(under: UnderTest) -> None:
    """After `bye` and the end of the connection it says hello again, and works."""
    line = await begun(under)
    await line.send("bye", reason="restarting")
    await line.leave()
    again = await under.line()
    await echoes(again)


@agent("WIRE-11", level=Level.SHOULD)
async def leaves_out_what_it_does_not_say(under: UnderTest) -> None:
    """Neither the hello nor a report has a field that is `null`, in the envelope or in the body."""
    line = await begun(under)
    report = await echoes(line)
    for frame in (line.hello, report):
        empty = [name for name, value in [*frame.items(), *(frame.get("body") or {}).items()] if value is None]
        check(not empty, "no field that is null", empty)


@agent("HELLO-12", level=Level.SHOULD)
async def does_not_fight_for_its_name(under: UnderTest) -> None:
    """After a `bye` because another instance took its place, it does not come back by itself."""
    line = await begun(under)
    await line.send("bye", reason="taken_over")
    await line.leave()
    await stays_away(under, "taken_over")


@agent("HELLO-12", also=("HELLO-5",), level=Level.SHOULD)
async def stays_away_where_it_is_refused_for_good(under: UnderTest) -> None:
    """After a hello that was refused with an error that is not retryable, it does not come back by itself."""
    await under.start()
    line = await under.line(welcomed=False)
    await line.send("error", re=line.hello.id, code="auth", detail="the secret is another one", retryable=False)
    await line.leave()
    await stays_away(under, "auth")


@agent("WIRE-3", needs=(Need.OTHERS,))
async def every_frame_fits_the_schema_of_its_kind(under: UnderTest) -> None:
    """No frame that came in any other case lacks a required field or has one of another type, form or word."""
    under.forms.judge()
