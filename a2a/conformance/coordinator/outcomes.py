"""Cases of section 11: reports, confirms, cancelling."""

from __future__ import annotations

import functools
from typing import Any

from ..case import Role, case
from ..conversation import check
from ..peer import Coordinator, Peer
from ..scenes import AUTO, LONG, at, beats_until_revoked, begun
from ..wire import Frame, as_bytes, parts, result, result_hash

coordinator = functools.partial(case, Role.COORDINATOR)

RETRY = {"code": "flaky", "detail": "try again", "retryable": True}


async def verdict(worker: Peer, offer: Frame, expected: str, value: Any = "done", **fields: Any) -> None:
    """Report, and check the verdict."""
    answer = await worker.report(offer, value, **fields)
    check(answer.body.get("verdict") == expected, f"verdict {expected}", answer)


@coordinator("REPORT-1")
async def every_report_is_answered(under: Coordinator) -> None:
    """A report about an unknown task is `not_found`; one about an ended task gets a verdict."""
    client, worker, offer = await begun(under, spec=AUTO)
    lost = await worker.report(Frame(offer | {"task": "no-such-task"}))
    check(lost.kind == "error" and lost.code == "not_found", "error not_found", lost)
    await worker.admitted(offer)
    await client.settled(offer.task)
    await verdict(worker, offer, "late", "another")


@coordinator("REPORT-2")
async def a_report_with_a_wrong_hash_changes_nothing(under: Coordinator) -> None:
    """The verdict is `invalid`, the task goes on, and a correct report is admitted."""
    client, worker, offer = await begun(under)
    generation = (await client.request("task.get", task=offer.task))["gen"]
    await verdict(worker, offer, "invalid", resultHash="sha256:" + "0" * 64)
    await verdict(worker, offer, "invalid", outcome="failed", resultHash=result_hash("completed", b"[]"))
    check((await client.request("task.get", task=offer.task))["gen"] == generation, "the same generation", "")
    await worker.admitted(offer)


@coordinator("REPORT-3", also=("OFFER-2",))
async def a_report_is_admitted_without_an_accept(under: Coordinator) -> None:
    """An agent that reports without having accepted is admitted, even if its lease has lapsed meanwhile."""
    _, worker, offer = await begun(under)
    await worker.admitted(offer)
    client, worker, offer = await begun(under, limits={"losses": 5}, timers={"offerMs": 150, "leaseMs": 150})
    await worker.send("credit", tasks=0, frames=256)
    await client.request("task.watch", task=offer.task)
    await client.take("task.event", event="expire")
    await worker.admitted(offer)


@coordinator("REPORT-3", also=("LEASE-8",))
async def a_report_from_an_open_offer_accepts_it(under: Coordinator) -> None:
    """An agent that reports under an offer that is not granted yet accepts it with the report."""
    client, first, old = await begun(under, timers={"offerMs": 5_000, "leaseMs": 150, "heartbeatMs": 50})
    await first.heartbeat(old)
    second = await under.peer(skills=(str(old.body["spec"]["skill"]),))
    offer = await second.offered(old.task)
    check(offer.body.get("granted") is False, "an offer that is not granted", offer)
    await second.admitted(offer, "second")
    await verdict(first, old, "stale")
    await client.reviewed(old.task)


@coordinator("REPORT-4")
async def one_report_is_admitted_under_a_fence(under: Coordinator) -> None:
    """The same report again is `duplicate`, another one `late`; the first result is the one to confirm."""
    client, worker, offer = await begun(under)
    await worker.admitted(offer, "one")
    await verdict(worker, offer, "duplicate", "one")
    await verdict(worker, offer, "late", "two")
    await verdict(worker, offer, "late", outcome="failed")
    review = await client.reviewed(offer.task)
    check(review.body.get("resultHash") == result_hash("completed", result("one")), "the first result's hash", review)
    await client.nothing("task.review")


