"""Plays the conversations of `spec/v1/transcripts/` against the engine, and writes down what comes.

The form is told in the README there. `python -m tests.unit.spec.transcript FILE...` plays what is sent, and writes
anew what has to come: read the difference.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from a2a.engine.policy import Admission, Policy, digest
from a2a.protocol.codec import JSON, MSGPACK

from .stage import Stage

__all__ = ["FOLDER", "Mismatch", "play"]

FOLDER = Path(__file__).parents[3] / "spec" / "v1" / "transcripts"
TOKEN, OPERATOR_TOKEN = "letmein", "operators-only"

_FRAME = re.compile(r"(?P<name>[a-z]\w*) (?P<way>[<>]) (?P<frame>\{.*\})")
_ADVANCE = re.compile(r"advance (\d+) (ms|s|min)")
_UNITS = {"ms": 1, "s": 1_000, "min": 60_000}
_PLACEHOLDER = re.compile(r"\$([a-z]\w*)")
_ID = re.compile(r"\bmain-([ck]?)\d+\b")
_IDS = {"": "task", "c": "context", "k": "conflict"}
_NUMBER = re.compile(r"\b(fence|claim) (\d+)\b")
_NUMBERS = {"fence": "fence", "claimFence": "claim", "lsn": "lsn", "fromLsn": "lsn"}
"""Fields whose numbers are places in the ledger, and what they are called."""
_OWN = re.compile(r"at|\w+At|timestamp|\w+Lsn|limits|seal|prev")
"""Fields whose values follow from the clock, the settings or the ledger."""


class Mismatch(AssertionError):
    """A line that does not say what happened."""


class _Player:
    def __init__(self) -> None:
        self.stage = Stage(Policy(admission=Admission(digest(TOKEN), digest(OPERATOR_TOKEN))))
        self.known: dict[str, Any] = {}
        self.frames: list[dict[str, Any]] = []
        """All that went over the wire, either way."""

    # What is done

    def act(self, line: str) -> None:
        frame, advance = _FRAME.fullmatch(line), _ADVANCE.fullmatch(line)
        words = line.split()
        if frame and frame["way"] == ">":
            self.frames.append(self.filled(json.loads(frame["frame"])))
            self.stage.say(frame["name"], self.frames[-1])
        elif advance:
            self.stage.pass_time(int(advance[1]) * _UNITS[advance[2]])
        elif words[0] == "connect" and words[2:] in ([], ["msgpack"]):
            self.stage.connect(words[1], MSGPACK if words[2:] else JSON)
        elif words[0] == "drop" and len(words) == 2:
            self.stage.drop(words[1])
        elif words == ["restart"]:
            self.stage.restart()
        else:
            raise Mismatch("nobody knows what that is")

    def filled(self, value: Any) -> Any:
        """Return a value with what the placeholders stand for."""
        if isinstance(value, dict):
            return {name: self.filled(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        if not isinstance(value, str) or "$" not in value:
            return value
        if (whole := _PLACEHOLDER.fullmatch(value)) is not None:
            return self.known[whole[1]]
        return _PLACEHOLDER.sub(lambda found: str(self.known[found[1]]), value)

    # What comes

    def compare(self, expected: Any, came: Any, place: str = "") -> None:
        """See that what came is what is expected, and learn what a new placeholder stands for."""
        if expected == "$_":
            return
        if isinstance(expected, str):
            self.learn(expected, came)
        if isinstance(expected, dict) and isinstance(came, dict):
            if expected.keys() != came.keys():
                raise Mismatch(f"{place or 'the frame'} has {sorted(came)}, not {sorted(expected)}")
            for name in expected:
                self.compare(expected[name], came[name], f"{place}/{name}")
        elif isinstance(expected, list) and isinstance(came, list) and len(expected) == len(came):
            for number, (one, other) in enumerate(zip(expected, came, strict=True)):
                self.compare(one, other, f"{place}/{number}")
        elif (filled := self.filled(expected)) != came or type(filled) is not type(came):
            raise Mismatch(f"{place or 'the frame'} is {came!r}, not {filled!r}")

    def learn(self, expected: str, came: Any) -> None:
        """Keep what a placeholder stands for that was not met before, alone or inside a longer text."""
        whole = _PLACEHOLDER.fullmatch(expected)
        if whole is not None:
            self.known.setdefault(whole[1], came)
            return
        pieces = _PLACEHOLDER.split(expected)  # text and names by turns
        new = [name for name in pieces[1::2] if name not in self.known]
        if new and isinstance(came, str):
            texts = [re.escape(text) for text in pieces[::2]]
            values = [r"([\w-]+)" if name in new else re.escape(str(self.known[name])) for name in pieces[1::2]]
            pattern = "".join(text + value for text, value in zip(texts, [*values, ""], strict=True))
            found = re.fullmatch(pattern, came)
            self.known.update(dict(zip(new, found.groups(), strict=True)) if found else {})

    def hear(self, name: str) -> dict[str, Any] | None:
        """Return the next frame of a connection, without its id, which is the coordinator's own."""
        frame = self.stage.hear(name)
        self.frames += [] if frame is None else [frame]
        return None if frame is None else {key: value for key, value in frame.items() if key != "id"}

    def written(self, value: Any, key: str = "") -> Any:
        """Return a value with placeholders in place of what an implementation chooses."""
        if _OWN.fullmatch(key) and key not in _NUMBERS:
            return "$_"
        if isinstance(value, dict):
            return {name: self.written(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self.written(item) for item in value]
        if isinstance(value, int) and not isinstance(value, bool) and value > 0 and key in _NUMBERS:
            return self.name_of(value, _NUMBERS[key])
        if not isinstance(value, str):
            return value
        if key in ("proof", "effectScope"):
            return self.name_of(value, key)
        text = _ID.sub(lambda found: self.name_of(found[0], _IDS[found[1]]), value)
        places = {value: name for name, value in self.known.items() if isinstance(value, int)}
        return _NUMBER.sub(
            lambda found: f"{found[1]} ${places[int(found[2])]}" if int(found[2]) in places else found[0], text
        )

    def name_of(self, value: Any, kind: str) -> str:
        for name, known in self.known.items():
            if known == value and type(known) is type(value):
                return f"${name}"
        taken = sum(re.fullmatch(rf"{kind}\d*", name) is not None for name in self.known)
        name = kind if not taken else f"{kind}{taken + 1}"
        self.known[name] = value
        return f"${name}"


def play(text: str, *, is_recording: bool = False, frames: list[dict[str, Any]] | None = None) -> str:
    """Play a conversation, and return it; when recording, with what came in place of what it says has to come.

    Args:
        text: the conversation.
        is_recording: write what comes.
        frames: gets every frame that went over the wire.

    Raises:
        Mismatch: it went otherwise, with the line.
    """
    player = _Player()
    out: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        expected = _FRAME.fullmatch(line)
        try:
            if not line or line.startswith("#"):
                out.append(line)
            elif expected and expected["way"] == "<":
                if not is_recording:
                    came = player.hear(expected["name"])
                    if came is None:
                        raise Mismatch("nothing came")
                    player.compare(json.loads(expected["frame"]), came)
                    out.append(line)
            elif line.startswith("closed "):
                if not player.stage.is_closed(line.removeprefix("closed ")):
                    raise Mismatch("the connection is still open")
                out.append(line)
            else:
                player.act(line)
                out.append(line)
                if is_recording:
                    # Who speaks first, so that what it made is named first.
                    for name in sorted(player.stage.peers, key=lambda name: not line.startswith(f"{name} >")):
                        while (frame := player.hear(name)) is not None:
                            out.append(f"{name} < {json.dumps(player.written(frame), ensure_ascii=False)}")
        except (Mismatch, KeyError, ValueError) as problem:
            raise Mismatch(f"line {number}: {problem}\n{line}") from problem
    for name in player.stage.peers:
        if (rest := player.hear(name)) is not None:
            raise Mismatch(f"at the end {name} has got {rest}, which is not told")
    player.stage.check()
    if frames is not None:
        frames.extend(player.frames)
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        path = Path(argument)
        path.write_text(play(path.read_text(encoding="utf-8"), is_recording=True), encoding="utf-8")
