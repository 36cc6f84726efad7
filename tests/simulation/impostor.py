"""A peer that has the token and claims to be another agent: it shows a secret, but a wrong one (ID-4).

It comes in a few worlds only, from a separate stream, so that other worlds do not change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2a.engine.records import PrincipalBound
from a2a.protocol.types import principal_of

from .peers import Peer

if TYPE_CHECKING:
    from .town import Town

__all__ = ["has_impostors", "plan_impostors"]

_SHARE_OF_WORLDS = 0.1
_FIRST_START = 1_000_000
"""Newer than any process of its victim: only the secret tells them apart."""


def plan_impostors(town: Town) -> None:
    """Have some impostors come during the weather, in some worlds."""
    chance = town.world.chance("strangers")
    if chance.random() >= _SHARE_OF_WORLDS:
        return
    for number in range(chance.randint(1, 3)):
        victim = chance.choice(town.hosts).name
        town.world.after(chance.randint(0, town.profile.weather_ms), _come, town, victim, _FIRST_START + number)


def has_impostors(town: Town) -> bool:
    """Tell whether this world has impostors."""
    return town.world.chance("strangers").random() < _SHARE_OF_WORLDS


def _come(town: Town, victim: str, start: int) -> None:
    bound = (record.principal for record in town.disk.read() if isinstance(record, PrincipalBound))
    if principal_of(victim) not in bound:
        return  # a name not taken yet, as far as a crash leaves it, belongs to the first that comes
    impostor = Peer(town, victim, start)
    impostor.session.identity.secret = "a guess"
    if town.world.timeline is not None:
        town.world.tell("weather", f"SENDS an impostor of {victim}")
    impostor.start()