@coordinator("REPORT-5")
async def a_retryable_failure_leads_to_another_attempt(under: Coordinator) -> None:
    """A failure that may be retried brings another offer; one that may not fails the task with reason `error`."""
    client, worker, offer = await begun(under)
    await worker.admitted(offer, outcome="failed", error=RETRY)
    again = await worker.offered(offer.task, attempt=2)
    check(again.fence > offer.fence, "a greater fence", again)
    await worker.admitted(again, outcome="failed", error=RETRY | {"retryable": False})
    await client.settled(offer.task, state="failed", reason="error")


@coordinator("REPORT-5")
async def an_agent_that_will_not_ends_the_task(under: Coordinator) -> None:
    """The outcome `rejected` makes the task `rejected`, and no other agent is asked."""
    client, worker, offer = await begun(under)
    other = await under.peer(skills=(str(offer.body["spec"]["skill"]),))
    await worker.admitted(offer, outcome="rejected")
    await client.settled(offer.task, state="rejected")
    await other.nothing("task.offer")


@coordinator("REPORT-5")
async def an_unasked_canceled_counts_as_given_back(under: Coordinator) -> None:
    """The outcome `canceled` of a task that was not canceled leads to another attempt."""
    client, worker, offer = await begun(under)
    await worker.admitted(offer, outcome="canceled")
    again = await worker.offered(offer.task, attempt=2)
    await worker.admitted(again)
    await client.reviewed(offer.task)


@coordinator("REPORT-6")
async def keeps_reports_without_authority_as_evidence(under: Coordinator) -> None:
    """Of four different reports by a stranger, each sent twice, none is in the task's evidence more than once."""
    client, worker, offer = await begun(under)
    stranger = await under.peer()
    for number in range(4):
        for _ in range(2):
            await verdict(stranger, offer, "not_holder", number)
    evidence = (await client.view(offer.task))["metadata"].get("evidence") or []
    hashes = [item.get("resultHash") for item in evidence]
    check(0 < len(hashes) == len(set(hashes)), "evidence, each report once", hashes)
    await verdict(worker, offer, "invalid", resultHash="sha256:" + "0" * 64)
    await worker.admitted(offer)
    await verdict(worker, offer, "duplicate")
    after = (await client.view(offer.task))["metadata"].get("evidence") or []
    check(after == evidence, "neither what is invalid nor a duplicate among it", after)


@coordinator("REPORT-8")
async def waits_a_while_before_the_next_attempt(under: Coordinator) -> None:
    """The second offer after a failure comes within the ceiling of the pause, a second."""
    _, worker, offer = await begun(under)
    await worker.admitted(offer, outcome="failed", error=RETRY)
    await worker.take("task.offer", task=offer.task, within=3.0)


@coordinator("ACCEPT-1", also=("REPORT-5", "TASK-11"))
async def with_auto_an_admitted_result_completes_the_task(under: Coordinator) -> None:
    """The delegator gets `task.settled` with the result, and no review."""
    client, worker, offer = await begun(under, spec=AUTO)
    await worker.admitted(offer, "the result")
    settled = await client.settled(offer.task, state="completed")
    is_whole = settled.payload == result("the result") and settled.body.get("confirmedBy") == "auto"
    check(is_whole, "the result, confirmed by auto", settled)
    await client.nothing("task.review")
    await worker.nothing("task.settled")


@coordinator("ACCEPT-2", also=("ACCEPT-3",))
async def a_result_waits_for_the_delegators_word(under: Coordinator) -> None:
    """The review has the result, its hash, its revision and its agent; the confirm completes the task."""
    client, worker, offer = await begun(under)
    await worker.admitted(offer, "the result")
    review = await client.reviewed(offer.task)
    body = review.body
    check(review.payload == result("the result"), "the result", review)
    check(body.get("resultHash") == result_hash("completed", review.payload), "its hash", review)
    check(body.get("rev") == 0 and body.get("agent") == worker.name, "revision 0, and whose it is", review)
    check(await client.state(offer.task) == "reported", "state reported", "")
    await client.confirm(review)
    await client.settled(offer.task, state="completed", confirmedBy=client.name)


