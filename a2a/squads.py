"""A squad: agents that belong together, each in its own process, and a coordinator if none is running.

    async with bring_up(load("maintenance"), plan) as squad:
        print(squad.url)

Each squad is described as data in a module of its own (`SQUAD`), found by name when it is needed: this package does not
import the agents it runs. `find_place` decides on the address, the ledger and the processes. Used by the commands `run`
and `squad`.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import ipaddress
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio

from .client import Client, connect
from .credentials import DEFAULT_URL, check_state_dir, coordinator_dir, load_tokens, state_dir
from .errors import A2AError, ConnectError, raised_at
from .statefile import StateFile
from .supervisor import Program, Supervisor, supervise, to_state

__all__ = [
    "SQUAD_VARIABLE",
    "Definition",
    "Place",
    "Squad",
    "SquadError",
    "bring_up",
    "find_place",
    "home_of",
    "is_up",
    "known",
    "load",
    "state_of",
    "users",
]

NAMED: Final = {"maintenance": "reference_agents.maintenance", "desk": "reference_agents.desk"}
"""Squads of this distribution, and the module that describes each."""
COORDINATOR: Final = "coordinator"
SQUAD_VARIABLE: Final = "A2A_SQUAD"
"""In the environment of each agent of a squad: the ids of all agents kept running with it, separated by commas."""
READY_WITHIN: Final = 90.0
"""Seconds within which every agent has to be there; a slow machine with cold files needed 20."""
DEAD_ON_ARRIVAL: Final = 3
"""An agent that has died this often without ever being there will not come."""
LOG_LINES: Final = 5


class SquadError(A2AError):
    """A squad is not as expected: it is not there, already there, or does not start."""


@dataclass(frozen=True, slots=True)
class Definition:
    """The description of a squad."""

    name: str
    skill: str
    """What the squad does for its delegators: the skill of its leading agent."""
    agents: Mapping[str, str]
    """Agent id to the module that runs the agent."""
    optional: Mapping[str, str] = field(default_factory=dict)
    """More agents in the same form, started only if somebody adds them by name."""
    needs: tuple[str, ...] = ()
    """The import names of packages that its agents use and that this distribution does without."""
    folder: str | None = None
    """The working directory if the squad was found there: its agents, which start elsewhere, look there too."""

    def missing(self) -> list[str]:
        """Return the packages that its agents use and that are not installed here."""
        return [name for name in self.needs if find_spec(name) is None]

    def including(self, names: Iterable[str]) -> Definition:
        """Return the squad with some of its optional agents.

        Raises:
            SquadError: it has no such optional agent.
        """
        wanted = dict.fromkeys(names)
        unknown = [name for name in wanted if name not in self.optional]
        if unknown:
            known = f"there are: {', '.join(self.optional)}" if self.optional else "there are none"
            raise SquadError(f"the squad {self.name} has no optional agent {', '.join(unknown)}; {known}")
        return replace(self, agents={**self.agents, **{name: self.optional[name] for name in wanted}})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a squad works, or will work."""

    url: str
    token: str | None = None
    """None: the one in this user's state directory for the URL."""
    starts_coordinator: bool = False
    db: Path | None = None
    """The ledger of a coordinator to start; None: its own default."""
    is_passing: bool = False
    """Whether nobody will look for a coordinator at this URL again."""

    @property
    def listen(self) -> str:
        """HOST:PORT of the URL."""
        return urlsplit(self.url).netloc


@dataclass(slots=True)
class Squad:
    """A squad that is up, for its supervisor."""

    definition: Definition
    place: Place
    supervisor: Supervisor
    home: Path
    db: str = ""
    """The ledger of the coordinator it started."""

    @property
    def url(self) -> str:
        """The URL of its coordinator."""
        return self.place.url


def load(name: str) -> Definition:
    """Return the squad of that name: one of this distribution, or the one that `SQUAD` in a module describes.

    The description is a dict with the squad's `name`, the `skill` that it offers, and `agents`: each agent's id with
    the module that runs it, as `python -m MODULE --name ID`. It may have `optional`, agents in the same form that are
    started only if they are added, and `needs`, the import names of packages that they use.

    Raises:
        SquadError: there is no such module, it fails, or it does not describe a squad.
    """
    module = NAMED.get(name, name)
    if not all(module.split(".")):  # importlib takes it for a name inside some package
        raise SquadError(f"there is no squad {name or 'without a name'}")
    try:
        loaded = importlib.import_module(module)
    except Exception as exc:  # a module may fail in any way
        if isinstance(exc, ModuleNotFoundError) and exc.name and f"{module}.".startswith(f"{exc.name}."):
            raise SquadError(f"there is no squad {name}: {exc}") from exc
        at = raised_at(exc, __file__)
        raise SquadError(f"the squad {name} cannot be loaded: {at}{type(exc).__name__}: {exc}") from exc
    try:
        described: Any = loaded.SQUAD
        agents, optional = dict(described["agents"]), dict(described.get("optional", {}))
        needs = tuple(map(str, described.get("needs", ())))
        folder = _folder_here(module)
        return Definition(str(described["name"]), str(described["skill"]), agents, optional, needs, folder)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise SquadError(f"{module} does not describe a squad: {exc}") from exc


