"""`a2a claim ...`: show who holds claims and who waits for them, and give one back that nobody else gives back."""

from __future__ import annotations

from typing import Any

import click

from ..client import Client
from .groups import Group
from .identifiers import CLAIM_FENCE, CLAIM_NAME, TASK
from .options import Common, common_options
from .output import escape
from .story import duration

__all__ = ["claim"]

LIST_MAX = 1000
"""The most claims that the coordinator shows at once."""


@click.group(cls=Group)
def claim() -> None:
    """Look at claims on resources, and give one back."""


@claim.command("ls")
@click.option(
    "--name",
    metavar="NAME",
    type=CLAIM_NAME,
    help="Only claims in the way of this name, such as repo/a or repo/a/**.",
)
@click.option("--task", metavar="TASK", type=TASK, help="Only the claims of this task.")
@click.option("--limit", type=click.IntRange(1, LIST_MAX), default=100, show_default=True)
@common_options()
def list_claims(common: Common, name: str | None, task: str | None, limit: int) -> None:
    """Show who holds which names, then who waits for which, the next in line first."""

    async def work(client: Client) -> list[dict[str, Any]]:
        found = await client.claims(name, task=task, limit=limit)
        if task is not None and not found:
            await client.get(task)  # if there is no such task, this says so
        return found

    found = common.read(work)
    if common.out.as_json:
        for shown in found:
            common.out.record(_record(shown))
        return
    if not found:
        what = "anything" if name is None else name
        common.out.note(
            f"nobody holds or waits for {what}" if task is None else f"task {task} neither holds nor waits for {what}"
        )
        return
    common.out.table(
        ("FENCE", "STATE", "NAMES", "OWNER", "FOR", "NOTE"),
        [
            (
                str(shown.get("claimFence", "-")),
                shown["state"],
                " ".join(_resource(resource) for resource in shown["claims"]),
                escape(_owner(shown)),
                duration(shown["sinceMs"] / 1000) if "sinceMs" in shown else "-",
                escape(_note(shown)),
            )
            for shown in found
        ],
    )


def _record(shown: dict[str, Any]) -> dict[str, Any]:
    """Return a claim as --json prints it: the wire's `fence` is the attempt's; the claim's own is `claimFence`."""
    return {"attemptFence" if name == "fence" else name: value for name, value in shown.items()}


def _resource(resource: dict[str, str]) -> str:
    shared = " (shared)" if resource["mode"] == "s" else ""
    return escape(resource["name"]) + shared


def _owner(shown: dict[str, Any]) -> str:
    if "task" not in shown:
        return str(shown["agent"])
    return f"{shown['task']} ({shown['agent']})" if "agent" in shown else str(shown["task"])


def _note(shown: dict[str, Any]) -> str:
    if shown.get("recalled"):
        return f"called back: {shown['recalled']}"
    if shown["state"] == "waiting":
        return f"waits for {in_its_way(shown)}"
    return f"for {duration(shown['ttlMs'] / 1000)} more" if "ttlMs" in shown else ""


def in_its_way(shown: dict[str, Any]) -> str:
    """Return the names a claim in line waits for, and whose claims are in its way."""
    whom = ", ".join(f"{one['name']} of {_owner(one)}" for one in shown["waitsFor"])
    return whom + (f" and {shown['waitsForMore']} more" if "waitsForMore" in shown else "")


@claim.command("release")
@click.argument("fence", type=CLAIM_FENCE, metavar="FENCE")
@common_options()
def release_claim(common: Common, fence: int) -> None:
    """Give back the claim with this fence: one of your own or, with the operator's token, anybody's.

    The holder is not told: the resource's guard refuses it as soon as it has seen a higher fence. If no claim
    has this fence, the command says so and exits with 0, since there is nothing left to give back.
    """

    async def work(client: Client) -> bool:
        held = await client.claims(limit=LIST_MAX)
        await client.release(fence)
        # With more claims than are shown, it may be one of the others.
        return len(held) == LIST_MAX or any(shown.get("claimFence") == fence for shown in held)

    was_held = common.run(work)
    if common.out.as_json:
        common.out.record({"claimFence": fence, "state": "released", "wasHeld": was_held})
    elif was_held:
        common.out.note(f"nobody holds the claim with fence {fence} now")
    else:
        common.out.note(f"no claim has fence {fence}, or it has already ended: nothing was given back")