@coordinator("ACCEPT-4")
async def a_word_on_another_result_is_refused(under: Coordinator) -> None:
    """A confirm of another hash is `conflict` and tells the current one; before a result it is `conflict` too."""
    client, worker, offer = await begun(under)
    wrong = "sha256:" + "0" * 64
    await client.refused("conflict", "task.confirm", task=offer.task, rev=0, resultHash=wrong)
    await worker.admitted(offer)
    review = await client.reviewed(offer.task)
    error = await client.refused("conflict", "task.confirm", task=offer.task, rev=0, resultHash=wrong)
    data = error.body.get("data") or {}
    check(data.get("rev") == 0 and data.get("resultHash") == review.body["resultHash"], "rev and resultHash", error)
    await client.refused("conflict", "task.confirm", task=offer.task, rev=1, resultHash=review.body["resultHash"])
    await client.confirm(review)


@coordinator("ACCEPT-5")
async def a_rejected_result_is_reworked_or_the_end(under: Coordinator) -> None:
    """With `rework` the task is offered for revision 1 and the old fence is spent; without, it fails, `rejected`."""
    client, worker, offer = await begun(under)
    await worker.admitted(offer, "one")
    review = await client.reviewed(offer.task)
    await client.confirm(review, "reject", rework=True, reasonCode="short", payload=parts("longer"))
    again = await worker.offered(offer.task, rev=1)
    old = await worker.report(offer, "one")
    check(old.body.get("verdict") in ("duplicate", "late", "stale"), "a verdict that is not admitted", old)
    await client.refused("conflict", "task.confirm", task=offer.task, rev=0, resultHash=review.body["resultHash"])
    await worker.admitted(again, "two")
    await client.confirm(await client.reviewed(offer.task), "reject")
    await client.settled(offer.task, state="failed", reason="rejected")


@coordinator("ACCEPT-5", also=("OFFER-7",))
async def every_revision_has_all_feedback_so_far(under: Coordinator) -> None:
    """A result that was sent back twice is offered with both rejections, each with its revision."""
    client, worker, offer = await begun(under)
    for word in ("longer", "shorter"):
        await worker.admitted(offer, word)
        said = {"rework": True, "payload": parts(word), "reasonCode": f"not {word}"}
        await client.confirm(await client.reviewed(offer.task), "reject", **said)
        offer = await worker.offered(offer.task)
    feedback = offer.body.get("feedback") or []
    told = [(item.get("rev"), as_bytes(item.get("payload")), item.get("reasonCode")) for item in feedback]
    expected = [(0, parts("longer"), "not longer"), (1, parts("shorter"), "not shorter")]
    check(told == expected, "the feedback on revisions 0 and 1", offer)


@coordinator("ACCEPT-6")
async def the_first_word_counts(under: Coordinator) -> None:
    """A repeated confirm is `ok`, also one that sent the result back; the opposite one is refused with `conflict`."""
    client, worker, offer = await begun(under)
    await worker.admitted(offer)
    review = await client.reviewed(offer.task)
    for _ in range(2):
        answer = await client.confirm(review)
        check(answer.kind == "ok" and answer.body.get("state") == "completed", "ok, completed", answer)
    answer = await client.confirm(review, "reject")
    check(answer.kind == "error" and answer.code == "conflict", "error conflict", answer)
    client, worker, offer = await begun(under)
    await worker.admitted(offer)
    review = await client.reviewed(offer.task)
    await client.confirm(review, "reject", rework=True)
    await worker.offered(offer.task, rev=1)
    answer = await client.confirm(review, "reject", rework=True)
    check(answer.kind == "ok", "ok", answer)
    answer = await client.confirm(review)
    check(answer.kind == "error" and answer.code == "conflict", "error conflict", answer)


