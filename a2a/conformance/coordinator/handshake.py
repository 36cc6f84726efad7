"""Cases of section 4: identity, the handshake, and who may do what."""

from __future__ import annotations

import asyncio
import functools

from ..case import Need, Role, Skipped, case
from ..conversation import check
from ..peer import Coordinator
from ..scenes import LONG, at, ok
from ..wire import count

coordinator = functools.partial(case, Role.COORDINATOR)


@coordinator("HELLO-1")
async def refuses_what_comes_before_a_hello(under: Coordinator) -> None:
    """A frame before the hello is answered `auth`, and the connection ends: a hello after it comes too late."""
    stranger = await under.connect()
    early = stranger.frame("task.list")
    await stranger.send_frames(early, stranger.frame("hello", **under.hello(under.name())))
    error = await stranger.reply(early["id"])
    check(error.kind == "error" and error.code == "auth", "error auth to task.list", error)
    await stranger.ended()
    check(not stranger.holds("welcome"), "no welcome", stranger.waiting)


@coordinator("HELLO-2")
async def agrees_on_the_newest_version_both_speak(under: Coordinator) -> None:
    """A peer that speaks 1.0 to 1.9 is welcomed with a version from 1.0 to 1.9, in the form major.minor."""
    peer = await under.peer(versions=["1.0", "1.9"])
    major, _, minor = str(peer.welcome.body.get("version")).partition(".")
    check(major == "1" and minor.isdecimal(), "a version 1.x", peer.welcome)


@coordinator("HELLO-3")
async def refuses_a_version_it_does_not_speak(under: Coordinator) -> None:
    """A peer that speaks only version 2 gets `version`, with the coordinator's versions in `data.versions`."""
    peer = await under.connect()
    error = await peer.refused("version", "hello", **under.hello(under.name(), versions=["2.0", "2.4"]))
    spoken = (error.body.get("data") or {}).get("versions")
    check(isinstance(spoken, list) and len(spoken) == 2, "data.versions with the oldest and the newest", error)
    await peer.ended()


@coordinator("HELLO-3")
async def turns_on_no_feature_it_does_not_have(under: Coordinator) -> None:
    """A feature that the specification does not define is not turned on."""
    peer = await under.peer(features=["no-such-feature"])
    check("no-such-feature" not in peer.welcome.body.get("features", []), "no such feature", peer.welcome)


@coordinator("HELLO-4")
async def welcomes_first(under: Coordinator) -> None:
    """For an agent with an entry in its mailbox, the welcome is still the first frame."""
    name, skill = under.name("worker"), under.skill()
    worker = await under.peer(name, skills=(skill,))
    worker.acknowledges = False
    client = await under.peer()
    created = await client.delegate(skill)
    await worker.offered(created.task)
    worker.cut()
    back = await under.connect(name=name)
    back.acknowledges = False
    await back.send("hello", **under.hello(name, skill))
    first = await back.take_if(lambda _: True, "a frame")
    check(first.kind == "welcome", "welcome as the first frame", first)


@coordinator("HELLO-5")
async def a_refused_hello_leaves_the_agent_connected(under: Coordinator) -> None:
    """A hello with a wrong secret ends only its own connection; the agent it names goes on."""
    name = under.name()
    peer = await under.peer(name)
    thief = await under.connect()
    await thief.refused("auth", "hello", **under.hello(name, secret="not the secret"))
    await thief.ended()
    await peer.settle()


@coordinator("HELLO-6", also=("LEASE-8",))
async def keeps_an_attempt_that_is_held(under: Coordinator) -> None:
    """An agent that reconnects and names an attempt whose lease runs is told `keep`, and goes on with it."""
    name, skill = under.name("worker"), under.skill()
    worker, client = await under.peer(name, skills=(skill,)), await under.peer()
    created = await client.delegate(skill, spec={"acceptance": {"evaluator": "auto"}})
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    worker.cut()
    back = await under.peer(name, skills=(skill,), held=[{"task": offer.task, "fence": offer.fence}])
    held = back.welcome.body.get("held") or [{}]
    check(held[0].get("verdict") == "keep", "verdict keep", back.welcome)
    await back.admitted(offer)
    await client.settled(created.task, state="completed")


