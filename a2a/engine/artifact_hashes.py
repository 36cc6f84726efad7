"""The hashes of artifacts that are being streamed (spec ART-4).

An artifact may have many megabytes, and its hash is needed with each chunk that names one and with each report, so
bytes are hashed only once. Derived from the chunks, and never stored; what an ended attempt streamed is forgotten.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from .task_state import Artifact

__all__ = ["ArtifactHashes", "artifact_digest"]


def artifact_digest(chunks: list[bytes]) -> str:
    """Return the hash of an artifact: of the bytes of all its chunks in order. Spec ART-4."""
    return _Running(chunks).digest()


class _Running:
    """The running hash of an artifact."""

    __slots__ = ("_count", "_hash", "chunks")

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks
        """The artifact's own list: an artifact that begins anew has another."""
        self._count = 0
        self._hash: Any = hashlib.sha256()

    def digest(self, further: bytes = b"") -> str:
        for chunk in self.chunks[self._count :]:
            self._hash.update(chunk)
        self._count = len(self.chunks)
        whole = self._hash
        if further:
            whole = whole.copy()
            whole.update(further)
        return f"sha256:{whole.hexdigest()}"


@dataclass(slots=True)
class ArtifactHashes:
    """The hashes that were asked for."""

    _known: dict[str, dict[str, _Running]] = field(default_factory=dict)
    """Task to the running hash of each artifact."""

    def of(self, task: str, artifact: Artifact, further: bytes = b"") -> str:
        """Return the hash of an artifact followed by a chunk that it does not have yet."""
        known = self._known.setdefault(task, {})
        running = known.get(artifact.artifact)
        if running is None or running.chunks is not artifact.chunks:
            running = known[artifact.artifact] = _Running(artifact.chunks)
        return running.digest(further)

    def forget(self, task: str) -> None:
        """Forget what the ended attempt at a task streamed."""
        self._known.pop(task, None)
