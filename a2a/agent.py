"""The agent: a name, and skills as functions that run when somebody delegates them. The public API for doing work."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import logging
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, overload

import anyio

from .context import TaskContext
from .errors import A2AError, leaves
from .given import mapped, milliseconds, require_kind, several, whole
from .link import LinkSettings, settings_with
from .loop import run, stop_on_signals
from .runner import Runner
from .skills import Skill
from .sync_context import SyncTaskContext

__all__ = ["Agent"]

F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger("a2a.agent")


class Agent:
    """An agent: a name, and skills.

    Args:
        name: its agent id, or the stem of the ids if several run side by side (`workers`).
        version: of the agent, for its card.
        description: for its card.
        concurrency: attempts it takes at once.
        labels: key to value, for delegators that choose agents by label.

    Raises:
        ValueError: the concurrency is below 1, or an argument has the wrong type.
    """

    def __init__(
        self,
        name: str,
        version: str = "1.0",
        description: str = "",
        *,
        concurrency: int = 8,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        for what, given in (("name", name), ("version", version), ("description", description)):
            require_kind(given, str, what)
        if whole(concurrency, "concurrency") < 1:
            raise ValueError(f"agent {name}: expected a concurrency of at least 1, got {concurrency}")
        self.name = name
        self.version = version
        self.description = description
        self.concurrency = concurrency
        self.labels = mapped(labels or {}, "labels")
        self.skills: dict[str, Skill] = {}
        self.blocking: set[str] = set()
        """The plain functions that are running now, described in words."""
        self.runs: set[Runner] = set()
        """The runs of this agent."""

    @overload
    def skill(self, function: F, /) -> F: ...

    @overload
    def skill(
        self,
        function: None = None,
        /,
        *,
        id: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        takes_value: bool = False,
    ) -> Callable[[F], F]: ...

    def skill(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        id: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        takes_value: bool = False,
    ) -> Any:
        """Make a function a skill; its name, annotations and docstring become its entry in the card.

        An attempt fails if its input or result does not match the annotations. A set in a result travels as a sorted
        list, so that equal results of several agents are the same.

        Args:
            function: `async def`, or `def`, which runs in a thread. A parameter annotated `TaskContext`
                (`SyncTaskContext` in a plain function), optionally `| None`, gets the context; the others come from the
                input's JSON object.
            id: the skill's id; the function's name by default.
            description: by default the docstring.
            tags: for discovery.
            takes_value: pass the input, any JSON value, unchanged to the one parameter `value`.

        Raises:
            ValueError: the agent already has a skill with this id, or nobody could call the function.
        """

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            made = Skill.of(
                function,
                (TaskContext, SyncTaskContext),
                id=id,
                description=description,
                tags=tuple(several(tags, "tags")),
                takes_value=takes_value,
            )
            if made.id in self.skills:
                raise ValueError(f"agent {self.name} already has a skill {made.id}")
            self.skills[made.id] = made
            return function

        return register if function is None else register(function)

    def card(self) -> dict[str, Any]:
        """Return the agent's card (A2A 4.4.1)."""
        return {
            "name": self.name,
            "description": self.description or f"{self.name} {self.version}",
            "version": self.version,
            "capabilities": {"streaming": True},
            "defaultInputModes": ["application/json", "text/plain"],
            "defaultOutputModes": ["application/json", "text/plain"],
            "skills": [skill.card() for skill in self.skills.values()],
        }

    async def update(self) -> None:
        """Send the coordinator the card and labels as they are now, in every run of the agent (spec REG-4).

        Call it when skills have been added or removed. While the coordinator is away it waits.

        Raises:
            Refused: the coordinator does not accept the card, and keeps the one it has.
            ConnectionLost: the agent ended in the meantime.
            ValueError: the card is not valid.
        """
        for running in list(self.runs):
            await running.update()

    async def run(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        name: str | None = None,
        settings: LinkSettings | None = None,
        stop: anyio.Event | None = None,
        ready: Callable[[], None] | None = None,
        grace: float | timedelta | None = None,
    ) -> None:
        """Serve until `stop` is set or the caller cancels; then drain: take nothing new, end or give back what is held.

        Args:
            url: the coordinator's; by default A2A_URL, else the default port on this machine. It may start after the
                agent.
            token: the namespace's; by default A2A_TOKEN, else the one in this user's state directory for the URL.
            name: an agent id to use instead of the agent's name.
            settings: everything else about the link. The other arguments override them; with settings, the environment
                is not read.
            stop: set it to drain and return.
            ready: called when the coordinator has welcomed the agent.
            grace: seconds for attempts under way to end while the agent drains, before they are given back; by default
                ten.

        Raises:
            ValueError: `grace` is not a duration, or an argument has the wrong type.
            ConnectError: the coordinator did not let the agent in, or another instance took its place.
        """
        left = None if grace is None else _grace_of(grace)
        if name is not None:
            require_kind(name, str, "name")
        # The `wait` of an event of threads would hold up the whole event loop.
        if stop is not None and not inspect.iscoroutinefunction(getattr(stop, "wait", None)):
            raise ValueError(f"stop: expected an event of anyio or asyncio, got {stop!r}")
        if ready is not None and not callable(ready):
            raise ValueError(f"ready: expected a function, got {ready!r}")
        chosen = settings_with(settings, url=url, token=token)
        if chosen.patience is None:
            chosen = replace(chosen, patience=math.inf)
        runner = Runner(self, chosen, name or self.name, left)
        await runner.run(stop or anyio.Event(), ready)

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """Run as a program: parse the command line, serve until SIGTERM or Ctrl-C, exit."""
        parser = argparse.ArgumentParser(description=self.description or f"The agent {self.name}.")
        parser.add_argument("--url", help="the coordinator's address (A2A_URL)")
        parser.add_argument(
            "--token-file",
            dest="token",
            metavar="TOKEN_FILE",
            type=_token_in,
            help="where the namespace's token is (A2A_TOKEN)",
        )
        parser.add_argument("--name", default=self.name, help=f"an agent id other than {self.name}")
        parser.add_argument(
            "--grace", type=_seconds, help="seconds to finish its tasks at its end, before it gives them back"
        )
        options = parser.parse_args(arguments)
        level = os.environ.get("A2A_LOG") or "WARNING"
        if level.upper() not in logging.getLevelNamesMapping():
            parser.error(f"A2A_LOG: expected DEBUG, INFO, WARNING, ERROR or CRITICAL, got {level!r}")
        logging.basicConfig(level=level.upper(), format="%(levelname)s %(name)s: %(message)s")
        refused: list[BaseException] = []
        try:
            run(lambda: self._serve(options.url, options.token, options.name, options.grace))
        except* A2AError as errors:
            refused = leaves(errors)
        for error in refused:
            print(f"{options.name}: {error}", file=sys.stderr)  # noqa: T201
        self.leave(3 if refused else 0)
        if refused:
            sys.exit(3)

    def leave(self, status: int) -> None:
        """End the process with this exit status if plain functions are still running: nothing can stop them.

        Python itself would wait for their threads. Their work was given back, and may be another agent's by now.
        """
        if not self.blocking:
            return
        for name in sorted(self.blocking):
            log.warning("%s has not ended; it ends with the process", name)
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads the stream any longer
                stream.flush()
        os._exit(status)

    async def _serve(self, url: str | None, token: str | None, name: str, grace: float | None) -> None:
        stop = anyio.Event()

        def ready() -> None:
            print(f"{name} is ready: {', '.join(self.skills)}", file=sys.stderr)  # noqa: T201

        async with anyio.create_task_group() as group:
            group.start_soon(stop_on_signals, stop)
            await self.run(url, token=token, name=name, stop=stop, ready=ready, grace=grace)
            group.cancel_scope.cancel()


def _grace_of(given: float | timedelta) -> float:
    seconds = milliseconds(given, "grace") / 1000
    if seconds < 0:
        raise ValueError(f"grace: expected 0 or more seconds, got {given}")
    return seconds


def _token_in(name: str) -> str:
    """Return the token in a file that the command line names; argparse reports the error."""
    try:
        token = Path(name).read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise argparse.ArgumentTypeError(f"{name}: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise argparse.ArgumentTypeError(f"{name}: expected a token, as UTF-8 text") from None
    if not token:
        raise argparse.ArgumentTypeError(f"{name}: expected a token, got an empty file")
    return token


def _seconds(text: str) -> float:
    """Return a grace from the command line; argparse reports the error."""
    try:
        return _grace_of(float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number of seconds, got {text!r}") from None