@coordinator("HELLO-6", also=("LEASE-1", "LEASE-8"))
async def a_lapsed_attempt_that_is_held_goes_on(under: Coordinator) -> None:
    """An agent that comes back with a lapsed attempt is told `keep` and its lease: the attempt has revived."""
    name, skill = under.name("worker"), under.skill()
    worker, client = await under.peer(name, skills=(skill,), instanceId="one", incarnation=9), await under.peer()
    created = await client.delegate(skill, timers={"leaseMs": 600, "offerMs": 60_000}, limits={"losses": 100})
    await client.request("task.watch", task=created.task)
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    worker.cut()
    await client.take("task.event", event="expire")
    held = [{"task": offer.task, "fence": offer.fence}]
    back = await under.peer(name, skills=(skill,), instanceId="one", incarnation=9, held=held)
    told = (back.welcome.body.get("held") or [{}])[0]
    check(told.get("verdict") == "keep" and 300 < count(told.get("leaseMs")) <= 600, "keep, for 600 ms", back.welcome)
    await client.take("task.event", event="revive")


@coordinator("HELLO-6", also=("LEASE-1",))
async def the_lease_of_what_is_held_runs_anew(under: Coordinator) -> None:
    """A held attempt whose lease runs has a whole lease again in `leaseMs`."""
    name, skill = under.name("worker"), under.skill()
    worker, client = await under.peer(name, skills=(skill,)), await under.peer()
    offer = await worker.offered((await client.delegate(skill, timers=LONG | {"leaseMs": 60_000})).task)
    await worker.heartbeat(offer)
    worker.cut()
    await asyncio.sleep(0.5)  # a lease that ran on would have that much less
    back = await under.peer(name, skills=(skill,), held=[{"task": offer.task, "fence": offer.fence}])
    told = (back.welcome.body.get("held") or [{}])[0]
    check(59_750 < count(told.get("leaseMs")) <= 60_000, "leaseMs 60,000", back.welcome)


@coordinator("HELLO-6")
async def tells_an_attempt_without_authority_from_a_task_nobody_knows(under: Coordinator) -> None:
    """A held attempt that has ended is `stale`, one of an unknown task `unknown`, in the order of the hello."""
    name, skill = under.name("worker"), under.skill()
    worker, client = await under.peer(name, skills=(skill,)), await under.peer()
    created = await client.delegate(skill, spec={"acceptance": {"evaluator": "auto"}})
    offer = await worker.offered(created.task)
    await worker.admitted(offer)
    worker.cut()
    held = [{"task": "no-such-task", "fence": 1}, {"task": offer.task, "fence": offer.fence}]
    back = await under.peer(name, skills=(skill,), held=held)
    verdicts = [entry.get("verdict") for entry in back.welcome.body.get("held") or []]
    check(verdicts == ["unknown", "stale"], "the verdicts unknown, stale", back.welcome)


@coordinator("DURABLE-7", also=("HELLO-6",))
async def a_fence_that_was_made_up_stops_nobody(under: Coordinator) -> None:
    """Held fences beyond the end of the ledger, with no proof or another fence's, are `stale` or `unknown`."""
    name, skill = under.name("worker"), under.skill()
    worker, client = await under.peer(name, skills=(skill,)), await under.peer()
    offer = await worker.offered((await client.delegate(skill)).task)
    proof, beyond = offer.body.get("proof"), offer["fence"] + 1_000_000
    check(isinstance(proof, str) and proof != "", "a proof in the offer", offer)
    worker.cut()
    held = [
        {"task": offer.task, "fence": beyond},
        {"task": offer.task, "fence": beyond, "proof": proof},
        {"task": offer.task[:-1] + "0123", "fence": beyond + 1, "proof": proof},
    ]
    back = await under.peer(name, skills=(skill,), held=held)
    verdicts = [entry.get("verdict") for entry in back.welcome.body.get("held") or []]
    check(verdicts == ["stale", "stale", "unknown"], "the verdicts stale, stale, unknown", back.welcome)
    await client.settle()


