"""A peer with the operator's token that has agents forgotten, whether they come back or not (REG-7).

It comes in a few worlds only, from a separate stream, so that other worlds do not change. It does not come with
impostors: a free name belongs to the first that comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2a.protocol.messages import AgentForget

from .impostor import has_impostors
from .peers import Peer

if TYPE_CHECKING:
    from .town import Town

__all__ = ["plan_warden"]

_SHARE_OF_WORLDS = 0.15
_EVERY_MS = (300, 4_000)


def plan_warden(town: Town) -> None:
    """Have a warden come, in some worlds."""
    if town.world.chance("warden").random() < _SHARE_OF_WORLDS and not has_impostors(town):
        town.world.after(1, _Warden(town).start)


class _Warden(Peer):
    def __init__(self, town: Town) -> None:
        super().__init__(town, "warden", 1, operator=True)
        self.later(self.chance.randint(*_EVERY_MS), self._forget)

    def _forget(self) -> None:
        if self.town.is_calm:
            return
        self.later(self.chance.randint(*_EVERY_MS), self._forget)
        host = self.chance.choice(self.town.hosts)
        process = host.process
        name = process.name if process is not None and self.chance.random() < 0.8 else host.name
        if self.session.is_open:
            self.session.request(AgentForget(name, secret_only=self.chance.random() < 0.2))
            self.flush()
