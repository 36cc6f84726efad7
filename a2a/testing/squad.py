"""A coordinator, agents and a client in one process, over real connections on loopback, with nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio

from ..agent import Agent
from ..client import Client, connect
from ..engine.policy import Admission, Durations, Policy, digest
from ..ids import new_secret
from ..link import LinkSettings
from ..runner import Runner
from ..server import Server
from ..stores.base import Store
from ..stores.memory import MemoryStore

__all__ = ["QUICK", "Squad", "squad"]

QUICK = Durations(heartbeat_ms=100, lease_ms=600, offer_ms=300, confirm_ms=5_000, ask_ms=5_000, cancel_ms=500)
"""Durations in which a test sees everything that takes minutes in earnest."""


@dataclass(frozen=True, slots=True)
class Squad:
    """What a test holds in its hands."""

    server: Server
    client: Client
    url: str
    settings: LinkSettings
    """For further agents and clients; they get in with it."""

    def connect(self, name: str = "test", *, operator: bool = False) -> Client:
        """Return another client to enter."""
        return connect(name=name, settings=replace(self.settings, operator=operator))


@asynccontextmanager
async def squad(
    *agents: Agent,
    n: int = 1,
    policy: Policy | None = None,
    store: Store | None = None,
    secrets: MutableMapping[str, str] | None = None,
) -> AsyncIterator[Squad]:
    """Run a coordinator and agents for the time of the block; the client is an operator.

    At the end of the block the agents may end what they are at; where it raises or is cancelled they give it back.

    Args:
        agents: what to run; with `n` above 1 each of them so often, as `name/1`, `name/2`, ...
        n: instances of each agent.
        policy: the coordinator's settings; by default `QUICK` durations.
        store: its ledger; by default one in memory.
        secrets: what the coordinator issued to each principal, to carry on with the same store.

    Raises:
        ConnectError: an agent was not let in, or another instance took its place; what the block raises comes as it is.
    """
    token, operator_token = new_secret(), new_secret()
    chosen = policy or Policy(durations=QUICK)
    chosen = replace(chosen, admission=Admission(digest(token), digest(operator_token)))
    server = Server(store or MemoryStore(), chosen)
    runners: list[Runner] = []
    raised: BaseException | None = None
    await server.open()
    try:
        listener = await server.listen()
        settings = LinkSettings(
            url=listener.url,
            token=token,
            operator_token=operator_token,
            secrets={} if secrets is None else secrets,
            patience=5.0,
        )
        stop = anyio.Event()
        async with anyio.create_task_group() as group:
            try:
                for agent in agents:
                    for number in range(1, n + 1):
                        ready = anyio.Event()
                        name = agent.name if n == 1 else f"{agent.name}/{number}"
                        runners.append(Runner(agent, settings, name))
                        group.start_soon(_serve, runners[-1], stop, ready)
                        await ready.wait()
                async with connect(name="test", settings=replace(settings, operator=True)) as client:
                    yield Squad(server, client, listener.url, settings)
            except BaseException as error:
                raised = error
                for runner in runners:
                    runner.grace = 0.0  # nobody is there any more to see what the handlers come to
                raise
            finally:
                stop.set()
    except BaseExceptionGroup as errors:
        # The task group wraps whatever ends it; where an agent failed, the block was cancelled for that.
        if raised is None or isinstance(raised, asyncio.CancelledError):
            raised = errors.exceptions[0]
        for other in errors.exceptions:
            if other is not raised:
                raised.add_note(f"an agent failed as well: {other!r}")
    finally:
        with anyio.CancelScope(shield=True):
            await server.aclose()
    if raised is not None:
        raise raised


async def _serve(runner: Runner, stop: anyio.Event, ready: anyio.Event) -> None:
    # Who is cancelled sets `stop`, when the block is over: an agent that left before would wait for its handlers.
    with anyio.CancelScope(shield=True):
        await runner.run(stop, ready.set)