@coordinator("HELLO-7", also=("LEASE-4",))
async def an_agent_that_restarts_without_its_work_loses_it_at_once(under: Coordinator) -> None:
    """Another instance that does not hold the attempt makes its lease lapse: the task is offered again at once."""
    name, skill = under.name("worker"), under.skill()
    worker, client = await under.peer(name, skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers={"leaseMs": 600_000, "offerMs": 600_000, "heartbeatMs": 200_000})
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    worker.cut()
    back = await under.peer(name, skills=(skill,))
    again = await back.take_if(
        lambda frame: frame.kind == "task.offer" and frame.fence > offer.fence, "a newer task.offer of the same task"
    )
    check(again.task == created.task and again.body.get("attempt") == 2, "attempt 2 of the task", again)


@coordinator("HELLO-7", also=("OFFER-1",))
async def an_offer_that_a_restarted_agent_does_not_hold_is_withdrawn(under: Coordinator) -> None:
    """A new instance of an agent does not keep the old one's offer: the task does not wait for `offerMs`."""
    name, skill = under.name("worker"), under.skill()
    first, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(
        skill, timers={"leaseMs": 300, "offerMs": 600_000, "heartbeatMs": 100}, limits={"losses": 100}
    )
    await first.heartbeat(await first.offered(created.task))
    second = await under.peer(name, skills=(skill,))
    offer = await second.offered(created.task)
    check(offer.body.get("granted") is False, "granted: false", offer)
    await client.request("task.watch", task=created.task)
    second.cut()
    await under.peer(name, skills=(skill,))
    await client.take("task.event", event="withdraw")


@coordinator("HELLO-7", also=("ASK-3",))
async def an_agent_that_restarts_with_its_work_gets_its_answers_again(under: Coordinator) -> None:
    """A new instance that holds the attempt gets the answer to its question, even if the old one acknowledged it."""
    name, skill = under.name("worker"), under.skill()
    worker, client = await under.peer(name, skills=(skill,)), await under.peer()
    offer = await worker.offered((await client.delegate(skill, timers=LONG)).task)
    await ok(worker, "task.ask", askNo=1, payload=b"[]", **at(offer))
    await ok(client, "task.answer", task=offer.task, askNo=1, payload=b"[1]")
    await worker.take("task.answer", task=offer.task, askNo=1)
    await worker.settle()  # its acknowledgement has arrived as well
    worker.cut()
    back = await under.peer(name, skills=(skill,), held=[at(offer)])
    again = await back.take("task.answer", task=offer.task, askNo=1)
    check(again.payload == b"[1]", "the answer there is", again)
    await back.admitted(offer)


@coordinator("HELLO-8")
async def the_newest_connection_of_an_agent_is_the_one(under: Coordinator) -> None:
    """The older connection gets `bye`, reason `taken_over`, and is closed; the newer one works."""
    name = under.name()
    older = await under.peer(name)
    newer = await under.peer(name)
    bye = await older.take("bye")
    check(bye.body.get("reason") == "taken_over", "reason taken_over", bye)
    await older.ended()
    await newer.settle()


@coordinator("HELLO-8")
async def the_same_instance_may_connect_again(under: Coordinator) -> None:
    """If the same instance connects again, the older connection's `bye` has reason `connected again`."""
    name = under.name()
    older = await under.peer(name, instanceId="one", incarnation=9_000_000)
    await under.peer(name, instanceId="one", incarnation=9_000_000)
    bye = await older.take("bye")
    check(bye.body.get("reason") == "connected again", "reason `connected again`", bye)
    await older.ended()


