"""What a peer's module starts, without starting it."""

from __future__ import annotations

from typing import Any

import pytest


class Started:
    """Takes the place of `Processes`: keeps what was asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[str, ...], dict[str, Any]]] = []

    async def start(self, name: str, *arguments: str, **options: Any) -> str:
        self.calls.append((name, arguments, options))
        return name

    async def start_ready(self, name: str, *arguments: str, **options: Any) -> tuple[str, dict[str, Any]]:
        return await self.start(name, *arguments, **options), {}


@pytest.fixture
def started() -> Started:
    return Started()
