"""The planted bugs. To add one, add a row: a name, a sentence, a place, what stands there, what stands there then.

What stands there has to occur exactly once in its file, so that a row cannot outlive the code it is about. A row also
names the checkers that have to find it: any one of them, but no other, since a bug that is only ever noticed by
accident is not checked for.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MUTANTS", "Edit", "Mutant"]

TASKS = "a2a/engine/tasks.py"
LEASES = "a2a/engine/leases.py"
LEDGER = "a2a/engine/ledger.py"
COORDINATOR = "a2a/engine/coordinator.py"
MAILBOX = "a2a/engine/mailbox.py"
REGISTRY = "a2a/engine/registry.py"
REFUSALS = "a2a/engine/refusals.py"
ROUTING = "a2a/engine/routing.py"
LIVE = "a2a/engine/live.py"
TREE = "a2a/engine/tree.py"
HANDOVER = "a2a/engine/handover.py"
BUDGET = "a2a/engine/budget.py"
CLAIMS = "a2a/engine/claims.py"
CLAIMBOOK = "a2a/engine/claimbook.py"
NAMES = "a2a/engine/names.py"
WAITS = "a2a/engine/waits.py"
WORK = "a2a/engine/work.py"
PROCEDURE = "a2a/engine/conflicts/procedure.py"
COURT = "a2a/engine/conflicts/court.py"
FOLDING = "a2a/engine/conflicts/folding.py"
RUNGS = "a2a/engine/conflicts/rungs.py"
CONTEXT = "a2a/engine/context.py"
CONTEXT_WATCHING = "a2a/engine/context_watching.py"
STATES = "a2a/protocol/states.py"
SHELL = "tests/simulation/server.py"
"""The simulator's mirror of `a2a/server.py`."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One place of a change."""

    file: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug."""

    name: str
    says: str
    """What is wrong, in a sentence."""
    file: str
    before: str
    after: str
    caught_by: tuple[str, ...]
    """The checkers that have to find it; the names are those of SEMANTICS 4.1 and of the spec's paragraphs."""
    more: tuple[Edit, ...] = ()
    """Further places, where one alone would be made good by another."""
    quick: bool = False
    """Found within a few seeds: runs with every run of the tests."""
    disputes: bool = False
    """About groups and conflicts: looked for in worlds with few other tasks, which all have them."""
    model: bool = False
    """Found by the model and not by the simulator: the engine never comes to what the change allows."""

    @property
    def edits(self) -> tuple[Edit, ...]:
        return (Edit(self.file, self.before, self.after), *self.more)


