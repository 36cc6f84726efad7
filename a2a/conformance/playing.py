"""Runs cases on the implementation under test."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from . import agent, client, coordinator
from .case import CASES, Case, Failed, Missed, Need, Role
from .conversation import with_trouble
from .forms import Forms
from .peer import Coordinator, Settings
from .program import Program, free_port
from .runner import JOBS, Outcome, run_cases
from .socket import Closed
from .stand_in import PeerSettings, UnderTest
from .wire import JSON

__all__ = ["cases", "coordinator_from", "play_coordinator", "play_peer", "selected"]


def cases(role: Role | None = None) -> list[Case]:
    """Return the cases for a role, or all cases."""
    for package in (coordinator, agent, client):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    return [known for known in CASES if role is None or known.role is role]


def selected(known: Sequence[Case], names: Sequence[str]) -> list[Case]:
    """Return the cases of these areas (`LEASE`), requirements (`LEASE-8`) or names; all if none is given.

    Raises:
        LookupError: no case has such a name.
    """
    if not names:
        return list(known)

    def has(chosen: Case, name: str) -> bool:
        return name in (chosen.id, chosen.name, chosen.requirement, chosen.requirement.partition("-")[0])

    for name in names:
        if not any(has(chosen, name) for chosen in known):
            raise LookupError(f"no case is called {name}, or is about it")
    return [chosen for chosen in known if any(has(chosen, name) for name in names)]


async def play_coordinator(
    chosen: Sequence[Case],
    settings: Settings,
    *,
    encoding: str = JSON,
    jobs: int = JOBS,
    told: Callable[[Outcome], None] = lambda _: None,
    forms: Forms | None = None,
) -> list[Outcome]:
    """Try cases on a coordinator and return their outcomes in order.

    Args:
        chosen: The cases.
        settings: Where it is.
        encoding: The encoding of connections for which a case names none.
        jobs: How many cases at a time.
        told: Called with each outcome as it is known.
        forms: Those of an earlier part of the same run, whose frames are judged with the frames of this part.
    """
    traces: dict[str, list[str]] = {}
    forms = forms or Forms(Role.COORDINATOR)

    async def try_case(known: Case) -> None:
        under = Coordinator(settings, known.name, encoding, forms)
        try:
            await known.run(under)
        except (Failed, Closed) as failed:
            seen = with_trouble(failed, under.peers) if isinstance(failed, Missed | Closed) else failed
            # The last words of a process that is gone tell more than the frame that did not come.
            is_away = isinstance(failed.__cause__, OSError) or any(peer.closed for peer in under.peers)
            if is_away and settings.trouble is not None and (trouble := await settings.trouble()):
                raise Failed(f"{seen}; the coordinator {trouble}") from failed
            raise seen from failed
        finally:
            frames = [f"{peer.name}: {line}" for peer in under.peers for line in peer.trace]
            traces[known.id] = forms.trace() if Need.OTHERS in known.needs else frames
            await under.aclose()

    return await run_cases(chosen, try_case, trace_of=lambda known: traces.get(known.id, ()), jobs=jobs, told=told)


async def play_peer(
    chosen: Sequence[Case],
    settings: PeerSettings,
    *,
    encoding: str | None = None,
    jobs: int = JOBS,
    told: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Try cases on an agent, or on a client that delegates one task and confirms its result; return the outcomes.

    If there is a command, each case has a process of its own.
    """
    traces: dict[str, list[str]] = {}
    forms = Forms(chosen[0].role if chosen else Role.AGENT)

    async def try_case(known: Case) -> None:
        under = UnderTest(settings, known.name, encoding, forms)
        is_about_others = Need.OTHERS in known.needs
        try:
            if not is_about_others:
                await under.open()
            await known.run(under)
        except (Missed, Closed) as missed:
            raise with_trouble(missed, under.lines) from missed
        finally:
            traces[known.id] = forms.trace() if is_about_others else under.trace()
            await under.aclose()

    # Without a command one process serves all cases in turn, and at most one case can listen on a port.
    many = jobs if settings.command is not None and settings.listen.endswith(":0") else 1
    return await run_cases(chosen, try_case, trace_of=lambda known: traces.get(known.id, ()), jobs=many, told=told)


@asynccontextmanager
async def coordinator_from(
    command: str, *, token_file: str = "", operator_token_file: str = "", run: str
) -> AsyncIterator[Settings]:
    """Start a coordinator by its command line, and end it with the block.

    Args:
        command: With `{port}` for the port to listen on, and `{state}` for a directory to keep its ledger in.
        token_file: The file in which it has left the token by the time it listens; may name `{state}`.
        operator_token_file: The same for the operator's token.
        run: Makes the names of the run unique.
    """
    port = free_port()
    async with Program(command, port=port, url=f"ws://127.0.0.1:{port}") as program:
        await program.start()
        await program.listening(port)

        async def restart() -> None:
            await program.kill()
            await program.start()
            await program.listening(port)

        def read(file: str) -> str:
            if not file:
                return ""
            return Path(program.filled(file)).read_text(encoding="utf-8").strip()

        token, operator_token = await asyncio.to_thread(lambda: (read(token_file), read(operator_token_file)))
        yield Settings(
            f"ws://127.0.0.1:{port}",
            token=token,
            operator_token=operator_token,
            run=run,
            restart=restart,
            trouble=program.trouble,
        )
