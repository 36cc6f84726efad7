"""The seeded simulator: the real machines under one clock, one source of chance and a menu of faults.

One seed is one world. `python -m tests.simulation --seeds 1000` runs many, `--seed 7 --trace` tells the story of one,
`--seed 7 --every-append` has the coordinator die at each of its appends in turn.

What can go wrong; each seed draws which of it does, and how often (`profiles.Faults`, `faults.FAULTS`):

- links, which behave like TCP: delay, a stall in one direction or both, one direction dead until keep-alive finds out,
  breaks that lose what was on its way or all but the front of it, ends that hear of a break late (half-open), slow
  readers, repeats of old requests and mail after a reconnection;
- the disk: late, full (and the refused batch may be there all the same), a death before, during and after any append,
  so that any number of the newest batches is lost; a batch is never torn, as SQLite keeps it (`disk`);
- the coordinator: crashes, a wall clock up to an hour off at a start, an older copy of its ledger;
- agents: crashes with and without what they had in storage, pauses past their leases, two processes at once, later or
  of the same start, changing credit, draining; one alone with credit for one task that delegates to itself;
- clients: crashes, pauses, gone for ever;
- claims: names wanted by many, at run time and declared, in circles, called back, kept by those who fall silent;
- conflicts: those who are asked charge for it, and may use no more than so much, or nothing at all;
- manners: late, wrong, repeated, contradictory or missing words of all of them (`profiles.Manners`).

Then it is calm, and everything has to come to its end. `invariants` maps what must hold to the checkers that look.
"""
