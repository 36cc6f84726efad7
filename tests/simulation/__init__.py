"""The seeded simulator: the real machines under one clock, one source of randomness and a menu of faults.

One seed is one world. `python -m tests.simulation --seeds 1000` runs many, `--seed 7 --trace` tells the story of one,
`--seed 7 --every-append` has the coordinator die at each of its appends in turn.

Faults; each seed draws which of them happen, and how often (`profiles.Faults`, `faults.FAULTS`):

- links, which behave like TCP: delay, a stall in one direction or both, one direction dead until keep-alive finds out,
  breaks that lose what was on its way or all but the front of it, ends that learn of a break late (half-open), slow
  readers, repeats of old requests and mail after a reconnection;
- the disk: late, full (and the refused batch may still be there), a death before, during and after any append, so that
  any number of the newest batches is lost; a batch is never torn, as SQLite guarantees (`disk`);
- the coordinator: crashes, a wall clock up to an hour off at a start, an older copy of its ledger;
- agents: crashes with and without their storage, pauses past their leases, two processes at once, later or of the same
  start, changing credit, draining; one that is alone, with credit for one task, and delegates to itself;
- clients: crashes, pauses, disappearance for good;
- claims: names wanted by many, at run time and declared, in circles, called back, kept by agents that fall silent;
- conflicts: agents that are asked charge for it, and may use no more than a limit, or nothing at all;
- manners: late, wrong, repeated, contradictory or missing messages of all of them (`profiles.Manners`).

Then the world is calm, and everything has to end. `invariants` maps each property to the checkers that look at it.
"""
