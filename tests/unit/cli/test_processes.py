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


async def test_what_waits_for_a_change_is_told_at_each_start_that_failed() -> None:
    said: list[str] = []
    programs = {"judge": Running("judge", state="halted", exit_code=2, since=1.0)}
    supervisor = SimpleNamespace(programs=programs, news=anyio.Event())

    def change() -> None:
        news, supervisor.news = supervisor.news, anyio.Event()
        news.set()

    with anyio.CancelScope() as scope, anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:

            async def others() -> None:
                change()  # of another program
                await anyio.wait_all_tasks_blocked()
                programs["judge"].since = 2.0
                change()
                await anyio.wait_all_tasks_blocked()
                scope.cancel()

            group.start_soon(tell_restarts, supervisor, said.append)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(others)
    assert said == ["judge ended (exit code 2) and will be started again when one of its files changes"] * 2
