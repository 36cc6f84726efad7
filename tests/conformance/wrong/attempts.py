"""Wrong coordinators: questions, checkpoints, hand-offs, and what the next attempt is told."""

from __future__ import annotations

from .row import COORDINATOR, HANDOVER, READING, REGISTRY, TASKS, Wrong, one

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
)