@coordinator("HELLO-9", also=("WIRE-15",))
async def answers_bye_and_closes(under: Coordinator) -> None:
    """`bye` is answered `ok`, and the connection is closed with the WebSocket code 1000."""
    peer = await under.peer()
    answer = await peer.request("bye", reason="done")
    check(answer.kind == "ok", "ok", answer)
    closed = await peer.ended()
    check(closed.code == 1000, "the WebSocket code 1000", closed.code)


@coordinator("HELLO-10")
async def refuses_a_second_hello(under: Coordinator) -> None:
    """A second hello on a connection is refused with `conflict`, and the connection goes on."""
    name = under.name()
    peer = await under.peer(name)
    await peer.refused("conflict", "hello", **under.hello(name))
    await peer.settle()


@coordinator("HELLO-11")
async def a_drained_agents_work_goes_to_another(under: Coordinator) -> None:
    """`bye` with `drain` passes the agent's attempt to another agent at once, and counts as no loss."""
    skill = under.skill()
    first, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers={"leaseMs": 600_000, "offerMs": 600_000, "heartbeatMs": 200_000})
    offer = await first.offered(created.task)
    await first.heartbeat(offer)
    second = await under.peer(skills=(skill,))
    await first.request("bye", drain=True)
    await second.offered(created.task)
    counters = (await client.view(created.task))["metadata"].get("counters") or {}
    check(counters.get("losses", 0) == 0, "no loss counted", counters)


@coordinator("HELLO-11", also=("OFFER-5", "LIMIT-4"))
async def what_a_drained_agent_was_offered_goes_to_another(under: Coordinator) -> None:
    """After `bye` with `drain` an offer that is not current goes on, as no decline, and a task in `canceling` ends."""
    skill, name, client = under.skill(), under.name("worker"), await under.peer()
    old = await under.peer(name, skills=(skill,))
    lost = await client.delegate(skill, 1, timers=LONG, limits={"declines": 1})
    await old.heartbeat(await old.offered(lost.task))
    await under.peer(name, skills=(skill,), credit={"tasks": 0, "frames": 256})
    first = await under.peer(skills=(skill,))
    offer = await first.offered(lost.task)
    check(offer.body.get("granted") is False, "an offer that is not granted", offer)
    stops = await client.delegate(skill, 2, timers=LONG)
    await first.heartbeat(await first.offered(stops.task))
    answer = await client.request("task.cancel", task=stops.task, graceMs=600_000)
    check(answer.body.get("will") == "pending", "will: pending", answer)
    second = await under.peer(skills=(skill,))
    await first.request("bye", drain=True)
    await client.settled(stops.task, state="canceled")
    await second.offered(lost.task)
    counters = (await client.view(lost.task))["metadata"].get("counters") or {}
    check((counters.get("declines", 0), counters.get("losses")) == (0, 1), "the loss before, and no decline", counters)


@coordinator("HELLO-13")
async def closes_a_connection_that_says_nothing(under: Coordinator) -> None:
    """A connection without a hello is closed after 5 s, and not before."""
    silent = await under.connect()
    started = asyncio.get_running_loop().time()
    await silent.ended(within=10.0)
    lasted = asyncio.get_running_loop().time() - started
    check(lasted >= 4.5, "the end after 5 s", f"{lasted:.1f} s")


@coordinator("ID-1")
async def refuses_an_id_that_is_none(under: Coordinator) -> None:
    """An agent id with a space is `malformed`."""
    peer = await under.connect()
    await peer.refused("malformed", "hello", **under.hello("not an id"))
    await peer.ended()


