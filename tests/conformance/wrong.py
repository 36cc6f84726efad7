"""Wrong peers: our own coordinator, agent and client with one bug each, all of which the suite has to find.

A suite that fails nobody proves nothing; it is judged by what it finds. To add a peer, add a row: a name, a role, a
sentence, what is changed, and the requirements that cases which fail have to name. What is changed stands exactly once
in its file, as in the table of planted bugs; where that has the same bug already, the row takes it from there.
"""

from __future__ import annotations

from dataclasses import dataclass

from a2a.conformance.case import Role
from tests.mutants.table import MUTANTS, Edit

__all__ = ["WRONG", "Wrong"]

AGENT, CLIENT, COORDINATOR = Role.AGENT, Role.CLIENT, Role.COORDINATOR

SERVER = "a2a/server.py"
PEER = "a2a/peer.py"
STEPS = "a2a/engine/coordinator.py"
HANDLERS = "a2a/engine/handlers.py"
TASKS = "a2a/engine/tasks.py"
RESULTS = "a2a/engine/results.py"
ASKING = "a2a/engine/conflicts/asking.py"
SPENDING = "a2a/engine/spending.py"
REGISTRY = "a2a/engine/registry.py"
LEASES = "a2a/engine/leases.py"
TIMERS = "a2a/engine/timers.py"
TASK_FOLDING = "a2a/engine/task_folding.py"
CONTROL = "a2a/engine/control.py"
TREE = "a2a/engine/tree.py"
WATCHING = "a2a/engine/watching.py"
READING = "a2a/engine/reading.py"
LEDGER = "a2a/engine/ledger.py"
HANDOVER = "a2a/engine/handover.py"
ROUTING = "a2a/engine/routing.py"
CODEC = "a2a/protocol/codec.py"
SESSION = "a2a/protocol/session.py"
SOCKET = "a2a/transports/websocket_connection.py"
WORK = "a2a/engine/work.py"
DELEGATION = "a2a/engine/delegation.py"
RUNNER = "a2a/runner.py"
SLACK = "a2a/slack.py"
LINK = "a2a/link.py"
CLIENT_FILE = "a2a/client.py"


_AT_ALL = {
    AGENT: "HELLO-1/says_hello_first",
    CLIENT: "HELLO-1/says_hello_first",
    COORDINATOR: "HELLO-4/welcomes_first",
}


@dataclass(frozen=True, slots=True)
class Wrong:
    """One wrong peer."""

    name: str
    role: Role
    says: str
    """What is wrong, in a sentence."""
    edits: tuple[Edit, ...]
    broken: tuple[str, ...]
    """The requirements it breaks: for each of them a case that is about it has to fail."""
    areas: tuple[str, ...] = ()
    """What is tried of it: areas, requirements or cases. Without any, the areas of what is broken."""
    quick: bool = False
    """Runs with every run of the tests."""

    @property
    def tried(self) -> tuple[str, ...]:
        """What is tried of it where not everything is: with it what shows that it does something at all."""
        chosen = self.areas or tuple(dict.fromkeys(name.partition("-")[0] for name in self.broken))
        return (_AT_ALL[self.role], *chosen)


def the_bug(name: str) -> tuple[Edit, ...]:
    """Return the changes of a planted bug."""
    (found,) = (mutant for mutant in MUTANTS if mutant.name == name)
    return found.edits


def one(file: str, before: str, after: str) -> tuple[Edit, ...]:
    """Return a change at one place."""
    return (Edit(file, before, after),)


def written_as(kind: str, after: str) -> tuple[Edit, ...]:
    """Return a change of what is written for one kind of frame: of `out`, or of its `body`."""
    return one(CODEC, '    out["body"] = body\n', f'    out["body"] = body\n    if message.kind == "{kind}":\n{after}')


UNCOUNTED = one(
    SESSION,
    "        self._cursor = mseq\n        return [Notice(message)]",
    "        if not isinstance(message, Unknown):\n            self._cursor = mseq\n        return [Notice(message)]",
)
"""A mailbox entry of an unknown kind has no place in the count."""
FORMS = "WIRE-3/every_frame_fits_the_schema_of_its_kind"

