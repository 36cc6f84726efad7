"""Wrong coordinators: questions, checkpoints, hand-offs, what the next attempt is told, and how attempts end."""

from __future__ import annotations

from tests.mutants.table import Edit

from .row import (
    COORDINATOR,
    HANDOVER,
    LEASES,
    READING,
    REGISTRY,
    RESULTS,
    ROUTING,
    STEPS,
    TASK_FOLDING,
    TASKS,
    TIMERS,
    TREE,
    WATCHING,
    Wrong,
    one,
)

__all__ = ["ROWS"]

ROWS: tuple[Wrong, ...] = (
    # Questions and words ----------------------------------------------------------------------------------------------
    Wrong(
        "asks-again-what-an-attempt-before-asked",
        COORDINATOR,
        "A question of an attempt before is refused when the next one asks it.",
        one(
            TASKS,
            "    if same:\n        return reply(Ok(), *regained)",
            "    if False:\n        return reply(Ok(), *regained)",
        ),
        broken=("ASK-2",),
    ),
    Wrong(
        "keeps-the-numbers-of-withdrawn-questions",
        COORDINATOR,
        "The number of a question that was withdrawn stands for that question.",
        one(
            TASKS,
            "if ask.ask_no == message.ask_no and not ask.withdrawn), None)\n    same",
            "if ask.ask_no == message.ask_no), None)\n    same",
        ),
        broken=("ASK-2",),
    ),
    Wrong(
        "has-an-operator-answer-what-was-told",
        COORDINATOR,
        "An operator's answer takes the place of one that an attempt was sent.",
        one(TASKS, "    is_unread = not ask.told and not ask.offered\n", "    is_unread = True\n"),
        broken=("ASK-4",),
    ),
    Wrong(
        "does-not-say-who-answered",
        COORDINATOR,
        "A question is shown with its answer, and not with whose that is.",
        one(READING, '{"answer": ask.answer, "by": ask.by}', '{"answer": ask.answer}'),
        broken=("ASK-4",),
    ),
    Wrong(
        "takes-words-to-a-group",
        COORDINATOR,
        "A word to a group is taken, though nobody hears it.",
        one(
            TASKS,
            '    if task.group is not None:\n        return refuse(ErrorCode.CONFLICT, f"task {task.id} is done',
            '    if False:\n        return refuse(ErrorCode.CONFLICT, f"task {task.id} is done',
        ),
        broken=("STEER-1",),
    ),
    # What is left to the next attempt ---------------------------------------------------------------------------------
    Wrong(
        "goes-on-from-the-oldest-checkpoint",
        COORDINATOR,
        "An offer carries the oldest checkpoint that its agent can go on from.",
        one(HANDOVER, "next((kept for kept in reversed(task.checkpoints)", "next((kept for kept in (task.checkpoints)"),
        broken=("CHECK-4",),
    ),
    Wrong(
        "hands-on-to-whoever-has-the-skill",
        COORDINATOR,
        "A task is handed on though no other agent is what its holder asks for.",
        one(
            HANDOVER,
            '    wanted = (task.spec.get("requires") or {}, requires)',
            '    wanted: tuple[dict[str, Any], dict[str, Any]] = (task.spec.get("requires") or {}, {})',
        ),
        broken=("HAND-1",),
    ),
    Wrong(
        "hands-on-to-who-had-it",
        COORDINATOR,
        "Who hands a task on to nobody by name may get it back.",
        one(HANDOVER, "    if message.to is None and agent not in excluded:", "    if False:"),
        broken=("HAND-1",),
    ),
    Wrong(
        "refuses-a-hand-off-that-comes-again",
        COORDINATOR,
        "A hand-off that is repeated is refused, as its fence is spent.",
        one(
            HANDOVER,
            "    if case in (Case.SPENT, Case.STALE) and task.attempts[message.fence].end",
            "    if False and task.attempts[message.fence].end",
        ),
        broken=("HAND-1",),
    ),
    Wrong(
        "hands-nothing-on-when-the-lease-has-lapsed",
        COORDINATOR,
        "A hand-off under a lapsed lease is refused.",
        one(
            HANDOVER,
            "    if case not in (Case.CURRENT, Case.LAPSED):\n",
            "    if case is not Case.CURRENT:\n",
        ),
        broken=("HAND-2",),
    ),
    Wrong(
        "hands-on-what-waits-for-an-answer",
        COORDINATOR,
        "A task is handed on while its question is open.",
        one(
            HANDOVER,
            "    if task.state not in (TaskState.LEASED, TaskState.QUEUED, TaskState.OFFERED):",
            "    if False:",
        ),
        broken=("HAND-2",),
    ),
    Wrong(
        "tells-no-usage-of-attempts",
        COORDINATOR,
        "The next attempt is not told what those before it used.",
        one(HANDOVER, "            attempt.usage,  # type: ignore[arg-type]\n", "            None,\n"),
        broken=("OFFER-8",),
    ),
    Wrong(
        "tells-no-progress-of-attempts",
        COORDINATOR,
        "The next attempt is not told how far one was whose lease has lapsed.",
        one(
            HANDOVER,
            "            attempt.progress_no,\n            attempt.note",
            "            0,\n            attempt.note",
        ),
        broken=("OFFER-8",),
    ),
    Wrong(
        "tells-no-reason-of-attempts",
        COORDINATOR,
        "The next attempt is not told why one was given back.",
        one(HANDOVER, "            attempt.detail,\n", '            "",\n'),
        broken=("OFFER-8",),
    ),
    Wrong(
        "tells-no-evidence",
        COORDINATOR,
        "The next attempt is not told of reports without authority.",
        one(HANDOVER, "    return Dossier(prior, evidence, discarded)", "    return Dossier(prior, [], discarded)"),
        broken=("OFFER-8",),
    ),
    Wrong(
        "tells-no-artifacts",
        COORDINATOR,
        "The next attempt is not told what those before it streamed.",
        one(HANDOVER, "    return Dossier(prior, evidence, discarded)", "    return Dossier(prior, evidence, [])"),
        broken=("OFFER-8",),
    ),
    Wrong(
        "lists-all-for-dead-letters",
        COORDINATOR,
        "A list of dead letters has all other tasks too.",
        one(READING, "        and (not wanted.dead_letter or task.is_dead_letter)\n", ""),
        broken=("READ-2",),
    ),
    # How attempts and tasks end ---------------------------------------------------------------------------------------
    Wrong(
        "keeps-duplicates-as-evidence",
        COORDINATOR,
        "A report that comes again is among the evidence.",
        one(
            RESULTS,
            "        if known == (message.outcome, message.result_hash):\n",
            "        if known == (message.outcome, message.result_hash):\n"
            '            kept = _keep(world, task, agent, message, "late", "once more", now)\n'
            '            kept.reply = TaskVerdict(task.id, message.fence, "duplicate")\n'
            "            return kept\n",
        ),
        broken=("REPORT-6",),
    ),
    Wrong(
        "refuses-to-send-back-twice",
        COORDINATOR,
        "The word that sent a result back is refused when it comes again.",
        one(
            RESULTS,
            '    if message.verdict == "reject" and any(rev == message.rev for rev, _, _ in task.feedback):\n',
            "    if False:\n",
        ),
        broken=("ACCEPT-6",),
    ),
    Wrong(
        "tells-no-code-with-feedback",
        COORDINATOR,
        "The next revision is not told the code of why the one before was sent back.",
        one(
            RESULTS,
            "[Reworked(now, task.id, result.rev, by, message.reason_code, message",
            '[Reworked(now, task.id, result.rev, by, "", message',
        ),
        broken=("ACCEPT-5",),
    ),
    Wrong(
        "does-not-say-who-confirmed",
        COORDINATOR,
        "The end of a task does not say who has confirmed its result.",
        one(RESULTS, "        end.by or None,\n", "        None,\n"),
        broken=("TASK-10",),
    ),
    Wrong(
        "does-not-say-which-revision-was-confirmed",
        COORDINATOR,
        "The end of a task names the first revision.",
        one(RESULTS, "        end.detail,\n        task.rev,\n", "        end.detail,\n        0,\n"),
        broken=("TASK-10",),
    ),
    Wrong(
        "has-one-grace-for-all-cancels",
        COORDINATOR,
        "The grace that a cancel names is not looked at.",
        one(
            TREE,
            "        grace = task.durations.cancel_ms if grace_ms is None else grace_ms\n",
            "        grace = task.durations.cancel_ms\n",
        ),
        broken=("LEASE-6",),
    ),
    Wrong(
        "goes-on-with-what-was-given-back-to-end",
        COORDINATOR,
        "A task that is to end waits for another agent when its own gives it back.",
        one(
            LEASES,
            "    if task.state is TaskState.CANCELING:\n"
            '        return reply(Ok(state="canceled"), canceled(task, now, plain(message.usage)))\n',
            "",
        ),
        broken=("CANCEL-7",),
    ),
    Wrong(
        "takes-no-offer-back",
        COORDINATOR,
        "An offer that is not granted is not given back by a yield.",
        one(
            LEASES,
            '        return reply(Ok(), *_declined(task, message.fence, "busy", now, now))\n',
            "        return not_current(world, task, agent, message.fence)\n",
        ),
        broken=("LEASE-7",),
    ),
    Wrong(
        "declines-what-has-asked",
        COORDINATOR,
        "An attempt that has asked is declined.",
        one(LEASES, "    if case is not Case.OFFERED and task.state is not TaskState.LEASED:\n", "    if False:\n"),
        broken=("LEASE-7",),
    ),
    Wrong(
        "counts-a-drain-as-a-loss",
        COORDINATOR,
        "What is taken away for a drain and lapses counts as a loss.",
        one(LEASES, "    counted = authority.evicted not in EXCUSED\n", "    counted = True\n"),
        broken=("LEASE-10",),
    ),
    Wrong(
        "counts-no-loss-of-what-hangs",
        COORDINATOR,
        "What was taken away as it hung counts as nothing when it is given back.",
        one(LEASES, "    is_lost = evicted in COUNTED_AS_LOSS and", "    is_lost = False and"),
        broken=("LEASE-10",),
    ),
    Wrong(
        "counts-what-it-asked-back-as-a-decline",
        COORDINATOR,
        "What is given back as the coordinator has asked for it was declined.",
        one(LEASES, "    return not evicted and not is_draining, is_lost\n", "    return not is_draining, is_lost\n"),
        broken=("LEASE-10",),
    ),
    Wrong(
        "has-whoever-is-idle-rework",
        COORDINATOR,
        "A result that was sent back goes to whoever has least to do.",
        one(
            ROUTING, "(task.last_agent if task.rev or task.asks else None)", "(task.last_agent if task.asks else None)"
        ),
        broken=("ROUTE-4",),
    ),
    Wrong(
        "makes-no-sub-task-when-the-lease-has-lapsed",
        COORDINATOR,
        "A sub-task of an attempt whose lease has lapsed is refused.",
        one(
            TASKS,
            "not in (Case.CURRENT, Case.LAPSED):\n            return not_current(world, parent",
            "is not Case.CURRENT:\n            return not_current(world, parent",
        ),
        broken=("TASK-6",),
    ),
    Wrong(
        "cancels-for-want-of-a-delegator-at-once",
        COORDINATOR,
        "A task whose delegator has left is canceled at once, whatever its time.",
        one(
            TIMERS, "return None if since is None else since + task.loss_ms", "return None if since is None else since"
        ),
        broken=("TASK-12",),
    ),
    Wrong(
        "cancels-results-for-want-of-a-delegator",
        COORDINATOR,
        "A task that was reported is canceled when its delegator has left.",
        one(
            TIMERS,
            '    if task.on_delegator_loss != "cancel" or task.is_reported or',
            '    if task.on_delegator_loss != "cancel" or',
        ),
        broken=("TASK-12",),
    ),
    Wrong(
        "kills-for-want-of-a-delegator",
        COORDINATOR,
        "An agent whose delegator has left may not finish.",
        one(
            TIMERS,
            'cancel(world.ledger, task, "coop", "its delegator has gone"',
            'cancel(world.ledger, task, "kill", "its delegator has gone"',
        ),
        broken=("TASK-12",),
    ),
    Wrong(
        "tells-who-watches-later-no-progress",
        COORDINATOR,
        "A watch begins without the latest progress.",
        one(
            WATCHING,
            "    if progress is not None and progress.at and not task.is_terminal:\n        yield",
            "    if False:\n        yield",
        ),
        broken=("WATCH-4",),
    ),
    # Who leaves -------------------------------------------------------------------------------------------------------
    Wrong(
        "waits-for-who-left-to-take-its-offer",
        COORDINATOR,
        "An offer stays with an agent that has said that it will not be back soon.",
        one(
            REGISTRY,
            '            records.append(Declined(now, task_id, task.offer.fence, "busy", now, counted=False))\n',
            "            pass\n",
        ),
        broken=("HELLO-11",),
        areas=("HELLO-11",),
    ),
    Wrong(
        "counts-the-offers-of-who-leaves",
        COORDINATOR,
        "What was offered to an agent that leaves was declined.",
        one(REGISTRY, 'task.offer.fence, "busy", now, counted=False)', 'task.offer.fence, "busy", now)'),
        broken=("HELLO-11",),
        areas=("HELLO-11",),
    ),
    Wrong(
        "goes-on-with-what-was-to-be-canceled",
        COORDINATOR,
        "A task that is to be canceled waits for another agent when its own leaves.",
        one(
            REGISTRY,
            "        elif task.state is TaskState.CANCELING:\n            records.append(canceled(task, now))\n",
            "",
        ),
        broken=("HELLO-11",),
        areas=("HELLO-11",),
    ),
    # What heals by itself, or comes in time by another timer ----------------------------------------------------------
    Wrong(
        "hands-on-to-anybody",
        COORDINATOR,
        "Whom a hand-off names is not looked at.",
        one(TASK_FOLDING, '        task.handed_to["agent"] = record.to\n', "        pass\n"),
        broken=("HAND-1",),
    ),
    Wrong(
        "keeps-the-wish-of-a-hand-off-for-an-offer",
        COORDINATOR,
        "The wish of a hand-off holds for as long as an offer does, and not for a lease.",
        (
            Edit(
                HANDOVER,
                "task.handed_to and task.since + task.durations.lease_ms <= now",
                "task.handed_to and task.since + task.durations.offer_ms <= now",
            ),
            Edit(
                TIMERS,
                "task.handed_to:\n        times.append(task.since + durations.lease_ms)",
                "task.handed_to:\n        times.append(task.since + durations.offer_ms)",
            ),
        ),
        broken=("HAND-3",),
    ),
    Wrong(
        "keeps-an-offer-for-a-lease",
        COORDINATOR,
        "An offer that nobody accepts is withdrawn after the time of a lease.",
        (Edit(TIMERS, "max(offer.at + task.durations.offer_ms", "max(offer.at + task.durations.lease_ms"),),
        broken=("OFFER-6",),
    ),
    Wrong(
        "waits-for-a-word-as-long-as-for-a-heartbeat",
        COORDINATOR,
        "A result that nobody says a word on is decided after the time of a lease.",
        (
            Edit(
                TIMERS,
                "            times.append(task.since + durations.confirm_ms)",
                "            times.append(task.since + durations.lease_ms)",
            ),
            Edit(
                TIMERS,
                "and task.since + durations.confirm_ms <= now",
                "and task.since + durations.lease_ms <= now",
            ),
        ),
        broken=("ACCEPT-7",),
    ),
    Wrong(
        "has-no-grace-of-a-tasks-own",
        COORDINATOR,
        "A cancel without a grace has ten minutes, whatever the task says.",
        one(TREE, "grace = task.durations.cancel_ms if grace_ms is None", "grace = 600_000 if grace_ms is None"),
        broken=("CANCEL-7",),
    ),
    Wrong(
        "begins-a-grace-anew",
        COORDINATOR,
        "With each heartbeat there are ten seconds more to wind down.",
        one(
            LEASES,
            "    _keep_progress(world, task, message, now)\n    if _keep",
            "    if task.state is TaskState.CANCELING and task.cancel is not None:\n"
            "        task.cancel.grace_at = max(task.cancel.grace_at, now + 10_000)\n"
            "    _keep_progress(world, task, message, now)\n    if _keep",
        ),
        broken=("CANCEL-7",),
    ),
    Wrong(
        "lets-what-was-killed-lapse",
        COORDINATOR,
        "A task that was killed waits for the end of its lease when it is reported.",
        one(RESULTS, "        kept.records.append(canceled(task, now))\n", ""),
        broken=("CANCEL-4",),
    ),
    Wrong(
        "lets-what-is-to-end-lapse",
        COORDINATOR,
        "A task that is to end waits for the end of its lease when its agent reports that it has stopped.",
        one(
            RESULTS,
            "    missing = _missing_artifacts(world, task, message)\n",
            '    if task.state is TaskState.CANCELING and message.outcome != "completed":\n'
            '        return reply(TaskVerdict(task.id, message.fence, "admitted"))\n'
            "    missing = _missing_artifacts(world, task, message)\n",
        ),
        broken=("CANCEL-3",),
    ),
    Wrong(
        "lets-what-is-given-back-lapse",
        COORDINATOR,
        "What an agent was asked to give back it keeps until its lease runs out, given back or not.",
        one(
            LEASES,
            '    if task.state is TaskState.CANCELING:\n        return reply(Ok(state="canceled")',
            "    if task.authority is not None and task.authority.evicted:\n        return reply(Ok())\n"
            '    if task.state is TaskState.CANCELING:\n        return reply(Ok(state="canceled")',
        ),
        broken=("STEER-3", "REG-6"),
    ),
    Wrong(
        "drains-for-one-task",
        COORDINATOR,
        "An agent that drains is ready again when it has reported.",
        one(
            RESULTS,
            "    records.extend(_admit(world, task, agent, message, now))\n",
            "    records.extend(_admit(world, task, agent, message, now))\n"
            "    if agent in world.ledger.agents:\n"
            '        world.ledger.agents[agent].status = "ready"\n',
        ),
        broken=("REG-6",),
    ),
    Wrong(
        "asks-too-soon-again",
        COORDINATOR,
        "Who has declined a task is asked again after a third of the time that it named.",
        one(LEASES, "now + message.retry_after_ms, now))", "now + message.retry_after_ms // 3, now))"),
        broken=("ROUTE-2",),
    ),
    Wrong(
        "takes-heartbeats-for-progress",
        COORDINATOR,
        "An attempt that only sends heartbeats gets on.",
        one(
            LEASES,
            "    _keep_progress(world, task, message, now)\n    if _keep",
            "    moved(world, task, now)\n    _keep_progress(world, task, message, now)\n    if _keep",
        ),
        broken=("LEASE-10",),
    ),
    Wrong(
        "gives-who-gets-on-more-time",
        COORDINATOR,
        "The time of an attempt begins anew when it gets on.",
        one(
            TIMERS,
            '        times.append((task.since + durations.attempt_ms, "attempt"))',
            "        known = world.live.progress.get(task.id)\n"
            "        moved_at = max(task.since, known.moved_at if known is not None else 0)\n"
            '        times.append((moved_at + durations.attempt_ms, "attempt"))',
        ),
        broken=("TIME-7",),
    ),
    Wrong(
        "counts-the-time-to-be-taken-from-the-beginning",
        COORDINATOR,
        "A task that waits again has waited since it was made.",
        (
            Edit(
                TIMERS,
                "            times.append(task.since + durations.queue_ms)",
                "            times.append(task.at + durations.queue_ms)",
            ),
            Edit(
                TIMERS,
                "durations.queue_ms is not None and task.since + durations.queue_ms <= now",
                "durations.queue_ms is not None and task.at + durations.queue_ms <= now",
            ),
        ),
        broken=("TIME-1",),
    ),
    Wrong(
        "does-not-see-a-delegator-come-back",
        COORDINATOR,
        "A task is canceled for want of a delegator that was back in time.",
        one(
            STEPS,
            "        if self.live.away_since.pop(principal, None) is not None:\n",
            "        attached = self.ledger.attached.get(principal, {}).values()\n"
            '        if any(task.on_delegator_loss == "cancel" for task in attached):\n            return\n'
            "        if self.live.away_since.pop(principal, None) is not None:\n",
        ),
        broken=("TASK-12",),
    ),
    Wrong(
        "takes-a-process-for-the-delegator",
        COORDINATOR,
        "A delegator has gone when one of its processes has.",
        one(
            STEPS,
            "        if attached is None or principal in self.live.present:\n",
            "        if attached is None:\n",
        ),
        broken=("TASK-12",),
    ),
)
