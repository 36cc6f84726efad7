"""Cases of section 10: artifacts, questions, checkpoints, steering, handing on."""

from __future__ import annotations

import functools
import hashlib

from ..case import Need, Role, case
from ..conversation import check
from ..peer import Coordinator, card
from ..scenes import AUTO, LONG, at, begun, ok
from ..wire import as_bytes, parts

coordinator = functools.partial(case, Role.COORDINATOR)


@coordinator("ART-1", also=("WATCH-4", "READ-1"))
async def an_artifact_is_seen_as_it_is_made(under: Coordinator) -> None:
    """A chunk goes to a watcher and shows in the task at once, and is not part of the result."""
    client, worker, offer = await begun(under)
    await client.request("task.watch", task=offer.task)
    await ok(worker, "task.artifact", artifactId="log", chunkNo=0, payload=parts("a"), lastChunk=False, **at(offer))
    event = await client.take("task.event", event="artifact")
    check(event.payload == parts("a"), "the chunk in the event", event)
    found = await client.request("task.get", task=offer.task)
    artifacts = found.body.get("artifacts") or [{}]
    check(artifacts[0].get("artifactId") == "log" and artifacts[0].get("complete") is False, "log, incomplete", found)
    await worker.admitted(offer, "result")
    review = await client.reviewed(offer.task)
    check(b"result" in review.payload and b"log" not in review.payload, "a result without the artifact", review)


@coordinator("ART-2")
async def chunks_are_numbered(under: Coordinator) -> None:
    """A repeated chunk is `ok` and changes nothing; one that leaves a gap is refused with `conflict`."""
    client, worker, offer = await begun(under)
    chunk = {"artifactId": "log", "lastChunk": False} | at(offer)
    await ok(worker, "task.artifact", chunkNo=0, payload=parts(0), **chunk)
    for _ in range(2):
        await ok(worker, "task.artifact", chunkNo=1, append=True, payload=parts(1), **chunk)
    await worker.refused("conflict", "task.artifact", chunkNo=3, append=True, payload=parts(3), **chunk)
    found = await client.request("task.get", task=offer.task)
    chunks = [as_bytes(payload) for payload in found.body["artifacts"][0].get("chunks", [])]
    check(chunks == [parts(0), parts(1)], "two chunks", found)


@coordinator("ART-2", also=("ART-1",))
async def an_artifact_begins_anew(under: Coordinator) -> None:
    """`append: false` with a higher number leaves one chunk; an attempt may begin with any number."""
    client, worker, offer = await begun(under)
    chunk = {"artifactId": "log", "name": "the log"} | at(offer)
    await ok(worker, "task.artifact", chunkNo=5, payload=parts("old"), lastChunk=False, **chunk)
    await ok(worker, "task.artifact", chunkNo=5, payload=parts("again"), **chunk)
    digest = "sha256:" + hashlib.sha256(parts("new")).hexdigest()
    await ok(worker, "task.artifact", chunkNo=8, payload=parts("new"), digest=digest, **chunk)
    await ok(worker, "task.artifact", chunkNo=8, payload=parts("again"), **chunk)
    artifact = (await client.request("task.get", task=offer.task)).body["artifacts"][0]
    chunks = [as_bytes(payload) for payload in artifact.get("chunks", [])]
    check((chunks, artifact.get("name")) == ([parts("new")], "the log"), "the chunk behind, and the name", artifact)
    await ok(worker, "task.yield", **at(offer))
    again = await worker.offered(offer.task, attempt=2)
    await ok(worker, "task.artifact", artifactId="log", chunkNo=1, append=True, payload=parts("next"), **at(again))
    artifact = (await client.request("task.get", task=offer.task)).body["artifacts"][0]
    chunks = [as_bytes(payload) for payload in artifact.get("chunks", [])]
    check((chunks, artifact.get("fence")) == ([parts("next")], again.fence), "that of the next attempt alone", artifact)
    late = await worker.request("task.artifact", chunkNo=9, payload=parts("late"), **chunk)
    check(late.kind == "error" and late.code == "stale", "error stale under the fence before", late)


