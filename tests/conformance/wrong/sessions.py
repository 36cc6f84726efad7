"""Wrong coordinators: what was said before, mail and credit, frames."""

from __future__ import annotations

from tests.mutants.table import Edit

from .row import (
    CODEC,
    COORDINATOR,
    FORMS,
    HANDLERS,
    REGISTRY,
    SERVER,
    SLACK,
    SOCKET,
    SPENDING,
    STEPS,
    TASKS,
    Wrong,
    one,
    the_bug,
    written_as,
)

__all__ = ["ROWS"]

ROWS: tuple[Wrong, ...] = (
    # What was said before ---------------------------------------------------------------------------------------------
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
    # Mail and credit --------------------------------------------------------------------------------------------------
    Wrong(
        "reorders-a-mailbox",
        COORDINATOR,
        "Two entries that wait are told in the wrong order, under the right numbers.",
        one(
            "a2a/engine/delivery.py",
            '                message = render(self._world, connection.agent or "", entry, now)\n',
            "                at = entry.mseq - mailbox.entries[0].mseq ^ 1\n"
            "                other = mailbox.entries[at] if at < len(mailbox.entries) else entry\n"
            '                message = render(self._world, connection.agent or "", other, now)\n',
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
    # Frames -----------------------------------------------------------------------------------------------------------
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
)
