"""What commands say of the processes they keep running."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import anyio

from a2a.cli.processes import A2A, tell_restarts
from a2a.supervisor import Running

BOUND = 30


def test_a_command_of_this_package_starts_another_one() -> None:
    done = subprocess.run([*A2A, "--version"], capture_output=True, text=True, timeout=BOUND, check=True)
    assert done.stdout.startswith("a2a 0.")


async def test_what_is_started_again_is_told_once() -> None:
    said: list[str] = []
    programs = {"judge": Running("judge", exit_code=-9, restarts=1), "lead": Running("lead", exit_code=1)}
    supervisor = SimpleNamespace(programs=programs, news=anyio.Event())

    with anyio.CancelScope() as scope, anyio.fail_after(BOUND):

        def say(text: str) -> None:
            said.append(text)
            if len(said) == 1:
                programs["lead"].restarts = 1
                news, supervisor.news = supervisor.news, anyio.Event()
                news.set()
            else:
                scope.cancel()

        await tell_restarts(supervisor, say)  # type: ignore[arg-type]
    assert said == ["judge ended (SIGKILL) and is started again", "lead ended (exit code 1) and is started again"]
