"""Agents: what a simulated handler does with an attempt, as a script that sleeps and waits.

A script is a generator. It yields a number to sleep that many milliseconds, or a function to wait until that is true.
Its decisions come from the agent's own random stream; what has to be the same in every attempt of a task (its
sub-tasks, its question) comes from the task's stream.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from a2a.engine.delegation import Delegation
from a2a.engine.work import Answered, Attempt, AttemptState, Start, Steered, Stop
from a2a.engine.work import Event as WorkEvent
from a2a.protocol.canonical import content_hash
from a2a.protocol.messages import (
    AttemptError,
    Credit,
    Error,
    Held,
    TaskArtifact,
    TaskAsk,
    TaskDelegate,
    TaskHeartbeat,
    TaskLimits,
    TaskReport,
    TaskYield,
)

from .claimants import declare
from .contexts import share
from .costs import allow, hand_off, leave, spend
from .disputes import TRADES
from .fees import charge
from .patching import patch_of
from .peers import Peer
from .profiles import Manners
from .quarrels import quarrel
from .world import Event, World

if TYPE_CHECKING:
    from .town import Town

__all__ = ["Agent", "card"]

Script = Generator["int | Callable[[], bool]", None, None]


def card(name: str, skills: tuple[str, ...]) -> dict[str, Any]:
    """Return an agent card with these skills."""
    return {
        "name": name,
        "description": "a simulated agent",
        "version": "1",
        "skills": [{"id": skill, "name": skill, "description": "", "tags": []} for skill in skills],
    }


@dataclass(slots=True)
class Running:
    """An attempt and the script that works on it."""

    attempt: Attempt
    script: Script
    answers: dict[int, bytes] = field(default_factory=dict)
    until: Callable[[], bool] | None = None
    alarm: Event | None = None


class Agent(Peer):
    """One process of an agent."""

    def __init__(
        self,
        town: Town,
        name: str,
        start: int,
        skills: tuple[str, ...],
        credit: Credit,
        labels: dict[str, str],
        remembered: list[tuple[Attempt, dict[int, bytes]]],
        twin: int = 0,
    ) -> None:
        super().__init__(town, name, start, card=card(name, skills), labels=labels, credit=credit, twin=twin)
        self.running: dict[tuple[str, int], Running] = {}
        for attempt, answers in remembered:
            attempt.state = AttemptState.RUNNING
            attempt.beat_sent.clear()
            attempt.hand_offs, attempt.is_deserted, attempt.last_word = 0, False, None  # a dead process asked for them
            attempt.next_beat = self.world.now
            self.work.attempts[attempt.task, attempt.fence] = attempt
            self.world.after(0, self._begin, attempt, answers)
        if town.quarrels is not None:
            quarrel(self)

    @property
    def manners(self) -> Manners:
        """Its manners now: once the world is calm, it does its work."""
        return self.town.manners

    def on_end(self) -> None:
        for running in self.running.values():
            running.script.close()
            World.call_off(running.alarm)
        self.running.clear()

    def on_work(self, events: list[WorkEvent]) -> None:
        for event in events:
            key = (event.attempt.task, event.attempt.fence)
            if isinstance(event, Start):
                self._begin(event.attempt)
            elif isinstance(event, Answered):
                known = self.running.get(key)
                if known is not None:
                    known.answers[event.ask_no] = event.payload
            elif isinstance(event, Steered):
                if self.world.chance(*key, self.instance, "hears", event.steer_no).random() < 0.7:
                    event.attempt.steer_no = max(event.attempt.steer_no, event.steer_no)
            elif isinstance(event, Stop):
                self._stop(event)

    def after_news(self) -> None:
        for running in list(self.running.values()):
            if running.until is not None and running.until():
                running.until = None
                self._advance(running)

    # Scripts ----------------------------------------------------------------------------------------------------------

    def remember(self) -> list[tuple[Attempt, dict[int, bytes]]]:
        """Return the attempts under way and the answers they got, as an agent with storage would have kept them."""
        return [
            (attempt, dict(known.answers) if (known := self.running.get(key)) is not None else {})
            for key, attempt in self.work.attempts.items()
            if attempt.state is not AttemptState.ASKING
        ]

    def _begin(self, attempt: Attempt, answers: dict[int, bytes] | None = None) -> None:
        key = (attempt.task, attempt.fence)
        if not self.is_alive or key in self.running:
            return
        running = Running(attempt, iter(()))  # type: ignore[arg-type]
        running.answers = {answer.ask_no: answer.payload for answer in attempt.offer.answers} | (answers or {})
        attempt.steer_no = max((attempt.steer_no, *(word.steer_no for word in attempt.offer.steers)))
        running.script = work_on(self, running)
        self.running[key] = running
        if self.is_paused:
            self._missed.append((self._advance, (running,)))
        else:
            self._advance(running)

    def _advance(self, running: Running) -> None:
        key = (running.attempt.task, running.attempt.fence)
        if self.running.get(key) is not running:
            return
        try:
            wait = next(running.script)
            while callable(wait) and wait():
                wait = next(running.script)
        except StopIteration:
            self.running.pop(key, None)
            return
        if callable(wait):
            running.until = wait
        else:
            running.alarm = self.later(wait, self._advance, running)

    def _stop(self, stop: Stop) -> None:
        key = (stop.attempt.task, stop.attempt.fence)
        running = self.running.get(key)
        if running is None or self.chance.random() < self.manners.stubborn:
            return
        running.script.close()
        World.call_off(running.alarm)
        del self.running[key]
        if stop.grace_ms > 0:
            self.later(self.chance.randint(0, 300), self._wind_down, stop.attempt)

    def _wind_down(self, attempt: Attempt) -> None:
        word = self.chance.choice(("canceled", "failed", "completed", "completed", "yield", "silence"))
        if word == "silence" and not self.town.is_calm:
            return
        if word == "yield":
            self.work.yield_(attempt, "told to stop")
        elif word == "completed":
            self.work.report(attempt, "completed", result_of(self, attempt))
        elif word == "failed":
            self.work.report(attempt, "failed", b"[]", AttemptError("stopped", "told to stop", True))
        else:
            self.work.report(attempt, "canceled")


def result_of(agent: Agent, attempt: Attempt) -> bytes:
    """Return the result of an attempt: the same for all attempts of some tasks, its own for others."""
    trade = TRADES.get(attempt.offer.spec["skill"])
    if trade is not None:
        return trade(agent.town, agent.name, attempt)
    same = agent.world.chance(attempt.task, "same").random() < agent.town.profile.manners.same_result
    what = f"{attempt.task}/{attempt.offer.rev}" if same else f"{attempt.task}/{attempt.fence}/{agent.instance}"
    patch = patch_of(agent.town, attempt, what)
    return patch or b'[{"artifactId":"result","parts":[{"text":"%s"}]}]' % what.encode()


def work_on(agent: Agent, running: Running) -> Script:
    """Work on an attempt, from its start to its last message."""
    chance, attempt = agent.chance, running.attempt
    low, high = agent.town.profile.work_ms
    if chance.random() < agent.manners.decline:
        agent.work.decline(attempt, "busy", chance.choice((0, 500, 3_000)))
        return
    yield chance.randint(low, max(low, high // 4))
    for step in STEPS:
        yield from step(agent, running)
        if attempt.state is AttemptState.ENDING:
            return
    yield chance.randint(0, max(1, high // 4))
    _last_word(agent, attempt)


def _progress(agent: Agent, running: Running) -> Script:
    if agent.chance.random() < agent.manners.progress:
        for _ in range(agent.chance.randint(1, 3)):
            agent.work.progress(running.attempt, agent.chance.randint(0, 10_000), "under way", agent.world.now)
            yield agent.chance.randint(10, 500)


def _stream(agent: Agent, running: Running) -> Script:
    attempt = running.attempt
    if agent.chance.random() < agent.manners.artifact:
        count = agent.chance.randint(1, 3)
        for number in range(count):
            chunk = b'[{"text":"%d of %d"}]' % (number, attempt.fence)
            agent.work.artifact(attempt, "log", chunk, append=number > 0, last=number == count - 1)
            yield agent.chance.randint(0, 200)


def _claim(agent: Agent, running: Running) -> Script:
    if agent.claims.chance.random() < agent.manners.claim:
        yield from agent.claims.hold(running.attempt)
    keeps = agent.world.chance(running.attempt.task, running.attempt.fence, "keeps").random()
    if keeps < agent.manners.keep:
        yield from agent.claims.keep(running.attempt)


def _delegate_parts(agent: Agent, running: Running) -> Script:
    attempt = running.attempt
    plans = agent.world.chance(attempt.task, "plans")
    if attempt.offer.spec["skill"] == "plan" and plans.random() < agent.town.profile.manners.child:
        for number in range(plans.randint(1, 2)):
            yield from _delegate(agent, attempt, number)


def _dawdle(agent: Agent, running: Running) -> Script:
    lease_ms = running.attempt.offer.lease_ms
    if agent.chance.random() < agent.manners.dawdle:
        yield agent.chance.randint(lease_ms // 2, 2 * lease_ms)


def _share(agent: Agent, running: Running) -> Script:
    attempt = running.attempt
    if agent.world.chance(attempt.task, attempt.fence, "shares").random() < agent.manners.share:
        yield from share(agent, attempt)


def _leave(agent: Agent, running: Running) -> Script:
    yield from leave(agent, running.attempt)


def _spend(agent: Agent, running: Running) -> Script:
    yield from spend(agent, running.attempt)


def _charge(agent: Agent, running: Running) -> Script:
    yield from charge(agent, running.attempt)


def _hand_off(agent: Agent, running: Running) -> Script:
    yield from hand_off(agent, running.attempt)


def _misbehave(agent: Agent, running: Running) -> Script:
    attempt = running.attempt
    if agent.chance.random() < agent.manners.meddle:
        _trespass(agent)
    if agent.chance.random() < agent.manners.garble:
        agent.session.request(TaskReport(attempt.task, attempt.fence, "completed", f"sha256:{'0' * 64}", b"[1]"))
    yield 0


def _trespass(agent: Agent) -> None:
    """Send a message under the fence of another agent's attempt, as one that knows the number from the log could."""
    town = agent.town
    known = (task for task in town.court.model.open.values() if task.is_open and task.fence <= town.disk.durable)
    others = [task for task in known if task.holder != agent.name]
    if not others:
        return
    task = agent.chance.choice(others)
    word = agent.chance.randrange(5)
    if word == 0:
        agent.session.tell(TaskHeartbeat(task.id, task.fence))
    elif word == 1:
        agent.session.request(TaskYield(task.id, task.fence, "not mine"))
    elif word == 2:
        agent.session.request(TaskArtifact(task.id, task.fence, "log", 0, b'[{"text":"not mine"}]'))
    elif word == 3:
        agent.session.request(TaskAsk(task.id, 1, b'[{"text":"not mine"}]', task.fence))
    else:
        digest = content_hash({"outcome": "completed"}, b"[2]")
        agent.session.request(TaskReport(task.id, task.fence, "completed", digest, b"[2]"))


