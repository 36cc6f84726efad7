"""The hashes of artifacts that are being streamed."""

import hashlib

import pytest

from a2a.engine import artifact_hashes
from a2a.engine.artifact_hashes import ArtifactHashes, artifact_digest
from a2a.protocol.messages import ArtifactRef, Error, Ok, TaskArtifact, TaskYield


def sha(*chunks):
    return f"sha256:{hashlib.sha256(b''.join(chunks)).hexdigest()}"


class Counting:
    """A hash that tells how many bytes it was given."""

    fed = 0

    def __init__(self, inner):
        self.inner = inner

    def update(self, data):
        Counting.fed += len(data)
        self.inner.update(data)

    def copy(self):
        return Counting(self.inner.copy())

    def hexdigest(self):
        return self.inner.hexdigest()


@pytest.fixture
def fed(monkeypatch):
    """Return how many bytes were hashed of artifacts since it was asked last."""

    class Counted:
        @staticmethod
        def sha256():
            return Counting(hashlib.sha256())

    def since():
        count, Counting.fed = Counting.fed, 0
        return count

    monkeypatch.setattr(artifact_hashes, "hashlib", Counted)
    since()
    return since


@pytest.fixture
def stream(worker, offer):
    """Stream chunks of an artifact of the offer's attempt."""

    def say(number, payload, at=offer, **fields):
        return worker.say(TaskArtifact(at.task, at.fence, "a", number, payload, append=number > 0, **fields))

    return say


@pytest.fixture
def offer(boss, worker):
    boss.delegate()
    return worker.offer()


def test_a_hash_is_that_of_the_chunks_in_a_row():
    assert artifact_digest([b"a", b"", b"bc"]) == sha(b"abc")
    assert artifact_digest([]) == sha()


def test_what_was_hashed_is_not_hashed_again_with_a_further_chunk(stream, fed):
    assert stream(0, b"x" * 1_000, digest=sha(b"x" * 1_000)) == Ok()
    assert stream(1, b"1", digest=sha(b"x" * 1_000, b"1")) == Ok()
    assert fed() == 1_000 + 1_000 + 1
    for _ in range(5):
        assert isinstance(stream(2, b"2", digest=sha(b"other")), Error)
    assert stream(2, b"2", digest=sha(b"x" * 1_000, b"12")) == Ok()
    assert fed() == 1 + 6, "the chunk that came before, and the new one each time"


def test_a_report_costs_the_same_however_often_it_names_an_artifact(worker, offer, stream, fed):
    stream(0, b"x" * 1_000)
    named = [ArtifactRef("a", sha(b"x" * 1_000))] * 100
    assert worker.report(offer, artifacts=[*named, ArtifactRef("none")]) == "invalid"
    assert worker.report(offer, artifacts=[ArtifactRef("a")] * 100) == "admitted"
    assert fed() == 1_000


def test_what_begins_anew_has_a_hash_of_its_own(worker, offer, stream):
    stream(0, b"first", last_chunk=False)
    assert stream(1, b"more", digest=sha(b"first", b"more")) == Ok()
    again = TaskArtifact(offer.task, offer.fence, "a", 2, b"again", append=False)
    assert worker.say(again) == Ok()
    assert stream(3, b"more", digest=sha(b"again", b"more")) == Ok()


def test_what_an_attempt_streamed_that_has_ended_is_forgotten(town, worker, offer, stream):
    stream(0, b"x")
    stream(1, b"y", digest=sha(b"xy"))
    hashes = town.coordinator.live.artifact_hashes
    assert hashes != ArtifactHashes()
    worker.say(TaskYield(offer.task, offer.fence))
    assert hashes == ArtifactHashes()
    assert stream(0, b"z", at=worker.offer(), digest=sha(b"z")) == Ok()
