"""Cases for an agent's work: offers, leases, fences, reports, questions, and what it does when it is told to stop."""

from __future__ import annotations

import functools
import json
import time

from ..case import Role, Skipped, case
from ..conversation import check
from ..requirements import Level
from ..stand_in import Line, UnderTest
from ..wire import Frame, count, parts, result_hash
from .sessions import ECHO, WORK, begun, echoes, said

agent = functools.partial(case, Role.AGENT)

FAIL = "conformance.fail"
ASK = "conformance.ask"
STALE_MS = 3_000
"""A piece of work that outlasts its agent's return, which may take some seconds (HELLO-12)."""
LAST_WORDS = ("task.report", "task.yield", "task.handoff")
"""Kinds that end an attempt which has begun, or may have."""
ENDS = (*LAST_WORDS, "task.decline")
LONG_MS = 60_000
"""A piece of work that does not end by itself within a case."""


@agent("REPORT-1", also=("REPORT-2", "WIRE-9", "OFFER-2"))
async def reports_its_result_with_its_hash(under: UnderTest) -> None:
    """A granted offer is done and reported under its fence; the hash covers outcome and payload."""
    line = await begun(under)
    offer = await line.offer(ECHO, {"b": 1, "a": [True, None]})
    report = await line.reported(offer)
    check(report.body.get("outcome") == "completed" and report.fence == offer.fence, "completed, the fence", report)
    expected = result_hash("completed", report.payload)
    check(report.body.get("resultHash") == expected, f"resultHash {expected}", report)
    artifacts = json.loads(report.payload)
    is_list = isinstance(artifacts, list) and all({"artifactId", "parts"} <= artifact.keys() for artifact in artifacts)
    check(is_list, "a JSON array of Artifacts", report)
    check(said(report) == {"b": 1, "a": [True, None]}, "the input", artifacts)


@agent("REPORT-5")
async def says_whether_a_failure_may_be_retried(under: UnderTest) -> None:
    """A failing task is reported as failed, with the correct `retryable` and a correct hash."""
    line = await begun(under, FAIL)
    for retryable in (True, False):
        report = await line.reported(await line.offer(FAIL, {"retryable": retryable}))
        check(report.body.get("outcome") == "failed", "outcome failed", report)
        error = report.body.get("error") or {}
        check((error.get("retryable") or False) is retryable, f"retryable {retryable}", report)
        expected = result_hash("failed", report.payload or b"[]")
        check(report.body.get("resultHash") == expected, f"resultHash {expected}", report)


@agent("OFFER-3", also=("OFFER-4",))
async def does_not_begin_before_it_may(under: UnderTest) -> None:
    """An offer that is not granted is accepted first; nothing begins before the accept is answered."""
    line = await begun(under)
    line.answers = False
    offer = await line.offer(ECHO, "x", granted=False)
    accept = await line.take("task.accept", task=offer.task, fence=offer.fence)
    await line.nothing("task.report", task=offer.task)
    await line.nothing("task.heartbeat", task=offer.task)
    await line.send("task.lease", re=accept.id, task=offer.task, fence=offer.fence, leaseMs=30_000)
    line.answers = True
    await line.reported(offer)


@agent("OFFER-3")
async def does_not_begin_what_it_was_too_late_for(under: UnderTest) -> None:
    """If the accept is answered `stale`, the task is not done."""
    line = await begun(under)
    line.answers = False
    offer = await line.offer(ECHO, "x", granted=False)
    accept = await line.take("task.accept", task=offer.task, fence=offer.fence)
    await line.send("error", re=accept.id, code="stale", detail="somebody else has it", retryable=False)
    line.answers = True
    await echoes(line)
    begun_all_the_same = [frame for frame in line.waiting if frame.get("task") == offer.task]
    check(not begun_all_the_same, "nothing more about the task", begun_all_the_same)


@agent("LEASE-2", level=Level.SHOULD)
async def sends_heartbeats_while_it_works(under: UnderTest) -> None:
    """An attempt with a heartbeat of 100 ms sends one, and four more within two seconds."""
    line = await begun(under, WORK)
    offer = await line.offer(WORK, {"ms": LONG_MS}, heartbeatMs=100, leaseMs=1_000)
    await line.take("task.heartbeat", task=offer.task, fence=offer.fence)
    ends = time.monotonic() + 2.0
    for _ in range(4):
        # One bound for all four: two seconds each would allow beats at ten times the interval.
        left = max(0.001, ends - time.monotonic())
        await line.take("task.heartbeat", task=offer.task, fence=offer.fence, within=left)


