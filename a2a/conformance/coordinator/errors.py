"""Cases of sections 13 and 19: time and refusals."""

from __future__ import annotations

import functools
from typing import Any

from ..case import Role, case
from ..conversation import check
from ..peer import Coordinator
from ..scenes import LONG, at, beats_until_revoked, ok, soon
from ..wire import count, encode

coordinator = functools.partial(case, Role.COORDINATOR)

CODES = (
    *("version", "unsupported_kind", "auth", "forbidden", "malformed", "schema", "not_found", "gone", "stale"),
    *("not_holder", "generation_mismatch", "idempotency_mismatch", "conflict", "denied", "deadlock", "cycle", "depth"),
    *("budget", "quota", "no_capable_agent", "deadline", "too_large", "already_answered", "not_cancelable", "frozen"),
    "unavailable",
)
RETRYABLE = ("generation_mismatch", "conflict", "denied", "deadlock", "quota", "no_capable_agent", "unavailable")


@coordinator("TIME-1", also=("ROUTE-6",))
async def a_task_nobody_takes_fails_after_its_time(under: Coordinator) -> None:
    """With `queueMs` a task that no agent takes fails with `no_capable_agent`."""
    client = await under.peer()
    created = await client.delegate(under.skill(), timers={"queueMs": 150})
    await client.settled(created.task, state="failed", reason="no_capable_agent")


@coordinator("TIME-1", also=("ROUTE-6",))
async def the_time_to_be_taken_runs_each_time_a_task_waits(under: Coordinator) -> None:
    """A task given back after its `queueMs` waits for the whole time again, and then fails with `no_capable_agent`."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers=LONG | {"queueMs": 1_500})
    offer = await worker.offered(created.task)
    other = await client.delegate(under.skill("nobody"), timers={"queueMs": 1_600})
    await client.settled(other.task)
    await ok(worker, "task.decline", retryAfterMs=600_000, **at(offer))
    await client.nothing("task.settled", task=created.task)
    await client.settled(created.task, state="failed", reason="no_capable_agent")


@coordinator("TIME-6", also=("LIMIT-8", "TIME-3"))
async def an_offer_tells_the_time_to_the_deadline(under: Coordinator) -> None:
    """An offer has what is left of the deadline; the task shows the deadline and the task that it redrives."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    first = await client.delegate(under.skill("nobody"))
    created = await client.delegate(skill, limits={"deadlineMs": 600_000}, redriveOf=first.task)
    offer = await worker.offered(created.task)
    check(0 < count(offer.body.get("deadlineMs")) <= 600_000, "deadlineMs of at most 600,000", offer)
    metadata = (await client.view(created.task))["metadata"]
    told = metadata.get("redriveOf"), bool(metadata.get("deadlineAt"))
    check(told == (first.task, True), "redriveOf and deadlineAt", metadata)


@coordinator("TIME-3", also=("FENCE-3",))
async def a_task_fails_at_its_deadline(under: Coordinator) -> None:
    """A task under way at its deadline fails, its holder is told to stop, and its report is `late`."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, limits={"deadlineMs": 200})
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    await client.settled(created.task, state="failed", reason="deadline")
    revoke = await worker.take("task.revoke", task=created.task)
    check(revoke.body.get("reason") == "deadline", "reason deadline", revoke)
    verdict = await worker.report(offer)
    check(verdict.body.get("verdict") == "late", "verdict late", verdict)


@coordinator("TIME-3")
async def a_result_in_time_is_not_lost_to_the_deadline(under: Coordinator) -> None:
    """A result that was reported before the deadline still waits for its confirm after the deadline."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, limits={"deadlineMs": 300}, timers={"confirmMs": 60_000})
    await worker.admitted(await worker.offered(created.task))
    review = await client.reviewed(created.task)
    other = await client.delegate(under.skill(), limits={"deadlineMs": 400})
    await client.settled(other.task, reason="deadline")  # a deadline later than the first task's has passed
    answer = await client.confirm(review)
    check(answer.body.get("state") == "completed", "completed", answer)


@coordinator("TIME-6", also=("MAIL-6",))
async def what_travels_is_what_remains(under: Coordinator) -> None:
    """An offer that is sent again names less time until the deadline than before."""
    name, skill = under.name("worker"), under.skill()
    client, worker = await under.peer(), await under.peer(name, skills=(skill,), instanceId="one", incarnation=9)
    worker.acknowledges = False
    created = await client.delegate(skill, limits={"deadlineMs": 60_000}, timers={"offerMs": 30_000, "leaseMs": 30_000})
    first = await worker.offered(created.task)
    worker.cut()
    other = await client.delegate(under.skill(), timers={"queueMs": 100})
    await client.settled(other.task)  # so that some time has passed
    back = await under.peer(name, skills=(skill,), instanceId="one", incarnation=9)
    again = await back.offered(created.task)
    check(0 < again.body["deadlineMs"] <= first.body["deadlineMs"] - 100, "at least 100 ms less", again)


