"""The workbench: comparisons and merges in a process of their own."""

from __future__ import annotations

import anyio
import pytest

from a2a.engine.conflicts.bench import Answer, Job
from a2a.engine.conflicts.comparators import Compare
from a2a.engine.conflicts.merging import Merge
from a2a.jobs import Workbench

BOUND = 20


class Answers:
    def __init__(self) -> None:
        self.given: list[tuple[str, int, str]] = []
        self.values: list[bytes | None] = []
        self.news = anyio.Event()

    def take(self, job: Job, answer: Answer) -> None:
        self.given.append((_subject(job), answer.number, answer.why))
        self.values.append(answer.value)
        self.news.set()

    async def until(self, count: int) -> None:
        while len(self.given) < count:
            self.news = anyio.Event()
            await self.news.wait()


def _subject(job: Job) -> str:
    return job.member if isinstance(job, Compare) else job.conflict if isinstance(job, Merge) else job.task


def result(data: str) -> bytes:
    return b'[{"artifactId":"r","parts":[{"data":%s}]}]' % data.encode()


def compare(member: str, payload: bytes, comparator: str = "json-c14n") -> Compare:
    return Compare("g", member, comparator, (result('{"a":1}'), result("[2]")), payload)


async def test_jobs_are_answered_in_order_by_one_worker() -> None:
    answers = Answers()
    bench = Workbench(answers.take)
    with anyio.fail_after(BOUND):
        assert not bench.is_busy
        bench.put(compare("m1", result('{ "a" : 1.0 }')))
        assert bench.is_busy
        bench.put(compare("m2", result("[3]")))
        bench.put(compare("m3", b"no json"))
        await answers.until(1)
        assert bench.is_busy
        await answers.until(3)
        assert not bench.is_busy
        await bench.aclose()
    assert [(member, number) for member, number, _ in answers.given] == [("m1", 0), ("m2", 2), ("m3", 2)]


async def test_what_is_merged_comes_back_whole(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "a2a.jobs")
    answers = Answers()
    bench = Workbench(answers.take)
    with anyio.fail_after(BOUND):
        bench.put(Merge("k1", 0, b'{"a":1}', b'{"a":2}', '{"a":1,"b":"\u00fc\\n"}'.encode()))
        bench.put(Merge("k2", 1, None, b"1", b"2"))
        await answers.until(2)
        await bench.aclose()
    assert [given[:2] for given in answers.given] == [("k1", 0), ("k2", -1)]
    assert answers.values == ['{"a":2,"b":"\u00fc\\n"}'.encode(), None]
    assert [record.levelname for record in caplog.records] == ["INFO"], "that two do not merge is an answer"


async def test_a_job_that_takes_too_long_is_killed_and_the_next_one_has_a_new_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = Answers()
    bench = Workbench(answers.take, budget=0.001)
    with anyio.fail_after(BOUND):
        bench.put(compare("slow", result("1")))
        await answers.until(1)
        bench._budget = BOUND
        bench.put(compare("quick", result("[2]")))
        await answers.until(2)
        await bench.aclose()
    (slow, quick) = answers.given
    assert (slow[1], "took longer" in slow[2]) == (-1, True)
    assert quick[1] == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_what_a_killed_worker_would_have_said_answers_no_other_job() -> None:
    answers = Answers()
    bench = Workbench(answers.take)
    with anyio.fail_after(BOUND):
        bench.put(compare("first", result("[2]")))
        await answers.until(1)
        bench._budget = 0
        bench.put(compare("slow", result("[3]")))
        await answers.until(2)
        bench._budget = BOUND
        bench.put(compare("quick", result("[2]")))
        await answers.until(3)
        await bench.aclose()
    assert [number for _, number, _ in answers.given] == [1, -1, 1]


async def test_a_worker_that_ends_is_an_answer_that_nobody_can_give() -> None:
    answers = Answers()
    bench = Workbench(answers.take)
    with anyio.fail_after(BOUND):
        bench.put(compare("m1", result("[2]")))
        await answers.until(1)
        assert bench._worker is not None
        bench._worker.kill()
        await bench._worker.wait()
        bench.put(compare("m2", result("[2]")))
        await answers.until(2)
        bench.put(compare("m3", result("[2]")))
        await answers.until(3)
        await bench.aclose()
    assert [number for _, number, _ in answers.given] == [1, -1, 1]
