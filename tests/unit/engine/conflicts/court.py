"""A group whose answers the test says, for the tests of what follows from them."""

from __future__ import annotations

__all__ = ["Court", "answer", "judged", "ladder"]


def answer(text):
    return b'[{"artifactId":"result","name":"result","parts":[{"data":%s}]}]' % text.encode()


class Court:
    """A boss, some workers, and a task that several of them do."""

    def __init__(self, town, workers, **spec):
        self.town = town
        self.boss = town.join("boss")
        tasks = spec.pop("tasks", 1)
        everybody = {f"w{number}": town.worker(f"w{number}", tasks=tasks) for number in range(workers)}
        redundancy = {"n": spec.pop("n", workers)} | spec.pop("redundancy", {})
        self.group = self.boss.delegate("q", spec={"redundancy": redundancy} | spec)
        self.members = self.task.group.electorate
        busy = [town.task(member).holder for member in self.members]
        self.workers = [everybody[name] for name in busy]
        """In the order of the members they work on."""
        self.others = [worker for name, worker in everybody.items() if name not in busy]
        self.offers = [worker.offer() for worker in self.workers]

    def answers(self, *texts):
        for worker, offer, text in zip(self.workers, self.offers, texts, strict=False):
            if text is not None:
                worker.report(offer, payload=answer(text))

    @property
    def task(self):
        return self.town.task(self.group)

    @property
    def conflict(self):
        (conflict,) = self.town.ledger.conflicts.values()
        return conflict


def ladder(*rungs):
    return {"policy": [rung if isinstance(rung, dict) else {"strategy": rung} for rung in rungs]}


def judged(case, judge, *choices, **more):
    """Have a judge choose, by what each candidate says."""
    for choice in choices:
        offer = judge.offer()
        candidates = offer.payload
        first = candidates.index(b'"data":%s' % choice.encode())
        place = candidates[:first].count(b'"artifactId"') - 1
        judge.report(offer, payload=answer(f'{{"choice":{place}}}'), **more)
