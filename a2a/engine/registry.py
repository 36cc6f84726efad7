"""Which agents are there: handshake, identity, credit, discovery (spec HELLO, ID, REG)."""

from __future__ import annotations

import hmac
from typing import Any, Literal

from ..errors import ErrorCode
from ..protocol.codec import pack
from ..protocol.messages import (
    AgentEvent,
    AgentFind,
    AgentFound,
    AgentInfo,
    AgentUpdate,
    Bye,
    Credit,
    HeldStill,
    HeldVerdict,
    Hello,
    Limits,
    MailboxAck,
    Ok,
    Ping,
    Pong,
    Welcome,
)
from ..protocol.states import TaskState
from ..protocol.types import principal_of
from ..protocol.version import FEATURES, OLDEST, SPOKEN, agree
from . import refusals
from .conflicts import flapping
from .conflicts.noting import cards_noted, instance_refused, processes_noted
from .decision import NOTHING, Decision, refuse, reply
from .leases import Case, canceled, classify, evict, lapse, may_revive, proof, withdraw
from .ledger import Agent
from .live import Connection, World
from .policy import digest
from .records import AgentRegistered, AnswersRepeated, Declined, PrincipalBound, Record, Revived, StatusSet, Yielded
from .routing import satisfies

__all__ = [
    "info",
    "on_agent_find",
    "on_agent_update",
    "on_bye",
    "on_credit",
    "on_hello",
    "on_mailbox_ack",
    "on_ping",
]


def on_hello(world: World, sender: Connection, message: Hello, now: int) -> Decision:
    """Take a peer's hello: who it is and what it brings. Spec HELLO-1 to HELLO-8, DURABLE-7."""
    version = agree(*message.versions)
    if version is None:
        return _turn_away(
            refuse(
                ErrorCode.VERSION,
                f"spoken here: {OLDEST} to {SPOKEN}, by the peer: {message.versions[0]} to {message.versions[1]}",
                data={"versions": [OLDEST, SPOKEN]},
            )
        )
    if not world.policy.admission.admits(message.token):
        return _turn_away(
            refuse(ErrorCode.AUTH, "the token does not open this namespace" if message.token else "a token is needed")
        )
    if message.operator_token is not None and not world.policy.admission.is_operator(message.operator_token):
        return _turn_away(refuse(ErrorCode.AUTH, "the operator's token is not this coordinator's"))
    too_large = _check_card(world, message.agent_id, message.card, message.labels)
    if too_large is not None:
        return _turn_away(too_large)

    principal = principal_of(message.agent_id)
    bound = world.ledger.principals.get(principal)
    records: list[Record] = []
    issued: str | None = None
    if bound is None:
        # A secret that an earlier ledger bound is bound again: its agents get in after a restore or on a new ledger.
        issued = None if message.secret else sender.fresh_secret
        records.append(PrincipalBound(now, principal, digest(message.secret or sender.fresh_secret)))
    elif message.secret is None or not hmac.compare_digest(bound, digest(message.secret)):
        detail = (
            f"{principal} is bound to a secret, and {'none' if message.secret is None else 'another one'} was shown"
        )
        return _turn_away(refuse(ErrorCode.AUTH, detail))

    known = world.ledger.agents.get(message.agent_id)
    there = world.live.agents.get(message.agent_id)
    incarnation = max(known.incarnation if known else 0, there.incarnation if there else 0)
    current_instance = there.instance if there else known.instance if known else message.instance_id
    if current_instance != message.instance_id:
        # If nobody is connected, a process as new as the one that was here last is let in.
        one = {"incarnation": there.incarnation if there is not None else -1}
        denied = instance_refused(message.agent_id, incarnation, one, {"incarnation": message.incarnation})
        if denied is not None:
            return _turn_away(refuse(ErrorCode.DENIED, denied, records=_twice(world, there, message, now)))

    lost = next((held for held in message.held if _is_lost(world, message.agent_id, held)), None)
    if lost is not None:
        detail = f"{message.agent_id} holds fence {lost.fence} of task {lost.task}, which is not in this ledger"
        return Decision(halt=f"an older copy of the ledger was restored: {detail}")

    if there is not None and there.instance != message.instance_id:
        refusal = flapping.refusal(world, there, message.instance_id, message.incarnation, now)
        if refusal is not None:
            return _turn_away(refusal)
    records.extend(_over(world, there, known, message, now) if not records else ())
    verdicts, kept = _held(world, message, now)
    records.extend(kept)
    card: dict[str, Any] = dict(message.card) if message.card else {}
    if card.get("skills") and (
        known is None
        or known.instance != message.instance_id
        or known.incarnation != message.incarnation
        or known.card != card
        or known.labels != message.labels
    ):
        records.append(
            AgentRegistered(now, message.agent_id, message.instance_id, message.incarnation, card, dict(message.labels))
        )
    resumed = _seat(world, sender, message, card, now)
    return Decision(records, _welcome(world, sender, version, issued, verdicts, resumed, message.features))


