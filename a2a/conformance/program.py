"""The program under test, if the suite starts it: with its own state directory, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shlex
import signal
import socket
import tempfile
from pathlib import Path
from typing import Self

from .case import Failed

__all__ = ["Program", "free_port"]

START_SECONDS = 20.0
STOP_SECONDS = 10.0
_END_SECONDS = 1.0
_LAST_LINE = 200
"""How many characters of the program's last line are shown with each case that saw it end."""
PORTS = range(20_000, 32_768)
"""Below the ports that a system gives to a caller that asks for any (32768 on Linux, 49152 by RFC 6335, section 6)."""


def free_port() -> int:
    """Return a free loopback port, one that the system gives to no other caller before the program takes it.

    Raises:
        OSError: none was found.
    """
    # From the system's randomness: processes that seed `random` alike would be given the same ports.
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("expected a free port from 20000 to 32767; a hundred of them are taken")


class Program:
    """A command line with the placeholders `{url}`, `{port}`, `{state}` and those of a role, and its process.

    The state directory is also in the variable `A2A_STATE_DIR`, the address in `A2A_URL`.
    """

    def __init__(self, command: str, **values: str | int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="a2a-conformance-", ignore_cleanup_errors=True)
        self.state = Path(self._folder.name)
        self._values = {"state": str(self.state)} | {name: str(value) for name, value in values.items()}
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
        self._folder.cleanup()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def filled(self, text: str) -> str:
        """Return a text with the placeholders filled in."""
        for name, value in self._values.items():
            text = text.replace("{" + name + "}", value)
        return text

    async def start(self) -> None:
        """Start the program. Its output is kept in the state directory.

        Raises:
            Failed: there is no such program.
        """
        assert not self.is_running
        arguments = [self.filled(word) for word in shlex.split(self._command)]
        variables = os.environ | {
            "A2A_STATE_DIR": str(self.state),
            "A2A_URL": self._values.get("url", ""),
            "A2A_TOKEN": self._values.get("token", ""),
        }
        with (self.state / "output.txt").open("ab") as output:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=variables,
                    start_new_session=True,
                )
            except OSError as exc:
                raise Failed(f"expected a program to start; {arguments[0]}: {exc.strerror}") from exc

    def output(self) -> str:
        """Return the end of the program's output."""
        path = self.state / "output.txt"
        return path.read_text(encoding="utf-8", errors="replace")[-2_000:] if path.exists() else ""

    async def listening(self, port: int) -> None:
        """Wait until the program accepts connections.

        Raises:
            Failed: it has ended, or does not accept any in time.
        """
        try:
            async with asyncio.timeout(START_SECONDS):
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                    except OSError:
                        if not self.is_running:
                            raise Failed(f"expected a coordinator to listen; it {self.so_far()}") from None
                        await asyncio.sleep(0.02)  # nothing tells when a foreign program listens
                        continue
                    writer.close()
                    return
        except TimeoutError:
            expected = f"expected a coordinator to listen on port {port} within {START_SECONDS:g} s"
            raise Failed(f"{expected}; it {self.so_far()}") from None

    async def exited(self, *, within: float = STOP_SECONDS) -> int:
        """Wait for the program to end and return its exit code, negative for a signal.

        Raises:
            Failed: it is still running.
        """
        assert self._process is not None
        try:
            return await asyncio.wait_for(self._process.wait(), within)
        except TimeoutError:
            raise Failed(f"expected the program to end within {within:g} s") from None

    async def failed(self) -> None:
        """Wait until the program has ended with a code other than 0; for ever if it ended with 0."""
        assert self._process is not None
        if await self._process.wait() == 0:
            await asyncio.Event().wait()

    def so_far(self) -> str:
        """Return whether it runs or how it ended, and the end of its output."""
        return f"{self.end() or 'runs'}: {self.output().strip() or 'it has written nothing'}"

    def end(self) -> str:
        """Return how it ended; empty while it runs."""
        code = self._process.returncode if self._process is not None else None
        if code is None:
            return ""
        return f"ended with exit code {code}" if code >= 0 else f"died of signal {-code}"

    async def trouble(self) -> str:
        """Return how it has ended, or is about to, and the last line of its output; empty while it runs."""
        if self._process is None:
            return ""
        # Its connections are gone a moment before its end is known.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        if not (end := self.end()):
            return ""
        lines = self.output().strip().splitlines()
        return f"{end}: {lines[-1][:_LAST_LINE] if lines else 'it has written nothing'}"

    async def kill(self) -> None:
        """Kill it, as a crash does."""
        await self._signal(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to end, and end it if it does not."""
        if self.is_running:
            await self._signal(signal.SIGTERM)
        await self.kill()

    def ask_to_end(self) -> None:
        """Ask it to end, and do not wait for the end."""
        self._send(signal.SIGTERM)

    async def _signal(self, number: int) -> None:
        if self._process is None:
            return
        self._send(number)
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            pass  # SIGKILL follows

    def _send(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):  # no process of the group is left
            os.killpg(self._process.pid, number)