MUTANTS: tuple[Mutant, ...] = (
    # Authority --------------------------------------------------------------------------------------------------------
    Mutant(
        "no-fence-check",
        "Whoever ever had an attempt at the task has the current one.",
        LEASES,
        "    if authority is None or authority.fence != fence:\n        return Case.STALE",
        "    if authority is None:\n        return Case.STALE",
        caught_by=("I6", "I7"),
        quick=True,
    ),
    Mutant(
        "holder-name-instead-of-fence",
        "An agent's older attempt counts as its newer one.",
        LEASES,
        "    if authority is None or authority.fence != fence:",
        "    if authority is None or authority.holder != agent:",
        caught_by=("I6", "I7"),
    ),
    Mutant(
        "owner-not-checked",
        "A fence in the wrong hands is as good as in the right ones.",
        LEASES,
        "    if attempt is None or attempt.agent != agent:",
        "    if attempt is None:",
        caught_by=("I12",),
    ),
    Mutant(
        "report-of-another-agent-admitted",
        "A report is admitted whoever sends it.",
        TASKS,
        '    Case.NOT_HOLDER: "not_holder",\n    Case.CURRENT: "admit",',
        '    Case.NOT_HOLDER: "admit",\n    Case.CURRENT: "admit",',
        caught_by=("I6", "I12"),
    ),
    Mutant(
        "stale-heartbeat-revives",
        "A heartbeat under a superseded fence gets the task back.",
        LEASES,
        "    if case is Case.LAPSED and may_revive(task):",
        "    if case in (Case.LAPSED, Case.STALE) and may_revive(task):",
        caught_by=("I5", "I7"),
    ),
    Mutant(
        "withdrawn-offer-accepted",
        "An offer that was withdrawn can be accepted while another one is out.",
        LEASES,
        "    if task.offer is not None and task.offer.fence == fence:",
        "    if task.offer is not None and fence > (task.authority.fence if task.authority else 0):",
        caught_by=("I4",),
    ),
    Mutant(
        "granted-beside-a-lapsed-lease",
        "A task whose holder may still come back is granted at once to the next.",
        COORDINATOR,
        "granted = task.authority is None or not task.authority.is_open",
        "granted = True",
        caught_by=("I5",),
    ),
    Mutant(
        "rework-keeps-the-fence-open",
        "A result that is sent back leaves its fence open.",
        LEDGER,
        "    task.cancel = None  # the report had come first, and the delegator chose to go on",
        "    task.cancel = None\n    if task.authority is not None:\n        task.authority.is_open = True",
        caught_by=("I7", "L8", "M"),
    ),
    Mutant(
        "fences-begin-anew",
        "The counter of positions is kept in memory and begins anew with the process.",
        COORDINATOR,
        "        self._commit(CoordinatorStarted",
        "        self.ledger.lsn = 0\n        self._commit(CoordinatorStarted",
        caught_by=("I28", "I4"),
    ),
    Mutant(
        "revivals-unbounded",
        "A lapsed lease comes back as often as it likes.",
        LEASES,
        "    return task.revivals < task.bounds.revivals and not task.authority.evicted",
        "    return not task.authority.evicted",
        caught_by=("L8", "L10"),
    ),
    Mutant(
        "restart-lets-nothing-go",
        "What a new process of an agent does not hold stays its own until the lease ends.",
        REGISTRY,
        "    if is_another:\n        for task_id",
        "    if False:\n        for task_id",
        caught_by=("HELLO-7",),
    ),
    # Creation ---------------------------------------------------------------------------------------------------------
    Mutant(
        "no-idempotency-check",
        "The same key makes another task.",
        TASKS,
        "known = ledger.keys.get((scope, message.key))",
        "known = None",
        caught_by=("I1",),
        quick=True,
    ),
    Mutant(
        "key-outside-its-scope",
        "The key of a sub-task belongs to the principal, not to the parent task.",
        TASKS,
        'return f"task:{message.parent.task}" if message.parent else f"principal:{principal_of(agent)}"',
        'return f"principal:{principal_of(agent)}"',
        caught_by=("I1", "I1c"),
    ),
    Mutant(
        "child-outlives-its-parents-deadline",
        "A sub-task's deadline is its own alone.",
        TREE,
        "        return above if own is None else own\n    return min(own, above)",
        "        return own\n    return own",
        caught_by=("I18",),
    ),
    Mutant(
        "cycle-not-seen",
        "A task may delegate its own work to itself.",
        TREE,
        'if above.spec["skill"] == skill and above.spec_hash == spec_hash:',
        "if False:",
        caught_by=("I18",),
    ),
    Mutant(
        "one-level-too-deep",
        "A tree may have one level more than allowed.",
        TREE,
        "    if parent.depth + 1 > policy.depth_max:",
        "    if parent.depth > policy.depth_max:",
        caught_by=("I18",),
    ),
    # The end of an attempt --------------------------------------------------------------------------------------------
    Mutant(
        "report-admitted-twice",
        "A report that comes again is admitted again.",
        TASKS,
        '    Case.SPENT: "duplicate_or_late",',
        '    Case.SPENT: "admit",',
        more=(Edit(TASKS, "known = task.outcomes.get(message.fence)", "known = None"),),
        caught_by=("I6",),
        quick=True,
    ),
    Mutant(
        "repeat-taken-for-late",
        "The repeat of an admitted report is told that it came late.",
        TASKS,
        "if known == (message.outcome, message.result_hash):",
        "if False:",
        caught_by=("L8",),
    ),
    Mutant(
        "hash-not-computed-anew",
        "A report's hash is taken as it comes.",
        TASKS,
        '    if message.result_hash != content_hash({"outcome": message.outcome}, message.payload):',
        "    if False:",
        caught_by=("L8",),
    ),
    Mutant(
        "late-report-not-kept",
        "A report without authority is answered and thrown away.",
        TASKS,
        "    if repeated or len(task.evidence) >= world.policy.evidence_max:",
        "    if True:",
        caught_by=("R8",),
    ),
    Mutant(
        "refusal-not-kept",
        "What comes under a dead fence is answered, and leaves nothing.",
        REFUSALS,
        "    is_kept = answer.code in _OF_AUTHORITY or (",
        "    is_kept = (",
        caught_by=("ERR-5",),
    ),
    Mutant(
        "impostor-leaves-nothing",
        "A hello in another's name is turned away, and nobody can find it.",
        REFUSALS,
        "        if answer.code not in _OF_IDENTITY or not world.policy.admission.admits(message.token):",
        "        if True:",
        caught_by=("ERR-5",),
    ),
    Mutant(
        "honest-repeat-kept",
        "A report that is said again after a handshake is kept as a duplicate.",
        REFUSALS,
        '    return None if is_evidence or answer.verdict == "duplicate" else answer.verdict',
        "    return None if is_evidence else answer.verdict",
        caught_by=("ERR-5",),
    ),
    Mutant(
        "refusals-without-limit",
        "Whatever is refused is kept, however much it is.",
        REFUSALS,
        "        if window.kept < self._per_minute and window.alike.get(same, 0) < self._alike_max:",
        "        if True:",
        caught_by=("ERR-6",),
    ),
    Mutant(
        "killed-task-takes-a-result",
        "A result that comes after a kill is admitted.",
        TASKS,
        '        and task.cancel.mode == "kill"\n',
        "        and False\n",
        caught_by=("L8",),
    ),
    Mutant(
        "confirm-not-bound-to-its-hash",
        "A word on another result settles this one.",
        TASKS,
        "    if result.result_hash != message.result_hash:",
        "    if False:",
        caught_by=("I10",),
    ),
    Mutant(
        "confirm-not-bound-to-its-revision",
        "A word on an older revision settles the newest.",
        TASKS,
        "    if task.is_terminal or task.rev > message.rev:",
        "    if task.is_terminal:",
        more=(
            Edit(TASKS, "or result is None or result.rev != message.rev:", "or result is None:"),
            Edit(TASKS, "    if result.result_hash != message.result_hash:", "    if False:"),
        ),
        caught_by=("I10",),
    ),
    Mutant(
        "everybody-decides",
        "Whoever likes confirms, cancels and answers.",
        TASKS,
        "    return parent is not None and parent.holder == agent",
        "    return True",
        caught_by=("AUTH-5",),
    ),
    Mutant(
        "reworks-unbounded",
        "A result is sent back as often as the delegator likes.",
        TASKS,
        "    if len(task.feedback) >= task.bounds.reworks:",
        "    if False:",
        caught_by=("L10",),
    ),
    # Cancelling -------------------------------------------------------------------------------------------------------
    Mutant(
        "cancel-overwrites-the-end",
        "A sub-task that has ended is canceled when its parent ends.",
        TREE,
        "    if task.is_terminal:\n        return []\n    records: list[Record] = []",
        "    records: list[Record] = []",
        caught_by=("I9",),
    ),
    Mutant(
        "canceler-told-what-is-not-so",
        "Who cancels a task that has ended is told that it will be canceled.",
        TASKS,
        "    if task.is_terminal:\n        return refuse(\n            ErrorCode.NOT_CANCELABLE",
        "    if False:\n        return refuse(\n            ErrorCode.NOT_CANCELABLE",
        caught_by=("I11",),
    ),
    Mutant(
        "children-outlive-their-parent",
        "Nobody cancels the sub-tasks of a task that has ended.",
        COORDINATOR,
        'for record in cancel_children(ledger, task, "coop", reason, "coordinator", now):',
        "for record in ():",
        caught_by=("TREE-4",),
    ),
    Mutant(
        "holder-not-told-of-the-cancel",
        "The agent at work is not told that its task is to end.",
        LEDGER,
        '    ledger.post(task.authority.holder, lsn, "task.revoke", task.id, task.authority.fence)',
        "",
        caught_by=("MAIL-2",),
    ),
    # Questions --------------------------------------------------------------------------------------------------------
    Mutant(
        "answer-for-one-attempt-only",
        "An answer that an attempt has got is not in the next offer.",
        MAILBOX,
        "for ask in task.asks if ask.answer is not None]",
        "for ask in task.asks if ask.answer is not None and not ask.told]",
        caught_by=("I22",),
    ),
    Mutant(
        "second-answer-counts",
        "A second answer takes the place of the first.",
        TASKS,
        "    if ask.answer is not None and not is_replaced:",
        "    if False:",
        caught_by=("I22",),
    ),
    Mutant(
        "answer-lost-while-lapsed",
        "An answer given while the lease had lapsed does not reach the attempt that revives.",
        LEDGER,
        '            ledger.post(authority.holder, lsn, "task.answer", task.id, ask.ask_no)',
        "            pass",
        caught_by=("MAIL-2",),
    ),
    # Timers and counters ----------------------------------------------------------------------------------------------
    Mutant(
        "lease-never-expires",
        "An agent that is dead keeps its task for ever.",
        TASKS,
        "    elif task.holder is not None:\n        times.append",
        "    elif False:\n        times.append",
        more=(
            Edit(
                TASKS,
                "    if task.holder is not None and world.live.lease_until.get",
                "    if False and world.live.lease_until.get",
            ),
        ),
        caught_by=("L3",),
        quick=True,
    ),
    Mutant(
        "offer-never-withdrawn",
        "An offer that nobody answers stays out.",
        TASKS,
        "    elif state is TaskState.OFFERED and task.offer is not None:\n",
        "    elif state is TaskState.OFFERED:\n        pass\n    elif False:\n",
        more=(
            Edit(
                TASKS,
                "    if state is TaskState.OFFERED and task.offer is not None and task.offer.at",
                "    if False and task.offer.at",
            ),
        ),
        caught_by=("offer",),
    ),
    Mutant(
        "confirm-timer-never-fires",
        "A result nobody says a word on waits for ever.",
        TASKS,
        '    return policy.on_confirm_timeout != "hold" and task.evaluator != "human"',
        "    return False",
        caught_by=("L4",),
    ),
    Mutant(
        "grace-of-a-cancel-never-ends",
        "An agent that does not stop keeps its canceled task from its end.",
        TASKS,
        "        times.append(task.cancel.grace_at)",
        "        pass",
        more=(
            Edit(
                TASKS,
                "    if state is TaskState.CANCELING and task.cancel is not None and task.cancel.grace_at <= now:",
                "    if False:",
            ),
        ),
        caught_by=("L6",),
    ),
    Mutant(
        "deadline-forgotten-at-restart",
        "Timers that were set before a restart are not set again, and what waits is not looked at.",
        COORDINATOR,
        "                self.live.lease_until[task.id] = now + task.durations.lease_ms\n"
        "            self.ledger.touched[task.id] = task",
        "                self.live.lease_until[task.id] = now + task.durations.lease_ms",
        caught_by=("L3", "L4", "L6", "offer", "deadline", "ask"),
    ),
    Mutant(
        "no-offer-after-a-restart",
        "What was queued before a restart is not looked at after it.",
        COORDINATOR,
        "            self.ledger.touched[task.id] = task\n        for task in self.ledger.tasks.values():",
        "            if task.state is not TaskState.QUEUED:\n"
        "                self.ledger.touched[task.id] = task\n        for task in self.ledger.tasks.values():",
        caught_by=("L2",),
    ),
    Mutant(
        "timer-fires-in-the-grace",
        "After a restart the timers go on at once, before anybody can be back.",
        COORDINATOR,
        "now, now + (max(leases, default=0) if grace is None else grace)",
        "now, now",
        caught_by=("I19",),
    ),
    Mutant(
        "losses-not-counted",
        "A lease that lapses is no loss.",
        LEDGER,
        "    task.losses += record.counted",
        "",
        caught_by=("M",),
    ),
    Mutant(
        "losses-unbounded",
        "A task whose agents keep dying is offered for ever.",
        LEASES,
        "    if counted and task.losses + 1 > task.bounds.losses:",
        "    if False:",
        caught_by=("L10", "L10b"),
    ),
    Mutant(
        "failures-unbounded",
        "A failure that may be retried is retried for ever.",
        TASKS,
        "    if task.failures + 1 >= task.bounds.attempts:",
        "    if False:",
        caught_by=("L10", "L10b"),
    ),
    Mutant(
        "short-lease-behind-a-long-offer",
        "A lease that ends before its offer would have is looked at only then.",
        COORDINATOR,
        '        if isinstance(message, _SIGNS_OF_LIFE):\n            self._lease_changed(message.task or "", now)',
        "",
        caught_by=("L3",),
    ),
    # Offers -----------------------------------------------------------------------------------------------------------
    Mutant(
        "credit-exceeded",
        "An agent is given one task more than it takes.",
        LIVE,
        "        return connection.credit_tasks - used",
        "        return connection.credit_tasks + 1 - used",
        caught_by=("I16",),
        quick=True,
    ),
    Mutant(
        "draining-agent-asked",
        "An agent that drains is offered more.",
        ROUTING,
        '        if agent.status != "ready":\n            continue',
        "",
        caught_by=("I16",),
    ),
    Mutant(
        "freed-credit-not-noticed",
        "An agent that has credit again is not looked at.",
        COORDINATOR,
        "_FREES_CREDIT = (Declined, OfferWithdrawn, LeaseExpired, Revived, Yielded,",
        "_FREES_CREDIT = (",
        caught_by=("L2",),
    ),
    # Mail -------------------------------------------------------------------------------------------------------------
    Mutant(
        "gap-in-the-mail",
        "Every other entry of a mailbox is passed over.",
        COORDINATOR,
        "            for index in range(max(0, start), stop):",
        "            for index in range(max(0, start), stop, 2):",
        caught_by=("I29",),
    ),
    Mutant(
        "mail-lost-at-restart",
        "The mailboxes are kept in memory.",
        COORDINATOR,
        "        self._commit(CoordinatorStarted",
        "        self.ledger.mailboxes.clear()\n        self._commit(CoordinatorStarted",
        caught_by=("I28", "I29"),
    ),
    Mutant(
        "mail-of-the-absent-skipped",
        "An agent that comes back gets what is posted from then on.",
        REGISTRY,
        "    cursor = oldest - 1\n",
        "    cursor = mailbox.next_mseq - 1 if mailbox else 0\n",
        caught_by=("I29",),
    ),
    Mutant(
        "frames-beyond-their-credit",
        "An agent is sent one entry more than it takes unacknowledged.",
        COORDINATOR,
        "connection.acked_mseq + connection.credit_frames + 1 - mailbox",
        "connection.acked_mseq + connection.credit_frames + 2 - mailbox",
        caught_by=("FLOW-1",),
    ),
    Mutant(
        "watch-with-a-gap",
        "A watcher misses every event that came together with another one.",
        COORDINATOR,
        "            for event in task.history[sent:]:",
        "            for event in task.history[sent:][-1:]:",
        caught_by=("WATCH",),
    ),
    Mutant(
        "working-then-submitted",
        "A task that waits for its second attempt looks as if nobody had ever worked on it.",
        STATES,
        '    return "TASK_STATE_WORKING" if was_leased and shown == "TASK_STATE_SUBMITTED" else shown',
        "    return shown",
        caught_by=("I30",),
    ),
    # Identity ---------------------------------------------------------------------------------------------------------
    Mutant(
        "secret-not-checked",
        "Whoever has the token is whoever it says it is.",
        REGISTRY,
        "    elif message.secret is None or not hmac.compare_digest(bound, digest(message.secret)):",
        "    elif False:",
        caught_by=("ID-4",),
    ),
    # Durability -------------------------------------------------------------------------------------------------------
    Mutant(
        "created-before-append",
        "`task.created` leaves before the task is durable.",
        SHELL,
        "            self.disk.append(entries, self._appended, ready.archived)",
        "            early = [item for item in ready.frames if item[1].message.kind == 'task.created']\n"
        "            ready.frames = [item for item in ready.frames if item not in early]\n"
        "            self._send(Ready(frames=early))\n"
        "            self.disk.append(entries, self._appended, ready.archived)",
        caught_by=("I2",),
    ),
    Mutant(
        "verdict-before-append",
        "`task.verdict` leaves before the report is durable.",
        SHELL,
        "            self.disk.append(entries, self._appended, ready.archived)",
        "            early = [item for item in ready.frames if item[1].message.kind == 'task.verdict']\n"
        "            ready.frames = [item for item in ready.frames if item not in early]\n"
        "            self._send(Ready(frames=early))\n"
        "            self.disk.append(entries, self._appended, ready.archived)",
        caught_by=("I3",),
    ),
    Mutant(
        "mail-before-append",
        "Mail leaves before what it tells of is durable.",
        SHELL,
        "            self.disk.append(entries, self._appended, ready.archived)",
        "            early = [item for item in ready.frames if item[1].mseq is not None]\n"
        "            ready.frames = [item for item in ready.frames if item not in early]\n"
        "            self._send(Ready(frames=early))\n"
        "            self.disk.append(entries, self._appended, ready.archived)",
        caught_by=("R2",),
    ),
    Mutant(
        "answer-overtakes-the-append-it-rests-on",
        "An answer that records nothing leaves while what it tells of is still on its way to the disk.",
        SHELL,
        "        elif self._in_flight:",
        "        elif False:",
        caught_by=("I2", "I3", "R2"),
    ),
    # Shared context ---------------------------------------------------------------------------------------------------
    Mutant(
        "stale-compare-and-set-accepted",
        "A write for an older revision replaces the newer one.",
        CONTEXT,
        "    if op.if_rev is not None and op.if_rev != _rev(entry):",
        "    if op.if_rev is not None and op.if_rev > _rev(entry):",
        caught_by=("I21",),
    ),
    Mutant(
        "depends-not-checked",
        "What a write was made in view of has moved, and it is written all the same.",
        CONTEXT,
        "        if _rev(entry) != seen.rev:\n            return _moved(",
        "        if _rev(entry) < seen.rev:\n            return _moved(",
        caught_by=("I21",),
    ),
    Mutant(
        "decisions-written-blindly",
        "Whoever names no revision overwrites a decision that it may not have seen.",
        CONTEXT,
        "    if op.if_rev is None and (is_guarded or is_decision):",
        "    if op.if_rev is None and is_guarded:",
        caught_by=("CTX-5",),
        quick=True,
    ),
    Mutant(
        "context-written-twice",
        "A write that comes again is done again.",
        CONTEXT,
        "        if known.digest == digest:\n            return reply(",
        "        if known.digest == digest and len(message.depends) == 9:\n            return reply(",
        caught_by=("CTX-4", "CTX-6"),
        more=(Edit(CONTEXT, "    if known is not None:\n", "    if known is not None and known.digest != digest:\n"),),
    ),
    Mutant(
        "zombie-writes-a-context",
        "An attempt that was superseded or spent still writes.",
        CONTEXT,
        "    if classify(world.ledger, task, agent, attempt.fence) in (Case.CURRENT, Case.LAPSED):",
        "    if classify(world.ledger, task, agent, attempt.fence) is not Case.NOT_HOLDER:",
        caught_by=("CTX-6",),
    ),
    Mutant(
        "context-written-under-the-attempt-of-another",
        "Anybody writes under any attempt.",
        CONTEXT,
        "    if classify(world.ledger, task, agent, attempt.fence) in (Case.CURRENT, Case.LAPSED):",
        "    if classify(world.ledger, task, task.holder or agent, attempt.fence) in (Case.CURRENT, Case.LAPSED):",
        caught_by=("CTX-6",),
    ),
    Mutant(
        "loser-told-of-itself",
        "A writer that lost is told the revision it had named, not the one that is there.",
        CONTEXT,
        '    facts: dict[str, Any] = {"key": key, "rev": _rev(entry)}',
        '    facts: dict[str, Any] = {"key": key, "rev": max(0, _rev(entry) - 1)}',
        caught_by=("CTX-4",),
    ),
    Mutant(
        "basis-not-checked",
        "A result on a decision that has moved is taken as reported.",
        TASKS,
        "        is_held = report.unseen_steer or (report.stale_basis and",
        "        is_held = report.unseen_steer or (report.stale_basis and task.group and",
        caught_by=("CTX-10",),
    ),
    Mutant(
        "basis-of-a-group-not-checked",
        "The result of a group counts whatever the member relied on.",
        PROCEDURE,
        "    settles = needs_no_word(ledger, task) and not stale\n",
        "    settles = needs_no_word(ledger, task)\n",
        caught_by=("CTX-10",),
    ),
    Mutant(
        "basis-of-another-context",
        "What a result relies on is looked up in another context than the task's.",
        TASKS,
        "stale_basis=stale_basis(world.ledger, task.context_id, message.basis) or None,",
        "stale_basis=stale_basis(world.ledger, task.id, message.basis) or None,",
        caught_by=("CTX-10",),
    ),
    Mutant(
        "silence-accepts-a-stale-basis",
        "The timer accepts a result on a decision that has moved, because nobody looked.",
        TASKS,
        "        if result.stale_basis:\n",
        "        if result.stale_basis and result.unseen_steer:\n",
        caught_by=("CTX-10",),
    ),
    Mutant(
        "watch-loses-the-write-it-begins-behind",
        "A watch goes on one write too late after a new connection.",
        CONTEXT,
        "            for write in _writes_since(context, sent):",
        "            for write in _writes_since(context, sent)[-1:]:",
        caught_by=("CTX-9",),
    ),
    Mutant(
        "watch-not-told-of-the-backlog",
        "A watch begins with what is written next, not with what was written since.",
        COORDINATOR,
        "            self._written[message.context_id] = None\n        elif",
        "            sender.context_watches[message.context_id, message.prefix] = (frame.id, self.ledger.lsn)\n"
        "        elif",
        caught_by=("CTX-9",),
    ),
    Mutant(
        "watch-forgotten-with-its-connection",
        "A client does not watch again after a new handshake.",
        CONTEXT_WATCHING,
        "        for context_id, prefix in self._watched:\n            self._ask(context_id, prefix)",
        "        return",
        caught_by=("CTX-9",),
    ),
    Mutant(
        "watch-heard-twice",
        "What comes again after a new connection is passed on again.",
        CONTEXT_WATCHING,
        "if watched.lsn < message.lsn]",
        "if watched.lsn <= message.lsn]",
        caught_by=("CTX-9",),
        more=(
            Edit(
                CONTEXT_WATCHING,
                "        lsn = min(watched.lsn for watched in self._watched[pair])",
                "        lsn = max(0, min(watched.lsn for watched in self._watched[pair]) - 1)",
            ),
        ),
    ),
    # Claims -----------------------------------------------------------------------------------------------------------
    Mutant(
        "claim-granted-twice",
        "A claim is granted whatever others hold, so long as nobody waits for it.",
        WAITS,
        "    return [*held, *(obstacle for _, obstacle in before)]",
        "    return [obstacle for _, obstacle in before]",
        caught_by=("I15",),
        quick=True,
    ),
    Mutant(
        "prefix-conflict-missed",
        "What is above a name with all below it is in nobody's way.",
        NAMES,
        "            for mode in modes:\n                yield from node.whole[mode].items()\n",
        "",
        caught_by=("I15",),
    ),
    Mutant(
        "what-is-below-missed",
        "Who claims a name and all below it does not look below it.",
        NAMES,
        "        if name.endswith(_ALL):\n            yield from _all_below(node, modes)",
        "        if name.endswith(_ALL):\n            pass",
        caught_by=("I15",),
    ),
    Mutant(
        "shared-beside-alone",
        "Who shares a name looks for nobody who has it alone.",
        NAMES,
        '("x", "s") if mode == "x" else ("x",)',
        '("x", "s") if mode == "x" else ()',
        caught_by=("I15",),
    ),
    Mutant(
        "claim-said-twice-is-two",
        "A claim request that comes again is another claim.",
        CLAIMS,
        "    if claim.claim_no <= newest:",
        "    if claim.claim_no < 0:",
        caught_by=("CLAIM-4", "R1"),
        more=(
            Edit(
                CLAIMS,
                "    if known is not None:\n        return _asked_before",
                "    if False:\n        return _asked_before",
            ),
        ),
    ),
    Mutant(
        "deadlock-missed",
        "A claim that closes a circle waits like any other.",
        CLAIMS,
        "    for deadlock in deadlocks(world.ledger, world.live, claim.owner, claim):",
        "    for deadlock in deadlocks(world.ledger, world.live, claim.owner, claim)[:0]:",
        caught_by=("L7",),
    ),
    Mutant(
        "line-is-no-wait",
        "Only who holds is waited for, not who stands before in line.",
        WAITS,
        "        return [obstacle for obstacle in found if not self.is_given_up(obstacle.what)]",
        "        return [obstacle for obstacle in found if obstacle.is_held and not self.is_given_up(obstacle.what)]",
        caught_by=("L7",),
    ),
    Mutant(
        "who-holds-nothing-closes-no-circle",
        "A circle is looked for only where somebody waits for what the owner has, not for its place in line.",
        WAITS,
        "        wanted += [(wait.names, wait.standing) for wait in self.waits(owner)]",
        "",
        caught_by=("L7",),
    ),
    Mutant(
        "the-wrong-victim",
        "The most important wait of a circle is given up.",
        WAITS,
        "        victim = min(waits, key=",
        "        victim = max(waits, key=",
        caught_by=("WAIT-2",),
    ),
    Mutant(
        "anybody-releases",
        "A claim is given back by whoever knows its fence.",
        CLAIMS,
        '    if not _is_mine(sender, claim) and sender.role != "operator":',
        "    if False:",
        caught_by=("CLAIM-6",),
    ),
    Mutant(
        "claims-under-a-stale-fence",
        "An attempt that is over claims for its task.",
        CLAIMS,
        "    if regained is None:\n        return not_current(world, task, agent, fence)",
        "    if regained is None:\n        return []",
        caught_by=("CLAIM-8",),
    ),
    Mutant(
        "a-claim-outlives-its-attempt",
        "Claims of an attempt that reported stay.",
        COORDINATOR,
        "        for record in outlived(self.ledger, task, now):\n            self._commit(record)",
        "",
        caught_by=("CLAIM-8",),
    ),
    Mutant(
        "a-claim-ends-with-another-offer",
        "An offer to somebody else ends the claims of the holder who may come back.",
        CLAIMS,
        "    if task.authority is not None and task.authority.is_open:\n        alive.add",
        "    if task.authority is not None and task.authority.is_open and task.offer is None:\n        alive.add",
        caught_by=("CLAIM-7",),
    ),
    Mutant(
        "calls-back-who-did-not-agree",
        "A holder that is not preemptible is called back for one of higher priority.",
        WAITS,
        "(claim.preemptible and priority > claim.priority)",
        "(priority > claim.priority)",
        caught_by=("CLAIM-10",),
    ),
    Mutant(
        "calls-back-for-an-equal",
        "A holder is called back for a claim of the same priority.",
        WAITS,
        "(claim.preemptible and priority > claim.priority)",
        "(claim.preemptible and priority >= claim.priority)",
        caught_by=("CLAIM-10", "R1", "L7"),
    ),
    Mutant(
        "calls-back-while-others-keep-it",
        "A holder is called back although another, who gives way to nobody, stays in the way.",
        CLAIMS,
        "    if not all(gives_way(obstacle, claim.priority) for obstacle in obstacles):\n        return []",
        "    obstacles = [obstacle for obstacle in obstacles if gives_way(obstacle, claim.priority)]",
        caught_by=("CLAIM-10",),
    ),
    Mutant(
        "unfair-order",
        "The newest of those that wait comes first.",
        WAITS,
        "        return (self.at - self.priority * AGEING_MS, self.lsn)",
        "        return (-self.at - self.priority * AGEING_MS, -self.lsn)",
        caught_by=("CLAIM-5",),
    ),
    Mutant(
        "waiting-does-not-count",
        "Priority is all that counts in line; whoever has none waits for ever.",
        WAITS,
        "        return (self.at - self.priority * AGEING_MS, self.lsn)",
        "        return (-self.priority, self.lsn)",
        caught_by=("CLAIM-5", "L7"),
    ),
    Mutant(
        "line-is-passed",
        "A claim is granted at once where nobody holds its names, whoever waits for them.",
        WAITS,
        "        if not wait.is_beside(other.owner) and other.standing < wait.standing:\n            before",
        "        if False:\n            before",
        caught_by=("CLAIM-5",),
    ),
    Mutant(
        "nobody-is-next",
        "When names become free, the claims that wait for them are not looked at.",
        CLAIMS,
        "            yield from _its_turn(world, wait, now)",
        "            yield from ()",
        caught_by=("L7",),
    ),
    Mutant(
        "a-wait-without-end",
        "The time to wait for a claim is never over.",
        CLAIMS,
        "    if claim.is_waiting:\n        return claim.wait_until",
        "    if claim.is_waiting:\n        return None",
        caught_by=("L7",),
    ),
    Mutant(
        "times-of-claims-in-the-grace",
        "Claims end by the clock while everybody comes back from a restart.",
        COORDINATOR,
        "        if now >= self.live.grace_until:\n            self._end_claims(now)",
        "        if True:\n            self._end_claims(now)",
        caught_by=("CLAIM-7",),
        more=(
            Edit(
                COORDINATOR,
                "            None if alarm is None else max(alarm, self.live.grace_until),",
                "            alarm,",
            ),
        ),
    ),
    Mutant(
        "a-restart-forgets-who-was-behind",
        "After a restart nobody looks at the claims that waited behind a task in line.",
        COORDINATOR,
        '                self.ledger.freed.append(dict.fromkeys(claim.names, "x"))',
        "                pass",
        caught_by=("L7",),
    ),
    Mutant(
        "offered-without-its-resources",
        "A task is offered while somebody has what it needs.",
        ROUTING,
        "            if wait is not None and has_to_wait(ledger, live, wait):",
        "            if False:",
        caught_by=("I15",),
    ),
    Mutant(
        "fence-of-the-request",
        "A claim's fence is the position of its request, not of its grant.",
        CLAIMBOOK,
        "    claim.fence = lsn\n    claim.until",
        "    claim.fence = lsn = claim.id\n    claim.until",
        caught_by=("I14", "CLAIM-11", "M"),
    ),
    # The table of states ----------------------------------------------------------------------------------------------
    Mutant(
        "a-cancel-after-the-end-is-legal",
        "The table lets a completed task be canceled; that the engine asks before is luck.",
        STATES,
        "    (_S.REPORTED, _E.COMPLETE): _S.COMPLETED,",
        "    (_S.REPORTED, _E.COMPLETE): _S.COMPLETED,\n    (_S.COMPLETED, _E.CANCEL): _S.CANCELED,",
        caught_by=("I9", "I11"),
        model=True,
    ),
    Mutant(
        "rework-goes-back-to-its-worker",
        "A result that is sent back is leased, and nobody has the lease.",
        STATES,
        "    (_S.REPORTED, _E.REWORK): _S.QUEUED,",
        "    (_S.REPORTED, _E.REWORK): _S.LEASED,",
        caught_by=("L1",),
        model=True,
    ),
    Mutant(
        "no-end-for-who-is-canceling",
        "The table has no way from canceling to canceled.",
        STATES,
        "    (_S.CANCELING, _E.CANCEL): _S.CANCELED,\n",
        "",
        caught_by=("STATE-2",),
        model=True,
    ),
    Mutant(
        "question-forgotten-when-its-lease-lapses",
        "A task whose asker is gone is queued with its question open.",
        STATES,
        "    (_S.PARKED, _E.EXPIRE): _S.PARKED,",
        "    (_S.PARKED, _E.EXPIRE): _S.QUEUED,",
        caught_by=("I22",),
        model=True,
    ),
    # Groups and conflicts ---------------------------------------------------------------------------------------------
    Mutant(
        "double-vote",
        "The first answer of each class is counted twice.",
        PROCEDURE,
        "    votes = {number: list(members) for number, members in enumerate(group.classes)}",
        "    votes = {number: [*members, members[0]] for number, members in enumerate(group.classes)}",
        caught_by=("RUNG-4",),
        disputes=True,
    ),
    Mutant(
        "absent-voters-forgotten",
        "A majority is one of those who answered, and not of those who were asked.",
        PROCEDURE,
        "    return Ballot(len(group.electorate), votes, weights)",
        "    return Ballot(len(group.numbers), votes, weights)",
        caught_by=("RUNG-4",),
        disputes=True,
    ),
    Mutant(
        "tie-goes-to-the-first",
        "Of two classes of one size the one that came first has won.",
        RUNGS,
        "    if lead < rung.margin or (len(sizes) > 1 and sizes[0] == sizes[1]):",
        "    if lead < 0:",
        caught_by=("RUNG-4",),
        disputes=True,
    ),
    Mutant(
        "author-judges",
        "Whoever answered may be asked which answer is right.",
        PROCEDURE,
        "    involved = {*conflict.parties, *ledger.workers_of(group), *",
        "    involved = {*",
        caught_by=("I26",),
        quick=True,
        disputes=True,
    ),
    Mutant(
        "judge-in-one-order",
        "What a judge chose in one order of the candidates decides.",
        PROCEDURE,
        "        if chosen[0] is not None and chosen[0] == chosen[1]:",
        "        if chosen[0] is not None:",
        caught_by=("RUNG-4",),
        disputes=True,
    ),
    Mutant(
        "classes-by-their-last-member",
        "With a tolerance an answer joins a class whose newest member it equals.",
        PROCEDURE,
        "    firsts = [ledger.tasks[members[0]].results[-1] for members in group.classes]",
        "    firsts = [ledger.tasks[members[-1]].results[-1] for members in group.classes]",
        caught_by=("COMPARE-2",),
        disputes=True,
    ),
    Mutant(
        "compared-as-they-were-made",
        "Answers are compared in the order of the members, and not in that in which they came.",
        PROCEDURE,
        "    return [member for _, member in sorted(done)]",
        "    return [member for _, member in done]",
        caught_by=("COMPARE-2",),
        disputes=True,
    ),
    Mutant(
        "late-answer-enters",
        "An answer that comes after the ballot was closed is counted with the others.",
        PROCEDURE,
        "    if conflict is not None and conflict.frozen_lsn:\n        return _climb(",
        "    late = any(member not in group.numbers for member in _completed(ledger, group))\n"
        "    if conflict is not None and conflict.frozen_lsn and not late:\n        return _climb(",
        caught_by=("I25", "COMPARE-2", "RUNG-4"),
        disputes=True,
    ),
    Mutant(
        "settled-while-disputed",
        "A group whose answers contradict each other has a result once enough agree, and its conflict stays open.",
        PROCEDURE,
        "    if early is not None and conflict is None:",
        "    if early is not None:",
        caught_by=("I23",),
        disputes=True,
    ),
    Mutant(
        "decided-while-it-can-change",
        "A group has a result while answers are out that could change it.",
        PROCEDURE,
        "    if len(reached) == 1 and rest + pending < needed:",
        "    if len(reached) == 1 and rest < needed:",
        caught_by=("GROUP-2",),
        disputes=True,
    ),
    Mutant(
        "ballot-closed-at-once",
        "The first contradiction closes the ballot.",
        PROCEDURE,
        "(conflict is None or not _is_over(world, conflict.respond_at, now))",
        "conflict is None",
        caught_by=("T2",),
        disputes=True,
    ),
    Mutant(
        "judge-not-waited-for",
        "A rung is over with the first of those who were asked.",
        PROCEDURE,
        "    if pending and not is_over:",
        "    if len(pending) == len(asked) and not is_over:",
        caught_by=("T2",),
        disputes=True,
    ),
    Mutant(
        "rung-without-a-timer",
        "Nobody looks at a rung when its time is up.",
        PROCEDURE,
        "        return None if _is_held(conflict.ladder[stage.number]) else stage.until",
        "        return None",
        caught_by=("L5",),
        disputes=True,
    ),
    Mutant(
        "effect-before-appeal",
        "An outcome takes effect while it can still be appealed.",
        PROCEDURE,
        "        if may_appeal(world, group, conflict, now):",
        "        if now < conflict.opened_at:",
        caught_by=("T2",),
        disputes=True,
    ),
    Mutant(
        "appeal-twice",
        "A conflict can be appealed as often as somebody does not like its outcome.",
        COURT,
        "    if conflict.appeal is not None:\n        if (conflict",
        "    if conflict.appeal is not None and conflict.stage is not None:\n        if (conflict",
        caught_by=("I24",),
        more=(
            Edit(
                FOLDING,
                "    if conflict.appeal is not None:\n        raise",
                "    if not conflict.is_open:\n        raise",
            ),
            Edit(PROCEDURE, "    if conflict.appeal is not None or conflict.ladder", "    if conflict.ladder"),
        ),
        disputes=True,
    ),
    Mutant(
        "stranger-takes-a-position",
        "Whoever has heard of a conflict is heard in it.",
        COURT,
        "        return _missing(message.conflict)\n"
        "    if agent not in conflict.parties:\n"
        '        return refuse(ErrorCode.FORBIDDEN, f"{agent} is no party to conflict {conflict.id}")\n'
        "    known =",
        "        return _missing(message.conflict)\n    known =",
        caught_by=("I24",),
        disputes=True,
    ),
    Mutant(
        "anybody-decides",
        "A person's word on a conflict is anybody's.",
        COURT,
        '    if sender.role != "operator":',
        '    if sender.role == "nobody":',
        caught_by=("I26",),
        disputes=True,
    ),
    Mutant(
        "outcome-not-told",
        "One of the parties is not told how its conflict has ended.",
        FOLDING,
        '    for party in conflict.parties:\n        ledger.post(party, lsn, "conflict.resolved"',
        '    for party in list(conflict.parties)[1:]:\n        ledger.post(party, lsn, "conflict.resolved"',
        caught_by=("I27",),
        disputes=True,
    ),
    Mutant(
        "late-author-not-told",
        "An author whose answer comes while a conflict is open is not told of it.",
        FOLDING,
        '            ledger.post(author, lsn, "conflict.opened", task.id, conflict.opened_lsn)',
        "            ledger.touched[task.id] = task",
        caught_by=("I27",),
        disputes=True,
    ),
    Mutant(
        "moot-forgotten",
        "A conflict about a task that has ended otherwise stays open.",
        LEDGER,
        "    folding.moot(ledger, task, record.at, lsn)\n",
        "",
        caught_by=("I27",),
        disputes=True,
    ),
    Mutant(
        "one-agent-answers-twice",
        "Whoever works on one answer of a group may be given another.",
        ROUTING,
        "        if agent.id in barred or (",
        "        if (",
        caught_by=("GROUP-1",),
        disputes=True,
    ),
    Mutant(
        "comparer-is-a-party",
        "Whether two answers are the same is asked of one who gave one of them.",
        PROCEDURE,
        "    involved = {ledger.addressee(task), *ledger.workers_of(group)}",
        "    involved: set[str] = set()",
        caught_by=("COMPARE-4",),
        disputes=True,
    ),
    Mutant(
        "comparer-gives-an-answer",
        "Who has seen two answers is asked for another one.",
        LEDGER,
        "            return self.workers_of(group, besides=task.id) | self._workers(group.compared)",
        "            return self.workers_of(group, besides=task.id)",
        caught_by=("COMPARE-4",),
        disputes=True,
    ),
    Mutant(
        "any-word-of-a-comparer",
        "What is neither true nor false is taken for true.",
        PROCEDURE,
        "        if not isinstance(is_same, bool):\n",
        "        if is_same is None:\n",
        caught_by=("COMPARE-2",),
        disputes=True,
    ),
    Mutant(
        "comparer-is-waited-for",
        "An answer waits to be compared for longer than a rung may take.",
        PROCEDURE,
        "    silent_at = asked.at + group.terms.judge_ms\n",
        "    silent_at = asked.at + 10 * group.terms.judge_ms\n",
        caught_by=("COMPARE-4",),
        disputes=True,
    ),
    Mutant(
        "newest-class-first",
        "An answer is compared with the newest class first.",
        PROCEDURE,
        "    for number in range(len(group.classes)):\n        known = ledger.keys",
        "    for number in reversed(range(len(group.classes))):\n        known = ledger.keys",
        caught_by=("COMPARE-4",),
        disputes=True,
    ),
    Mutant(
        "barred-member-holds-up-the-queue",
        "A member that nobody may have holds up what is queued behind it.",
        ROUTING,
        " or ledger.barred(task):",
        ":",
        caught_by=("L2",),
        disputes=True,
    ),
    # What an attempt leaves and costs ---------------------------------------------------------------------------------
    Mutant(
        "checkpoint-out-of-order",
        "A checkpoint that comes again after a later one is taken as the newest.",
        HANDOVER,
        "    if message.cp_no <= newest or message.base_cp != newest:\n",
        "    if message.base_cp > newest:\n",
        caught_by=("I13",),
    ),
    Mutant(
        "checkpoint-of-another",
        "An agent is to go on from a checkpoint that is of use only to the one that left it.",
        HANDOVER,
        "        return (kept.portable or kept.agent == agent_id) and",
        "        return bool(kept.agent) and",
        caught_by=("CHECK-3",),
    ),
    Mutant(
        "checkpoint-that-is-old",
        "An offer has the oldest checkpoint that is kept.",
        HANDOVER,
        "for kept in reversed(task.checkpoints) if serves_it(kept)",
        "for kept in task.checkpoints if serves_it(kept)",
        caught_by=("CHECK-3",),
    ),
    Mutant(
        "words-not-handed-on",
        "A later attempt hears only the newest word of the delegator.",
        MAILBOX,
        "        steers=[Steer(number, steer.payload) for number, steer in enumerate(task.steers, 1)],\n",
        "        steers=[Steer(number, steer.payload) for number, steer in enumerate(task.steers, 1)][-1:],\n",
        caught_by=("STEER-1",),
    ),
    Mutant(
        "budget-not-compared",
        "A sub-task is given more than is left.",
        BUDGET,
        "        if wanted > left or (kind not in budget and left == 0):\n",
        "        if kind not in budget and left == 0:\n",
        caught_by=("I17",),
    ),
    Mutant(
        "works-on-nothing",
        "A task of whose budget nothing is left is given to the next agent.",
        COORDINATOR,
        "if task.state is TaskState.QUEUED and (kind := exhausted(ledger, task)) is not None:",
        "if task.state is TaskState.PARKED and (kind := exhausted(ledger, task)) is not None:",
        caught_by=("I17",),
    ),
    Mutant(
        "usage-counted-again",
        "What an attempt tells with its last word is counted on top of what was counted when its lease lapsed.",
        LEDGER,
        "            more = usage.get(kind, 0) - before.get(kind, 0)\n",
        "            more = usage.get(kind, 0)\n",
        caught_by=("M",),
    ),
    Mutant(
        "progress-unnoticed",
        "An attempt is taken for stalled before it had the time to get on.",
        TASKS,
        '        times.append((moved_at + durations.stall_ms, "stall"))',
        '        times.append((task.since, "stall"))',
        caught_by=("LEASE-10",),
    ),
    Mutant(
        "taken-away-and-back",
        "An attempt that was taken away comes back by a heartbeat.",
        LEASES,
        "task.revivals < task.bounds.revivals and not task.authority.evicted",
        "task.revivals < task.bounds.revivals",
        caught_by=("L8",),
    ),
    # The agent's own machine ------------------------------------------------------------------------------------------
    Mutant(
        "worker-goes-on-without-authority",
        "An agent that is told by the welcome that its attempt is stale works on.",
        WORK,
        "            elif attempt.state is AttemptState.RUNNING:\n"
        "                events.extend(self._lost(held.task, held.fence, held.verdict))",
        "",
        caught_by=("L8",),
    ),
)