@agent("LEASE-6")
async def stops_when_its_authority_is_gone(under: UnderTest) -> None:
    """After `task.revoke` with no grace the attempt is silent: no heartbeats, and no completed report."""
    line = await begun(under, WORK)
    offer = await line.offer(WORK, {"ms": 400}, heartbeatMs=50)
    await line.take("task.heartbeat", task=offer.task)
    await line.post("task.revoke", task=offer.task, fence=offer.fence, reason="superseded", graceMs=0)
    await line.settle()  # an acknowledgement may come after the end of the work
    line.waiting = [frame for frame in line.waiting if frame.get("task") != offer.task]
    await line.reported(await line.offer(WORK, {"ms": 800}, heartbeatMs=10_000))
    late = [frame for frame in line.holds("task.report") if frame.body.get("outcome") == "completed"]
    check(not late, "no completed report of the revoked attempt", late)
    beats = line.holds("task.heartbeat", task=offer.task)
    check(len(beats) <= 1, "no heartbeats, but for one that was on its way", beats)


@agent("LEASE-5", also=("LEASE-6",))
async def stops_when_a_heartbeat_is_answered_so(under: UnderTest) -> None:
    """A heartbeat answered by `task.revoke` is the last one, and the attempt is not reported as completed."""
    line = await begun(under, WORK)
    line.answers = False
    offer = await line.offer(WORK, {"ms": 400}, heartbeatMs=50)
    beat = await line.take("task.heartbeat", task=offer.task)
    await line.send("task.revoke", re=beat.id, task=offer.task, fence=offer.fence, reason="superseded", graceMs=0)
    await line.settle()
    line.waiting = [frame for frame in line.waiting if frame.get("task") != offer.task]
    line.answers = True
    await line.reported(await line.offer(WORK, {"ms": 800}, heartbeatMs=10_000))
    late = [frame for frame in line.holds("task.report") if frame.body.get("outcome") == "completed"]
    check(not late and len(line.holds("task.heartbeat", task=offer.task)) <= 1, "nothing of the attempt", late)


@agent("LEASE-6", also=("CANCEL-3",), level=Level.SHOULD)
async def winds_down_when_it_is_asked_to(under: UnderTest) -> None:
    """A cancel with a grace is answered within it by a report or a yield."""
    line = await begun(under, WORK)
    offer = await line.offer(WORK, {"ms": LONG_MS}, heartbeatMs=100)
    await line.take("task.heartbeat", task=offer.task)
    await line.post("task.revoke", task=offer.task, fence=offer.fence, reason="cancel", mode="coop", graceMs=4_000)
    end = await line.take_if(
        lambda frame: frame.kind in ("task.report", "task.yield") and frame.task == offer.task,
        "task.report or task.yield",
        within=4.0,
    )
    check(end.fence == offer.fence, "under the attempt's fence", end)


@agent("LEASE-6", also=("MAIL-4", "OFFER-4", "RPC-3"))
async def does_not_begin_what_it_is_to_wind_down(under: UnderTest) -> None:
    """If the answer to its accept was lost with the connection, and the next connection first brings a cancel with a
    grace, the task is not done."""
    line = await begun(under)
    line.answers = False
    offer = await line.offer(ECHO, "x", granted=False)
    await line.take("task.accept", task=offer.task, fence=offer.fence)
    line.cut()
    at = {"task": offer.task, "fence": offer.fence}
    again = await under.line(welcomed=False)
    again.answers = False
    again.mailbox.append(again.frame("task.revoke", mseq=2, reason="cancel", mode="coop", graceMs=4_000, **at))
    await again.welcome()
    accept = await again.take_if(
        lambda frame: frame.kind in ("task.accept", *LAST_WORDS) and frame.task == offer.task,
        "task.accept, or a last word",
    )
    if accept.kind == "task.accept":
        await again.send("task.lease", re=accept.id, leaseMs=30_000, directives=["cancel:coop"], **at)
    again.answers = True
    await echoes(again)
    done = [frame for frame in again.holds("task.report", task=offer.task) if frame.body.get("outcome") == "completed"]
    check(not done, "no completed report of what had not begun", done)


@agent("LEASE-10", also=("LEASE-6", "LEASE-7"), level=Level.SHOULD)
async def gives_back_what_is_taken_away(under: UnderTest) -> None:
    """An attempt that is taken away with a grace is yielded within it, or reported."""
    line = await begun(under, WORK)
    offer = await line.offer(WORK, {"ms": LONG_MS}, heartbeatMs=100)
    await line.take("task.heartbeat", task=offer.task)
    await line.post("task.revoke", task=offer.task, fence=offer.fence, reason="drain", graceMs=4_000)
    end = await line.take_if(
        lambda frame: frame.kind in LAST_WORDS and frame.task == offer.task,
        "task.yield, task.handoff or task.report",
        within=4.0,
    )
    check(end.fence == offer.fence, "under the attempt's fence", end)


