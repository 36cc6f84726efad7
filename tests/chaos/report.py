"""The table printed at the end of a run."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from .audit import Findings
from .plan import Fault

__all__ = ["quantile", "table"]


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(plan: Sequence[Fault], found: Findings, load_seconds: float, asked_rate: float) -> str:
    """Return the faults and the findings as a table."""
    kinds = Counter(f"{fault.kind} {fault.target.partition('/')[0]}" for fault in plan)
    rows = [
        ("cycles", str(len(plan))),
        *((f"  {kind}", str(count)) for kind, count in sorted(kinds.items())),
        ("tasks", f"{found.tasks} in {found.roots} trees, {found.attempts} attempts, {found.records} records"),
        ("load", f"{asked_rate:g} tasks/s asked for during {load_seconds:.0f} s"),
        ("acknowledged and lost", str(len(found.lost))),
        ("settled twice", str(len(found.settled_twice))),
        ("results without holder", str(len(found.without_holder))),
        ("unfinished", str(len(found.unfinished))),
        ("other violations", str(len(found.violations))),
        ("kept across a restart in time", f"{found.kept} of {found.running} attempts"),
        ("contexts left memory, and came back", str(found.recalled)),
    ]
    seconds = [second for second, _ in found.recoveries]
    if seconds:
        rows.append(("restarts followed by an offer", str(len(seconds))))
        rows.append(("recovery median / p95", f"{statistics.median(seconds):.2f} s / {quantile(seconds, 0.95):.2f} s"))
        rows.extend(_by_size(found.recoveries))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _by_size(recoveries: Sequence[tuple[float, int]]) -> list[tuple[str, str]]:
    """Return the medians by the size of the ledger: every restart folds all of it."""
    sizes: dict[int, list[float]] = {}
    for seconds, tasks in recoveries:
        sizes.setdefault(tasks // 10_000, []).append(seconds)
    return [
        (
            f"  {size * 10_000:,} to {(size + 1) * 10_000:,} tasks",
            f"{statistics.median(seconds):.2f} s ({len(seconds)} restarts)",
        )
        for size, seconds in sorted(sizes.items())
    ]