@coordinator("ART-3")
async def what_an_ended_attempt_streamed_is_discarded_and_readable(under: Coordinator) -> None:
    """Once another attempt has the task, the artifact of the attempt before stays, marked as discarded."""
    client, worker, offer = await begun(under)
    await ok(worker, "task.artifact", artifactId="log", chunkNo=0, payload=parts("old"), **at(offer))
    await ok(worker, "agent.update", status="draining")
    await ok(worker, "task.yield", **at(offer))
    artifacts = (await client.request("task.get", task=offer.task)).body.get("artifacts") or [{}]
    check(not artifacts[0].get("discarded"), "the artifact, not discarded while nobody has the task", artifacts)
    await ok(worker, "agent.update", status="ready")
    again = await worker.offered(offer.task, attempt=2)
    await worker.heartbeat(again)
    artifacts = (await client.request("task.get", task=offer.task)).body.get("artifacts") or [{}]
    check(artifacts[0].get("discarded") is True, "the artifact, discarded", artifacts)


@coordinator("ART-4", also=("REPORT-2",))
async def a_report_commits_the_artifacts_it_names(under: Coordinator) -> None:
    """A named artifact that was not streamed to its end makes the verdict `invalid`; a whole one is committed."""
    client, worker, offer = await begun(under, spec=AUTO)
    digest = "sha256:" + hashlib.sha256(parts(0) + parts(1)).hexdigest()
    chunk = {"artifactId": "data"} | at(offer)
    await ok(worker, "task.artifact", artifactId="log", chunkNo=0, payload=parts("no result"), **at(offer))
    await ok(worker, "task.artifact", chunkNo=0, payload=parts(0), lastChunk=False, **chunk)
    incomplete = await worker.report(offer, artifacts=[{"artifactId": "data"}])
    check(incomplete.body.get("verdict") == "invalid", "verdict invalid", incomplete)
    wrong = {"chunkNo": 1, "append": True, "payload": parts(1), "digest": "sha256:" + "0" * 64}
    await worker.refused("conflict", "task.artifact", **wrong, **chunk)
    await ok(worker, "task.artifact", **(wrong | {"digest": digest}), **chunk)
    await worker.admitted(offer, artifacts=[{"artifactId": "data", "digest": digest}])
    await client.settled(offer.task, state="completed")
    artifacts = (await client.request("task.get", task=offer.task)).body.get("artifacts") or []
    committed = [item.get("artifactId") for item in artifacts if item.get("committed")]
    check(committed == ["data"], "the artifact that was named committed, and no other", artifacts)


@coordinator("ART-4", also=("ART-3",))
async def a_report_names_what_its_own_attempt_streamed(under: Coordinator) -> None:
    """Naming an artifact of the attempt before, an unknown one or another digest is `invalid`, also among several;
    nothing is committed before the delegator confirms."""
    client, worker, offer = await begun(under)
    await ok(worker, "task.artifact", artifactId="old", chunkNo=0, payload=parts(0), **at(offer))
    await ok(worker, "task.yield", **at(offer))
    again = await worker.offered(offer.task, attempt=2)
    await ok(worker, "task.artifact", artifactId="new", chunkNo=0, payload=parts(1), **at(again))
    for wrong in ({"artifactId": "old"}, {"artifactId": "none"}, {"artifactId": "new", "digest": "sha256:" + "0" * 64}):
        named = [{"artifactId": "new"}, wrong] if wrong["artifactId"] != "new" else [wrong]
        verdict = await worker.report(again, artifacts=named)
        check(verdict.body.get("verdict") == "invalid", f"verdict invalid for {wrong['artifactId']}", verdict)
    await worker.admitted(again, artifacts=[{"artifactId": "new"}])
    review = await client.reviewed(offer.task)
    for is_said in (False, True):
        artifacts = (await client.request("task.get", task=offer.task)).body.get("artifacts") or []
        committed = [item.get("artifactId") for item in artifacts if item.get("committed")]
        check(committed == (["new"] if is_said else []), "committed with the word alone", artifacts)
        await client.confirm(review)


