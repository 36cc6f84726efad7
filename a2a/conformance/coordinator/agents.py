"""Cases of section 6: finding agents, and which of them gets a task."""

from __future__ import annotations

import functools
from typing import Any

from ..case import Role, case
from ..conversation import check
from ..peer import Coordinator, Peer, card
from ..scenes import LONG, at, ok, soon
from ..wire import Frame, as_bytes, digest

coordinator = functools.partial(case, Role.COORDINATOR)


async def found(peer: Peer, **wanted: Any) -> list[str]:
    """Return the ids of the agents that pass a filter, in the order listed."""
    answer = await peer.request("agent.find", filter=wanted)
    check(answer.kind == "agent.found", "agent.found", answer)
    return [agent["agent"] for agent in answer.body.get("agents", [])]


@coordinator("REG-1")
async def finds_agents_by_every_field_of_the_filter(under: Coordinator) -> None:
    """Agents are found by id, skill, tag, label, media type and schema; every field of a filter has to hold."""
    skill, tag, client = under.skill(), under.name("tag"), await under.peer()
    schema = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}}
    name = under.name("worker")
    described = card(name, skill)
    described["skills"][0] |= {"tags": [tag], "inputModes": ["text/x-odd"], "inputSchema": schema}
    await under.peer(name, skills=(skill,), card=described, labels={"zone": tag})
    holding: list[dict[str, Any]] = [
        *({"agent": name}, {"skill": skill}, {"tags": [tag]}, {"labels": {"zone": tag}}),
        {"skill": skill, "mediaType": "text/x-odd"},
        {"skill": skill, "inputSchema": digest(schema, b"")},
        {"skill": skill, "tags": [tag], "labels": {"zone": tag}},
    ]
    for wanted in holding:
        check(await found(client, **wanted) == [name], f"{name} found by {wanted}", "")
    failing: list[dict[str, Any]] = [
        *({"agent": name, "skill": "other"}, {"skill": skill, "tags": [tag, "other"]}),
        *({"skill": skill, "labels": {"zone": "other"}}, {"skill": skill, "mediaType": "text/plain"}),
    ]
    for wanted in failing:
        check(await found(client, **wanted) == [], f"nobody found by {wanted}", "")


@coordinator("REG-1")
async def tags_and_skill_hold_of_one_and_the_same_skill(under: Coordinator) -> None:
    """A card with the wanted skill, and with the wanted tag on another skill, is not found by both together."""
    skill, other, tag, name = under.skill(), under.skill("other"), under.name("tag"), under.name("worker")
    described = card(name, skill, other)
    described["skills"][1]["tags"] = [tag]
    client = await under.peer()
    await under.peer(name, skills=(skill,), card=described)
    check(await found(client, skill=skill, tags=[tag]) == [], "nobody", "")
    check(await found(client, skill=other, tags=[tag]) == [name], name, "")


@coordinator("REG-2", also=("REG-5",))
async def lists_agents_by_id_with_those_that_are_away(under: Coordinator) -> None:
    """Three agents are listed by id; the one that has left has the status `away`."""
    skill, client = under.skill(), await under.peer()
    names = sorted(under.name("worker") for _ in range(3))
    peers = {name: await under.peer(name, skills=(skill,)) for name in reversed(names)}
    await peers[names[1]].request("bye")
    answer = await client.request("agent.find", filter={"skill": skill})
    agents = answer.body["agents"]
    check([agent["agent"] for agent in agents] == names, f"{names}", answer)
    check([agent["status"] for agent in agents] == ["ready", "away", "ready"], "ready, away, ready", answer)


@coordinator("REG-3")
async def tells_a_watching_find_who_comes_and_goes(under: Coordinator) -> None:
    """A find with `watch` gets an event when an agent joins, changes or leaves, with the find's id in `re`."""
    skill, name, client = under.skill(), under.name("worker"), await under.peer()
    watch = await client.send("agent.find", filter={"skill": skill}, watch=True)
    await client.reply(watch)
    worker = await under.peer(name, skills=(skill,))
    for change in ("joined", "changed", "left"):
        event = await client.take("agent.event", re=watch, change=change)
        check(event.body["agent"].get("agent") == name, name, event)
        if change == "joined":
            await worker.request("agent.update", labels={"a": "b"})
        else:
            await worker.leave()


