"""The roles of a peer, each its own process in the peer's environment, which has none of our packages."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from benchmarks.load import run_role

__all__ = ["play"]


def play(doc: str, roles: Mapping[str, Callable[[int], Coroutine[Any, Any, None]]]) -> None:
    """Run the role that the command line names, with a router on the port that it names."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("role", choices=list(roles))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments = parser.parse_args()
    run_role(roles[arguments.role](arguments.port), arguments.loop)