@coordinator("ASK-1", also=("ASK-3", "ASK-5", "AUTH-5"))
async def a_question_parks_the_task_until_it_is_answered(under: Coordinator) -> None:
    """The delegator gets the question, the task shows TASK_STATE_INPUT_REQUIRED, the holder gets the answer."""
    client, worker, offer = await begun(under)
    await ok(worker, "task.ask", askNo=1, payload=parts("which?"), **at(offer))
    question = await client.take("task.ask", task=offer.task)
    is_plain = question.payload == parts("which?") and question.get("fence") is None
    check(is_plain, "the question, without a fence", question)
    view = await client.view(offer.task)
    check(view["status"]["state"] == "TASK_STATE_INPUT_REQUIRED", "TASK_STATE_INPUT_REQUIRED", view["status"])
    lease = await worker.heartbeat(offer)
    check(lease.kind == "task.lease", "task.lease: a hot question keeps the attempt", lease)
    other = await under.peer()
    await other.refused("forbidden", "task.answer", task=offer.task, askNo=1, payload=parts("mine"))
    await ok(client, "task.answer", task=offer.task, askNo=1, payload=parts("this"))
    answer = await worker.take("task.answer", task=offer.task, askNo=1)
    check(answer.payload == parts("this"), "the answer", answer)
    check(await client.state(offer.task) == "leased", "the task leased again", "")
    await worker.admitted(offer)


@coordinator("ASK-2")
async def a_question_is_known_by_its_number(under: Coordinator) -> None:
    """A repeated question is `ok` and asked once; its number with other words is refused with `conflict`."""
    client, worker, offer = await begun(under)
    for _ in range(2):
        await ok(worker, "task.ask", askNo=1, payload=parts("which?"), **at(offer))
    await worker.refused("conflict", "task.ask", askNo=1, payload=parts("another?"), **at(offer))
    await client.take("task.ask", task=offer.task)
    await client.nothing("task.ask")


@coordinator("ASK-2", also=("ASK-7", "ASK-8", "LEASE-7"))
async def a_question_of_an_attempt_before_is_known(under: Coordinator) -> None:
    """A question repeated by the next attempt is `ok` and asks nobody; the number of a withdrawn question is free."""
    client, worker, offer = await begun(under, timers=LONG)
    await ok(worker, "task.ask", askNo=1, payload=parts("which?"), **at(offer))
    await client.take("task.ask", task=offer.task, askNo=1)
    await ok(worker, "task.yield", **at(offer))
    await ok(client, "task.answer", task=offer.task, askNo=1, payload=parts("this"))
    offer = await worker.offered(offer.task, attempt=2)
    await ok(worker, "task.ask", askNo=1, payload=parts("which?"), **at(offer))
    await worker.refused("conflict", "task.ask", askNo=1, payload=parts("another?"), **at(offer))
    check(await client.state(offer.task) == "leased", "state leased: nothing was asked", "")
    await client.nothing("task.ask")
    await ok(worker, "task.ask", askNo=2, payload=parts("and then?"), **at(offer))
    await client.take("task.ask", task=offer.task, askNo=2)
    await worker.admitted(offer)
    await client.confirm(await client.reviewed(offer.task), "reject", rework=True)
    offer = await worker.offered(offer.task, rev=1)
    await ok(worker, "task.ask", askNo=2, payload=parts("or else?"), **at(offer))
    question = await client.take("task.ask", task=offer.task, askNo=2)
    check(question.payload == parts("or else?"), "the question in its new words", question)


@coordinator("ASK-4")
async def the_first_answer_counts(under: Coordinator) -> None:
    """A repeated answer is `ok`; another is refused with `already_answered`, which tells the one that counts."""
    client, worker, offer = await begun(under)
    await ok(worker, "task.ask", askNo=1, payload=parts("which?"), **at(offer))
    for _ in range(2):
        await ok(client, "task.answer", task=offer.task, askNo=1, payload=parts("this"))
    error = await client.refused("already_answered", "task.answer", task=offer.task, askNo=1, payload=parts("that"))
    data = error.body.get("data") or {}
    check(data.get("askNo") == 1 and as_bytes(data.get("answer")) == parts("this"), "askNo 1 and the answer", error)
    asks = (await client.request("task.get", task=offer.task)).body.get("asks") or [{}]
    shown = [(ask.get("askNo"), as_bytes(ask.get("answer")), ask.get("by")) for ask in asks]
    check(shown == [(1, parts("this"), client.name)], "the question with its answer, and whose that is", asks)