@coordinator("REG-4")
async def replaces_what_an_update_gives(under: Coordinator) -> None:
    """An update of the labels replaces all of them, not card or status; for an agent without a card it fails."""
    skill, name, client = under.skill(), under.name("worker"), await under.peer()
    worker = await under.peer(name, skills=(skill,), labels={"a": "1", "b": "2"})
    answer = await worker.request("agent.update", labels={"c": "3"})
    check(answer.kind == "ok", "ok", answer)
    agent = (await client.request("agent.find", filter={"agent": name})).body["agents"][0]
    check(agent.get("labels") == {"c": "3"} and agent["status"] == "ready", "the labels c: 3, still ready", agent)
    await client.refused("not_found", "agent.update", labels={"c": "3"})


@coordinator("REG-4", also=("REG-1",))
async def replaces_a_card_alone(under: Coordinator) -> None:
    """An update of the card leaves the labels, and the agent is found by its new card; empty labels remove all."""
    skill, other, name, client = under.skill(), under.skill("other"), under.name("worker"), await under.peer()
    worker = await under.peer(name, skills=(skill,), labels={"a": "1"})
    await ok(worker, "agent.update", card=card(name, other))
    check(await found(client, skill=skill) == [], "nobody with the skill it had", "")
    agent = (await client.request("agent.find", filter={"skill": other})).body["agents"][0]
    check((agent["agent"], agent.get("labels")) == (name, {"a": "1"}), "the agent with its labels", agent)
    await ok(worker, "agent.update", labels={})
    agent = (await client.request("agent.find", filter={"agent": name})).body["agents"][0]
    check(not agent.get("labels"), "no labels", agent)


@coordinator("REG-4", also=("AUTH-5",))
async def an_agent_is_updated_by_itself_or_an_operator(under: Coordinator) -> None:
    """Another member is `forbidden` to update an agent; an operator drains it."""
    skill, name, other, operator = under.skill(), under.name("worker"), await under.peer(), await under.operator()
    await under.peer(name, skills=(skill,))
    await other.refused("forbidden", "agent.update", agent=name, status="draining")
    await ok(operator, "agent.update", agent=name, status="draining")
    agent = (await other.request("agent.find", filter={"agent": name})).body["agents"][0]
    check(agent["status"] == "draining", "draining", agent)


@coordinator("REG-2", also=("ERR-6",))
async def tells_what_an_agent_has_and_when_it_was_heard(under: Coordinator) -> None:
    """A find shows credit, the tasks held or offered, and how long the agent is silent; away it has no `seenMs`."""
    skill, name, client = under.skill(), under.name("worker"), await under.peer()
    worker = await under.peer(name, skills=(skill,), credit={"tasks": 3, "frames": 256})
    offers = [await worker.offered((await client.delegate(skill, number, timers=LONG)).task) for number in range(2)]
    await worker.heartbeat(offers[0])
    agent = (await client.request("agent.find", filter={"agent": name})).body["agents"][0]
    check(agent.get("credit") == 3, "credit 3", agent)
    check(set(agent.get("holding") or []) == {offer.task for offer in offers}, "both tasks", agent)
    check(agent.get("seenMs", -1) >= 0, "seenMs", agent)
    await worker.request("bye")
    agent = (await client.request("agent.find", filter={"agent": name})).body["agents"][0]
    check(agent["status"] == "away" and agent.get("seenMs") is None, "away, without seenMs", agent)


@coordinator("REG-2", also=("ERR-6", "ID-4"))
async def tells_of_hellos_in_the_name_of_who_is_no_agent(under: Coordinator) -> None:
    """For an id without a card on file, a find tells of the hello that was refused."""
    name = under.name()
    client = await under.peer(name)
    other = await under.connect()
    await other.refused("auth", "hello", **under.hello(name, secret="another secret"))

    async def refused() -> Frame | None:
        answer = await client.request("agent.find", filter={"agent": name})
        return answer if answer.body.get("refused") else None

    answer = await soon(client, refused, "the refusal with the agent, soon after its answer (ERR-7)")
    check(not answer.body.get("agents") and len(answer.body["refused"]) == 1, "one refused", answer)


