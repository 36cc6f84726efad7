"""A coordinator on a virtual clock whose peers are raw frames, in either encoding; nothing of a peer's code is used."""

from __future__ import annotations

import json
from typing import Any

from a2a.engine.policy import Policy
from a2a.protocol.codec import JSON, Decoder, Encoding, Frame, encode
from tests.unit.engine.conftest import START, Peer, Town, check_history, check_replay

__all__ = ["START", "Stage"]


class Stage:
    """One coordinator, and the connections of those who speak to it, each under a name."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.town = Town(policy or Policy(), [], START)
        self.peers: dict[str, Peer] = {}
        self.encodings: dict[str, Encoding] = {}
        self._heard: dict[str, int] = {}

    def connect(self, name: str, encoding: Encoding = JSON) -> None:
        """Open a connection; a name that has one gets another, and hears no more on the one before."""
        self.peers[name] = self.town.dial()
        self.encodings[name] = encoding
        self._heard[name] = 0

    def say(self, name: str, *frames: dict[str, Any]) -> None:
        """Send frames as one message."""
        peer, encoding = self.peers[name], self.encodings[name]
        data = "\n".join(json.dumps(frame) for frame in frames).encode()
        if encoding != JSON:  # by way of the codec: what it cannot read in JSON is no frame to be sent otherwise
            data = encode([frame for frame in Decoder(JSON).decode(data) if isinstance(frame, Frame)], encoding)
        for frame in Decoder(encoding).decode(data):
            self.town.coordinator.step(peer.connection, frame, self.town.now)
            self.town.flush()

    def hear(self, name: str) -> dict[str, Any] | None:
        """Return the next frame that came to a connection, in JSON form, or None."""
        peer, at = self.peers[name], self._heard[name]
        if at == len(peer.frames):
            return None
        self._heard[name] = at + 1
        encoding = self.encodings[name]
        [frame] = Decoder(encoding).decode(encode([peer.frames[at]], encoding))
        assert isinstance(frame, Frame)
        plain: dict[str, Any] = json.loads(encode([frame], JSON))
        return plain

    def ask(self, name: str, frame: dict[str, Any]) -> dict[str, Any]:
        """Send a frame and return its answer, passing over what comes before it."""
        self.say(name, frame)
        while (heard := self.hear(name)) is not None:
            if heard.get("re") == frame["id"]:
                return heard
        raise AssertionError(f"{frame} is not answered")

    def is_closed(self, name: str) -> bool:
        return self.peers[name].closed is not None

    def drop(self, name: str) -> None:
        """Lose a connection."""
        self.peers[name].drop()

    def pass_time(self, ms: int) -> None:
        self.town.pass_time(ms)

    def restart(self) -> None:
        """Start another coordinator on the same records; every connection is gone."""
        check_replay(self.town.coordinator, self.town.records)
        self.town = self.town.restart()
        self.peers.clear()

    def check(self) -> None:
        """See that the records add up to what was lived, and that every task kept to its rules."""
        check_replay(self.town.coordinator, self.town.records)
        check_history(self.town.ledger)
