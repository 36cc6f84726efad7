"""What a wrong peer is: a row of the tables beside this, and the files that rows change."""

from __future__ import annotations

from dataclasses import dataclass

from a2a.conformance.case import Role
from tests.mutants.table import MUTANTS, Edit

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
CENSUS = "a2a/engine/census.py"
FORGETTING = "a2a/engine/forgetting.py"
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
DELEGATOR = "a2a/delegator.py"
RUNNER = "a2a/runner.py"
SLACK = "a2a/slack.py"
LINK = "a2a/link.py"
CLIENT_FILE = "a2a/client.py"
NOTING = "a2a/engine/conflicts/noting.py"
OVERLAPPING = "a2a/engine/conflicts/overlapping.py"
FINDING = "a2a/engine/conflicts/finding.py"
CALLS = "a2a/engine/calls.py"
SHOWING = "a2a/engine/showing.py"
LISTING = "a2a/engine/listing.py"
BINDING = "a2a/engine/binding.py"
RAISING = "a2a/engine/conflicts/raising.py"
COURT = "a2a/engine/conflicts/court.py"
RUNGS = "a2a/engine/conflicts/rungs.py"
PROCEDURE = "a2a/engine/conflicts/procedure.py"
TASK_STATE = "a2a/engine/task_state.py"
BUDGET = "a2a/engine/budget.py"
CAPACITY = "a2a/engine/capacity.py"
WAITS = "a2a/engine/waits.py"
CLAIM_BOOK = "a2a/engine/claimbook.py"
CLAIMS = "a2a/engine/claims.py"
NAMES = "a2a/engine/names.py"
CONTEXT = "a2a/engine/context.py"
CONTEXT_STATE = "a2a/engine/context_state.py"
JSON_PATCH = "a2a/engine/jsonpatch.py"
POLICY = "a2a/engine/policy.py"

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
