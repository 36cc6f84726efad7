"""Processes of a test that are killed and started again, and an agent among them that waits until it may go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

BOUND = 40.0
AGENT = """
from pathlib import Path
import anyio
from a2a import Agent, TaskContext

agent = Agent("helper", "1")

@agent.skill
async def wait(task: TaskContext) -> str:
    with Path("runs").open("a") as runs:
        runs.write("run\\n")
    await task.artifact("log", "begun")
    Path("begun").touch()
    while not Path("go").exists():
        await anyio.sleep(0.02)
    return "done"

if __name__ == "__main__":
    agent.main()
"""


def until(is_so: Callable[[], object]) -> None:
    """Wait until something is so."""
    give_up = time.monotonic() + BOUND
    while not is_so():
        assert time.monotonic() < give_up, f"it is not so after {BOUND:g} s"
        time.sleep(0.02)


class Running:
    """A process of this test; every wait has a bound."""

    def __init__(self, home: Path, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        self.said = home / f"{len(list(home.glob('*.err')))}.err"
        with self.said.open("w") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=home,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )

    def ready(self) -> dict[str, Any]:
        """Return what it says when it is ready."""
        came: Queue[bytes] = Queue()
        assert self.popen.stdout is not None
        threading.Thread(target=lambda out=self.popen.stdout: came.put(out.readline()), daemon=True).start()
        line = came.get(timeout=BOUND)
        assert line, self.said.read_text()
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self, number: int) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(BOUND)


@contextmanager
def running(home: Path, *arguments: str) -> Iterator[Running]:
    process = Running(home, *arguments)
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait(BOUND)
        if process.popen.stdout is not None:
            process.popen.stdout.close()