@coordinator("ID-2", also=("AUTH-5",))
async def another_process_of_the_principal_may_confirm(under: Coordinator) -> None:
    """`name#2` confirms what `name#1` delegated; `other` is refused with `forbidden`."""
    name, skill = under.name(), under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer(f"{name}#1")
    created = await client.delegate(skill)
    await worker.admitted(await worker.offered(created.task))
    review = await client.reviewed(created.task)
    other = await under.peer()
    named = {"task": created.task, "rev": 0, "resultHash": review.body["resultHash"]}
    await other.refused("forbidden", "task.confirm", **named)
    answer = await (await under.peer(f"{name}#2")).confirm(review)
    check(answer.kind == "ok" and answer.body.get("state") == "completed", "ok, completed", answer)


@coordinator("ID-4")
async def issues_a_secret_once_and_holds_the_principal_to_it(under: Coordinator) -> None:
    """A first hello without a secret is issued one; later hellos need it, and are issued none."""
    name = under.name()
    first = await under.peer(name, secret=None)
    issued = first.welcome.body.get("secret")
    check(isinstance(issued, str) and bool(issued), "a secret in the welcome", first.welcome)
    await first.request("bye")
    without = await under.connect()
    await without.refused("auth", "hello", **under.hello(name, secret=None))
    back = await under.peer(name, secret=issued)
    check(back.welcome.body.get("secret") is None, "no secret in the second welcome", back.welcome)


@coordinator("ID-4")
async def binds_a_principal_to_the_secret_it_shows(under: Coordinator) -> None:
    """A first hello that shows a secret is issued none; the principal's hello with another secret is refused."""
    name = under.name()
    first = await under.peer(f"{name}#1")
    check(first.welcome.body.get("secret") is None, "no secret in the welcome", first.welcome)
    other = await under.connect()
    await other.refused("auth", "hello", **under.hello(f"{name}#2", secret="another secret"))


@coordinator("ID-6")
async def refuses_an_older_incarnation(under: Coordinator) -> None:
    """A hello of another instance with a lower incarnation is refused with `denied`."""
    name = under.name()
    await under.peer(name, instanceId="newer", incarnation=8)
    older = await under.connect()
    await older.refused("denied", "hello", **under.hello(name, instanceId="older", incarnation=7))


@coordinator("ID-6")
async def knows_the_newest_incarnation_of_a_card_after_its_agent_has_left(under: Coordinator) -> None:
    """An agent with a card on file is refused with `denied` under a lower incarnation, even if it is not connected."""
    name, skill = under.name(), under.skill()
    newer = await under.peer(name, skills=(skill,), instanceId="newer", incarnation=8)
    await newer.request("bye")
    older = await under.connect()
    await older.refused("denied", "hello", **under.hello(name, skill, instanceId="older", incarnation=7))


@coordinator("ID-7")
async def refuses_another_instance_of_the_same_incarnation(under: Coordinator) -> None:
    """A hello of another instance with the same incarnation as one that is connected is refused with `denied`."""
    name = under.name()
    peer = await under.peer(name, instanceId="one", incarnation=7)
    other = await under.connect()
    await other.refused("denied", "hello", **under.hello(name, instanceId="two", incarnation=7))
    await peer.settle()


@coordinator("ID-8")
async def nothing_is_lost_with_a_connection(under: Coordinator) -> None:
    """A client whose connection broke finds its task as it was, and gets its result by mailbox."""
    name, skill = under.name("client"), under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer(name)
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    client.cut()
    await worker.admitted(offer)
    back = await under.peer(name)
    review = await back.reviewed(created.task)
    answer = await back.confirm(review)
    check(answer.kind == "ok", "ok", answer)


@coordinator("AUTH-1")
async def refuses_a_wrong_token(under: Coordinator) -> None:
    """A hello that does not show the namespace's token is refused with `auth`."""
    if not under.settings.token:
        raise Skipped("the coordinator has no token")
    for token in (None, "", "wrong" + under.settings.token):
        peer = await under.connect()
        await peer.refused("auth", "hello", **under.hello(under.name(), token=token))
        await peer.ended()