@coordinator("ACCEPT-8", also=("ACCEPT-6",))
async def a_word_for_another_generation_does_not_count(under: Coordinator) -> None:
    """It is `generation_mismatch`, with the current generation; a repeat of the confirm that counted is `ok`."""
    client, worker, offer = await begun(under)
    await worker.admitted(offer)
    review = await client.reviewed(offer.task)
    found = await client.request("task.get", task=offer.task)
    generation = found["gen"]
    for verdict in ("accept", "reject"):
        answer = await client.confirm(review, verdict, ifGen=generation - 1)
        check(answer.kind == "error" and answer.code == "generation_mismatch", "error generation_mismatch", answer)
        data = answer.body.get("data") or {}
        is_told = data.get("generation") == generation and data.get("state") == "reported"
        check(is_told, f"generation {generation} and state reported in data", answer)
    wrong = "sha256:" + "0" * 64
    other = await client.confirm(review, ifGen=generation - 1, resultHash=wrong)
    check(other.kind == "error" and other.code == "conflict", "error conflict, as it is another result", other)
    check(await client.state(offer.task) == "reported", "state reported", "")
    for _ in range(2):
        answer = await client.confirm(review, ifGen=generation)
        check(answer.kind == "ok" and answer.body.get("state") == "completed", "ok, completed", answer)


@coordinator("ACCEPT-7")
async def silence_is_decided_by_a_timer(under: Coordinator) -> None:
    """Without a confirm within `confirmMs` the task ends, completed or failed by `timer`, unless results are held."""
    client, worker, offer = await begun(under, timers=LONG | {"confirmMs": 150, "cancelMs": 600_000})
    await client.request("task.watch", task=offer.task)
    await worker.admitted(offer)
    await client.reviewed(offer.task)
    settled = await client.settled(offer.task)
    told = (settled.body.get("state"), settled.body.get("reason", ""), settled.body.get("confirmedBy"))
    check(told in (("completed", "", "timer"), ("failed", "unconfirmed", "timer")), "an end by timer", settled)


@coordinator("ACCEPT-7", also=("ACCEPT-1",))
async def silence_decides_nothing_for_a_human(under: Coordinator) -> None:
    """A result that a human has to judge still waits when the timer has decided another one that came later."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    timers = {"confirmMs": 150}
    human = await client.delegate(skill, spec={"acceptance": {"evaluator": "human"}}, timers=timers)
    await worker.admitted(await worker.offered(human.task))
    other = await client.delegate(skill, timers=timers)
    await worker.admitted(await worker.offered(other.task))
    await client.settled(other.task)
    check(await client.state(human.task) == "reported", "the task reported", await client.state(human.task))


@coordinator("CANCEL-2", also=("TREE-4",))
async def a_cancel_goes_down_in_its_mode(under: Coordinator) -> None:
    """An agent at work below a task asked to end is asked too, in the same mode, before the task has ended."""
    skill, inner = under.skill(), under.skill("inner")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    helper = await under.peer(skills=(inner,))
    offer = await worker.offered((await client.delegate(skill, timers=LONG)).task)
    made = await worker.delegate(inner, parent=at(offer), timers=LONG)
    await helper.offered(made.task)
    await client.request("task.cancel", task=offer.task, mode="kill", graceMs=600_000)
    revoke = await helper.take("task.revoke", task=made.task)
    told = revoke.body.get("reason"), revoke.body.get("mode")
    check(told == ("cancel", "kill"), "task.revoke cancel, in mode kill", revoke)


@coordinator("CANCEL-1", also=("CANCEL-2", "CANCEL-5"))
async def a_task_nobody_works_on_is_canceled_at_once(under: Coordinator) -> None:
    """The answer is `will: canceled`, also to a repeat; the task is no longer offered to anybody."""
    client, skill = await under.peer(), under.skill()
    created = await client.delegate(skill)
    for _ in range(2):
        answer = await client.request("task.cancel", task=created.task)
        check(answer.kind == "ok" and answer.body.get("will") == "canceled", "will canceled", answer)
    worker = await under.peer(skills=(skill,))
    await worker.nothing("task.offer")


@coordinator("CANCEL-3")
async def a_cooperative_cancel_lets_a_result_win(under: Coordinator) -> None:
    """A completed report in `canceling` is admitted and may be confirmed; any other outcome cancels the task."""
    client, worker, offer = await begun(under)
    await worker.heartbeat(offer)
    answer = await client.request("task.cancel", task=offer.task, mode="coop")
    check(answer.body.get("will") == "pending", "will pending", answer)
    await worker.admitted(offer)
    answer = await client.confirm(await client.reviewed(offer.task))
    check(answer.body.get("state") == "completed", "completed", answer)
    client, worker, offer = await begun(under, timers=LONG)
    await worker.heartbeat(offer)
    await client.request("task.cancel", task=offer.task, mode="coop", graceMs=600_000)
    await worker.admitted(offer, outcome="canceled")
    await client.settled(offer.task, state="canceled")


@coordinator("CANCEL-4")
async def a_killing_cancel_takes_no_result(under: Coordinator) -> None:
    """In mode `kill` a completed report is `late`, and the task is canceled."""
    client, worker, offer = await begun(under, timers=LONG)
    await worker.heartbeat(offer)
    await client.request("task.cancel", task=offer.task, mode="kill", graceMs=60_000)
    revoke = await worker.take("task.revoke", task=offer.task)
    check(revoke.body.get("mode") == "kill", "mode kill", revoke)
    await verdict(worker, offer, "late")
    await client.settled(offer.task, state="canceled")


@coordinator("CANCEL-6")
async def a_skipping_cancel_asks_nobody(under: Coordinator) -> None:
    """In mode `skip` the task is canceled at once even if an agent is at work, and that agent is told to stop."""
    client, worker, offer = await begun(under)
    await worker.heartbeat(offer)
    answer = await client.request("task.cancel", task=offer.task, mode="skip")
    check(answer.body.get("will") == "canceled", "will canceled", answer)
    revoke = await worker.take("task.revoke", task=offer.task)
    check(revoke.body.get("graceMs", 0) == 0, "graceMs 0", revoke)
    await verdict(worker, offer, "late")


@coordinator("CANCEL-7")
async def a_cancel_ends_with_its_grace(under: Coordinator) -> None:
    """A task whose agent goes on sending heartbeats is canceled after the grace, the one that the cancel names or the
    task's own."""
    for grace, own in ((150, 600_000), (None, 150)):
        client, worker, offer = await begun(under, timers=LONG | {"cancelMs": own})
        await worker.heartbeat(offer)
        await client.request("task.cancel", task=offer.task, graceMs=grace)
        await worker.take("task.revoke", task=offer.task, fence=offer.fence)
        await beats_until_revoked(worker, offer)
        await client.settled(offer.task, state="canceled")