def _folder_here(module: str) -> str | None:
    """Return the working directory if a loaded module, or the package that it is in, was found there."""
    top, here = sys.modules[module.partition(".")[0]], Path.cwd()
    places = [*getattr(top, "__path__", ()), *filter(None, [getattr(top, "__file__", None)])]
    return str(here) if any(Path(place).resolve().parent == here for place in places) else None


def home_of(name: str, url: str) -> Path:
    """Return the folder for the files of a squad while it is up at a URL: state, lock, logs."""
    return state_dir() / "squads" / f"{name}@{coordinator_dir(url).name}"


def state_of(name: str, url: str) -> StateFile:
    """Return the state file of a squad at a URL."""
    return StateFile(home_of(name, url) / "state.json")


def known(name: str | None = None) -> list[dict[str, Any]]:
    """Return the states of the squads that are up, all of them or those of one name, by URL."""
    found = []
    for path in sorted((state_dir() / "squads").glob(f"{name or '*'}@*/state.json")):
        state = StateFile(path).read()
        if state is not None:
            found.append(state)
    return found


@contextlib.contextmanager
def users(name: str, url: str) -> Iterator[Callable[[bool], bool]]:
    """Count as a user of a squad inside the block.

    Before ending the squad, call the yielded function to become its only user: True waits for that, False tells whether
    it worked.
    """
    home = home_of(name, url)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(home / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def alone(wait: bool) -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH)  # the failed try has released it
            return False
        return True

    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield alone
    finally:
        os.close(lock)


async def is_up(definition: Definition, place: Place) -> bool:
    """Tell whether somebody keeps the squad up there, or its leading agent is there anyway.

    Raises:
        ConnectError: the coordinator is gone.
    """
    if place.starts_coordinator:
        return False
    if state_of(definition.name, place.url).is_held():
        return True
    async with connect(place.url, token=place.token) as client:
        return any(info.status != "away" for info in await client.find(definition.skill))


# Where ----------------------------------------------------------------------------------------------------------------


async def find_place(
    definition: Definition, url: str | None = None, *, token: str | None = None, db: Path | None = None
) -> Place:
    """Decide where a squad works: at a running coordinator, else at one to start.

    Args:
        url: the coordinator's. None: where the squad is already up, else the default, else a free port.
        token: the namespace's.
        db: the ledger to use; only a coordinator to be started can take it.

    Raises:
        ConnectError: a coordinator refuses us, or there is none where we cannot start one.
        SquadError: the running coordinator has another ledger.
        StateDirectoryError: there is no place to keep this user's secrets.
    """
    check_state_dir()
    if url is not None:
        return await _named_place(url, token, db)
    for state in known(definition.name):
        if (db is None or _same(state["db"], db)) and await _lets_in(state["url"], token):
            return Place(state["url"], token)
    if not await _is_taken(DEFAULT_URL):
        return Place(DEFAULT_URL, token, starts_coordinator=True, db=db)
    if db is None and await _lets_in(DEFAULT_URL, token):
        return Place(DEFAULT_URL, token)
    # Somebody else's coordinator, another program, or another ledger: the two do not disturb each other.
    return Place(f"ws://127.0.0.1:{_free_port()}", token, starts_coordinator=True, db=db, is_passing=True)


async def _named_place(url: str, token: str | None, db: Path | None) -> Place:
    if await _is_taken(url):
        async with connect(url, token=token):
            pass  # if it refuses us, the exception says why
        if db is not None and not any(state["url"] == url and _same(state["db"], db) for state in known()):
            raise SquadError(f"the coordinator at {url} already runs, with its own ledger: leave out --db")
        return Place(url, token)
    if not _is_local(url):
        raise ConnectError(f"there is no coordinator at {url}, and one cannot be started from here")
    return Place(url, token, starts_coordinator=True, db=db)


