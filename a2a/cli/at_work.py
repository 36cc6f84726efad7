"""A squad at work for the duration of a command: one that is already up, or one that comes and goes with the command.

`squads` decides which processes that are. The commands (`run`, `ask`) decide what to ask the squad, and how to show it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ConnectError
from ..squads import Definition, Place, bring_up, find_place, is_up, state_of, users
from .options import Common
from .output import Output
from .processes import tell_restarts
from .squad import detach

__all__ = ["squad_at_work"]


@asynccontextmanager
async def squad_at_work(
    definition: Definition, common: Common, *, name: str, url: str | None, db: Path | None, keep: bool
) -> AsyncIterator[Place]:
    """Have a squad at work inside the block, one that is up or one of this command's own, and yield its place.

    Args:
        definition: the description of the squad.
        common: the command's options.
        name: the name under which it was asked for.
        url: the coordinator's, if somebody chose one.
        db: the ledger, if a coordinator is started.
        keep: leave the squad running.
    """
    out, token = common.out, common.connection.token
    async with AsyncExitStack() as stack:
        place = await find_place(definition, url, token=token, db=db)
        alone = stack.enter_context(users(definition.name, place.url))
        if not place.starts_coordinator:
            # Its supervisor may have ended it while we waited to be counted.
            place = await find_place(definition, place.url, token=token, db=db)
        is_ours = False
        if await is_up(definition, place):
            out.note(f"the squad {definition.name} is up at {place.url}")
            await stack.enter_async_context(_while_up(definition, place))
        elif keep:
            await detach(name, place)
            end = replace(common.connection, url=place.url).typed(f"squad down {name}")
            out.note(f"the squad {definition.name} is up at {place.url}, until: {end}")
        else:
            running = await stack.enter_async_context(bring_up(definition, place, say=out.note))
            told = asyncio.create_task(tell_restarts(running.supervisor, out.note))
            stack.callback(told.cancel)
            is_ours = True
        try:
            yield place
        except Exception:
            await _last_to_leave(is_ours, alone, out)
            raise
        await _last_to_leave(is_ours, alone, out)


@asynccontextmanager
async def _while_up(definition: Definition, place: Place) -> AsyncIterator[None]:
    """End the block with an error when the squad's supervisor ends it."""
    file = state_of(definition.name, place.url)
    if not file.is_held():
        yield  # nobody on this machine
        return
    task = asyncio.current_task()
    assert task is not None, "called in a task"
    gone = _in_thread(file.wait_released)
    gone.add_done_callback(lambda future: None if future.cancelled() else task.cancel())
    try:
        yield
    except asyncio.CancelledError:
        if gone.done():
            task.uncancel()
            raise ConnectError(
                f"the squad at {place.url} was stopped by whoever started it; the same command continues the run"
            ) from None
        raise
    finally:
        gone.cancel()


async def _last_to_leave(is_ours: bool, alone: Callable[[bool], bool], out: Output) -> None:
    """Wait until nobody else uses the squad that this command brought up."""
    if is_ours and not alone(False):
        out.note("another run uses this squad: waiting for it to end (Ctrl-C ends both)")
        await _in_thread(lambda: alone(True))


def _in_thread(call: Callable[[], Any]) -> asyncio.Future[Any]:
    """Run a blocking call in a thread that does not keep this process alive."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def done() -> None:
        if not future.done():
            future.set_result(None)

    def work() -> None:
        call()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any longer
            loop.call_soon_threadsafe(done)

    threading.Thread(target=work, daemon=True).start()
    return future