@coordinator("TIME-7")
async def an_attempt_has_its_time(under: Coordinator) -> None:
    """With `attemptMs` an attempt that makes progress is still revoked for `attempt`."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers=LONG | {"attemptMs": 200})
    offer = await worker.offered(created.task)
    revoke = await beats_until_revoked(worker, offer, progressNo=1)
    check(revoke.body.get("reason") == "attempt", "reason attempt", revoke)


@coordinator("TIME-7", also=("ASK-6",))
async def nothing_hangs_that_waits_for_an_answer(under: Coordinator) -> None:
    """An answer that takes longer than `stallMs` and `attemptMs` costs the attempt neither, then or afterwards."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    timers = LONG | {"stallMs": 1_000, "attemptMs": 1_000}
    offer = await worker.offered((await client.delegate(skill, timers=timers)).task)
    await ok(worker, "task.ask", askNo=1, payload=b"[]", default=b"[]", timeoutMs=1_200, **at(offer))
    await worker.take("task.answer", task=offer.task, askNo=1)
    # The coordinator's own clock has to go on before the check: a task nobody takes fails.
    after = await client.delegate(under.skill("nobody"), timers={"queueMs": 100})
    await client.settled(after.task, reason="no_capable_agent")
    await worker.nothing("task.revoke", task=offer.task)
    await worker.admitted(offer)


@coordinator("ERR-1", also=("ERR-2",))
async def refusals_have_a_code_of_the_list_and_a_detail(under: Coordinator) -> None:
    """Refusals of many kinds have a code of the list, a detail in words, and `retryable` as the list says."""
    client = await under.peer()
    created = await client.delegate(under.skill())
    refusals = [
        await client.request("task.get", task="no-such-task"),
        await client.request("no.such.kind"),
        await client.request("task.get"),
        await client.request("task.answer", task=created.task, askNo=1, payload=b"[]"),
        await client.request("task.confirm", task=created.task, rev=0, resultHash="sha256:" + "0" * 64),
        await client.request("task.handoff", task=created.task, fence=1),
        await client.request("conflict.vote", conflict="no-such-conflict"),
        await client.request("agent.update", agent=under.name("nobody"), status="draining"),
    ]
    for error in refusals:
        check(error.kind == "error" and error.code in CODES, "an error with a code of the list", error)
        check(bool(error.body.get("detail")), "a detail", error)
        is_retryable = error.body.get("retryable", False)
        check(is_retryable == (error.code in RETRYABLE), f"retryable as the list says of {error.code}", error)


@coordinator("ERR-3")
async def a_frame_that_is_wrong_inside_does_not_stop_the_others(under: Coordinator) -> None:
    """Of three frames in one message the middle one is `malformed`, with its id; the others are answered."""
    peer = await under.peer()
    frames = [peer.frame("ping", nonce="1"), peer.frame("task.get", task=7), peer.frame("ping", nonce="2")]
    await peer.send_frames(*frames)
    answers = [await peer.reply(frame["id"]) for frame in frames]
    kinds = [answer.kind for answer in answers]
    check(kinds == ["pong", "error", "pong"] and answers[1].code == "malformed", "pong, error malformed, pong", answers)


@coordinator("ERR-3", also=("WIRE-2", "WIRE-12"))
async def the_frames_in_front_of_what_cannot_be_read_are_taken(under: Coordinator) -> None:
    """If a message breaks off after a delegation, the task is made, and the connection ends."""
    client, skill = await under.peer(), under.skill()
    frame = client.frame("task.delegate", **client.delegation(skill))
    await client.send_bytes(encode([frame], client.encoding) + (b'\n{"id"' if client.is_json else b"\x81"))
    created = await client.reply(frame["id"], "task.delegate")
    check(created.kind == "task.created", "task.created", created)
    error = await client.take("error")
    check(error.code == "malformed", "error malformed", error)
    await client.ended()
    other = await under.peer()
    check(await other.state(created.task) == "queued", "the task", await other.state(created.task))


@coordinator("ERR-4")
async def a_refused_request_changes_nothing(under: Coordinator) -> None:
    """Refused requests of many kinds leave a task's generation and state unchanged."""
    skill = under.skill()
    worker, client, other = await under.peer(skills=(skill,)), await under.peer(), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    generation = (await client.request("task.get", task=created.task))["gen"]
    digest = "sha256:" + "0" * 64
    for kind, fields in (
        ("task.cancel", {}),
        ("task.steer", {"key": "k", "payload": b"[]"}),
        ("task.confirm", {"rev": 0, "resultHash": digest}),
        ("task.ask", {"fence": offer.fence, "askNo": 1, "payload": b"[]"}),
        ("task.yield", {"fence": offer.fence}),
        ("task.decline", {"fence": offer.fence}),
        ("task.artifact", {"fence": offer.fence, "artifactId": "a", "chunkNo": 0, "payload": b"[]"}),
    ):
        answer = await other.request(kind, task=created.task, **fields)
        check(answer.kind == "error", f"an error to {kind}", answer)
    found = await client.request("task.get", task=created.task)
    state = found.body["view"]["metadata"]["state"]
    check(found["gen"] == generation and state == "leased", f"generation {generation}, leased", found)


@coordinator("ERR-5", also=("ERR-6", "ERR-7"))
async def keeps_who_wanted_what_and_might_not(under: Coordinator) -> None:
    """A cancel by a stranger is shown with the task; of fifty alike within a minute, at most two are."""
    client, other = await under.peer(), await under.peer()
    created = await client.delegate(under.skill())
    for _ in range(50):
        await other.refused("forbidden", "task.cancel", task=created.task)

    async def shown() -> list[dict[str, Any]]:
        return (await client.view(created.task))["metadata"].get("refused") or []

    refused = await soon(client, shown, "the refusal with the task, soon after its answer (ERR-7)")
    kept = [item for item in refused if item.get("kind") == "task.cancel" and item.get("agent") == other.name]
    check(1 <= len(kept) <= 2 and kept[0].get("code") == "forbidden", "one or two forbidden task.cancel", refused)
