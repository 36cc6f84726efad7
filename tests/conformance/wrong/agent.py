"""Wrong agents."""

from __future__ import annotations

from tests.mutants.table import Edit

from .row import (
    AGENT,
    CODEC,
    COORDINATOR,
    FORMS,
    LINK,
    PEER,
    RUNNER,
    SESSION,
    SOCKET,
    UNCOUNTED,
    WORK,
    Wrong,
    one,
    the_bug,
    written_as,
)

__all__ = ["ROWS"]

ROWS: tuple[Wrong, ...] = (
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
        "keeps-its-proofs",
        AGENT,
        "The agent names what it holds without the proof that its offer brought.",
        one(WORK, "attempt.progress_no, attempt.offer.proof)", "attempt.progress_no)"),
        broken=("HELLO-6",),
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
    Wrong(
        "begins-what-it-is-to-wind-down",
        AGENT,
        "A cancel that comes before the answer to the accept is passed over, and the work begins with that answer.",
        one(WORK, "                self.yield_(attempt, message.reason)\n", "                pass\n"),
        broken=("LEASE-6",),
    ),
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
            "        return read_parts(payload)\n    except UNREADABLE:\n",
            "        return read_parts(payload)\n    except ZeroDivisionError:\n",
        ),
        broken=("WIRE-5",),
    ),
    Wrong(
        "reads-every-checkpoint",
        AGENT,
        "An attempt does not begin where what an earlier one left cannot be read.",
        (
            Edit("a2a/context.py", "import parts_payload, read_word", "import parts_payload, read_parts, read_word"),
            Edit("a2a/context.py", "read_word(offer.checkpoint.payload)", "read_parts(offer.checkpoint.payload)"),
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
)