def _check_card(world: World, agent: str, card: object, labels: dict[str, str]) -> Decision | None:
    """Refuse a card too large to send to everybody who looks for agents. Spec LIMIT-7."""
    size, most = len(pack([card, labels])) if card or labels else 0, world.policy.card_max_bytes
    if size <= most:
        return None
    return refuse(ErrorCode.TOO_LARGE, f"a card and its labels have at most {most} bytes, those of {agent} {size}")


def _twice(world: World, there: Connection | None, message: Hello, now: int) -> list[Record]:
    """Note that an agent is here twice. Spec CONFLICT-17."""
    if there is None or there.instance == message.instance_id:
        return []
    one = {"instance": there.instance, "incarnation": there.incarnation}
    other = {"instance": message.instance_id, "incarnation": message.incarnation}
    return processes_noted(world, message.agent_id, one, other, now)


def _over(world: World, there: Connection | None, known: Agent | None, message: Hello, now: int) -> list[Record]:
    """Note that a process takes over from one heard just now, or that its card differs from the one on file."""
    if there is not None and now - there.seen <= world.policy.durations.heartbeat_ms:
        if there.instance != message.instance_id and there.has_answered:
            flapping.note_takeover(world, message.agent_id, now)
        return _twice(world, there, message, now)
    card = dict(message.card) if message.card else {}
    return cards_noted(world, known, message.instance_id, card, now) if known is not None else []


def _is_lost(world: World, agent: str, held: HeldStill) -> bool:
    """Tell whether a fence was minted after the last record this process found: the rest of the ledger is missing."""
    ledger, task = world.ledger, world.ledger.tasks.get(held.task)
    restored = world.live.restored_lsn
    if held.fence <= restored:
        return False
    # A fence without a valid proof may be of another ledger, or made up to stop this one.
    if not hmac.compare_digest(held.proof.encode(), proof(ledger, agent, held.task, held.fence).encode()):
        return False
    if held.fence > ledger.lsn:
        return True
    if task is not None:
        return held.fence not in task.attempts
    # Records since the start may have outgrown both positions. A task that left memory may be the one.
    made_at = ledger.position_of(held.task)
    return restored < made_at < held.fence and not ledger.may_have_archived(held.task)


def _turn_away(decision: Decision) -> Decision:
    decision.close = "refused"
    return decision


def _held(world: World, message: Hello, now: int) -> tuple[list[HeldVerdict], list[Record]]:
    """Say what became of each attempt the agent holds, and end those that a restarted agent no longer has."""
    verdicts: list[HeldVerdict] = []
    records: list[Record] = []
    ledger = world.ledger
    still = set()
    known = ledger.agents.get(message.agent_id)
    is_another = known is not None and known.instance != message.instance_id
    for held in message.held:
        task = ledger.tasks.get(held.task)
        case = classify(ledger, task, message.agent_id, held.fence) if task else None
        verdict: Literal["keep", "stale", "unknown"] = "unknown" if task is None else "stale"
        lease_ms: int | None = None
        revivable = case is Case.LAPSED and task is not None and may_revive(task)
        if task is not None and (case is Case.CURRENT or revivable):
            if task.id not in still:
                if revivable:
                    records.append(Revived(now, task.id, held.fence))
                if is_another and any(ask.fence == held.fence and ask.told for ask in task.asks):
                    records.append(AnswersRepeated(now, task.id, held.fence))
            verdict, lease_ms = "keep", task.durations.lease_ms
            world.live.lease_until[task.id] = now + task.durations.lease_ms
            still.add(task.id)
        verdicts.append(HeldVerdict(held.task, held.fence, verdict, lease_ms))
    if is_another:
        for task_id in list(ledger.holding.get(message.agent_id, ())):
            task = ledger.tasks[task_id]
            if task_id in still:
                continue
            if task.offer is not None and task.offer.agent == message.agent_id:
                records.extend(withdraw(task, now, "the agent restarted"))
            elif task.holder == message.agent_id:
                records.extend(lapse(world, task, now, "the agent restarted"))
    return verdicts, records