WRONG: tuple[Wrong, ...] = (
    # The coordinator: what was said before ----------------------------------------------------------------------------
    Wrong(
        "forgets-keys",
        COORDINATOR,
        "The same key makes another task.",
        the_bug("no-idempotency-check"),
        broken=("TASK-3",),
        areas=("TASK-3",),
        quick=True,
    ),
    Wrong(
        "takes-other-work-under-a-key",
        COORDINATOR,
        "Other work under a key that is taken is answered with the task that is there.",
        one(TASKS, "    if task.spec_hash != spec_hash:", "    if False:"),
        broken=("TASK-4",),
    ),
    Wrong(
        "another-error-code",
        COORDINATOR,
        "Other work under a key that is taken is refused as a conflict.",
        one(
            TASKS,
            '            ErrorCode.IDEMPOTENCY_MISMATCH,\n            f"key {key!r} is',
            '            ErrorCode.CONFLICT,\n            f"key {key!r} is',
        ),
        broken=("TASK-4",),
    ),
    Wrong(
        "answers-before-storing",
        COORDINATOR,
        "Answers leave at once, and what they tell of is stored a second later.",
        (
            Edit(
                SERVER,
                "            self.store.append(entries, expected, self._appended, ready.archived)",
                "            self._in_flight[-1] = _Batch(Ready(), {})\n"
                "            self._send(batch)\n"
                "            given = (entries, expected, self._appended, ready.archived)\n"
                "            asyncio.get_running_loop().call_later(1.0, self.store.append, *given)",
            ),
            Edit(SERVER, "        elif self._in_flight:", "        elif False:"),
        ),
        broken=("DURABLE-1", "DURABLE-2"),
    ),
    Wrong(
        "loses-the-mail-in-a-crash",
        COORDINATOR,
        "Mailboxes begin anew with the process.",
        the_bug("mail-lost-at-restart"),
        broken=("DURABLE-2",),
    ),
    Wrong(
        "times-go-on-while-it-is-away",
        COORDINATOR,
        "After a restart timers fire at once, before anybody can be back.",
        the_bug("timer-fires-in-the-grace"),
        broken=("TIME-4",),
    ),
    # The coordinator: authority ---------------------------------------------------------------------------------------
    Wrong(
        "accepts-stale-fences",
        COORDINATOR,
        "Whoever ever had an attempt at the task has the current one.",
        the_bug("no-fence-check"),
        broken=("FENCE-4",),
    ),
    Wrong(
        "accepts-another-agents-fence",
        COORDINATOR,
        "A fence in the wrong hands is as good as in the right ones.",
        the_bug("owner-not-checked"),
        broken=("AUTH-4",),
        areas=("AUTH-4",),
        quick=True,
    ),
    Wrong(
        "accepts-a-withdrawn-offer",
        COORDINATOR,
        "A sign of life under a fence that was withdrawn or superseded gets the task back.",
        the_bug("stale-heartbeat-revives"),
        broken=("OFFER-6",),
    ),
    Wrong(
        "lets-nothing-lapse",
        COORDINATOR,
        "An agent that is dead keeps its task for ever.",
        the_bug("lease-never-expires"),
        broken=("LEASE-4",),
    ),
    Wrong(
        "lets-a-lapsed-lease-go-for-good",
        COORDINATOR,
        "Who comes back after its lease has lapsed is told to stop, though nobody else has the task.",
        one("a2a/engine/leases.py", "    if case is Case.LAPSED and may_revive(task):", "    if False:"),
        broken=("LEASE-4",),
    ),
    Wrong(
        "sends-json-in-binary-messages",
        COORDINATOR,
        "What the coordinator sends in JSON comes in binary messages, which not everybody takes for text.",
        one(
            "a2a/transports/websocket_connection.py",
            "        self._send_frame = protocol.send_text if self.subprotocol == JSON else protocol.send_binary\n",
            "        self._send_frame = protocol.send_binary\n",
        ),
        broken=("WIRE-2",),
    ),
    Wrong(
        "takes-a-declined-grant-for-an-offer",
        COORDINATOR,
        "A grant that was declined is as if it had never been current.",
        one(
            "a2a/engine/task_folding.py",
            "    ledger.spend(task)\n    return authority.holder\n",
            "    ledger.spend(task)\n    task.authority = None\n    return authority.holder\n",
        ),
        broken=("FENCE-3",),
    ),
    Wrong(
        "gives-no-answer-twice",
        COORDINATOR,
        "An agent that starts again with its work does not get the answers it was sent before.",
        one(
            REGISTRY,
            "                    records.append(AnswersRepeated(now, task.id, held.fence))\n",
            "                    pass\n",
        ),
        broken=("HELLO-7",),
    ),
    Wrong(
        "takes-a-wait-for-an-answer-for-a-hang",
        COORDINATOR,
        "The time for which an attempt may hang runs while it waits for an answer.",
        one(
            "a2a/engine/timers.py",
            "    if task.state is TaskState.PARKED:\n        return []\n    times: list[tuple[int, str]] = []\n",
            "    times: list[tuple[int, str]] = []\n",
        ),
        broken=("TIME-7",),
    ),
    Wrong(
        "tells-who-lapsed-to-stop",
        COORDINATOR,
        "Whose lease runs out is revoked at once, though it may come back.",
        one(
            "a2a/engine/task_folding.py",
            "    ledger.move(task, TaskEvent.EXPIRE, record, lsn, agent=authority.holder, reason=record.reason)\n",
            "    ledger.move(task, TaskEvent.EXPIRE, record, lsn, agent=authority.holder, reason=record.reason)\n"
            '    ledger.post(authority.holder, lsn, "task.revoke", task.id, authority.fence)\n',
        ),
        broken=("LEASE-4",),
    ),
    Wrong(
        "makes-an-event-of-a-revival-in-parked",
        COORDINATOR,
        "The generation of a parked task grows where its attempt revives.",
        (
            Edit(
                "a2a/protocol/states.py",
                "    (_S.PARKED, _E.EXPIRE): _S.PARKED,\n",
                "    (_S.PARKED, _E.EXPIRE): _S.PARKED,\n    (_S.PARKED, _E.REVIVE): _S.PARKED,\n",
            ),
            Edit("a2a/engine/task_folding.py", "    if task.state is not TaskState.PARKED:\n", "    if True:\n"),
        ),
        broken=("LEASE-8",),
    ),
    Wrong(
        "anybody-is-anybody",
        COORDINATOR,
        "Whoever has the token is whoever it says it is.",
        the_bug("secret-not-checked"),
        broken=("ID-4",),
    ),
    Wrong(
        "lets-an-older-process-in",
        COORDINATOR,
        "A process of an older incarnation takes the place of a newer one.",
        one("a2a/engine/conflicts/noting.py", '    if other["incarnation"] < incarnation:', "    if False:"),
        broken=("ID-6",),
    ),
    Wrong(
        "keeps-two-connections",
        COORDINATOR,
        "An agent that connects again speaks on both connections.",
        (
            Edit(STEPS, '            self._ready.closes.append((older.id, "taken over"))\n', ""),
            Edit(
                STEPS,
                '            self._send(older, Bye("connected again" if same else "taken_over"))\n',
                "            del same\n",
            ),
        ),
        broken=("HELLO-8",),
    ),
    Wrong(
        "needs-no-hello",
        COORDINATOR,
        "What comes before a hello is refused, and the connection stays.",
        one(STEPS, '            decision.close = "no hello"\n', ""),
        broken=("HELLO-1",),
    ),
    Wrong(
        "everybody-decides",
        COORDINATOR,
        "Whoever likes confirms, cancels and answers.",
        the_bug("everybody-decides"),
        broken=("AUTH-5",),
    ),
    # The coordinator: mail and credit ---------------------------------------------------------------------------------
    Wrong(
        "reorders-a-mailbox",
        COORDINATOR,
        "Two entries that wait are told in the wrong order, under the right numbers.",
        one(
            "a2a/engine/delivery.py",
            "message = render(world, agent, entry, now)",
            "message = render("
            "world, agent, mailbox.entries[index ^ 1 if max(0, start) <= index ^ 1 < stop else index], now)",
        ),
        broken=("MAIL-1",),
    ),
    Wrong(
        "leaves-a-gap-in-a-mailbox",
        COORDINATOR,
        "Every other entry of a mailbox is passed over.",
        the_bug("gap-in-the-mail"),
        broken=("MAIL-1",),
    ),
    Wrong(
        "sends-mail-once",
        COORDINATOR,
        "An agent that comes back gets what is posted from then on.",
        the_bug("mail-of-the-absent-skipped"),
        broken=("MAIL-4",),
    ),
    Wrong(
        "ignores-the-credit-for-tasks",
        COORDINATOR,
        "An agent is given one task more than it takes.",
        the_bug("credit-exceeded"),
        broken=("FLOW-1",),
    ),
    Wrong(
        "ignores-the-credit-for-mail",
        COORDINATOR,
        "An agent is sent one entry more than it takes unacknowledged.",
        the_bug("frames-beyond-their-credit"),
        broken=("FLOW-1",),
    ),
    Wrong(
        "offers-to-who-drains",
        COORDINATOR,
        "An agent that drains is offered more.",
        the_bug("draining-agent-asked"),
        broken=("REG-6",),
    ),
    Wrong(
        "answers-no-ping",
        COORDINATOR,
        "A ping gets no pong.",
        one(HANDLERS, "    Ping: on_ping,\n", "    Ping: lambda *_: NOTHING,\n"),
        broken=("RPC-5",),
    ),
    Wrong(
        "forgets-who-is-patient",
        COORDINATOR,
        "A reply that may wait is sent when something else is, and else never.",
        one(SLACK, "            self._timer = loop.call_at(due, self.send_all)\n", ""),
        broken=("RPC-7",),
    ),
    Wrong(
        "warns-each-of-a-budget-alone",
        COORDINATOR,
        "An attempt is held against a budget it shares as if no other used it.",
        one(
            SPENDING,
            "                self._sums[payer.id, kind] = self.of(payer, kind) + amount\n",
            "                self._sums[payer.id, kind] = amount\n",
        ),
        broken=("BUDGET-4",),
    ),
    # The coordinator: who comes back, what is below, and what it lasts ------------------------------------------------
    Wrong(
        "drops-what-came-before-the-bad",
        COORDINATOR,
        "Of a message that breaks off no frame is taken.",
        one(
            CODEC,
            "            out.append(BadFrame(refusal.code, refusal.detail, refusal.fatal))\n        else:\n",
            "            out[:] = [BadFrame(refusal.code, refusal.detail, refusal.fatal)]\n        else:\n",
        ),
        broken=("ERR-3",),
    ),
    Wrong(
        "forgets-who-was-asked",
        COORDINATOR,
        "An agent that has an offer is not told that its task has ended.",
        one(
            TASK_FOLDING,
            "    fence = task.authority.fence if task.authority else 0\n    _overtake_offer(ledger, task, lsn)\n",
            "    fence = task.authority.fence if task.authority else 0\n    ledger.drop_offer(task)\n",
        ),
        broken=("TASK-11",),
        areas=("TASK-11",),
    ),
    Wrong(
        "takes-zero-for-used-up",
        COORDINATOR,
        "A task with a budget of zero is offered to nobody.",
        one(
            "a2a/engine/budget.py",
            "if 0 < used >= payer.budget[kind] * share:",
            "if used >= payer.budget[kind] * share:",
        ),
        broken=("BUDGET-5",),
        areas=("BUDGET-5",),
    ),
    Wrong(
        "drains-for-ever",
        COORDINATOR,
        "An agent that drained is asked for nothing after its next start.",
        one(LEDGER, '            agent.status = "ready"\n', "            pass\n"),
        broken=("REG-6",),
        areas=("REG-6",),
    ),
    Wrong(
        "hands-on-for-ever",
        COORDINATOR,
        "A task goes from agent to agent as often as they like.",
        one(HANDOVER, "    if task.handoffs >= task.bounds.handoffs:\n", "    if task.handoffs < 0:\n"),
        broken=("HAND-3",),
        areas=("HAND-3",),
    ),
    Wrong(
        "says-words-late",
        COORDINATOR,
        "A word for one generation gets to whichever there is.",
        one(
            TASKS,
            "        return _moved_on(world, sender, task, message.if_gen or 0, message.payload, now)\n"
            "    if task.is_terminal or task.is_reported",
            "        pass\n    if task.is_terminal or task.is_reported",
        ),
        broken=("STEER-1",),
        areas=("STEER-1",),
    ),
    Wrong(
        "tells-the-last-feedback-alone",
        COORDINATOR,
        "A revision is offered without what was said about those before the last.",
        one(
            "a2a/engine/mailbox.py",
            "for rev, code, payload in task.feedback]",
            "for rev, code, payload in task.feedback[-1:]]",
        ),
        broken=("ACCEPT-5",),
        areas=("ACCEPT-5",),
    ),
    Wrong(
        "hides-the-deadline",
        COORDINATOR,
        "A worker does not learn how much time its task has.",
        one(
            "a2a/engine/mailbox.py",
            "        deadline_ms=None if task.deadline_at is None else max(0, task.deadline_at - now),\n",
            "",
        ),
        broken=("TIME-6",),
        areas=("TIME-6",),
    ),
    Wrong(
        "revives-for-ever",
        COORDINATOR,
        "A lapsed attempt comes back as often as it likes.",
        one(LEASES, "task.revivals < task.bounds.revivals and not task.authority", "not task.authority"),
        broken=("LEASE-8",),
        areas=("LEASE-8",),
    ),
    Wrong(
        "leaves-the-offer-with-the-late",
        COORDINATOR,
        "Who was offered a task is not told that its holder came back.",
        one(
            TASK_FOLDING,
            "    if overtaken is not None and offer is not None:\n",
            "    if overtaken is not None and lsn < 0:\n",
        ),
        broken=("LEASE-8",),
        areas=("LEASE-8",),
    ),
    Wrong(
        "forgets-words-to-the-lapsed",
        COORDINATOR,
        "An answer given while a lease has lapsed does not get to who revives.",
        one(
            TASK_FOLDING,
            "        if ask.fence == record.fence and ask.answer is not None and not ask.told:\n",
            "        if ask.fence == -1 and ask.answer is not None and not ask.told:\n",
        ),
        broken=("STEER-1",),
        areas=("STEER-1",),
    ),
    Wrong(
        "lets-no-held-attempt-revive",
        COORDINATOR,
        "A lapsed attempt that an agent names in its hello is stale.",
        one(REGISTRY, "revivable = case is Case.LAPSED and", "revivable = case is None and"),
        broken=("HELLO-6",),
        areas=("HELLO-6",),
    ),
    Wrong(
        "leaves-a-held-lease-as-it-was",
        COORDINATOR,
        "An agent that comes back has what was left of its lease.",
        one(
            REGISTRY,
            'verdict, lease_ms = "keep", task.durations.lease_ms\n'
            "            world.live.lease_until[task.id] = now + task.durations.lease_ms\n",
            'verdict, lease_ms = "keep", max(0, world.live.lease_until.get(task.id, now) - now)\n',
        ),
        broken=("HELLO-6",),
        areas=("HELLO-6",),
    ),
    Wrong(
        "waits-for-a-restarted-agent",
        COORDINATOR,
        "An offer stays with an agent that has forgotten it.",
        one(
            REGISTRY,
            '                records.extend(withdraw(task, now, "the agent restarted"))\n',
            "                continue\n",
        ),
        broken=("HELLO-7",),
        areas=("HELLO-7",),
    ),
    Wrong(
        "forgets-incarnations",
        COORDINATOR,
        "An agent that has left may come back as an older process.",
        one(
            REGISTRY,
            "    current_instance = there.instance if there else known.instance if known else message.instance_id\n",
            "    current_instance = there.instance if there else message.instance_id\n",
        ),
        broken=("ID-6",),
        areas=("ID-6",),
    ),
    Wrong(
        "resumes-anywhere",
        COORDINATOR,
        "A mailbox goes on where an agent says it is, though it was never there.",
        one(REGISTRY, "cursor <= message.resume.last_mseq < mailbox.next_mseq", "cursor <= message.resume.last_mseq"),
        broken=("MAIL-5",),
        areas=("MAIL-5",),
    ),
    Wrong(
        "counts-what-a-drained-agent-gives-back",
        COORDINATOR,
        "A yield is a decline, whoever gives the attempt back.",
        one(LEASES, "return not evicted and not is_draining, is_lost", "return not evicted, is_lost"),
        broken=("LEASE-7",),
        areas=("LEASE-7",),
    ),
    Wrong(
        "judges-for-a-human",
        COORDINATOR,
        "Silence decides about a result that a human has to judge.",
        one(TIMERS, ' and task.evaluator != "human"', ""),
        broken=("ACCEPT-7",),
        areas=("ACCEPT-7",),
    ),
    Wrong(
        "lets-the-first-delegator-alone-decide",
        COORDINATOR,
        "Who has the parent task has no say about what is below it.",
        one(CONTROL, "    return above is not None and above.holder == agent\n", "    return False\n"),
        broken=("AUTH-5", "TASK-7"),
        areas=("AUTH-5", "TASK-7"),
    ),
    Wrong(
        "gives-each-sub-task-a-context",
        COORDINATOR,
        "A sub-task is in a context of its own.",
        one(
            TASKS,
            'message.context_id or (parent.context_id if parent else f"{ledger.namespace}-c{lsn}")',
            'message.context_id or f"{ledger.namespace}-c{lsn}"',
        ),
        broken=("TASK-8",),
        areas=("TASK-8",),
    ),
    Wrong(
        "asks-below-in-mode-coop",
        COORDINATOR,
        "What is below a task that is killed may still come to a result.",
        one(
            TREE,
            "            records.extend(cancel(ledger, child, mode, reason, by, now))\n",
            '            records.extend(cancel(ledger, child, "coop", reason, by, now))\n',
        ),
        broken=("CANCEL-2",),
        areas=("CANCEL-2",),
    ),
    Wrong(
        "watches-twice",
        COORDINATOR,
        "A second watch of a task leaves the first as it is.",
        one(
            WATCHING,
            "    sender.watches[task.id] = (request, message.from_gen)\n",
            "    sender.watches.setdefault(task.id, (request, message.from_gen))\n",
        ),
        broken=("WATCH-3",),
        areas=("WATCH-3",),
    ),
    Wrong(
        "commits-whatever-was-streamed",
        COORDINATOR,
        "An artifact that no report has named is part of the result.",
        one(READING, '"committed": artifact.is_named and artifact.fence', '"committed": artifact.fence'),
        broken=("ART-4",),
        areas=("ART-4",),
    ),
    Wrong(
        "hands-on-what-is-not-portable",
        COORDINATOR,
        "An agent is to go on from a checkpoint that is another's own.",
        one(HANDOVER, "(kept.portable or kept.agent == agent_id) and (not formats", "(not formats"),
        broken=("CHECK-3",),
        areas=("CHECK-3",),
    ),
    Wrong(
        "gives-an-answer-to-anybody",
        COORDINATOR,
        "Who asked is no nearer to the task than who has less to do.",
        one(ROUTING, "if task.rev or task.asks else None", "if task.rev else None"),
        broken=("ASK-5",),
        areas=("ASK-5",),
    ),
    Wrong(
        "waits-once-for-an-agent",
        COORDINATOR,
        "The time to be taken runs for a new task alone.",
        one(
            TIMERS,
            "        if durations.queue_ms is not None:\n",
            "        if durations.queue_ms is not None and not task.attempts:\n",
        )
        + one(
            TIMERS,
            "    if state is TaskState.QUEUED and durations.queue_ms is not None and ",
            "    if state is TaskState.QUEUED and durations.queue_ms is not None and not task.attempts and ",
        ),
        broken=("TIME-1",),
        areas=("TIME-1",),
    ),
    Wrong(
        "buries-what-one-agent-lost",
        COORDINATOR,
        "A task that one agent alone has lost is a dead letter.",
        one("a2a/engine/task_state.py", "and len(self.lost_by) > 1", "and len(self.lost_by) > 0"),
        broken=("LIMIT-4",),
        areas=("LIMIT-4",),
    ),
    # The coordinator: frames ------------------------------------------------------------------------------------------
    Wrong(
        "drops-unknown-fields-of-a-spec",
        COORDINATOR,
        "What a newer delegator says in a specification does not get to the worker.",
        one(
            TASKS,
            "    spec: dict[str, Any] = {**message.spec}\n",
            "    spec: dict[str, Any] = {\n"
            "        name: value for name, value in message.spec.items() if name in TaskSpec.__annotations__\n"
            "    }\n",
        )
        + one(
            TASKS,
            "from ..protocol.types import principal_of\n",
            "from ..protocol.types import TaskSpec, principal_of\n",
        ),
        broken=("WIRE-6",),
    ),
    Wrong(
        "drops-unknown-fields-of-a-card",
        COORDINATOR,
        "What a newer agent says in its card does not get to who looks for it.",
        one(
            REGISTRY,
            "    card: dict[str, Any] = dict(message.card) if message.card else {}\n",
            '    known_fields = ("name", "description", "version", "skills")\n'
            "    card: dict[str, Any] = {k: v for k, v in (message.card or {}).items() if k in known_fields}\n",
        ),
        broken=("WIRE-6",),
    ),
    Wrong(
        "goes-on-after-what-is-malformed",
        COORDINATOR,
        "What cannot be read is answered, and the connection stays.",
        one(STEPS, "        if frame.fatal or sender.agent is None:  #", "        if sender.agent is None:  #"),
        broken=("WIRE-12", "WIRE-15"),
    ),
    Wrong(
        "takes-what-is-no-number",
        COORDINATOR,
        "NaN is a number like any other.",
        (
            Edit(CODEC, "        fits = math.isfinite(item)", "        fits = True"),
            Edit(
                CODEC, "object_pairs_hook=self._pairs, parse_constant=_no_constant)", "object_pairs_hook=self._pairs)"
            ),
        ),
        broken=("WIRE-8",),
        areas=("WIRE-8",),
        quick=True,
    ),
    Wrong(
        "reads-text-as-a-number",
        COORDINATOR,
        'A field with "3" is one with 3.',
        one(CODEC, '        return exact | {"strict": True} if', '        return exact | {"strict": False} if'),
        broken=("WIRE-8",),
    ),
    Wrong(
        "passes-over-what-must-be-understood",
        COORDINATOR,
        "A kind that must be understood is refused like any other, and the connection goes on.",
        one(STEPS, "        if frame.must:\n", "        if False:\n"),
        broken=("WIRE-7",),
    ),
    Wrong(
        "takes-payloads-of-any-size",
        COORDINATOR,
        "A payload may be as large as a message.",
        one(
            CODEC,
            "        if isinstance(payload, bytes) and len(payload) > self.limits.payload_max_bytes:",
            "        if False:",
        ),
        broken=("LIMIT-2",),
    ),
    Wrong(
        "writes-times-as-text",
        COORDINATOR,
        "The time of an event that is watched is a text.",
        written_as("task.event", '        body["at"] = str(body["at"])\n'),
        broken=("WIRE-3",),
        areas=(FORMS, "WATCH"),
        quick=True,
    ),
    Wrong(
        "drops-text-that-is-not-utf8",
        COORDINATOR,
        "A text message that is not UTF-8 is passed over.",
        one(
            SOCKET,
            '                self._close(CloseCode.INVALID_DATA, f"not UTF-8: {exc.reason} at position {exc.start}")\n',
            "                del exc\n",
        ),
        broken=("WIRE-15",),
        areas=("WIRE-15",),
    ),
    Wrong(
        "does-not-say-how-long-a-review-waits",
        COORDINATOR,
        "A review does not say how long the word on a result is waited for.",
        written_as("task.review", '        del body["confirmMs"]\n'),
        broken=("WIRE-3",),
        areas=(FORMS, "ACCEPT"),
    ),
    Wrong(
        "has-a-word-of-its-own",
        COORDINATOR,
        "The welcome has a word for its durability that nobody else knows.",
        written_as("welcome", '        body["durability"] = "disk"\n'),
        broken=("WIRE-3",),
        areas=(FORMS, "HELLO"),
    ),
    # The coordinator: results -----------------------------------------------------------------------------------------
    Wrong(
        "believes-a-hash",
        COORDINATOR,
        "A report's hash is taken as it comes.",
        the_bug("hash-not-computed-anew"),
        broken=("REPORT-2", "WIRE-9"),
    ),
    Wrong(
        "admits-a-late-report",
        COORDINATOR,
        "A report of an attempt that was given back is taken for its result.",
        one(RESULTS, '    Case.SPENT: "duplicate_or_late",', '    Case.SPENT: "admit",'),
        broken=("FENCE-3",),
    ),
    Wrong(
        "admits-two-reports",
        COORDINATOR,
        "A second report under one fence is admitted like the first.",
        the_bug("report-admitted-twice"),
        broken=("REPORT-4",),
    ),
    Wrong(
        "throws-evidence-away",
        COORDINATOR,
        "A report without authority is answered and thrown away.",
        the_bug("late-report-not-kept"),
        broken=("REPORT-6",),
    ),
    Wrong(
        "takes-the-result-of-what-was-killed",
        COORDINATOR,
        "A result that comes after a kill is admitted.",
        the_bug("killed-task-takes-a-result"),
        broken=("CANCEL-4",),
    ),
    Wrong(
        "takes-a-word-on-another-result",
        COORDINATOR,
        "A word on another result settles this one.",
        the_bug("confirm-not-bound-to-its-hash"),
        broken=("ACCEPT-4",),
    ),
    Wrong(
        "takes-a-word-for-another-generation",
        COORDINATOR,
        "A word on a result counts whatever was decided since it was seen.",
        the_bug("confirm-not-bound-to-its-generation"),
        broken=("ACCEPT-8",),
    ),
    Wrong(
        "sends-back-without-end",
        COORDINATOR,
        "A result is sent back as often as the delegator likes.",
        the_bug("reworks-unbounded"),
        broken=("LIMIT-4",),
    ),
    Wrong(
        "lets-a-later-answer-count",
        COORDINATOR,
        "A second answer takes the place of the first.",
        the_bug("second-answer-counts"),
        broken=("ASK-4",),
    ),
    Wrong(
        "leaves-sub-tasks-at-work",
        COORDINATOR,
        "Nobody cancels the sub-tasks of a task that has ended.",
        the_bug("children-outlive-their-parent"),
        broken=("TREE-4",),
    ),
    Wrong(
        "leaves-a-gap-in-a-watch",
        COORDINATOR,
        "A watcher misses every event that came together with another one.",
        the_bug("watch-with-a-gap"),
        broken=("WATCH-2",),
    ),
    # The coordinator: conflicts, names and values ---------------------------------------------------------------------
    Wrong(
        "settles-what-is-disputed",
        COORDINATOR,
        "A result that somebody raised a conflict about may be accepted before that is decided.",
        the_bug("settles-while-somebody-objects"),
        broken=("CONFLICT-11",),
    ),
    Wrong(
        "lets-a-late-answer-enter",
        COORDINATOR,
        "An answer that comes after the ballot was closed is counted with the others.",
        the_bug("late-answer-enters"),
        broken=("CONFLICT-3",),
    ),
    Wrong(
        "breaks-a-tie-by-order",
        COORDINATOR,
        "Of two classes of one size the one that came first has won.",
        the_bug("tie-goes-to-the-first"),
        broken=("RUNG-4",),
    ),
    Wrong(
        "lets-an-author-judge",
        COORDINATOR,
        "Whoever answered may be asked which answer is right.",
        the_bug("author-judges"),
        broken=("RUNG-3",),
    ),
    Wrong(
        "asks-a-judge-in-one-order",
        COORDINATOR,
        "What a judge chose in one order of the candidates decides.",
        the_bug("judge-in-one-order"),
        broken=("RUNG-3",),
    ),
    Wrong(
        "has-an-answer-hide-the-others",
        COORDINATOR,
        "What is no JSON is put among the answers that a judge is shown as it came.",
        one(ASKING, '    shown = b",".join(map(_as_json, candidates))\n', '    shown = b",".join(candidates)\n'),
        broken=("RUNG-3",),
    ),
    Wrong(
        "gives-all-of-a-limit-to-each",
        COORDINATOR,
        "Each judge of a rung may use all that the rung may.",
        the_bug("rung-gives-all-to-each"),
        broken=("RUNG-7",),
    ),
    Wrong(
        "goes-on-with-a-spent-ladder",
        COORDINATOR,
        "A ladder that has used its limit waits for a person still.",
        the_bug("spent-ladder-goes-on"),
        broken=("RUNG-8",),
    ),
    Wrong(
        "overdraws-what-is-above",
        COORDINATOR,
        "The judges of a rung may use more than their group has left.",
        the_bug("rung-overdraws-what-is-above"),
        broken=("RUNG-9",),
    ),
    Wrong(
        "sees-no-collision",
        COORDINATOR,
        "That a result collides with another opens no conflict.",
        the_bug("collision-not-told"),
        broken=("PATCH-3",),
    ),
    Wrong(
        "writes-over-what-was-not-seen",
        COORDINATOR,
        "A write for an older revision replaces the newer one.",
        the_bug("stale-compare-and-set-accepted"),
        broken=("CTX-4",),
    ),
    Wrong(
        "lets-a-zombie-write",
        COORDINATOR,
        "An attempt that was superseded or spent still writes.",
        the_bug("zombie-writes-a-context"),
        broken=("CTX-6",),
    ),
    Wrong(
        "leaves-a-gap-in-a-watched-context",
        COORDINATOR,
        "A watcher is told the newest of several writes only.",
        the_bug("watch-loses-the-write-it-begins-behind"),
        broken=("CTX-8",),
    ),
    Wrong(
        "grants-a-claim-twice",
        COORDINATOR,
        "A claim is granted whatever others hold, so long as nobody waits for it.",
        the_bug("claim-granted-twice"),
        broken=("CLAIM-1",),
    ),
    Wrong(
        "sees-no-deadlock",
        COORDINATOR,
        "A claim that closes a circle waits like any other.",
        the_bug("deadlock-missed"),
        broken=("WAIT-2",),
    ),
    # The agent --------------------------------------------------------------------------------------------------------
    Wrong(
        "sends-no-heartbeat",
        AGENT,
        "The agent works and says nothing until it is done.",
        one(
            WORK,
            "            if attempt.state is AttemptState.RUNNING and attempt.next_beat <= now:",
            "            if False and attempt.next_beat <= now:",
        ),
        broken=("LEASE-2",),
    ),
    Wrong(
        "ignores-a-revoke",
        AGENT,
        "The agent works on when its attempt is taken away.",
        one(
            WORK,
            "        if isinstance(message, TaskRevoke):\n            return self._revoked(message)\n",
            "        if isinstance(message, TaskRevoke):\n            return []\n",
        ),
        broken=("LEASE-6",),
    ),
    Wrong(
        "begins-before-it-may",
        AGENT,
        "The agent begins when it accepts, and not when it hears that the offer still stands.",
        one(
            WORK,
            "        self.session.request(TaskAccept(offer.task, offer.fence))\n        return []",
            "        self.session.request(TaskAccept(offer.task, offer.fence))\n"
            "        attempt.state = AttemptState.RUNNING\n"
            "        return [Start(attempt)]",
        ),
        broken=("OFFER-3",),
    ),
    Wrong(
        "does-the-work-twice",
        AGENT,
        "A mailbox entry that comes again is taken again.",
        (
            Edit(
                SESSION,
                "        if mseq <= self._cursor:\n            return []",
                "        if mseq <= self._cursor:\n            return [Notice(message)]",
            ),
            Edit(WORK, "        if (offer.task, offer.fence) in self.attempts:\n            return []\n", ""),
        ),
        broken=("MAIL-4",),
    ),
    Wrong(
        "keeps-the-last-fragment",
        AGENT,
        "Of a message in fragments the agent keeps the last one.",
        one(SOCKET, "        self._fragments += frame.data\n", "        self._fragments = bytearray(frame.data)\n"),
        broken=("WIRE-1",),
    ),
    Wrong(
        "answers-no-ping-of-websocket",
        AGENT,
        "The agent does not answer a ping of WebSocket's.",
        one(
            SOCKET,
            "                self._queue(len(event.data))  # the protocol has framed the pong\n",
            "                self._protocol.data_to_send()\n",
        ),
        broken=("WIRE-1",),
    ),
    Wrong(
        "counts-only-forwards",
        AGENT,
        "Where the welcome takes the count back, the agent passes over what comes under numbers it has seen.",
        one(
            SESSION,
            "        self._cursor = self._acked = message.next_mseq - 1\n",
            "        self._cursor = self._acked = max(self._cursor, message.next_mseq - 1)\n",
        ),
        broken=("MAIL-4", "MAIL-5"),
    ),
    Wrong(
        "forgets-what-was-not-answered",
        AGENT,
        "What had no answer when the connection ended is not said again.",
        one(SESSION, "        self._send(self._outbox.values())\n", ""),
        broken=("RPC-3",),
    ),
    Wrong(
        "reports-a-wrong-hash",
        AGENT,
        "The hash of a report is that of its payload alone.",
        one(
            WORK,
            "digest = result_hash(outcome, payload)",
            'digest = f"sha256:{hashlib.sha256(payload).hexdigest()}"',
        ),
        broken=("REPORT-1",),
        areas=("REPORT-1",),
        quick=True,
    ),
    Wrong(
        "takes-what-comes-behind-a-gap",
        AGENT,
        "The agent goes on when an entry of its mailbox is missing.",
        one(SESSION, "        if mseq != self._cursor + 1:", "        if False:"),
        broken=("MAIL-7",),
    ),
    Wrong(
        "acknowledges-nothing",
        AGENT,
        "The agent does not say what it has of its mailbox.",
        one(SESSION, "        if self.owes_ack and is_due:", "        if False:"),
        broken=("MAIL-3",),
    ),
    Wrong(
        "has-nothing-of-its-mailbox",
        AGENT,
        "The agent does not say where its mailbox goes on when it comes back.",
        one(SESSION, "Resume(self._cursor) if self.welcome is not None else None", "None"),
        broken=("MAIL-5",),
    ),
    Wrong(
        "is-dumb-to-pings",
        AGENT,
        "A ping gets no pong.",
        one(SESSION, "            self._out.append(Frame(self._new_id(), Pong(message.nonce), re=frame.id))\n", ""),
        broken=("RPC-5",),
    ),
    Wrong(
        "is-never-a-newer-process",
        AGENT,
        "Every start of the agent says the same incarnation.",
        one(RUNNER, "            incarnation=int(time.time() * 1000),", "            incarnation=1,"),
        broken=("ID-5",),
    ),
    Wrong(
        "is-another-process-each-time",
        AGENT,
        "Every connection of the agent says another instance.",
        (
            Edit(
                LINK,
                "        identity.token = settings.token if",
                "        identity.instance_id = new_secret()\n        identity.token = settings.token if",
            ),
        ),
        broken=("ID-5",),
    ),
    Wrong(
        "hangs-up-on-who-asks-for-much",
        COORDINATOR,
        "Answers that find no room are sent all the same, and end the connection.",
        one(PEER, "            has_room=self._has_room,\n", ""),
        broken=("LIMIT-5",),
        areas=("LIMIT-5",),
    ),
    Wrong(
        "ignores-limits",
        AGENT,
        "The agent sends a result however large it is.",
        one(
            SESSION,
            "        return NUMBER_MAX if self.welcome is None else self.welcome.limits.payload_max_bytes",
            "        return NUMBER_MAX",
        ),
        broken=("LIMIT-1",),
    ),
    Wrong(
        "stumbles-over-a-word",
        AGENT,
        "An attempt does not begin where somebody's word beside the input cannot be read, and keeps its lease.",
        one(
            "a2a/content.py",
            "    except (LookupError, TypeError, ValueError, RecursionError):\n",
            "    except ZeroDivisionError:\n",
        ),
        broken=("WIRE-5",),
    ),
    Wrong(
        "takes-nothing-deeper-than-it-sends",
        AGENT,
        "A frame of the coordinator that nests deeper than what the agent may send ends the connection.",
        one(LINK, "    depth_max=40,\n", ""),
        broken=("LIMIT-2",),
    ),
    Wrong(
        "forgets-its-secret",
        AGENT,
        "The agent draws another secret at each start.",
        one(
            LINK,
            "                self.identity.secret = provide_secret(self.settings.url, principal)",
            "                self.identity.secret = new_secret()",
        ),
        broken=("ID-4",),
    ),
    Wrong(
        "forgets-what-it-holds",
        AGENT,
        "The agent comes back and names no attempt, though it is at work.",
        one(SESSION, "            held=self._held(),", "            held=[],"),
        broken=("HELLO-6",),
    ),
    Wrong(
        "works-on-what-is-stale",
        AGENT,
        "An agent that is told by the welcome that its attempt is stale works on.",
        the_bug("worker-goes-on-without-authority"),
        broken=("HELLO-6",),
    ),
    Wrong(
        "fights-for-its-name",
        AGENT,
        "An agent whose place was taken comes back and takes it again.",
        one(LINK, '        if self._left == "taken_over":', "        if False:"),
        broken=("HELLO-12",),
    ),
    Wrong(
        "gives-up-at-the-first-end",
        AGENT,
        "The agent leaves when its connection ends.",
        one(
            LINK,
            "                if self._was_let_in(started):\n                    pause = _BACKOFF[0]",
            "                self._was_let_in(started)\n                return",
        ),
        broken=("HELLO-8",),
    ),
    Wrong(
        "passes-over-what-it-has-to-understand",
        AGENT,
        "The agent goes on after a kind that it must understand and does not.",
        one(SESSION, "        if isinstance(message, Unknown) and frame.must:\n", "        if False:\n"),
        broken=("WIRE-7",),
    ),
    Wrong(
        "asks-what-was-answered",
        AGENT,
        "The answers that come with an offer are not looked at.",
        one(
            "a2a/context.py",
            "{answer.ask_no: read_word(answer.payload) for answer in offer.answers}",
            "{}",
        ),
        broken=("ASK-7",),
    ),
    Wrong(
        "writes-payloads-as-text",
        AGENT,
        "The payload of a question is a text, in MessagePack too.",
        written_as("task.ask", '        out["payload"] = out["payload"].decode()\n'),
        broken=("WIRE-3",),
        areas=(FORMS, "ASK"),
    ),
    Wrong(
        "notes-a-number",
        AGENT,
        "The note of a heartbeat is a number.",
        written_as("task.heartbeat", '        body["note"] = 7\n'),
        broken=("WIRE-3",),
        areas=(FORMS, "LEASE"),
    ),
    Wrong(
        "speaks-whatever-it-is-told",
        AGENT,
        "The agent goes on where the welcome names a version that it does not speak.",
        one(SESSION, "        if agree(message.version, message.version) is None:", "        if False:"),
        broken=("HELLO-2",),
    ),
    Wrong(
        "does-not-count-what-it-does-not-know",
        AGENT,
        "A mailbox entry of an unknown kind has no place in the agent's count.",
        UNCOUNTED,
        broken=("WIRE-7",),
    ),
    Wrong(
        "stumbles-over-null",
        AGENT,
        "The agent does not take a frame in which something is null.",
        one(
            CODEC,
            "            values = body\n",
            "            values = body\n            if None in body.values():\n"
            '                return BadFrame(ErrorCode.MALFORMED, "null", False, frame_id, kind)\n',
        ),
        broken=("WIRE-8",),
    ),
    Wrong(
        "counts-a-payload-alone",
        AGENT,
        "The agent sends a message however large it is, where its payload is not too large.",
        one(LINK, "message_max=most,", "message_max=None,"),
        broken=("LIMIT-1",),
    ),
    Wrong(
        "knocks-where-it-is-not-let-in",
        AGENT,
        "The agent comes back after a refusal that is final.",
        one(LINK, "        if error is not None and not self._may_try_again(error, started):", "        if False:"),
        broken=("HELLO-12",),
    ),
    Wrong(
        "keeps-what-is-taken-away",
        AGENT,
        "The agent works on when its attempt is taken away with a grace, until it is over.",
        one(
            WORK,
            "            if not attempt.is_at_work:\n                return []\n            return [Stop(",
            '            if not attempt.is_at_work or message.reason != "cancel":\n                return []\n'
            "            return [Stop(",
        ),
        broken=("LEASE-10",),
    ),
    # The client -------------------------------------------------------------------------------------------------------
    Wrong(
        "confirms-another-hash",
        CLIENT,
        "The client confirms a hash that it has made up.",
        one(
            DELEGATION,
            "            TaskConfirm(delegation.task, review.rev, review.result_hash, verdict,",
            '            TaskConfirm(delegation.task, review.rev, "sha256:" + 64 * "0", verdict,',
        ),
        broken=("ACCEPT-3",),
    ),
    Wrong(
        "believes-what-a-review-names",
        CLIENT,
        "The client confirms the hash that came with a result, whatever the result is.",
        one(
            "a2a/delegator.py", "                if not review.is_what_its_hash_says:\n", "                if False:\n"
        ),
        broken=("ACCEPT-3",),
    ),
    Wrong(
        "draws-a-new-key-each-time",
        CLIENT,
        "A delegation that is said again has another key.",
        one(
            SESSION,
            "        self._send(self._outbox.values())\n",
            "        for frame in self._outbox.values():\n"
            '            if frame.message.kind == "task.delegate" and self._sent_before:\n'
            "                frame.message.key = self._new_id()\n"
            "        self._sent_before = True\n"
            "        self._send(self._outbox.values())\n",
        )
        + one(
            SESSION, '        self._hello_id = ""\n', '        self._hello_id = ""\n        self._sent_before = False\n'
        ),
        broken=("RPC-3",),
    ),
    Wrong(
        "says-its-word-once",
        CLIENT,
        "A confirmation that had no answer when the connection ended is not said again.",
        one(
            SESSION,
            "        self._send(self._outbox.values())\n",
            "        self._send(\n"
            '            frame for frame in self._outbox.values() if frame.message.kind != "task.confirm"\n'
            "        )\n",
        ),
        broken=("RPC-3",),
        areas=("RPC-3",),
        quick=True,
    ),
    Wrong(
        "takes-a-review-behind-a-gap",
        CLIENT,
        "The client goes on when an entry of its mailbox is missing.",
        one(SESSION, "        if mseq != self._cursor + 1:", "        if False:"),
        broken=("MAIL-7",),
    ),
    Wrong(
        "does-not-count-an-unknown-entry",
        CLIENT,
        "A mailbox entry of an unknown kind has no place in the client's count.",
        UNCOUNTED,
        broken=("WIRE-7",),
    ),
    Wrong(
        "takes-any-version",
        CLIENT,
        "The client goes on where the welcome names a version that it does not speak.",
        one(SESSION, "        if agree(message.version, message.version) is None:", "        if False:"),
        broken=("HELLO-2",),
    ),
    Wrong(
        "leaves-pings-unanswered",
        CLIENT,
        "A ping gets no pong.",
        one(SESSION, "            self._out.append(Frame(self._new_id(), Pong(message.nonce), re=frame.id))\n", ""),
        broken=("RPC-5",),
    ),
    Wrong(
        "waits-for-what-was-told-before",
        CLIENT,
        "A client whose key stands for a task that is there does not look what became of it.",
        one(DELEGATION, "            if not message.created:\n", "            if False:\n"),
        broken=("TASK-7",),
    ),
    Wrong(
        "confirms-what-it-did-not-look-at",
        CLIENT,
        "A result is confirmed under the hash that came with it, whatever it is.",
        one("a2a/delegator.py", "                if not review.is_what_its_hash_says:", "                if False:"),
        broken=("ACCEPT-3",),
    ),
    Wrong(
        "is-the-same-process-each-time",
        CLIENT,
        "All runs of the client have one id.",
        one(
            CLIENT_FILE,
            '    identity = Identity(f"{principal}#{suffix}", instance_id',
            '    identity = Identity(f"{principal}#0", instance_id',
        ),
        broken=("ID-3",),
    ),
    Wrong(
        "watches-from-a-text",
        CLIENT,
        "The generation a watch begins behind is a text.",
        written_as("task.watch", '        body["fromGen"] = str(body.get("fromGen", 0))\n'),
        broken=("WIRE-3",),
        areas=(FORMS, "TASK-7"),
    ),
    Wrong(
        "writes-nil-for-what-it-does-not-say",
        CLIENT,
        "A field that is not said is written as nil.",
        one(
            CODEC,
            "        item = getattr(message, attribute)\n        if item is None or (skip_empty and not item):",
            "        item = getattr(message, attribute)\n        if skip_empty and not item:",
        ),
        broken=("WIRE-11",),
    ),
)