@coordinator("ASK-4")
async def an_answer_may_be_for_one_generation_alone(under: Coordinator) -> None:
    """An answer with `ifGen` of an earlier generation is refused with `generation_mismatch`."""
    client, worker, offer = await begun(under)
    await ok(worker, "task.ask", askNo=1, payload=parts("which?"), **at(offer))
    answer = {"task": offer.task, "askNo": 1, "payload": parts("this")}
    await client.refused("generation_mismatch", "task.answer", ifGen=1, **answer)
    generation = (await client.request("task.get", task=offer.task))["gen"]
    await ok(client, "task.answer", ifGen=generation, **answer)


@coordinator("ASK-5", also=("ASK-7", "ROUTE-4"))
async def a_cold_question_lets_the_attempt_go(under: Coordinator) -> None:
    """With `hold: cold` the fence is spent; the answer comes with a new offer, to the agent that asked."""
    client, worker, offer = await begun(under)
    await under.peer(skills=(str(offer.body["spec"]["skill"]),))
    await ok(worker, "task.ask", askNo=1, payload=parts("which?"), hold="cold", **at(offer))
    revoke = await worker.heartbeat(offer)
    check(revoke.kind == "task.revoke", "task.revoke", revoke)
    await ok(client, "task.answer", task=offer.task, askNo=1, payload=parts("this"))
    again = await worker.offered(offer.task, attempt=2)
    answers = again.body.get("answers") or [{}]
    is_told = answers[0].get("askNo") == 1 and as_bytes(answers[0].get("payload")) == parts("this")
    check(is_told, "the answer in the offer", again)
    await worker.admitted(again)


@coordinator("ASK-5", also=("ROUTE-4",))
async def the_answer_to_a_cold_question_goes_to_who_asked(under: Coordinator) -> None:
    """The agent that asked comes first for the new offer, before an agent that has less to do."""
    client, worker, offer = await begun(under)
    skill = str(offer.body["spec"]["skill"])
    await worker.offered((await client.delegate(skill, "more", timers=LONG)).task)
    await ok(worker, "task.ask", askNo=1, payload=parts("which?"), hold="cold", **at(offer))
    await under.peer(skills=(skill,))
    await ok(client, "task.answer", task=offer.task, askNo=1, payload=parts("this"))
    await worker.offered(offer.task, attempt=2)


@coordinator("ASK-6", also=("TIME-1",))
async def a_question_nobody_answers_has_its_default(under: Coordinator) -> None:
    """After its timeout a question is answered by its `default`; without one the task fails, `unanswered`."""
    client, worker, offer = await begun(under)
    asked = {"askNo": 1, "payload": parts("which?"), "timeoutMs": 150}
    await ok(worker, "task.ask", default=parts("any"), **asked, **at(offer))
    answer = await worker.take("task.answer", task=offer.task)
    check(answer.payload == parts("any"), "the default", answer)
    await worker.admitted(offer)
    client, worker, offer = await begun(under)
    await ok(worker, "task.ask", **asked, **at(offer))
    await client.settled(offer.task, state="failed", reason="unanswered")


@coordinator("ASK-8", also=("REPORT-5",))
async def a_report_withdraws_the_open_questions(under: Coordinator) -> None:
    """After a result was reported without the answer, the answer is refused with `conflict`."""
    client, worker, offer = await begun(under)
    await ok(worker, "task.ask", askNo=1, payload=parts("which?"), **at(offer))
    await worker.admitted(offer)
    await client.refused("conflict", "task.answer", task=offer.task, askNo=1, payload=parts("this"))


