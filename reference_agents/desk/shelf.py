"""The indexes that an agent keeps: one for each content of a folder it was asked about, built once.

A folder whose files were not written to is not even read again, and one with unchanged contents keeps its index. This
module knows no method: `retrieving` says what to build.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import anyio.to_thread

from .folder import Listed, list_folder, read_folder
from .passages import Passage, cut_all
from .shapes import Skipped

__all__ = ["Shelf", "Volume"]

VOLUMES_MAX: Final = 4
"""How many indexes, and listings of folders, to keep. The least recently used one goes."""
SETTLED: Final = 1_000_000_000
"""Nanoseconds after which a file that looks the same is the same: file systems record times in steps."""

Index = TypeVar("Index")


@dataclass(frozen=True, slots=True)
class _Built(Generic[Index]):
    passages: Sequence[Passage]
    skipped: Sequence[Skipped]
    """Documents beyond what an index takes."""
    index: Index


@dataclass(frozen=True, slots=True)
class _Seen:
    """A folder when it was read."""

    listing: tuple[list[Listed], list[Skipped]]
    is_settled: bool
    searched: int
    skipped: Sequence[Skipped]
    digest: str


@dataclass(frozen=True, slots=True)
class Volume(Generic[Index]):
    """A folder as it is now, and the index built of it."""

    passages: Sequence[Passage]
    index: Index
    searched: int
    """Number of documents."""
    skipped: Sequence[Skipped]
    digest: str


class Shelf(Generic[Index]):
    """Keeps what `build` makes of passages."""

    def __init__(self, build: Callable[[Sequence[Passage]], Index]) -> None:
        self._build = build
        self._built: OrderedDict[str, _Built[Index]] = OrderedDict()
        self._seen: OrderedDict[tuple[str, tuple[str, ...]], _Seen] = OrderedDict()
        # Two simultaneous questions about a new folder must not build it twice.
        self._lock = anyio.Lock()

    async def take(self, folder: str, only: Sequence[str] = ()) -> Volume[Index]:
        """Return the index of a folder's current contents.

        Raises:
            AttemptFailed: there is no such folder, or it is too large to look through.
        """
        async with self._lock:
            # In a thread: reading and building take seconds, during which the agent still has to answer.
            return await anyio.to_thread.run_sync(self._take, folder, tuple(only))

    def _take(self, folder: str, only: tuple[str, ...]) -> Volume[Index]:
        now = time.time_ns()
        listing = list_folder(folder, only)
        seen = self._seen.get((folder, only))
        if seen is None or not seen.is_settled or seen.listing != listing or seen.digest not in self._built:
            seen = self._read(folder, listing, now)
            self._seen[folder, only] = seen
        self._seen.move_to_end((folder, only))
        self._built.move_to_end(seen.digest)
        for kept in (self._seen, self._built):
            while len(kept) > VOLUMES_MAX:
                kept.popitem(last=False)
        built = self._built[seen.digest]
        return Volume(built.passages, built.index, seen.searched, seen.skipped, seen.digest)

    def _read(self, folder: str, listing: tuple[list[Listed], list[Skipped]], now: int) -> _Seen:
        contents = read_folder(folder, *listing)
        if contents.digest not in self._built:
            passages, skipped = cut_all(contents.documents)
            self._built[contents.digest] = _Built(passages, skipped, self._build(passages))
        beyond = self._built[contents.digest].skipped
        is_settled = all(max(file.modified, file.changed) < now - SETTLED for file in listing[0])
        searched = len(contents.documents) - len(beyond)
        return _Seen(listing, is_settled, searched, [*contents.skipped, *beyond], contents.digest)