def _seat(world: World, sender: Connection, message: Hello, card: dict[str, Any], now: int) -> bool:
    """Make this the connection the agent speaks on, and set the mailbox cursor."""
    sender.agent = message.agent_id
    sender.instance, sender.incarnation = message.instance_id, message.incarnation
    sender.role = "operator" if message.operator_token is not None else "member"
    sender.card = card
    sender.credit_tasks, sender.credit_frames = message.credit.tasks, message.credit.frames
    sender.seen = now
    mailbox = world.ledger.mailboxes.get(message.agent_id)
    oldest = mailbox.entries[0].mseq if mailbox and mailbox.entries else mailbox.next_mseq if mailbox else 1
    older = world.live.agents.get(message.agent_id)
    # What was acknowledged on the connection that this one replaces is not recorded yet.
    cursor = max(oldest - 1, older.acked_mseq if older is not None else 0)
    resumed = False
    if (
        message.resume is not None
        and mailbox is not None
        and not world.ledger.may_have_forgotten(message.agent_id)
        and cursor <= message.resume.last_mseq < mailbox.next_mseq
    ):
        cursor, resumed = message.resume.last_mseq, True
    sender.sent_mseq = sender.acked_mseq = cursor
    return resumed


def _welcome(
    world: World,
    sender: Connection,
    version: str,
    issued: str | None,
    verdicts: list[HeldVerdict],
    resumed: bool,
    features: list[str],
) -> Welcome:
    policy, durations = world.policy, world.policy.durations
    return Welcome(
        version=version,
        namespace=policy.namespace,
        epoch=world.ledger.epoch,
        durability=world.live.durability,  # type: ignore[arg-type]
        limits=Limits(
            policy.frame_limits.message_max_bytes,
            policy.frame_limits.payload_max_bytes,
            policy.frame_limits.frames_max,
            policy.frames_per_second,
            policy.requests_in_flight,
            policy.outbox_max_bytes,
            durations.heartbeat_ms,
            durations.lease_ms,
        ),
        next_mseq=sender.sent_mseq + 1,
        role=sender.role,  # type: ignore[arg-type]
        resumed=resumed,
        secret=issued,
        held=verdicts,
        features=[feature for feature in features if feature in FEATURES],
    )


def on_bye(world: World, sender: Connection, message: Bye, now: int) -> Decision:
    """Take a bye: the peer is about to close, and may give back what it holds. Spec HELLO-9, HELLO-11."""
    records: list[Record] = []
    agent = sender.agent or ""
    for task_id in world.ledger.holding.get(agent, ()) if message.drain else ():
        task = world.ledger.tasks[task_id]
        if task.offer is not None and task.offer.agent == agent:
            records.append(Declined(now, task_id, task.offer.fence, "busy", now, counted=False))
        elif task.state is TaskState.CANCELING:
            records.append(canceled(task, now))
        elif task.authority is not None:
            records.append(Yielded(now, task_id, task.authority.fence, "the agent left"))
    return Decision(records, Ok(), close="bye")


def on_mailbox_ack(world: World, sender: Connection, message: MailboxAck, now: int) -> Decision:
    """Note that the agent has everything up to an entry; this is recorded now and then. Spec MAIL-3."""
    if message.upto > sender.sent_mseq:
        return refuse(
            ErrorCode.MALFORMED,
            f"mailbox entry {message.upto} was not sent yet, the newest sent here is {sender.sent_mseq}",
        )
    sender.acked_mseq = max(sender.acked_mseq, message.upto)
    while sender.unacked and sender.unacked[0][0] <= sender.acked_mseq:
        sender.unacked_bytes -= sender.unacked.popleft()[1]
    return NOTHING


def on_credit(world: World, sender: Connection, message: Credit, now: int) -> Decision:
    """Note that the agent takes more or less. The leases it has stay. Spec FLOW-2."""
    sender.credit_tasks, sender.credit_frames = message.tasks, message.frames
    return NOTHING