async def _is_taken(url: str) -> bool:
    """Tell whether anything listens there."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    try:
        with anyio.fail_after(5.0):
            stream = await anyio.connect_tcp(parts.hostname or "127.0.0.1", port)
    except (OSError, TimeoutError):
        return False
    await stream.aclose()
    return True


async def _lets_in(url: str, token: str | None) -> bool:
    """Tell whether there is a coordinator that lets us in.

    Raises:
        ConnectError: it refused a token that was named; without one it may be somebody else's coordinator.
    """
    try:
        with anyio.fail_after(5.0):
            async with connect(url, token=token):
                return True
    except TimeoutError:
        return False
    except ConnectError as error:
        if not error.is_absent and (token or os.environ.get("A2A_TOKEN")):
            raise
        return False


def _is_local(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        return parts.scheme == "ws" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False


def _same(told: str, db: Path) -> bool:
    return bool(told) and Path(told).resolve() == db.resolve()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


# Up -------------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def bring_up(
    definition: Definition, place: Place, *, say: Callable[[str], None] = lambda text: None
) -> AsyncIterator[Squad]:
    """Bring a squad up for the duration of the block: a coordinator if one is to be started, and every agent.

    Args:
        say: gets messages about the progress, for people.

    Raises:
        SquadError: the squad is already up there, misses packages, or does not start.
    """
    if missing := definition.missing():
        raise SquadError(
            f"the squad {definition.name} needs {', '.join(missing)}, which is not installed for {sys.executable} "
            "(the extra `squad` has all that the squads of this distribution need)"
        )
    home = home_of(definition.name, place.url)
    state = StateFile(home / "state.json")
    if not state.acquire():
        raise SquadError(f"the squad {definition.name} is already up at {place.url}")
    began = time.time()
    squad: Squad | None = None

    def tell(supervisor: Supervisor) -> None:
        state.write(
            {
                "name": definition.name,
                "url": place.url,
                "db": squad.db if squad is not None else "",
                "supervisor": os.getpid(),
                "since": began,
                "logs": str(home / "logs"),
                "programs": to_state(supervisor.programs),
            }
        )

    try:
        async with supervise(logs=home / "logs", on_change=tell) as supervisor:
            squad = Squad(definition, place, supervisor, home)
            if place.starts_coordinator:
                await _start_coordinator(squad, say)
            await _start_agents(squad, say)
            yield squad
    finally:
        if place.is_passing:
            shutil.rmtree(coordinator_dir(place.url), ignore_errors=True)
        state.release()


async def _start_coordinator(squad: Squad, say: Callable[[str], None]) -> None:
    place = squad.place
    ledger = [] if place.db is None else ["--db", str(place.db.absolute())]

    def ready(line: str) -> None:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            squad.db = str(json.loads(line)["db"] or "")

    command = [sys.executable, "-m", "a2a", "coordinator", "run", "--listen", place.listen, "--ready-json", *ledger]
    squad.supervisor.start(Program(COORDINATOR, command, on_ready=ready))
    try:
        await squad.supervisor.running(COORDINATOR)
    except ChildProcessError as exc:
        raise SquadError(f"the coordinator does not start: {_last_words(squad, COORDINATOR)}") from exc
    say(f"coordinator at {place.url}, ledger in {squad.db}")


async def _start_agents(squad: Squad, say: Callable[[str], None]) -> None:
    """Start every agent and wait until the coordinator knows them all."""
    place, agents = squad.place, squad.definition.agents
    known = load_tokens(place.url)
    token = place.token or (known.token if known else None)  # an agent may speak the protocol without this package
    env = {"A2A_URL": place.url, SQUAD_VARIABLE: ",".join(agents)} | ({"A2A_TOKEN": token} if token else {})
    if squad.definition.folder is not None:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [squad.definition.folder, os.environ.get("PYTHONPATH")]))
    async with connect(place.url, token=place.token) as client:
        here = {info.agent_id for info in await client.find() if info.status != "away"}
        if not place.starts_coordinator and here & set(agents):
            names = ", ".join(sorted(here & set(agents)))
            raise SquadError(f"somebody already runs {names} at {place.url}")
        for name, module in agents.items():
            command = [sys.executable, "-m", module, "--name", name]
            squad.supervisor.start(Program(name, command, env, rank=1))
        with anyio.move_on_after(READY_WITHIN):
            missing = await _arrivals(squad, client)
            if not missing:
                say(f"{len(agents)} agents are ready: {', '.join(agents)}")
                return
            raise SquadError("; ".join(f"{name} does not start: {_last_words(squad, name)}" for name in missing))
    raise SquadError(f"not every agent was ready within {READY_WITHIN:.0f} s; the logs are in {squad.home / 'logs'}")


async def _arrivals(squad: Squad, client: Client) -> list[str]:
    """Wait until all agents are there; return those that die instead."""
    missing = dict.fromkeys(squad.definition.agents)
    dead: list[str] = []

    async with anyio.create_task_group() as group:

        async def watch() -> None:
            async for change in client.watch_agents():
                if change.change != "left" and change.agent.status == "ready":
                    missing.pop(change.agent.agent_id, None)
                if not missing:
                    break
            group.cancel_scope.cancel()

        async def look_for_deaths() -> None:
            while True:
                news = squad.supervisor.news
                dead[:] = [name for name in missing if squad.supervisor.programs[name].restarts >= DEAD_ON_ARRIVAL]
                if dead:
                    group.cancel_scope.cancel()
                await news.wait()

        group.start_soon(watch)
        group.start_soon(look_for_deaths)
    return dead if missing else []


def _last_words(squad: Squad, name: str) -> str:
    log = squad.supervisor.log_of(name)
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log else []
    except OSError:
        lines = []
    # A program that was restarted again and again has repeated itself.
    return " / ".join(dict.fromkeys(lines[-LOG_LINES:])).removeprefix("a2a: ") or f"see {log}"