@coordinator("CHECK-1", also=("CHECK-3", "OFFER-7"))
async def the_next_attempt_goes_on_from_the_checkpoint(under: Coordinator) -> None:
    """The offer after a lost attempt carries its newest checkpoint."""
    client, worker, offer = await begun(under, timers={"leaseMs": 200, "offerMs": 200, "heartbeatMs": 50})
    for number in (1, 2):
        await ok(worker, "task.checkpoint", cpNo=number, baseCp=number - 1, payload=parts(number), **at(offer))
    second = await under.peer(skills=(str(offer.body["spec"]["skill"]),))
    again = await second.offered(offer.task)
    checkpoint = again.body.get("checkpoint") or {}
    check(checkpoint.get("cpNo") == 2 and as_bytes(checkpoint.get("payload")) == parts(2), "checkpoint 2", again)
    check(checkpoint.get("fence") == offer.fence and checkpoint.get("agent") == worker.name, "whose it is", again)
    await client.settle()


@coordinator("CHECK-2")
async def checkpoints_follow_one_another(under: Coordinator) -> None:
    """A checkpoint that is not based on the newest, or not above it, is refused, and told which is the newest."""
    _, worker, offer = await begun(under)
    await ok(worker, "task.checkpoint", cpNo=3, payload=parts("three"), **at(offer))
    await ok(worker, "task.checkpoint", cpNo=3, payload=parts("three"), **at(offer))
    for number, base in ((4, 2), (3, 3), (2, 3)):
        error = await worker.refused(
            "conflict", "task.checkpoint", cpNo=number, baseCp=base, payload=parts("x"), **at(offer)
        )
        check((error.body.get("data") or {}).get("cpNo") == 3, "data.cpNo 3", error)
    await ok(worker, "task.checkpoint", cpNo=4, baseCp=3, payload=parts("four"), **at(offer))


@coordinator("CHECK-3")
async def a_checkpoint_goes_to_whom_it_is_for(under: Coordinator) -> None:
    """A checkpoint that is not portable, or of a format the next agent does not take, is not in its offer."""
    for fields in ({"portable": False}, {"format": "odd/2"}):
        _, worker, offer = await begun(under, timers={"leaseMs": 200, "offerMs": 200, "heartbeatMs": 50})
        await ok(worker, "task.checkpoint", cpNo=1, payload=parts("mine"), **fields, **at(offer))
        skill, name = str(offer.body["spec"]["skill"]), under.name("worker")
        described = card(name, skill)
        if "format" in fields:
            described["skills"][0]["checkpointFormats"] = ["even/1"]
        second = await under.peer(name, skills=(skill,), card=described)
        again = await second.offered(offer.task)
        check(not again.body.get("checkpoint"), "no checkpoint", again)


@coordinator("STEER-1", also=("OFFER-7",))
async def a_word_gets_to_who_is_at_work(under: Coordinator) -> None:
    """The holder gets the word by mailbox, and the next attempt gets it in its offer."""
    client, worker, offer = await begun(under)
    await ok(client, "task.steer", task=offer.task, key="one", payload=parts("faster"))
    word = await worker.take("task.steer", task=offer.task)
    check(word.payload == parts("faster") and word.body.get("steerNo") == 1, "the word, steerNo 1", word)
    await ok(worker, "task.yield", **at(offer))
    again = await worker.offered(offer.task, attempt=2)
    steers = again.body.get("steers") or [{}]
    check(as_bytes(steers[0].get("payload")) == parts("faster"), "the word in the offer", again)
    other = await under.peer()
    await other.refused("forbidden", "task.steer", task=offer.task, key="two", payload=parts("slower"))