@coordinator("AUTH-2", needs=(Need.OPERATOR,))
async def the_operators_token_makes_an_operator(under: Coordinator) -> None:
    """With the operator's token the role is `operator`, without it `member`."""
    operator = await under.operator()
    check(operator.welcome.body.get("role") == "operator", "role operator", operator.welcome)
    member = await under.peer()
    check(member.welcome.body.get("role", "member") == "member", "role member", member.welcome)


@coordinator("AUTH-2")
async def a_wrong_operators_token_admits_nobody(under: Coordinator) -> None:
    """A hello with a wrong `operatorToken` is refused with `auth`, not admitted as a member's."""
    peer = await under.connect()
    await peer.refused("auth", "hello", **under.hello(under.name(), operatorToken="wrong"))
    await peer.ended()


@coordinator("AUTH-4", also=("FENCE-5", "FENCE-7"))
async def a_fence_in_other_hands_is_nobodys(under: Coordinator) -> None:
    """Even under the right fence, an agent it was not minted for cannot keep, accept or report the attempt."""
    skill = under.skill()
    worker, client, thief = await under.peer(skills=(skill,)), await under.peer(), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    revoke = await thief.heartbeat(offer)
    check(revoke.kind == "task.revoke" and revoke.body.get("reason") == "not_holder", "task.revoke not_holder", revoke)
    await thief.refused("not_holder", "task.accept", task=offer.task, fence=offer.fence)
    verdict = await thief.report(offer, "stolen")
    check(verdict.body.get("verdict") == "not_holder", "verdict not_holder", verdict)
    await worker.admitted(offer)


@coordinator("AUTH-5")
async def only_who_delegated_may_cancel(under: Coordinator) -> None:
    """A member that did not delegate a task is refused with `forbidden` when it cancels it."""
    skill = under.skill()
    client, other = await under.peer(), await under.peer()
    created = await client.delegate(skill)
    await other.refused("forbidden", "task.cancel", task=created.task)
    check(await client.state(created.task) == "queued", "the task still queued", "")


@coordinator("AUTH-5", needs=(Need.OPERATOR,))
async def an_operator_may_cancel(under: Coordinator) -> None:
    """An operator cancels what another principal delegated, and the delegator is told."""
    client, operator = await under.peer(), await under.operator()
    created = await client.delegate(under.skill())
    answer = await operator.request("task.cancel", task=created.task)
    check(answer.body.get("will") == "canceled", "will canceled", answer)
    await client.settled(created.task, state="canceled")


@coordinator("AUTH-6")
async def a_member_reads_every_task(under: Coordinator) -> None:
    """A member that has nothing to do with a task reads it."""
    client, other = await under.peer(), await under.peer()
    created = await client.delegate(under.skill())
    check((await other.view(created.task)).get("id") == created.task, "the task's view", "")


@coordinator("AUTH-7", also=("REG-4",))
async def only_an_agent_itself_updates_it(under: Coordinator) -> None:
    """`agent.update` of another agent is refused with `forbidden`."""
    name = under.name("worker")
    await under.peer(name, skills=(under.skill(),))
    other = await under.peer()
    await other.refused("forbidden", "agent.update", agent=name, status="draining")


@coordinator("AUTH-8", also=("ACCEPT-1",), needs=(Need.OPERATOR,))
async def a_human_confirms_what_a_human_has_to(under: Coordinator) -> None:
    """With the evaluator `human` the delegator's confirm is `forbidden`, and the operator's counts."""
    skill = under.skill()
    worker, client, operator = await under.peer(skills=(skill,)), await under.peer(), await under.operator()
    created = await client.delegate(skill, spec={"acceptance": {"evaluator": "human"}})
    await worker.admitted(await worker.offered(created.task))
    review = await client.reviewed(created.task)
    named = {"task": created.task, "rev": 0, "resultHash": review.body["resultHash"]}
    await client.refused("forbidden", "task.confirm", **named)
    answer = await operator.confirm(review)
    check(answer.body.get("state") == "completed", "ok, completed", answer)
