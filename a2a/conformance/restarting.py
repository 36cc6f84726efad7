"""Kills and restarts a coordinator that somebody else runs, with a command of theirs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from .case import Failed
from .program import START_SECONDS

__all__ = ["restarting"]


def restarting(command: str, url: str, *, within: float = START_SECONDS) -> Callable[[], Awaitable[None]]:
    """Return a function that has a shell run the command, and waits until a server listens at the URL.

    Args:
        command: Kills the coordinator and starts it again on its ledger; it may end before the coordinator listens,
            but not before the old one is gone.
        url: Where the coordinator listens.
        within: Seconds for the command, and again for the coordinator to listen.
    """

    async def restart() -> None:
        await _done(command, within)
        await _listening(url, within)

    return restart


async def _done(command: str, within: float) -> None:
    # Its output is discarded: a process it leaves running holds no pipe of ours open, and Ctrl-C here does not end it.
    process = await asyncio.create_subprocess_shell(
        command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = await asyncio.wait_for(process.wait(), within)
    except TimeoutError:
        raise Failed(f"expected the command that restarts the coordinator to end within {within:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code:
        raise Failed(f"expected the command that restarts the coordinator to end well; it ended with {code}")


async def _listening(url: str, within: float) -> None:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    try:
        async with asyncio.timeout(within):
            while True:
                try:
                    _, writer = await asyncio.open_connection(parts.hostname, port)
                except OSError:
                    await asyncio.sleep(0.02)  # nothing tells when a foreign program listens
                    continue
                writer.close()
                return
    except TimeoutError:
        raise Failed(f"expected a coordinator to listen at {url} within {within:g} s of its restart") from None