@coordinator("STEER-1", also=("ASK-3", "LEASE-8"))
async def what_was_said_while_nobody_was_heard_gets_to_who_revives(under: Coordinator) -> None:
    """A word and an answer given after the lease has lapsed come by mailbox when the attempt revives."""
    client, worker, offer = await begun(under, timers={"leaseMs": 600, "offerMs": 60_000, "heartbeatMs": 100})
    await client.request("task.watch", task=offer.task)
    await ok(worker, "task.ask", askNo=1, payload=parts("which?"), **at(offer))
    await client.take("task.event", event="expire")
    await ok(client, "task.steer", task=offer.task, key="one", payload=parts("faster"))
    await ok(client, "task.answer", task=offer.task, askNo=1, payload=parts("this"))
    lease = await worker.heartbeat(offer)
    check(lease.kind == "task.lease", "task.lease: the attempt revives", lease)
    await worker.take("task.steer", task=offer.task)
    await worker.take("task.answer", task=offer.task, askNo=1)


@coordinator("STEER-1")
async def a_word_to_what_was_reported_comes_too_late(under: Coordinator) -> None:
    """A word to a task whose result awaits its delegator is refused with `conflict`."""
    client, worker, offer = await begun(under)
    await worker.admitted(offer)
    await client.refused("conflict", "task.steer", task=offer.task, key="one", payload=parts("faster"))


@coordinator("STEER-1", also=("ASK-4",))
async def a_word_may_be_for_one_generation_alone(under: Coordinator) -> None:
    """A word with the `ifGen` of an earlier generation is refused with `generation_mismatch` and not delivered."""
    client, worker, offer = await begun(under)
    generation = (await client.request("task.get", task=offer.task))["gen"]
    word = {"task": offer.task, "payload": parts("faster")}
    error = await client.refused("generation_mismatch", "task.steer", key="one", ifGen=generation - 1, **word)
    told = (error.body.get("data") or {}).get("generation")
    check(told == generation, f"data.generation {generation}", error)
    await worker.nothing("task.steer")
    await ok(client, "task.steer", key="one", ifGen=generation, **word)


@coordinator("STEER-2")
async def a_word_is_known_by_its_key(under: Coordinator) -> None:
    """A repeated word is delivered once; its key with another word is refused with `idempotency_mismatch`."""
    client, worker, offer = await begun(under)
    for _ in range(2):
        await ok(client, "task.steer", task=offer.task, key="one", payload=parts("faster"))
    await client.refused("idempotency_mismatch", "task.steer", task=offer.task, key="one", payload=parts("slower"))
    await worker.take("task.steer", task=offer.task)
    await worker.nothing("task.steer")


@coordinator("STEER-3", also=("LEASE-10",))
async def a_word_may_interrupt(under: Coordinator) -> None:
    """With `mode: interrupt` the attempt is revoked for `steer`, and the next attempt begins with the word."""
    client, worker, offer = await begun(under, timers=LONG | {"cancelMs": 600_000})
    await worker.heartbeat(offer)
    await ok(client, "task.steer", task=offer.task, key="one", payload=parts("stop"), mode="interrupt")
    revoke = await worker.take("task.revoke", task=offer.task, fence=offer.fence)
    check(revoke.body.get("reason") == "steer", "reason steer", revoke)
    await ok(worker, "task.yield", **at(offer))
    again = await worker.offered(offer.task, attempt=2)
    check(len(again.body.get("steers") or []) == 1, "the word in the offer", again)


@coordinator("STEER-4")
async def a_result_that_has_not_seen_the_word_waits(under: Coordinator) -> None:
    """With the evaluator `auto`, a result that names an older `steerNo` waits for the delegator, `unseenSteer`."""
    client, worker, offer = await begun(under, spec=AUTO)
    await ok(client, "task.steer", task=offer.task, key="one", payload=parts("more"))
    await worker.admitted(offer)
    review = await client.reviewed(offer.task)
    check(review.body.get("unseenSteer") is True, "unseenSteer: true", review)
    client, worker, offer = await begun(under, spec=AUTO)
    await ok(client, "task.steer", task=offer.task, key="one", payload=parts("more"))
    await worker.take("task.steer", task=offer.task)
    await worker.admitted(offer, steerNo=1)
    await client.settled(offer.task, state="completed")


