"""Seeds that found a bug, and what it was. They stay, and run with the tests.

A seed names a world only as long as the draws stay the same: whoever changes what is drawn runs the planted bug again
and writes down the seed that finds it now. A unit test beside the code holds each bug down for good.
"""

from __future__ import annotations

__all__ = ["SEEDS"]

SEEDS: dict[int, str] = {
    23: "a lease shorter than the offer's patience was looked at only when that patience ended",
    53: "a cold question, or a lease that revived, freed credit and nobody looked at the queue",
    90: "a second cancel, after a rework, did not make the task `canceling`",
    164: "a client that was told of the end by mail did not watch on, and the last event never came",
    189: "a mailbox was forgotten while a task could still write to it, and the cursor skipped what came next",
    227: "an answer given while the lease had lapsed never reached the attempt that revived",
    12401: "a credit that changed while the hello was on its way was never told",
    20375: "a sub-task that was sent back after its parent had ended went on for nobody",
    21184: "an agent's mailbox was forgotten, and the cursor of a lost welcome passed over an offer in the new one",
}
"""Seed to what it found."""