@coordinator("CANCEL-7", also=("LEASE-7",))
async def what_is_given_back_while_it_is_to_end_is_canceled(under: Coordinator) -> None:
    """A yield in `canceling` ends the task, and no other agent is offered it."""
    client, worker, offer = await begun(under, timers=LONG)
    await worker.heartbeat(offer)
    other = await under.peer(skills=(str(offer.body["spec"]["skill"]),))
    await client.request("task.cancel", task=offer.task, graceMs=600_000)
    answer = await worker.request("task.yield", **at(offer))
    check(answer.kind == "ok", "ok", answer)
    await client.settled(offer.task, state="canceled")
    await other.nothing("task.offer")


@coordinator("CANCEL-8")
async def a_second_cancel_may_be_sharper(under: Coordinator) -> None:
    """`kill` after `coop` counts, `coop` after `kill` changes nothing; after a result a cancel is `too_late`."""
    client, worker, offer = await begun(under)
    await worker.heartbeat(offer)
    for mode in ("coop", "kill", "coop"):
        answer = await client.request("task.cancel", task=offer.task, mode=mode, graceMs=60_000)
        check(answer.body.get("will") == "pending", "will pending", answer)
    lease = await worker.heartbeat(offer)
    check("cancel:kill" in (lease.body.get("directives") or []), "the directive cancel:kill", lease)
    await verdict(worker, offer, "late")
    client, worker, offer = await begun(under)
    await worker.heartbeat(offer)
    await client.request("task.cancel", task=offer.task)
    await worker.admitted(offer)
    answer = await client.request("task.cancel", task=offer.task)
    check(answer.body.get("will") == "too_late", "will too_late", answer)