@coordinator("REG-5")
async def a_hello_without_skills_leaves_the_card(under: Coordinator) -> None:
    """A card on file stays there when its agent comes back without one."""
    skill, name, client = under.skill(), under.name("worker"), await under.peer()
    worker = await under.peer(name, skills=(skill,))
    await worker.request("bye")
    await under.peer(name)
    check(await found(client, skill=skill) == [name], name, "")


@coordinator("REG-6")
async def a_draining_agent_gets_no_offers_until_it_is_ready(under: Coordinator) -> None:
    """An agent that is `draining` keeps what it has and gets nothing new; `ready` brings the offer."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    offer = await worker.offered((await client.delegate(skill)).task)
    await worker.request("agent.update", status="draining")
    created = await client.delegate(skill)
    await worker.nothing("task.offer")
    await worker.admitted(offer)
    await worker.nothing("task.offer")
    await worker.request("agent.update", status="ready")
    await worker.offered(created.task)


@coordinator("REG-6", also=("ID-5",))
async def an_agent_that_drained_is_ready_when_it_starts_anew(under: Coordinator) -> None:
    """The status outlasts the connection and ends with the process: another instance is offered the queued task."""
    name, skill = under.name("worker"), under.skill()
    worker, client = await under.peer(name, skills=(skill,), instanceId="one", incarnation=9), await under.peer()
    await worker.request("agent.update", status="draining")
    worker.cut()
    back = await under.peer(name, skills=(skill,), instanceId="one", incarnation=9)
    created = await client.delegate(skill)
    await back.nothing("task.offer")
    back.cut()
    anew = await under.peer(name, skills=(skill,), instanceId="two", incarnation=10)
    await anew.offered(created.task)


@coordinator("REG-6", also=("REG-4", "LEASE-10"))
async def a_drain_with_a_grace_takes_the_work_away(under: Coordinator) -> None:
    """`draining` with `graceMs` revokes what the agent holds, and giving it back counts against nobody."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers=LONG)
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    await worker.request("agent.update", status="draining", graceMs=600_000)
    revoke = await worker.take("task.revoke", task=created.task)
    check(revoke.body.get("reason") == "drain" and revoke.body.get("graceMs", 0) > 0, "drain, with a grace", revoke)
    other = await under.peer(skills=(skill,))
    await worker.request("task.yield", task=offer.task, fence=offer.fence)
    await other.offered(created.task)
    counters = (await client.view(created.task))["metadata"].get("counters") or {}
    check(not counters.get("declines") and not counters.get("losses"), "nothing counted", counters)


