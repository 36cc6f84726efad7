"""Somebody who has the token and says that it is somebody else: it shows a secret, and not the right one (ID-4).

It comes in a few worlds only, with chance of its own, so that it changes nothing in the others.
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
    """Have some come while the weather lasts, in some worlds."""
    chance = town.world.chance("strangers")
    if chance.random() >= _SHARE_OF_WORLDS:
        return
    for number in range(chance.randint(1, 3)):
        victim = chance.choice(town.hosts).name
        town.world.after(chance.randint(0, town.profile.weather_ms), _come, town, victim, _FIRST_START + number)


def has_impostors(town: Town) -> bool:
    """Tell whether some come."""
    return town.world.chance("strangers").random() < _SHARE_OF_WORLDS


def _come(town: Town, victim: str, start: int) -> None:
    bound = (record.principal for record in town.disk.read() if isinstance(record, PrincipalBound))
    if principal_of(victim) not in bound:
        return  # a name that nobody has taken yet, as far as a crash leaves it, is whoever's comes first
    impostor = Peer(town, victim, start)
    impostor.session.identity.secret = "a guess"
    if town.world.timeline is not None:
        town.world.tell("weather", f"SENDS an impostor of {victim}")
    impostor.start()
