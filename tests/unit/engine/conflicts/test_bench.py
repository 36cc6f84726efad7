"""The kinds of job, as they travel and as they are done."""

import pytest

from a2a.engine.conflicts.bench import Answer, do, from_bytes, name_of, to_bytes
from a2a.engine.conflicts.comparators import Compare
from a2a.engine.conflicts.merging import Merge
from a2a.engine.conflicts.patches import JSON_PATCH, Overlap

ONE = b'[{"artifactId":"r","parts":[{"data":1}]}]'
PATCHES = [
    b'[{"metadata":{"patch":{"of":"o","base":"b"}},"parts":[{"mediaType":"%s","data":[{"op":"remove","path":"%s"}]}]}]'
    % (JSON_PATCH.encode(), path)
    for path in (b"/a", b"/a/b", b"/c")
]
JOBS = [
    (Overlap("t2", "t1", PATCHES[0], PATCHES[1]), 1, None, "holding t2 against t1"),
    (Overlap("t2", "t1", PATCHES[0], PATCHES[2]), 0, None, "holding t2 against t1"),
    (Overlap("t2", "t1", PATCHES[0], b""), -1, None, "holding t2 against t1"),
    (Merge("k", 2, None, PATCHES[0], PATCHES[1], are_patches=True), -1, None, "merging for k"),
    (Compare("g", "m", "json-c14n", (b"[]", ONE), b"\x00"), 2, None, "comparing m of g"),
    (Compare("g", "m", "bytes", (b"[]", ONE), ONE), 1, None, "comparing m of g"),
    (Merge("k", 2, None, b'{"a":1}', b'{"b":1}'), 0, b'{"a":1,"b":1}', "merging for k"),
    (Merge("k", 2, b"1", b"2", b"3"), -1, None, "merging for k"),
]


@pytest.mark.parametrize(("job", "number", "value", "name"), JOBS)
def test_a_job_is_done_as_it_was_sent(job, number, value, name):
    assert from_bytes(to_bytes(job)) == job
    answer = do(from_bytes(to_bytes(job)))
    assert answer == Answer(number, answer.why, value)
    assert answer.why and name_of(job) == name


def test_what_is_no_job_is_none():
    with pytest.raises((ValueError, KeyError)):
        from_bytes(b"\x92\xa3buy\x90")