@coordinator("HAND-1", also=("WATCH-4",))
async def a_task_is_handed_on_under_its_id(under: Coordinator) -> None:
    """The named agent gets the task, even if others are idle, with the note in the dossier; the old fence is spent."""
    client, worker, offer = await begun(under, timers=LONG)
    skill = str(offer.body["spec"]["skill"])
    wanted = await under.peer(skills=(skill,))
    busy = await client.delegate(skill, "busy", spec={"requires": {"agent": wanted.name}}, timers=LONG)
    await wanted.offered(busy.task)
    for _ in range(2):
        await under.peer(skills=(skill,))
    await ok(worker, "task.handoff", to=wanted.name, payload=parts("mind the gap"), **at(offer))
    again = await wanted.offered(offer.task, attempt=2)
    attempts = (again.body.get("dossier") or {}).get("attempts") or [{}]
    is_told = attempts[0].get("end") == "handed_off" and as_bytes(attempts[0].get("payload")) == parts("mind the gap")
    check(is_told, "handed_off, with the note", again)
    revoke = await worker.heartbeat(offer)
    check(revoke.kind == "task.revoke", "task.revoke", revoke)
    await wanted.admitted(again)
    await client.reviewed(offer.task)


@coordinator("HAND-1", also=("HAND-2",))
async def a_hand_off_says_what_the_next_agent_must_be(under: Coordinator) -> None:
    """With `requires` the task goes to an agent that meets it; if none does, it is refused. A repeat is `ok`."""
    _, worker, offer = await begun(under, timers=LONG)
    skill = str(offer.body["spec"]["skill"])
    other = await under.peer(skills=(skill,))
    wanted = {"requires": {"labels": {"zone": "a"}}} | at(offer)
    await worker.refused("no_capable_agent", "task.handoff", **wanted)
    zoned = await under.peer(skills=(skill,), labels={"zone": "a"})
    for _ in range(2):
        await ok(worker, "task.handoff", **wanted)
    await zoned.offered(offer.task)
    await other.nothing("task.offer")


@coordinator("HAND-1", also=("HAND-3",))
async def who_hands_a_task_on_does_not_get_it_back(under: Coordinator) -> None:
    """A task handed on without a named agent waits for the other agent, which is busy."""
    client, worker, offer = await begun(under, timers=LONG)
    skill = str(offer.body["spec"]["skill"])
    await ok(worker, "agent.update", status="draining")
    other = await under.peer(skills=(skill,), credit={"tasks": 1, "frames": 256})
    more = await other.offered((await client.delegate(skill, "more", timers=LONG)).task)
    await ok(worker, "agent.update", status="ready")
    await ok(worker, "task.handoff", **at(offer))
    await worker.nothing("task.offer")
    await other.admitted(more)
    await other.offered(offer.task)


@coordinator("HAND-2", also=("LEASE-8",))
async def what_is_at_work_is_handed_on(under: Coordinator) -> None:
    """An attempt whose lease has lapsed hands its task on; one that has asked is refused with `conflict`."""
    client, worker, offer = await begun(under, timers={"leaseMs": 200, "offerMs": 200, "heartbeatMs": 50})
    await client.request("task.watch", task=offer.task)
    await ok(worker, "agent.update", status="draining")
    await client.take("task.event", event="expire")
    other = await under.peer(skills=(str(offer.body["spec"]["skill"]),), credit={"tasks": 0, "frames": 256})
    await ok(worker, "task.handoff", to=other.name, **at(offer))
    await other.send("credit", tasks=1)
    await other.offered(offer.task)
    _, worker, offer = await begun(under, timers=LONG)
    await under.peer(skills=(str(offer.body["spec"]["skill"]),))
    await ok(worker, "task.ask", askNo=1, payload=parts("which?"), **at(offer))
    await worker.refused("conflict", "task.handoff", **at(offer))


@coordinator("HAND-3", also=("LIMIT-4",))
async def a_task_is_handed_on_so_often_and_no_more(under: Coordinator) -> None:
    """The eleventh handoff of a task is refused with `quota`, and the attempt goes on."""
    _, worker, offer = await begun(under, timers=LONG)
    other = await under.peer(skills=(str(offer.body["spec"]["skill"]),))
    holder, next_one = worker, other
    for _ in range(10):
        await ok(holder, "task.handoff", to=next_one.name, **at(offer))
        offer = await next_one.offered(offer.task)
        holder, next_one = next_one, holder
    await holder.refused("quota", "task.handoff", to=next_one.name, **at(offer))
    await holder.admitted(offer)


