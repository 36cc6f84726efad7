"""What a benchmark returns: results and their two printed forms. Knows neither processes nor the clock.

`--json` prints one object per line with the keys of `Result`; without it, a table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["BenchmarkError", "Note", "Options", "Result", "as_facts", "as_json", "as_table"]


class BenchmarkError(Exception):
    """The run cannot give figures worth comparing; the message says why."""


@dataclass(frozen=True, slots=True)
class Options:
    """How long to measure, and where ledgers may be."""

    directory: Path
    """An existing directory on a disk; each run makes its own directory inside and removes it."""
    loop: str
    """`uvloop` or `asyncio`: the event loop of every process of the run."""
    rounds: int = 5
    warm_up_seconds: float = 1.0
    throughput_seconds: float = 2.0
    sequential_seconds: float = 1.0
    is_quick: bool = False
    """Whether small numbers will do: fewer agents, tasks and records than the benchmark calls for."""
    slow_sync_us: int = 0
    """Microseconds added to each sync of a coordinator, to simulate a slower disk."""

    @classmethod
    def quick(cls, directory: Path, loop: str, slow_sync_us: int = 0) -> Options:
        """Return options for one short round: it shows that everything works; the figures are rough."""
        short = {"warm_up_seconds": 0.1, "throughput_seconds": 0.3, "sequential_seconds": 0.1}
        return cls(directory, loop, rounds=1, is_quick=True, slow_sync_us=slow_sync_us, **short)


@dataclass(frozen=True, slots=True)
class Result:
    """One figure, and where it makes sense, its ratio to another figure, such as the relay's."""

    name: str
    value: float
    unit: str
    ratio: float | None = None
    """`value` over the value of `ratio_to`, both medians of the same run."""
    ratio_to: str | None = None

    def against(self, other: Result) -> Result:
        """Return this result with its ratio to `other`."""
        return Result(self.name, self.value, self.unit, round(self.value / other.value, 3), other.name)


@dataclass(frozen=True, slots=True)
class Note:
    """A text that goes with the figures: what was left out and why, or what a figure does not say."""

    name: str
    """What the note is about."""
    note: str


def as_json(result: Result | Note) -> str:
    """Return one line of JSON."""
    return json.dumps(asdict(result))


def as_table(results: Sequence[Result | Note]) -> str:
    """Return aligned columns for a person to read."""
    width = max(len(result.name) for result in results)
    lines = []
    for result in results:
        if isinstance(result, Note):
            lines.append(f"{result.name:<{width}}  {result.note}")
            continue
        ratio = "" if result.ratio is None else f"   {result.ratio:6.2f} x {result.ratio_to}"
        lines.append(f"{result.name:<{width}}  {result.value:>12,.3f} {result.unit:<8}{ratio}".rstrip())
    return "\n".join(lines)


def as_facts(facts: dict[str, Any]) -> str:
    """Return one `name: value` line per fact."""
    return "\n".join(f"{name}: {_plain(value)}" for name, value in facts.items())


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(part) for part in value)
    return str(value)
