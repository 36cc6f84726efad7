"""Wrong clients."""

from __future__ import annotations

from .row import CLIENT, CLIENT_FILE, CODEC, DELEGATION, DELEGATOR, FORMS, SESSION, UNCOUNTED, Wrong, one, written_as

__all__ = ["ROWS"]

ROWS: tuple[Wrong, ...] = (
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
        one(DELEGATOR, "                if not review.is_what_its_hash_says:\n", "                if False:\n"),
        broken=("ACCEPT-3",),
    ),
    Wrong(
        "accepts-whatever-was-decided-since",
        CLIENT,
        "The word on a result names no generation, and counts where a conflict has gone against it meanwhile.",
        one(DELEGATION, 'if_gen = review.generation if verdict == "accept" else None', "if_gen = None"),
        broken=("ACCEPT-8",),
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
        "watches-from-the-beginning",
        CLIENT,
        "On a new connection the client has all events told again.",
        one(
            DELEGATION,
            "        return TaskWatch(task, from_gen=min((known.generation for known in waiting), default=0))",
            "        return TaskWatch(task, from_gen=0 * len(list(waiting)))",
        ),
        broken=("WATCH-3",),
    ),
    Wrong(
        "watches-on-one-connection",
        CLIENT,
        "The client does not watch again when its connection was cut.",
        one(
            DELEGATION,
            "            if any(delegation.is_watched and not delegation.is_over for delegation in delegations):\n",
            "            if False:\n",
        ),
        broken=("WATCH-3",),
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
        "believes-what-a-view-names",
        CLIENT,
        "A result that the client reads, as no review came, it confirms under the hash in the view, whatever it is.",
        one(
            DELEGATOR,
            "                if not review.is_what_its_hash_says:\n",
            "                if delegation.created and not review.is_what_its_hash_says:\n",
        ),
        broken=("ACCEPT-3",),
    ),
    Wrong(
        "confirms-what-relies-on-what-has-moved",
        CLIENT,
        "The client accepts a result whose review names decisions that have moved.",
        one(DELEGATOR, "                    if self.stale_basis:\n", "                    if False:\n"),
        broken=("CTX-10",),
    ),
    Wrong(
        "accepts-with-the-newest-generation",
        CLIENT,
        "Where the task has moved on while its word was on the way, the client says it again, whatever moved it.",
        one(DELEGATOR, '            read.overruled = metadata.get("overruled", "")\n', "            pass\n"),
        broken=("CONFLICT-15",),
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
