"""Who is asked at a rung, what they are shown, and what their answers come to (spec RUNG).

Other agents judge, verify, merge or retry as ordinary tasks. They are independent of the parties and are not told whose
answer is whose. The procedure decides which rung comes next and what follows from an answer.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ...protocol.canonical import canonical, content_hash
from ...protocol.operations import decode
from ...protocol.states import TaskState
from ..ledger import Ledger
from ..live import World
from ..records import Delegated
from ..task_state import Task
from .case import Conflict, Stage
from .comparators import Incomparable, value_of
from .costs import exceeded, shares
from .effects import merged_value
from .rungs import Outcome, Rung
from .slate import Slate

__all__ = [
    "answer_of",
    "as_it_came",
    "ask",
    "field_of",
    "heard",
    "is_held",
    "is_over",
    "order_of",
    "question",
    "seen_by",
]

_ANSWER_MAX = 64 * 1024
"""Bytes of a judge's or a verifier's answer. The answer is a choice, not the work itself."""


def ask(world: World, slate: Slate, conflict: Conflict, number: int, rung: Rung, now: int) -> list[Delegated]:
    """Return the tasks of a rung, for agents other than the parties, who do not learn whose answer is whose."""
    if rung.strategy == "human" or rung.merges_itself:
        return []
    task, candidates = slate.task, slate.payloads
    order = order_of(conflict.id, len(candidates))
    if rung.strategy == "retry":
        assert task is not None, "else there is nothing to be done again"
        payloads = [task.payload]
    elif rung.strategy == "verify":
        payloads = [_asking(slate, conflict, [candidate]) for candidate in candidates]
    elif rung.strategy == "panel":
        shown = [_turned(order, judge) for judge in range(rung.k)]
        payloads = [_asking(slate, conflict, [candidates[at] for at in turned]) for turned in shown]
    elif rung.strategy == "judge":
        shown = [order, order[::-1]]
        payloads = [_asking(slate, conflict, [candidates[at] for at in turned]) for turned in shown]
    else:
        payloads = [_asking(slate, conflict, [candidates[at] for at in order])]
    spec: dict[str, Any] = {"skill": rung.skill}
    if rung.strategy == "retry" and task is not None:
        spec = {name: value for name, value in task.spec.items() if name != "redundancy"}
    involved = {*slate.involved, *spec.get("requires", {}).get("exclude", ())}
    if rung.strategy == "retry":
        involved |= seen_by(world.ledger, conflict)
    spec["requires"] = {**spec.get("requires", {}), "exclude": sorted(involved)}
    spec["acceptance"] = {"evaluator": "auto"}
    of_skill = world.policy.skills.get(rung.skill, world.policy.durations)
    durations = task.durations if task is not None else of_skill
    bounds = (task.bounds if task is not None else world.policy.bounds).to_plain() | {"attempts": 2, "losses": 1}
    budgets = shares(world.ledger, conflict, slate.terms, rung, task, len(payloads))
    made = []
    for offset, (payload, budget) in enumerate(zip(payloads, budgets, strict=True)):
        lsn = world.ledger.lsn + 1 + offset
        made.append(
            Delegated(
                at=now,
                task=world.ledger.task_id_at(lsn),
                scope=f"conflict:{conflict.id}",
                key=f"{number}.{offset}",
                delegator=task.delegator if task is not None else conflict.raiser,
                context_id=task.context_id if task is not None else world.ledger.own_context_at(lsn),
                spec=spec,
                spec_hash=content_hash(spec, payload),
                durations=durations.to_plain(),
                bounds=bounds,
                payload=payload,
                parent=task.id if task is not None else None,
                depth=task.depth + 1 if task is not None else 1,
                deadline_at=task.deadline_at if task is not None else None,
                budget=budget,
            )
        )
    return made


def seen_by(ledger: Ledger, conflict: Conflict) -> set[str]:
    """Return the agents that were shown the answers of a group: whatever they answered, it would not be their own."""
    group = ledger.tasks[conflict.task].group if conflict.task else None
    compared = group.compared if group is not None else []
    return ledger.worked_on((*compared, *(asked for stage in conflict.stages for asked in stage.asked)))


def order_of(conflict: str, n: int) -> list[int]:
    """Return the order in which to show candidates: drawn from the conflict's id, so that a replay shows the same."""
    return sorted(range(n), key=lambda at: hashlib.blake2b(f"{conflict}\n{at}".encode(), digest_size=8).digest())


def _turned(order: list[int], judge: int) -> list[int]:
    """Return the order for one judge of a panel: each judge sees a different candidate first."""
    shift = judge % len(order)
    return order[shift:] + order[:shift]


def _asking(slate: Slate, conflict: Conflict, candidates: list[bytes]) -> bytes:
    """Return the question of a rung."""
    if slate.task is not None:
        return question(slate.task, candidates)
    first = conflict.raises[0] if conflict.raises else None
    claim = first.claim if first is not None else ""
    head = {"kind": conflict.kind, "object": conflict.object, "claim": claim}
    return _shown(head, first.payload if first is not None else b"[]", candidates)


def question(task: Task, candidates: list[bytes]) -> bytes:
    """Return the question about the answers of a group."""
    return _shown({"skill": task.spec["skill"]}, task.payload, candidates)


def _shown(head: dict[str, Any], given: bytes, candidates: list[bytes]) -> bytes:
    """Return the question with its candidates, without their authors. Payloads that are JSON are embedded unchanged."""
    shown = b",".join(map(_as_json, candidates))
    return b'[{"data":{"candidates":[%s],"input":%s,"task":%s}}]' % (shown, _as_json(given), canonical(head))