@agent("HELLO-11", also=("LEASE-7", "REG-6"), level=Level.SHOULD)
async def leaves_nothing_behind(under: UnderTest) -> None:
    """At SIGTERM it drains: it yields what it is offered from then on, and ends or yields its work. Or it says `bye`
    with `drain: true`, which hands on what is left."""
    line = await begun(under, WORK)
    offer = await line.offer(WORK, {"ms": 500}, heartbeatMs=100)
    await line.take("task.heartbeat", task=offer.task)
    under.ask_to_end()
    word = await line.take_if(
        lambda frame: frame.kind == "bye" or (frame.kind, frame.body.get("status")) == ("agent.update", "draining"),
        "agent.update with the status draining, or bye",
    )
    late = line.offer_of(ECHO, "too late")
    if word.kind != "bye":
        await line.post("task.offer", **late)
    for task, kinds in ((late["task"], ("task.yield",)), (offer.task, LAST_WORDS)):
        if word.kind == "bye":
            break
        word = await _last_word(line, task)
        check(word.kind in ("bye", *kinds), " or ".join((*kinds, "bye")), word)
        if word.kind == "task.report":
            await line.send("task.verdict", re=word.id, task=task, fence=word.fence, verdict="admitted")
    check(word.kind != "bye" or word.body.get("drain") is True, "bye with drain: true", word)


async def _last_word(line: Line, task: str) -> Frame:
    """Return the message that ends the attempt at a task, or the `bye` that ends all attempts."""
    return await line.take_if(
        lambda frame: frame.kind == "bye" or (frame.kind in ENDS and frame.task == task),
        f"a last word on {task}, or bye",
    )


@agent("HELLO-6", also=("DURABLE-7",))
async def names_what_it_holds_when_it_comes_back(under: UnderTest) -> None:
    """After its connection was cut in the middle of an attempt, the hello names it in `held`, with its proof."""
    line = await begun(under, WORK)
    offer = await line.offer(WORK, {"ms": LONG_MS}, heartbeatMs=100, proof="this one's")
    await line.take("task.heartbeat", task=offer.task)
    line.cut()
    again = await under.line(welcomed=False)
    held = [(known.get("task"), known.get("fence")) for known in again.hello.body.get("held") or []]
    check(held == [(offer.task, offer.fence)], f"held: {offer.task} under {offer.fence}", again.hello)
    check(again.hello.body["held"][0].get("proof") == "this one's", "the proof of its offer", again.hello)
    verdict = {"task": offer.task, "fence": offer.fence, "verdict": "keep", "leaseMs": 30_000}
    await again.welcome(held=[verdict])
    await again.take("task.heartbeat", task=offer.task, fence=offer.fence)


@agent("HELLO-6")
async def drops_what_it_is_told_is_stale(under: UnderTest) -> None:
    """An attempt with the verdict `stale` is stopped: it is silent, and is not reported as completed."""
    line = await begun(under, WORK)
    offered = time.monotonic()
    offer = await line.offer(WORK, {"ms": STALE_MS}, heartbeatMs=50)
    await line.take("task.heartbeat", task=offer.task)
    line.cut()
    again = await under.line(welcomed=False)
    left = STALE_MS - round((time.monotonic() - offered) * 1000)
    if left < 0:
        raise Skipped(f"it was away for the {STALE_MS} ms of its work: what it reported meanwhile comes again (RPC-3)")
    await again.welcome(held=[{"task": offer.task, "fence": offer.fence, "verdict": "stale"}])
    await again.reported(await again.offer(WORK, {"ms": left + 400}, heartbeatMs=10_000))
    late = [frame for frame in again.holds("task.report") if frame.body.get("outcome") == "completed"]
    check(not late and not again.holds("task.heartbeat", task=offer.task), "nothing of the attempt", late)


@agent("HELLO-6", also=("OFFER-1", "MAIL-6"))
async def drops_an_offer_that_was_withdrawn(under: UnderTest) -> None:
    """An offer that comes again as the `task.revoke` of its fence is not done."""
    line = await begun(under)
    offer = line.offer_of(ECHO, "withdrawn")
    line.mailbox.append(line.frame("task.offer", mseq=1, **offer))
    await line.send_frames(
        line.frame("task.revoke", mseq=1, task=offer["task"], fence=offer["fence"], reason="superseded")
    )
    await echoes(line)
    done = line.holds("task.report", task=offer["task"])
    check(not done, "no report of it", done)