@coordinator("REG-4", also=("LEASE-10",))
async def a_drain_without_a_grace_takes_the_work_away_at_once(under: Coordinator) -> None:
    """`draining` with `graceMs` 0 revokes without a grace, and another agent is offered the task."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    offer = await worker.offered((await client.delegate(skill, timers=LONG)).task)
    await worker.heartbeat(offer)
    other = await under.peer(skills=(skill,))
    await ok(worker, "agent.update", status="draining", graceMs=0)
    revoke = await worker.take("task.revoke", task=offer.task)
    check(revoke.body.get("graceMs", 0) == 0, "graceMs 0", revoke)
    await other.offered(offer.task)


@coordinator("REG-7", also=("AUTH-7", "ID-4", "ID-6", "REG-6"))
async def forgets_an_agent_that_does_not_come_back(under: Coordinator) -> None:
    """Once forgotten, an agent is not found; an older process and any secret are taken, and its mailbox is new."""
    skill, name, operator = under.skill(), under.name("worker"), await under.operator()
    worker = await under.peer(name, skills=(skill,), incarnation=8)
    offer = await worker.offered((await operator.delegate(skill)).task)
    await worker.admitted(offer)
    await operator.confirm(await operator.reviewed(offer.task))
    await ok(worker, "agent.update", status="draining")
    await worker.request("bye")
    member = await under.peer()
    await member.refused("forbidden", "agent.forget", agent=name)
    check(await found(member, skill=skill) == [name], f"{name} known still", "")
    answer = await operator.request("agent.forget", agent=name)
    told = (answer.kind, answer.body.get("known"), answer.body.get("bound"))
    check(told == ("agent.forgotten", True, True), "agent.forgotten, known and bound", answer)
    check(await found(member, skill=skill) == await found(member, agent=name) == [], "nobody found", "")
    answer = await operator.request("agent.forget", agent=name)
    told = (answer.kind, answer.body.get("known", False), answer.body.get("bound", False))
    check(told == ("agent.forgotten", False, False), "agent.forgotten, and nothing to forget", answer)
    again = await under.peer(name, skills=(skill,), secret="another secret", instanceId="older", incarnation=7)
    check(again.welcome.body.get("nextMseq") == 1, "nextMseq 1", again.welcome)
    await again.offered((await operator.delegate(skill)).task)


@coordinator("MAIL-5", also=("REG-7",))
async def goes_by_no_number_of_a_forgotten_mailbox(under: Coordinator) -> None:
    """After a mailbox was forgotten, `lastMseq` counts for nothing: the new mailbox comes from its beginning."""
    skill, name, operator = under.skill(), under.name("worker"), await under.operator()
    first = await under.peer(name, skills=(skill,), instanceId="one", incarnation=9)
    offer = await first.offered((await operator.delegate(skill, 1)).task)
    await first.admitted(offer)
    await operator.confirm(await operator.reviewed(offer.task))
    await first.request("bye")
    await operator.request("agent.forget", agent=name)
    second = await under.peer(name, skills=(skill,), instanceId="one", incarnation=9)
    second.acknowledges = False
    task = (await operator.delegate(skill, 2)).task
    await second.offered(task)
    second.cut()
    last: dict[str, Any] = {"lastMseq": 1}
    back = await under.peer(name, skills=(skill,), instanceId="one", incarnation=9, resume=last)
    told = (back.welcome.body.get("resumed", False), back.welcome.body.get("nextMseq"))
    check(told == (False, 1), "resumed: false, nextMseq 1", back.welcome)
    await back.offered(task)


@coordinator("REG-7")
async def does_not_forget_who_is_there_or_has_something_open(under: Coordinator) -> None:
    """It is `denied` for an agent that is connected, has an offer, worked on a task, delegated one or has a claim."""
    skill, operator = under.skill(), await under.operator()
    name, who, owner = under.name("worker"), under.name("client"), under.name("owner")
    worker, client, claiming = await under.peer(name, skills=(skill,)), await under.peer(who), await under.peer(owner)
    await operator.refused("denied", "agent.forget", agent=name)
    created = await client.delegate(skill, timers=LONG)
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    await ok(worker, "agent.update", status="draining")
    await worker.request("bye")
    await client.request("bye")
    claim: dict[str, Any] = {"claims": [{"name": under.name("file"), "mode": "x"}], "claimNo": 1, "ttlMs": 600_000}
    await claiming.request("claim.acquire", **claim)
    await claiming.request("bye")
    for kept in (name, who, owner):
        await operator.refused("denied", "agent.forget", agent=kept)
    await (await under.peer(name)).request("bye")  # a new process, without credit: the lease lapses
    await operator.refused("denied", "agent.forget", agent=name)
    await ok(operator, "task.cancel", task=created.task, mode="kill")
    for free in (name, who):
        answer = await operator.request("agent.forget", agent=free)
        check(answer.kind == "agent.forgotten" and answer.body.get("known") is True, "forgotten", answer)


@coordinator("REG-7")
async def a_secret_stays_while_more_of_its_principal_is_known(under: Coordinator) -> None:
    """Forgetting an agent leaves the secret bound while another of the principal has a card or a claim."""
    skill, name, operator = under.skill(), under.name("worker"), await under.operator()
    for number in (1, 2):
        await (await under.peer(f"{name}#{number}", skills=(skill,))).request("bye")
    claiming = await under.peer(f"{name}#3")
    claim: dict[str, Any] = {"claims": [{"name": under.name("file"), "mode": "x"}], "claimNo": 1, "ttlMs": 600_000}
    fence = (await claiming.request("claim.acquire", **claim)).body["claimFence"]
    await claiming.request("bye")
    for number in (1, 2):
        answer = await operator.request("agent.forget", agent=f"{name}#{number}")
        check(answer.body.get("bound", False) is False, "bound: false", answer)
        other = await under.connect()
        await other.refused("auth", "hello", **under.hello(name, secret="another secret"))
    claiming = await under.peer(f"{name}#3")
    await ok(claiming, "claim.release", claimFence=fence)
    await claiming.request("bye")
    answer = await operator.request("agent.forget", agent=f"{name}#3")
    check(answer.body.get("bound") is True, "bound: true", answer)
    await under.peer(name, secret="another secret")


@coordinator("REG-7", also=("ID-4", "AUTH-7"))
async def forgets_a_lost_secret_and_nothing_else(under: Coordinator) -> None:
    """The next hello has the same attempt, mailbox and card as before; the old secret is refused."""
    skill, name, operator = under.skill(), under.name("worker"), await under.operator()
    same: dict[str, Any] = {"instanceId": "one", "incarnation": 9}
    worker, client = await under.peer(name, skills=(skill,), **same), await under.peer()
    offers = [await worker.offered((await client.delegate(skill, number, timers=LONG)).task) for number in range(2)]
    await worker.heartbeat(offers[0])
    await operator.refused("denied", "agent.forget", agent=name, secretOnly=True)
    await worker.request("bye")
    await client.refused("forbidden", "agent.forget", agent=name, secretOnly=True)
    other = await under.connect()
    await other.refused("auth", "hello", **under.hello(name, secret="another secret"))
    answer = await operator.request("agent.forget", agent=name, secretOnly=True)
    told = (answer.body.get("known", False), answer.body.get("bound"))
    check(answer.kind == "agent.forgotten" and told == (False, True), "agent.forgotten, bound and not known", answer)
    agent = (await client.request("agent.find", filter={"agent": name})).body["agents"][0]
    check(not agent.get("refused") and set(agent["holding"]) == {offer.task for offer in offers}, "both tasks", agent)
    new = await under.peer(name, secret="another secret", held=[at(offers[0])], **same)
    check(new.welcome.body["held"][0].get("verdict") == "keep", "keep", new.welcome)
    await new.admitted(offers[0])
    await new.admitted(offers[1])
    old = await under.connect()
    await old.refused("auth", "hello", **under.hello(name))


@coordinator("ROUTE-1")
async def offers_a_task_only_to_whom_it_is_for(under: Coordinator) -> None:
    """Among agents with the skill, only the one with the wanted label, tag, id and media type gets the offer."""
    skill, tag = under.skill(), under.name("tag")
    wanted = under.name("worker")
    described = card(wanted, skill)
    described["skills"][0] |= {"tags": [tag], "inputModes": ["text/x-odd"]}
    right = await under.peer(wanted, skills=(skill,), card=described, labels={"zone": "a"})
    wrong = [await under.peer(skills=(skill,), labels={"zone": "b"}), await under.peer(skills=(skill,))]
    client = await under.peer()
    requirements: list[dict[str, Any]] = [
        *({"agent": wanted}, {"tags": [tag]}, {"labels": {"zone": "a"}}, {"mediaType": "text/x-odd"}),
        {"exclude": [peer.name for peer in wrong]},
    ]
    # An agent that is already at work comes after all others (ROUTE-4), and gets only what no other agent may have.
    busy = await client.delegate(skill, spec={"requires": {"tags": [tag]}}, timers=LONG)
    await right.offered(busy.task)
    for requires in requirements:
        created = await client.delegate(skill, spec={"requires": requires})
        await right.admitted(await right.offered(created.task))
    for peer in wrong:
        await peer.nothing("task.offer")


@coordinator("ROUTE-1", also=("REG-1",))
async def media_types_are_the_skills_else_the_cards_else_two(under: Coordinator) -> None:
    """A task's media type is matched with the skill's types, else with the card's, else with JSON and plain text."""
    skill, client = under.skill(), await under.peer()
    own, carded, silent = (under.name(word) for word in ("own", "carded", "silent"))
    cards = {name: card(name, skill) for name in (own, carded, silent)}
    cards[own]["skills"][0]["inputModes"] = ["image/png"]
    cards[own]["defaultInputModes"] = cards[carded]["defaultInputModes"] = ["image/gif"]
    peers = {name: await under.peer(name, skills=(skill,), card=described) for name, described in cards.items()}
    for media, name in (
        ("image/png", own),
        ("image/gif", carded),
        ("text/plain", silent),
        ("application/json", silent),
    ):
        check(await found(client, skill=skill, mediaType=media) == [name], f"{name} for {media}", "")
        created = await client.delegate(skill, media, spec={"requires": {"mediaType": media}}, timers=LONG)
        await peers[name].admitted(await peers[name].offered(created.task))