@coordinator("HAND-2")
async def a_task_is_not_handed_on_to_nobody(under: Coordinator) -> None:
    """If no other agent qualifies, the handoff is refused with `no_capable_agent`, and the attempt goes on."""
    _, worker, offer = await begun(under)
    await worker.refused("no_capable_agent", "task.handoff", **at(offer))
    await worker.refused("no_capable_agent", "task.handoff", to=under.name("nobody"), **at(offer))
    await worker.admitted(offer)


@coordinator("ASK-4", needs=(Need.OPERATOR,))
async def an_operators_answer_replaces_one_nobody_has_seen(under: Coordinator) -> None:
    """An operator's answer to a cold question replaces an answer that no attempt was sent yet, and no other."""
    client, worker, offer = await begun(under)
    operator = await under.operator()
    await ok(worker, "task.ask", askNo=1, payload=parts("which?"), hold="cold", **at(offer))
    await worker.request("agent.update", status="draining")
    await ok(client, "task.answer", task=offer.task, askNo=1, payload=parts("this"))
    await ok(operator, "task.answer", task=offer.task, askNo=1, payload=parts("that"))
    await worker.request("agent.update", status="ready")
    again = await worker.offered(offer.task, attempt=2)
    answers = again.body.get("answers") or [{}]
    check(as_bytes(answers[-1].get("payload")) == parts("that"), "the operator's answer", again)
    await ok(worker, "task.ask", askNo=2, payload=parts("and then?"), **at(again))
    await ok(client, "task.answer", task=offer.task, askNo=2, payload=parts("this"))
    await worker.take("task.answer", task=offer.task, askNo=2)
    late = {"task": offer.task, "askNo": 2, "payload": parts("that")}
    await operator.refused("already_answered", "task.answer", **late)


@coordinator("HAND-3")
async def the_wish_of_a_hand_off_does_not_hold_for_ever(under: Coordinator) -> None:
    """A task handed on to an agent that is away is anybody's after `leaseMs`: the first agent gets it back."""
    _, worker, offer = await begun(under, timers=LONG | {"leaseMs": 1_200, "cancelMs": 600_000})
    wanted = await under.peer(skills=(str(offer.body["spec"]["skill"]),))
    await wanted.request("bye")
    await ok(worker, "task.handoff", to=wanted.name, **at(offer))
    await worker.nothing("task.offer")
    await worker.offered(offer.task, attempt=2)


@coordinator("CHECK-4")
async def keeps_the_checkpoints_of_several_attempts(under: Coordinator) -> None:
    """Of three attempts, an agent that reads only the first one's format is offered the first checkpoint, an agent that
    reads all is offered the last."""
    skill = under.skill()
    client = await under.peer()
    created = await client.delegate(skill)
    for number, format in enumerate(("even/1", "odd/1", "odd/1"), 1):
        worker = await under.peer(skills=(skill,))
        offer = await worker.offered(created.task)
        await ok(worker, "task.checkpoint", cpNo=1, payload=parts(number), format=format, **at(offer))
        await worker.request("bye", drain=True)
    name = under.name("worker")
    described = card(name, skill)
    described["skills"][0]["checkpointFormats"] = ["even/1"]
    last = await under.peer(name, skills=(skill,), card=described)
    again = await last.offered(created.task)
    checkpoint = again.body.get("checkpoint") or {}
    check(as_bytes(checkpoint.get("payload")) == parts(1), "the first attempt's checkpoint", again)
    reader = await under.peer(skills=(skill,))
    await last.request("bye", drain=True)
    again = await reader.offered(created.task)
    checkpoint = again.body.get("checkpoint") or {}
    check(as_bytes(checkpoint.get("payload")) == parts(3), "the newest checkpoint", again)
