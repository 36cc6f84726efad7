"""Where a delegation stands: brought there, and read off the records."""

from a2a.engine.records import Settled
from a2a.protocol.messages import TaskAsk


def settled(town):
    return [(end.task, end.state, end.reason, end.by) for end in town.said(Settled)]


def ask(offer, number=1, payload=b'["why?"]', **fields):
    return TaskAsk(offer.task, number, payload, fence=offer.fence, **fields)


def bring(town, state):
    """Bring a task into a state, and return (task, boss, worker, offer)."""
    boss = town.join("boss")
    if state == "queued":
        return boss.delegate(), boss, None, None
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    if state == "offered":
        other = town.worker("w2")
        town.pass_time(500)
        return task, boss, other, other.offer()
    worker.beat(offer)
    if state in ("parked hot", "parked cold"):
        worker.say(ask(offer, hold=state.partition(" ")[2]))
    elif state == "parked lapsed":
        worker.say(ask(offer))
        town.pass_time(3_000)
    elif state == "canceling":
        boss.cancel(task)
    elif state in ("reported", "completed", "failed"):
        worker.report(offer)
        if state != "reported":
            boss.confirm(boss.mail()[-1], verdict="accept" if state == "completed" else "reject")
    elif state == "rejected":
        worker.report(offer, "rejected")
    elif state == "canceled":
        boss.cancel(task, "skip")
    assert town.task(task).state == state.partition(" ")[0]
    worker.mail()
    return task, boss, worker, offer