def _as_json(payload: bytes) -> bytes:
    """Return a payload as JSON to embed. Other text becomes a string: unquoted, it could close the list around it."""
    try:
        decode(payload)
    except ValueError:
        return canonical(payload.decode())  # the edge has checked that it is UTF-8 (spec WIRE-12)
    return payload


def as_it_came(shown: bytes) -> bytes:
    """Return a question in its older form, in which payloads that are not JSON were embedded unchanged."""
    try:
        (part,) = decode(shown)
        said = [*part["data"]["candidates"], part["data"]["input"]]
    except (KeyError, TypeError, ValueError):
        return shown  # a retry's payload, which is the work itself, or a question that nests too deep
    came, rest = b"", shown
    for text in said:
        if isinstance(text, str) and _as_json(text.encode()) != text.encode():
            before, _, rest = rest.partition(canonical(text))
            came += before + text.encode()
    return came + rest


def heard(world: World, slate: Slate, conflict: Conflict, stage: Stage, now: int) -> Outcome | None:
    """Return the outcome of a rung under way, or None while it can still have one."""
    ledger, rung = world.ledger, conflict.ladder[stage.number]
    asked = [ledger.tasks[known] for known in stage.asked]
    pending = [one for one in asked if not one.is_terminal]
    has_run_out = is_over(world, stage.until, now)
    if rung.strategy == "human":
        return _silence(rung) if has_run_out and not is_held(rung) else None
    if rung.merges_itself:
        if stage.answered_lsn:
            return Outcome(None if stage.merged is None else len(slate.classes), stage.why)
        return Outcome(None, "nobody could say in time") if has_run_out else None
    too_much = exceeded(ledger, conflict, slate.terms, stage)
    if pending and not has_run_out and not too_much:
        return None
    outcome = _answered(ledger, slate, conflict, rung, asked)
    return Outcome(None, too_much) if too_much and outcome.winner is None else outcome


def _answered(ledger: Ledger, slate: Slate, conflict: Conflict, rung: Rung, asked: list[Task]) -> Outcome:
    """Return what the answers to a rung come to. An agent that has not answered has said nothing."""
    answers = [answer_of(one) for one in asked]
    order = order_of(conflict.id, len(slate.classes))
    if rung.strategy == "retry":
        return _retried(ledger, slate, asked[0])
    if rung.strategy == "verify":
        passed = [
            number for number, answer in enumerate(answers) if answer is True or field_of(answer, "passed") is True
        ]
        if len(passed) == 1:
            return Outcome(passed[0], "it alone passed")
        return Outcome(None, f"{len(passed)} of {len(answers)} passed")
    if rung.strategy == "judge":
        chosen = [_choice(answer, turned) for answer, turned in zip(answers, (order, order[::-1]), strict=True)]
        if chosen[0] is not None and chosen[0] == chosen[1]:
            return Outcome(chosen[0], "chosen in both orders")
        return Outcome(None, f"chosen in one order {chosen[0]}, in the other {chosen[1]}")
    if rung.strategy == "panel":
        votes = [_choice(answer, _turned(order, judge)) for judge, answer in enumerate(answers)]
        for number in range(len(slate.classes)):
            if 2 * votes.count(number) > rung.k:
                return Outcome(number, f"{votes.count(number)} of {rung.k} judges")
        return Outcome(None, f"the judges chose {votes}")
    merged = asked[0]
    if merged.state is TaskState.COMPLETED:
        if conflict.contested is not None and merged_value(merged) is None:
            return Outcome(None, "what the merger came to is no value for a context")
        return Outcome(len(slate.classes), "merged")
    return Outcome(None, f"the merger ended as {merged.state}")


def is_held(rung: Rung) -> bool:
    """Tell whether a rung waits for a person without a time limit."""
    return rung.strategy == "human" and rung.on_timeout == "hold"


def _silence(rung: Rung) -> Outcome:
    if rung.on_timeout == "first_wins":
        return Outcome(0, "nobody decided in time: the first in the ledger")
    return Outcome(None, "nobody decided in time")


def _retried(ledger: Ledger, slate: Slate, again: Task) -> Outcome:
    """Count one more answer with the earlier ones, by its bytes."""
    if again.state is not TaskState.COMPLETED:
        return Outcome(None, f"the further attempt ended as {again.state}")
    digest = again.results[-1].result_hash
    for number, members in enumerate(slate.classes):
        agrees = ledger.tasks[members[0]].results[-1].result_hash == digest
        if agrees and all(len(members) >= len(other) for other in slate.classes):
            return Outcome(number, "the further attempt agrees with it")
    return Outcome(None, "the further attempt does not settle it")


def answer_of(asked: Task) -> Any:
    """Return the answer to a task that was asked, or None."""
    if asked.state is not TaskState.COMPLETED or len(asked.results[-1].payload) > _ANSWER_MAX:
        return None
    try:
        return value_of(asked.results[-1].payload)
    except Incomparable:
        return None


def field_of(answer: Any, name: str) -> Any:
    """Return a field of an answer, or None if the answer has no such field."""
    return answer.get(name) if isinstance(answer, dict) else None


def _choice(answer: Any, order: list[int]) -> int | None:
    """Return the class that a judge chose. The judge names the place at which the candidate was shown."""
    place = field_of(answer, "choice")
    if isinstance(place, int) and not isinstance(place, bool) and 0 <= place < len(order):
        return order[place]
    return None


def is_over(world: World, until: int, now: int) -> bool:
    """Tell whether a time has passed. After a start no time is up before every agent had the chance to come back."""
    return bool(until) and now >= max(until, world.live.grace_until)
