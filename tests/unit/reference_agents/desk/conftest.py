"""What the tests of the desk share: documents in a folder, and passages of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reference_agents.desk.passages import Passage, cut_all

DOCUMENTS = {
    "lease.md": """\
# Leases

## How they end

A lease lapses when nobody hears from its holder.
The task then waits for another agent.

## How they begin

- An offer comes first.
- A heartbeat renews the lease.
""",
    "birds.txt": "Penguins swim under the ice.\n\nSwifts sleep while they fly.\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two documents of five passages in all, but for headings."""
    for name, text in DOCUMENTS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def passages() -> list[Passage]:
    """Return the passages of these documents: three about leases, two about birds."""
    found, _ = cut_all(DOCUMENTS.items())
    return found


@pytest.fixture
def lines_of(passages: list[Passage]) -> Callable[..., list[str]]:
    """Return where ranked passages stand."""

    def of(ranked: list[tuple[int, float]]) -> list[str]:
        return [f"{passages[number].path}:{passages[number].line}" for number, _ in ranked]

    return of