@agent("ID-5", also=("HELLO-7", "OFFER-7"))
async def does_what_it_is_offered_after_a_crash(under: UnderTest) -> None:
    """Killed in the middle of an attempt, it comes back and does the next attempt under the new fence."""
    line = await begun(under, WORK)
    offer = await line.offer(WORK, {"ms": LONG_MS}, heartbeatMs=100)
    await line.take("task.heartbeat", task=offer.task)
    await line.acknowledged_up_to(1)
    await under.restart()
    again = await under.line(welcomed=False)
    held = [
        {"task": known.get("task"), "fence": known.get("fence"), "verdict": "stale"}
        for known in again.hello.body.get("held") or []
    ]
    await again.welcome(held=held)
    next_one = await again.offer(ECHO, "second attempt", task=offer.task, attempt=2)
    report = await again.reported(next_one)
    check(report.fence == next_one.fence, "a report under the new fence", report)


@agent("ASK-1", also=("ASK-2", "ASK-3"))
async def asks_and_goes_on_with_the_answer(under: UnderTest) -> None:
    """A question has a number, the fence and parts; the task uses the answer."""
    line = await begun(under, ASK)
    offer = await line.offer(ASK, {"question": "which?"})
    question = await line.take("task.ask", task=offer.task)
    check(question.fence == offer.fence, "the attempt's fence", question)
    check(isinstance(question.body.get("askNo"), int) and b"which?" in question.payload, "askNo, the words", question)
    await line.post("task.answer", task=offer.task, askNo=question.body["askNo"], payload=parts("this one"))
    report = await line.reported(offer)
    check(b"this one" in report.payload, "a result that has the answer", report)


@agent("ASK-3", also=("ASK-2",))
async def takes_the_answer_to_its_own_question(under: UnderTest) -> None:
    """An answer under another number, as to a question of an earlier attempt, does not answer its question."""
    line = await begun(under, ASK)
    offer = await line.offer(ASK, {"question": "which?"})
    number = (await line.take("task.ask", task=offer.task)).body["askNo"]
    for known, payload in ((number + 1, parts("another one")), (number, parts("this one"))):
        await line.post("task.answer", task=offer.task, askNo=known, payload=payload)
    report = await line.reported(offer)
    check(b"this one" in report.payload, "a result that has the answer to its question", report)


@agent("ASK-7", also=("OFFER-7",))
async def does_not_ask_what_was_answered_before(under: UnderTest) -> None:
    """An offer that carries the answer to its question is done without asking."""
    line = await begun(under, ASK)
    offer = await line.offer(ASK, {"question": "which?"})
    question = await line.take("task.ask", task=offer.task)
    await line.post("task.revoke", task=offer.task, fence=offer.fence, reason="superseded", graceMs=0)
    answers = [{"askNo": question.body["askNo"], "payload": parts("known already")}]
    again = await line.offer(ASK, {"question": "which?"}, task=offer.task, attempt=2, answers=answers)
    report = await line.reported(again)
    check(b"known already" in report.payload, "a result that has the answer", report)


@agent("FENCE-1", also=("FENCE-6",))
async def keeps_attempts_apart_by_their_fences(under: UnderTest) -> None:
    """Two tasks at once are each reported under their own fence."""
    line = await begun(under)
    credit = count((line.hello.body.get("credit") or {}).get("tasks")) or 1
    offers = [await line.offer(ECHO, f"number {number}") for number in range(min(2, credit))]
    for number, offer in enumerate(offers):
        report = await line.reported(offer)
        check(report.fence == offer.fence and f"number {number}".encode() in report.payload, "its own", report)


@agent("OFFER-2", also=("OFFER-5",))
async def tells_when_it_cannot_read_its_input(under: UnderTest) -> None:
    """An offer whose payload is not JSON is declined, or reported as failed or rejected; the agent does not hang."""
    line = await begun(under)
    offer = await line.offer(ECHO, payload=b"this is {no JSON")
    end = await line.take_if(
        lambda frame: frame.kind in ("task.report", "task.decline", "task.yield") and frame.task == offer.task,
        "task.report, task.decline or task.yield",
    )
    check(end.body.get("outcome", "failed") in ("failed", "rejected"), "failed or rejected", end)
    if end.kind == "task.report":
        await line.send("task.verdict", re=end.id, task=offer.task, fence=offer.fence, verdict="admitted")
    await echoes(line)