def on_ping(world: World, sender: Connection, message: Ping, now: int) -> Decision:
    """Answer a ping."""
    return reply(Pong(message.nonce))


def on_agent_update(world: World, sender: Connection, message: AgentUpdate, now: int) -> Decision:
    """Update an agent's card, labels or status, as the agent or an operator asks. Spec REG-4."""
    agent_id = message.agent or sender.agent or ""
    if agent_id != sender.agent and sender.role != "operator":
        return refuse(
            ErrorCode.FORBIDDEN, f"only {agent_id} itself or an operator may update {agent_id}, not {sender.agent}"
        )
    agent = world.ledger.agents.get(agent_id)
    if agent is None:
        return refuse(ErrorCode.NOT_FOUND, f"there is no agent {agent_id} with a card on file")
    records: list[Record] = []
    card = dict(message.card) if message.card is not None else agent.card
    labels = dict(message.labels) if message.labels is not None else agent.labels
    is_new = message.card is not None or message.labels is not None
    too_large = _check_card(world, agent_id, card, labels) if is_new else None
    if too_large is not None:
        return too_large
    if card != agent.card or labels != agent.labels:
        records.append(AgentRegistered(now, agent_id, agent.instance, agent.incarnation, card, labels))
    if message.status is not None and message.status != agent.status:
        records.append(StatusSet(now, agent_id, message.status, sender.agent or ""))
    if message.status == "draining" and message.grace_ms is not None:
        records.extend(_drained(world, agent_id, now, message.grace_ms))
    return reply(Ok(), *records)


def _drained(world: World, agent: str, now: int, grace_ms: int) -> list[Record]:
    """Return the evictions that have an agent yield everything it has, for others to continue."""
    tasks = [world.ledger.tasks[task_id] for task_id in world.ledger.holding.get(agent, ())]
    return [
        evict(task, "drain", now, grace_ms)
        for task in tasks
        if task.state in (TaskState.LEASED, TaskState.PARKED) and task.authority and not task.authority.evicted
    ]


def info(world: World, agent: Agent, now: int) -> AgentInfo:
    """Return what others see of an agent."""
    connection = world.live.agents.get(agent.id)
    return AgentInfo(
        agent=agent.id,
        card=agent.card,  # type: ignore[arg-type]
        status="away" if connection is None else agent.status,  # type: ignore[arg-type]
        labels=agent.labels,
        credit=connection.credit_tasks if connection else 0,
        holding=list(world.ledger.holding.get(agent.id, ())),
        seen_ms=max(0, now - connection.seen) if connection else None,
        refused=refusals.shown(world.ledger.impostures.get(principal_of(agent.id), [])),
        quarantine=flapping.told_of(world, agent.id, now),
    )


def on_agent_find(world: World, sender: Connection, message: AgentFind, now: int) -> Decision:
    """Find agents. Spec REG-1 to REG-3."""
    wanted, ledger = message.filter, world.ledger
    if message.watch and len(sender.finding) >= world.policy.finds_max:
        return refuse(ErrorCode.QUOTA, f"a connection watches with at most {world.policy.finds_max} finds")
    if wanted.agent is not None:
        one = ledger.agents.get(wanted.agent)
        candidates = [one] if one else []
    elif wanted.skill is not None:
        candidates = list(ledger.by_skill.get(wanted.skill, {}).values())
    else:
        candidates = list(ledger.agents.values())
    found = [agent for agent in candidates if satisfies(agent, wanted, world.live.schema_hashes)]
    if len(found) > world.policy.found_max:
        return refuse(
            ErrorCode.TOO_LARGE, f"{len(found)} agents match, an answer names at most {world.policy.found_max}"
        )
    found.sort(key=lambda agent: agent.id)
    is_unknown = wanted.agent is not None and not candidates
    impostures = ledger.impostures.get(principal_of(wanted.agent or ""), []) if is_unknown else []
    return reply(AgentFound([info(world, agent, now) for agent in found], refusals.shown(impostures)))


def change_notice(world: World, agent: Agent, change: Literal["joined", "left", "changed"], now: int) -> AgentEvent:
    """Return what watchers are told about an agent."""
    return AgentEvent(change, info(world, agent, now))
