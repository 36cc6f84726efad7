"""Clients: what a simulated delegator wants, and how it reacts to what happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from a2a.engine.delegation import Delegation
from a2a.protocol.messages import (
    AgentFilter,
    AgentFind,
    ConflictAppeal,
    ConflictPosition,
    ConflictVote,
    Message,
    Ping,
    TaskAnswer,
    TaskCancel,
    TaskConfirm,
    TaskDelegate,
    TaskGet,
    TaskLimits,
    TaskList,
    TaskPage,
    TaskWatch,
    Timers,
)
from a2a.protocol.types import principal_of

from .claimants import run
from .costs import speak
from .peers import Peer
from .profiles import Profile
from .quarrels import quarrel

if TYPE_CHECKING:
    from .town import Town

__all__ = ["Client", "Operator", "Order", "Person", "draw_orders"]


@dataclass(slots=True)
class Order:
    """Work that a client wants done; it outlives the client's processes."""

    request: TaskDelegate
    at: int
    watch: bool
    cancel_after: int | None
    cancel_mode: str
    is_forgotten: bool = False
    is_done: bool = False
    known: set[str] = field(default_factory=set)
    """Tasks that the order became, as it was told; more than one is a bug."""


def draw_orders(profile: Profile, chance: Random, principal: str, names: list[str]) -> list[Order]:
    """Draw a client's orders."""
    manners = profile.manners
    orders = []
    share = max(1, profile.tasks // profile.clients)
    for number in range(share):
        spec: dict[str, Any] = {"skill": chance.choice(("plan", "work", "work"))}
        evaluator = chance.choice(profile.evaluators)
        if evaluator != "delegator" or chance.random() < 0.5:
            spec["acceptance"] = {"evaluator": evaluator}
        if chance.random() < 0.2:
            spec["priority"] = chance.randint(0, 9)
        if chance.random() < 0.1:
            spec["requires"] = {"exclude": [chance.choice(names[1:])]} if len(names) > 2 else {"agent": names[0]}
        timers = Timers(lease_ms=profile.policy.durations.lease_ms // 2) if chance.random() < 0.1 else Timers()
        if chance.random() < 0.1:
            timers.queue_ms = chance.choice((500, 20_000))
        deadline = chance.choice((2_000, 20_000, 60_000)) if chance.random() < manners.deadline else None
        payload = b'[{"text":"%s %d"}]' % (principal.encode(), number)
        request = TaskDelegate(
            f"order-{number}",
            spec,  # type: ignore[arg-type]
            payload,
            "plans" if manners.share else None,
            limits=TaskLimits(deadline_ms=deadline),
            timers=timers,
        )
        orders.append(
            Order(
                request,
                chance.randint(0, max(1, profile.weather_ms * 3 // 4)),
                chance.random() < manners.watch,
                chance.randint(0, max(2_000, 2 * profile.work_ms[1])) if chance.random() < manners.cancel else None,
                chance.choice(("coop", "kill", "skip")),
            )
        )
    return orders


class Client(Peer):
    """One process of a client."""

    def __init__(self, town: Town, name: str, start: int, orders: list[Order]) -> None:
        super().__init__(town, name, start)
        self.orders = orders
        self.open: dict[str, Delegation] = {}
        """Order key to what this process knows of the order."""
        self._seen: set[tuple[str, int]] = set()
        """Reviews and questions that were taken up."""
        self._followed: list[Delegation] = []
        self._canceled: set[str] = set()
        """Tasks it wanted to end; a result that came first is sent back rather than accepted."""
        self._forgotten = self._times_forgotten
        for order in orders:
            if not order.is_forgotten:
                self.later(max(0, order.at - self.world.now), self._order, order)
        self._poll()
        if town.profile.manners.claim:
            self._contend()
        if town.quarrels is not None:
            quarrel(self)

    def unfinished(self) -> str | None:
        """Say what this process still waits for, or None."""
        for order in self.orders:
            delegation = self.open.get(order.request.key)
            if order.is_forgotten:
                continue
            if delegation is None or not delegation.has_ended:
                return f"{order.request.key} has not ended for {self.name}"
            if delegation.is_watched and not delegation.is_over:
                return f"the last event of {delegation.task} has not come to {self.name}"
        return None

    @property
    def _times_forgotten(self) -> int:
        return self.town.court.model.forgotten.get(self.name, 0)

    def on_welcome(self) -> None:
        if self._times_forgotten > self._forgotten:
            self._forgotten = self._times_forgotten
            for delegation in self.open.values():  # its mail went with it; the SDK looks from time to time in any case
                self.delegations.look_up(delegation)

    def on_change(self, changed: list[Delegation]) -> None:
        for delegation in changed:
            key = delegation.request.key
            if self.open.get(key) is not delegation:
                delegation.events.clear()
                continue
            order = next(order for order in self.orders if order.request.key == key)
            if delegation.task is not None:
                order.known.add(delegation.task)
            delegation.events.clear()
            self._look_at(order, delegation)

    # Orders -----------------------------------------------------------------------------------------------------------

    def _order(self, order: Order) -> None:
        delegation = self.delegations.delegate(order.request)
        self.open[order.request.key] = delegation
        if order.watch:
            self.delegations.watch(delegation)
        speak(self, delegation)
        if order.cancel_after is not None and not self.town.is_calm:
            self.later(order.cancel_after, self._cancel, order, delegation)
        if self.chance.random() < self.town.manners.forget and self.town.may_leave_results:
            self.later(self.chance.randint(0, 10_000), self._forget, order, delegation)

    def _look_at(self, order: Order, delegation: Delegation) -> None:
        chance, manners = self.chance, self.town.manners
        if delegation.task is None or delegation.has_ended:
            order.is_done = True
            return
        for ask_no in delegation.asks:
            if self._first(f"ask of {delegation.task}", ask_no):
                self.later(chance.randint(0, 5_000), self._answer, delegation, ask_no)
        review = delegation.review
        if review is None or not self._first(f"review of {delegation.task}", review.rev):
            return
        if chance.random() < manners.review_ignore and self.town.may_leave_results:
            return
        self.later(chance.randint(0, 3_000), self._decide, delegation, review.rev)

    def _first(self, what: str, number: int) -> bool:
        key = (what, number)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _decide(self, delegation: Delegation, rev: int) -> None:
        chance, manners = self.chance, self.town.manners
        review = delegation.review
        if review is None or delegation.task is None or review.rev != rev or delegation.has_ended:
            return
        if chance.random() < manners.confused:
            other = chance.choice(("0" * 64, review.result_hash[7:]))
            self.session.request(TaskConfirm(delegation.task, rev, f"sha256:{other[::-1]}", "accept"))
            self.session.request(TaskConfirm(delegation.task, rev + 1, review.result_hash, "accept"))
            self.session.request(TaskConfirm(delegation.task, rev, review.result_hash, "accept", if_gen=1))
        draw = chance.random()
        has_doubts = draw < manners.review_rework or (delegation.task in self._canceled and manners.cancel)
        if has_doubts and "redundancy" not in delegation.request.spec:
            self.delegations.confirm(
                delegation, "reject", rework=True, reason_code="again", feedback=b'[{"text":"again"}]'
            )
            if delegation.task in self._canceled and manners.cancel:
                mode = chance.choice(("coop", "kill", "skip"))
                self.later(chance.randint(0, 4_000), self._cancel_again, delegation, mode)
        elif draw < manners.review_rework + manners.review_reject:
            self.delegations.confirm(delegation, "reject", reason_code="no")
        else:
            self.delegations.confirm(delegation)
            if chance.random() < manners.confused:
                self.session.request(TaskConfirm(delegation.task, rev, review.result_hash, "reject", True))

    def _answer(self, delegation: Delegation, ask_no: int) -> None:
        if delegation.task is None or delegation.has_ended:
            return
        words = b'[{"text":"answer of %s"}]' % self.instance.encode()
        self.delegations.answer(delegation, ask_no, words)
        if self.chance.random() < self.town.manners.answer_twice:
            self.session.request(TaskAnswer(delegation.task, ask_no, b'[{"text":"another answer"}]'))

    def _cancel(self, order: Order, delegation: Delegation) -> None:
        if self.town.is_calm or delegation.task is None:
            return
        self._canceled.add(delegation.task)
        self.delegations.cancel(delegation, order.cancel_mode, "changed its mind")  # type: ignore[arg-type]
        if self.chance.random() < 0.5:
            mode = self.chance.choice(("coop", "kill", "skip"))
            self.later(self.chance.randint(0, 8_000), self._cancel_again, delegation, mode)

    def _cancel_again(self, delegation: Delegation, mode: str) -> None:
        if delegation.task is not None:
            self.session.request(TaskCancel(delegation.task, mode, "again"))  # type: ignore[arg-type]

    def _forget(self, order: Order, delegation: Delegation) -> None:
        if not self.town.is_calm and not delegation.is_watched:
            order.is_forgotten = True
            self.delegations.forget(delegation)

    def _contend(self) -> None:
        """Claim for itself from time to time, and release another peer's claims."""
        chance, manners = self.claims.chance, self.town.manners
        if self.town.is_calm:
            return
        self.later(chance.randint(500, 6_000), self._contend)
        if chance.random() < manners.claim:
            run(self.later, self.claims.hold(None))
        if chance.random() < manners.claim / 4:
            durable = self.town.disk.durable
            held = [claim for claim in self.town.court.model.claims.values() if 0 < claim.fence <= durable]
            self.claims.meddle([claim.fence for claim in held if principal_of(claim.agent) != principal_of(self.name)])

    # Looking around ---------------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        chance = self.chance
        self.later(chance.randint(1_000, 12_000), self._poll)
        if not self.session.is_open or self.town.is_calm:
            return
        if chance.random() < self.town.manners.meddle and self.town.all_tasks:
            self._meddle(chance.choice(self.town.all_tasks))
        self.chance.choice(ERRANDS)(self)

    def _own_task(self) -> str | None:
        tasks = [delegation.task for delegation in self.open.values() if delegation.task is not None]
        return self.chance.choice(tasks) if tasks else None

    def _read(self) -> None:
        task = self._own_task()
        if task is not None:
            self.session.request(TaskGet(task, content=self.chance.random() < 0.5))

    def _list(self) -> None:
        self.session.request(TaskList(limit=self.chance.choice((1, 100))))

    def _find(self) -> None:
        found = AgentFilter(skill=self.chance.choice((None, "work")))
        self.session.request(AgentFind(found, watch=self.chance.random() < 0.3))

    def _ping(self) -> None:
        self.session.tell(Ping("are you there"))

    def _follow(self) -> None:
        if self.town.all_tasks and len(self._followed) < 2:
            task, from_gen = self.chance.choice(self.town.all_tasks), self.chance.choice((0, 2, 50))
            self._followed.append(self.delegations.follow(task, from_gen))
            self.session.request(TaskWatch(task, from_gen))

    def _meddle(self, task: str) -> None:
        """Decide about another principal's task, with everything a decision has to name."""
        known = self.town.court.model.tasks[task]
        if self.town.court.model.rulings:
            self._meddle_with(self.chance.choice(list(self.town.court.model.rulings)))
        if known.principal == principal_of(self.name):
            return
        result = known.results.get(known.rev)
        match self.chance.randrange(3):
            case 0 if result is not None:
                self.session.request(TaskConfirm(task, known.rev, result.digest, "reject", True))
            case 1 if known.asks:
                self.session.request(TaskAnswer(task, max(known.asks), b'[{"text":"from a stranger"}]'))
            case _:
                self.session.request(TaskCancel(task, "kill", "by a stranger"))

    def _meddle_with(self, conflict: str) -> None:
        """Interfere in others' conflicts."""
        ruling = self.town.court.model.rulings[conflict]
        words: tuple[Message, ...] = (
            ConflictPosition(conflict, b'[{"text":"none of its business"}]', "a stranger"),
            ConflictAppeal(conflict, "wrong_subject"),
            ConflictVote(conflict, None, "a stranger"),
        )
        if ruling.opened_lsn <= self.town.disk.durable:
            self.session.request(self.chance.choice(words))


ERRANDS: tuple[Callable[[Client], None], ...] = (
    Client._read,
    Client._list,
    Client._find,
    Client._ping,
    Client._follow,
)
"""What a client does from time to time besides its orders."""


class Person(Peer):
    """A peer with the operator's token that lists from time to time, and acts on what it finds."""

    EVERY: ClassVar[tuple[int, int]]
    """Milliseconds between two lists, at least and at most."""
    LIST: ClassVar[Message]

    def __init__(self, town: Town, name: str, start: int) -> None:
        super().__init__(town, name, start, operator=True)
        self._request: str | None = None
        self._poll()

    def _poll(self) -> None:
        self.later(self.chance.randint(*self.EVERY), self._poll)
        if self.session.is_open and self._request is None:
            self._request = self.session.request(self.LIST)
            self.await_reply(self._request)

    def after_news(self) -> None:
        page = self.replies.pop(self._request, None) if self._request is not None else None
        if page is not None:
            self._request = None
            self.look(page)

    def look(self, page: Message) -> None:
        """Act on the list."""
        raise NotImplementedError


class Operator(Person):
    """The human: confirms what only a human may confirm."""

    EVERY = (1_000, 4_000)
    LIST = TaskList(state="reported", limit=1_000)

    def look(self, page: Message) -> None:
        assert isinstance(page, TaskPage), "a list is answered by a page"
        for view in page.tasks:
            metadata = view["metadata"]
            if metadata["evaluator"] != "human" or "resultHash" not in metadata:
                continue
            rework = self.chance.random() < self.town.manners.review_rework
            self.session.request(
                TaskConfirm(
                    view["id"],
                    metadata["rev"],
                    metadata["resultHash"],
                    "reject" if rework else "accept",
                    rework,
                )
            )