def _last_word(agent: Agent, attempt: Attempt) -> None:
    chance, manners = agent.chance, agent.manners
    others = {
        "retry": manners.fail,
        "failed": manners.fail_for_good,
        "rejected": manners.reject,
        "yield": manners.give_back,
        "canceled": manners.cancel_unasked,
    }
    words = ["completed", *others]
    outcome = chance.choices(words, [max(0.0, 1.0 - sum(others.values())), *others.values()])[0]
    if outcome == "yield":
        agent.work.yield_(attempt, "not today")
    elif outcome == "retry":
        agent.work.report(attempt, "failed", b"[]", AttemptError("hiccup", "try again", True))
    elif outcome == "failed":
        agent.work.report(attempt, "failed", b"[]", AttemptError("broken", "it cannot be done", False))
    elif outcome == "completed":
        agent.work.report(attempt, "completed", result_of(agent, attempt))
    else:
        agent.work.report(attempt, outcome, b"[]", AttemptError(outcome, "as it is"))  # type: ignore[arg-type]


def _ask(agent: Agent, running: Running) -> Script:
    """Ask as `TaskContext.ask` does: take the next number if this one was asked in other words."""
    chance, manners, attempt = agent.chance, agent.manners, running.attempt
    asks = agent.world.chance(attempt.task, "asks").random() < agent.town.profile.manners.ask
    if not asks or agent.town.is_calm:
        return
    plans = agent.world.chance(attempt.task, "question")
    for number in range(1, plans.randint(2, 3)):
        words = b'[{"text":"question %d"}]' % number
        if chance.random() < 0.1:
            words = b'[{"text":"question %d of %s"}]' % (number, agent.instance.encode())
        ask_no = number
        while True:
            cold = chance.random() < manners.cold
            wait_ms = chance.choice((None, 3_000, 20_000))
            default = b'[{"text":"default"}]' if chance.random() < 0.5 else None
            ask = TaskAsk(
                attempt.task,
                ask_no,
                words,
                attempt.fence,
                "cold" if cold else "hot",
                timeout_ms=wait_ms,
                default=default,
            )
            request = agent.session.request(ask)
            yield agent.await_reply(request)
            reply = agent.replies.pop(request)
            if not isinstance(reply, Error) or reply.code != "conflict" or ask_no > 3:
                break
            ask_no += 1
        if isinstance(reply, Error):
            continue
        if chance.random() < manners.ask_and_leave:
            continue
        yield lambda ask_no=ask_no: ask_no in running.answers  # type: ignore[misc]


