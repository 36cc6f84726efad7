"""Requirements that no case tries, and why: no peer can see them from outside, or they define a word of the text."""

from __future__ import annotations

__all__ = ["REASONS"]

REASONS: dict[str, str] = {
    "HELLO-14": "how long a while of silence is the implementation says, and it may be longer than a run",
    "REG-8": "it takes a month, or what else the namespace sets",
    "ROUTE-5": "which of two equals gets a task cannot be told to be a hash from outside",
    "LEASE-9": "what a worker leaves undone after nine tenths of a lease it does outside the protocol, or not at all",
    "RUNG-2": "the weights follow from all that is in the ledger, and a run begins in one it does not know",
    "TIME-2": "the suite does not set the clock of the machine the implementation runs on",
    "LIMIT-12": "it takes half a million tasks, or a gibibyte of inputs, in memory",
    "DURABLE-3": "the suite does not fill the disk of the implementation, nor take it away",
    "DURABLE-8": "when a task leaves memory cannot be told from outside: it is answered as before",
    "DURABLE-9": "what is said about an archived task is answered as about any ended one, which other cases try",
    "DURABLE-10": "the hash is in the ledger, whose form is the implementation's own",
    "DURABLE-11": "when a conflict leaves memory cannot be told from outside either",
    "DURABLE-12": "nor when a context does",
    "READ-5": "it allows an order of answers on different connections, and asks for none",
    "CLAIM-12": "it binds who guards a resource, and those do not speak the protocol",
}
"""The reason, by the requirement's name."""