@coordinator("ROUTE-1")
async def every_label_has_to_hold_and_nobody_excluded_is_asked(under: Coordinator) -> None:
    """One of two labels is not enough; of two excluded agents neither is offered the task."""
    skill, client = under.skill(), await under.peer()
    half = await under.peer(skills=(skill,), labels={"a": "1", "b": "2"})
    other = await under.peer(skills=(skill,), labels={"a": "1"})
    labels = await client.delegate(skill, 1, spec={"requires": {"labels": {"a": "1", "b": "3"}}})
    nobody = await client.delegate(skill, 2, spec={"requires": {"exclude": [half.name, other.name]}})
    check(await found(client, skill=skill, labels={"a": "1", "b": "3"}) == [], "nobody with both labels", "")
    for peer in (half, other):
        await peer.nothing("task.offer")
    both = await under.peer(skills=(skill,), labels={"a": "1", "b": "3"})
    came = {(await both.offered()).task for _ in range(2)}
    check(came == {labels.task, nobody.task}, "both tasks", came)


@coordinator("ROUTE-2", also=("OFFER-5",))
async def does_not_ask_again_before_the_time_a_decline_named(under: Coordinator) -> None:
    """A declined task comes back to the agent that declined it after `retryAfterMs`, and no sooner."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    answer = await worker.request("task.decline", task=offer.task, fence=offer.fence, retryAfterMs=2_000)
    check(answer.kind == "ok", "ok", answer)
    later = await client.delegate(under.skill("nobody"), timers={"queueMs": 1_000})
    await client.settled(later.task)  # so that some time has passed by the coordinator's clock
    await worker.nothing("task.offer")
    again = await worker.offered(created.task)
    check(again.fence > offer.fence, "a greater fence", again)


@coordinator("ROUTE-3")
async def the_higher_priority_and_then_the_older_goes_first(under: Coordinator) -> None:
    """Queued tasks are offered by priority, and tasks of equal priority in the order they were made."""
    skill, client = under.skill(), await under.peer()
    made = {}
    for name, priority in (("low", 1), ("first", 5), ("second", 5), ("high", 9)):
        made[name] = (await client.delegate(skill, spec={"priority": priority})).task
    worker = await under.peer(skills=(skill,), credit={"tasks": 1, "frames": 256})
    for name in ("high", "first", "second", "low"):
        offer = await worker.offered()
        check(offer.task == made[name], f"the task {name!r}", offer)
        await worker.admitted(offer)


@coordinator("ROUTE-4", also=("ACCEPT-5", "OFFER-7"))
async def a_rework_goes_to_who_had_the_task(under: Coordinator) -> None:
    """The agent whose result was sent back is offered the next revision, with the feedback, even if another is idle."""
    skill, client = under.skill(), await under.peer()
    worker = await under.peer(skills=(skill,))
    created = await client.delegate(skill, timers=LONG)
    await worker.admitted(await worker.offered(created.task))
    await worker.offered((await client.delegate(skill, "more", timers=LONG)).task)
    await under.peer(skills=(skill,))
    await client.confirm(await client.reviewed(created.task), "reject", rework=True, payload=b'[{"text":"again"}]')
    offer = await worker.offered(created.task)
    check(offer.body.get("rev") == 1, "revision 1", offer)
    feedback = offer.body.get("feedback") or [{}]
    check(len(feedback) == 1 and b"again" in as_bytes(feedback[0].get("payload")), "the feedback", offer)


@coordinator("ROUTE-6")
async def a_task_waits_for_an_agent_that_is_not_there_yet(under: Coordinator) -> None:
    """A skill that no agent has is no error; the first agent that has it is offered the task."""
    skill, client = under.skill(), await under.peer()
    created = await client.delegate(skill)
    check(created.body.get("state") == "queued", "state queued", created)
    worker = await under.peer(skills=(skill,))
    await worker.offered(created.task)