def _delegate(agent: Agent, attempt: Attempt, number: int) -> Script:
    """Delegate a sub-task and wait for it, with limited patience."""
    plans = agent.world.chance(attempt.task, "child", number)
    chance = agent.chance
    skill = plans.choice(("work", "work", "plan"))
    spec: dict[str, Any] = {"skill": skill, "acceptance": {"evaluator": plans.choice(("auto", "delegator"))}}
    payload = b'[{"text":"part %d of %s"}]' % (number, attempt.task.encode())
    if plans.random() < 0.1:
        spec, payload = dict(attempt.offer.spec), attempt.offer.payload  # its own work again: a cycle
    outlives = plans.random() < 0.2 and agent.town.profile.policy.on_confirm_timeout != "hold"
    message = TaskDelegate(
        f"part-{number}",
        spec,  # type: ignore[arg-type]
        payload,
        parent=Held(attempt.task, attempt.fence),
        limits=TaskLimits(deadline_ms=plans.choice((None, None, 20_000))),
        on_parent_end="abandon" if outlives else "cancel",
    )
    allow(message, agent.world.chance(attempt.task, "allowed", number), agent.town.profile.manners.spend)
    declare(message, agent.world.chance(attempt.task, "needs", number), agent.town.profile.manners.claim)
    delegation = agent.delegations.delegate(message)
    yield lambda: delegation.task is not None or delegation.refused is not None
    if delegation.refused is not None:
        agent.delegations.forget(delegation)
        return
    if chance.random() < 0.3:
        agent.delegations.watch(delegation)
    beside = agent.world.chance(attempt.task, attempt.fence, "beside", number).random()
    if beside < agent.manners.keep / 2:
        yield from agent.claims.keep(attempt)  # and answers nothing meanwhile
    rests = agent.town.profile.manners.claim > 0 and beside < 0.7
    if rests:
        agent.work.wait(attempt, 1, agent.world.now)
    give_up = agent.world.now + chance.choice((2_000, 20_000, 60_000))
    has_canceled = False
    decided: set[int] = set()
    while not delegation.has_ended:
        _answer_child(agent, delegation, decided)
        if agent.world.now >= give_up:
            if has_canceled:
                break
            has_canceled = True
            give_up = agent.world.now + 20_000
            agent.delegations.cancel(delegation, chance.choice(("coop", "kill", "skip")), "out of patience")
        yield 250
    if rests:
        agent.work.wait(attempt, -1, agent.world.now)
    agent.delegations.forget(delegation)


def _answer_child(agent: Agent, delegation: Delegation, decided: set[int]) -> None:
    delegation.events.clear()
    for ask_no in list(delegation.asks):
        agent.delegations.answer(delegation, ask_no, b'[{"text":"yes"}]')
    review = delegation.review
    if (
        review is None
        or review.rev in decided
        or delegation.request.spec.get("acceptance", {}).get("evaluator") == "auto"
    ):
        return
    decided.add(review.rev)
    if agent.chance.random() < agent.manners.review_rework:
        agent.delegations.confirm(delegation, "reject", rework=True, feedback=b'[{"text":"again"}]')
    else:
        agent.delegations.confirm(delegation)


STEPS: tuple[Callable[[Agent, Running], Script], ...] = (
    _progress,
    _stream,
    _claim,
    _leave,
    _ask,
    _delegate_parts,
    _spend,
    _charge,
    _dawdle,
    _share,
    _misbehave,
    _hand_off,
)
"""The steps an attempt may take before its last message, in this order; a manner says how often each happens."""
