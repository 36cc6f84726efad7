"""The lead of the desk: asks every retriever, and combines their ballots into an answer.

It reads no document. Every retriever is asked the same in a sub-task with its own key, so an attempt after a `kill -9`
finds the ballots of the previous one and asks nobody twice. A retriever that fails is named in the answer, and the
others are counted without it. If cited passages contradict each other, the lead has retrievers state both sides as one
task with several members, so that the coordinator opens a conflict, and answers with both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import anyio

from a2a import Agent, AgentInfo, AttemptFailed, Refused, TaskContext, TaskError

from ..delegating import LOOK_AGAIN, TIMERS, delegated, result_of
from ..errand import ErrandFailed
from ..presence import awaited
from ..steps import Steps, digest
from .contradictions import contradicting, speakers
from .fusion import fuse, is_carried
from .shapes import Answer, Ballot, Citation, Fact, Unheard

__all__ = ["agent", "answer_question", "sum_up"]

SKILL: Final = "find_passages"
CITED_MAX: Final = 10
SHOWN_MAX: Final = 3
"""Passages in the text of an answer."""
ASSEMBLY: Final = 60.0
"""Seconds in which a retriever has to appear; a squad comes up in a few."""
RESOLVE: Final = ("abort",)
"""Documents are not witnesses whose number makes something truer: nobody decides, and both sides are kept."""
QUEUE_HERE, QUEUE_AWAY = 600.0, 20.0
"""Seconds a retriever may keep a question waiting: one here may be busy, one that is away has to come back soon."""

agent = Agent("desk", version="1.0", description="Answers questions over a folder of documents.", concurrency=8)


@agent.skill(tags=["desk"])
async def answer_question(question: str, folder: str, task: TaskContext, only: list[str] | None = None) -> Answer:
    """Answer a question with passages of the documents in a folder, each with its file and lines."""
    steps = Steps(task, lambda words, options: task.ask(words, options=options))
    retrievers = await _assembled(task)
    ballots: dict[str, Ballot] = {}
    unheard: dict[str, ErrandFailed] = {}

    async def ask(one: AgentInfo) -> None:
        name = one.agent_id
        queue = QUEUE_AWAY if one.status == "away" else QUEUE_HERE
        try:
            found = await steps.run(
                f"look {name}", SKILL, f"look-{name}",
                to=name, queue=queue, question=question, folder=folder, only=only or [],
            )  # fmt: skip
        except ErrandFailed as exc:
            await steps.story("failed", name, exc.detail)
            unheard[name] = exc
            return
        ballots[name] = cast(Ballot, found)
        await steps.story("found", name, f"{len(ballots[name]['found'])} passages in {found['searched']} documents")
        await task.progress((len(ballots) + len(unheard)) / len(retrievers), f"{name} has answered")

    async with anyio.create_task_group() as group:
        for one in retrievers:
            group.start_soon(ask, one)
    if not ballots:
        first = unheard[min(unheard)]
        raise AttemptFailed(first.detail, code=first.code) from first
    answer = sum_up(question, ballots, {name: exc.detail for name, exc in unheard.items()})
    if answer["contradicting"]:
        answer["conflict"] = await _disputed(answer, folder, only or [], steps)
        answer["text"] = "\n".join(_lines(answer))
    return answer


async def _disputed(answer: Answer, folder: str, only: list[str], steps: Steps) -> str:
    """Have each side of a contradiction stated by its own retriever; return the resulting conflict."""
    task, facts = steps.task, answer["contradicting"]
    by_agent = speakers(facts, answer["citations"], answer["heard"])
    if not by_agent:
        return ""  # too few were heard for one to speak for each
    given = {"facts": facts, "speakers": by_agent, "folder": folder, "only": only}
    conflict = ""
    try:
        async with await delegated(
            task, "state_fact", given, f"dispute-{digest(given)}", copies=len(by_agent), comparator="pointers[/says]",
            resolve=RESOLVE, timers=TIMERS | {"queue": QUEUE_AWAY},
        ) as group:  # fmt: skip
            async for event in group.events():
                conflict = event.data.get("conflict", conflict) if event.kind == "dispute" else conflict
            await result_of(group)
    except (TaskError, Refused) as exc:
        # Without a decision the group fails, as intended; without a conflict, report what prevented it.
        if not conflict:
            await steps.story("failed", "state_fact", str(exc))
    return conflict


def sum_up(question: str, ballots: dict[str, Ballot], unheard: dict[str, str]) -> Answer:
    """Combine ballots, by agent, into an answer.

    Args:
        unheard: agents without a ballot, and why.
    """
    fused = fuse(ballots)
    citations = fused[:CITED_MAX]
    widest = max(ballots.values(), key=lambda ballot: ballot["searched"])
    answer = Answer(
        question=question,
        text="",
        is_carried=bool(fused) and is_carried(fused[0], len(ballots)),
        citations=citations,
        heard=sorted(ballots),
        unheard=[Unheard(agent=name, why=unheard[name]) for name in sorted(unheard)],
        searched=widest["searched"],
        skipped=widest["skipped"],
        skipped_total=widest["skipped_total"],
        contradicting=contradicting(question, citations),
        conflict="",
        has_changed=len({ballot["content"] for ballot in ballots.values()}) > 1,
    )
    answer["text"] = "\n".join(_lines(answer))
    return answer


async def _assembled(task: TaskContext) -> Sequence[AgentInfo]:
    """Wait until there is a retriever; return all that are here, and those that may come back."""
    with anyio.move_on_after(ASSEMBLY):
        while True:
            found = await task.find(SKILL)
            back = awaited(found)
            if asked := [one for one in found if one.status != "away" or one.agent_id in back]:
                return asked
            await task.progress(0.0, f"waiting for an agent for {SKILL}")
            await anyio.sleep(LOOK_AGAIN)
    raise AttemptFailed(f"nobody is there for {SKILL}", code="no_capable_agent")


def _lines(answer: Answer) -> list[str]:
    heard = len(answer["heard"])
    lines = []
    if not answer["citations"]:
        lines.append(f"Nothing in {answer['searched']} documents fits.")
    elif not answer["is_carried"]:
        lines += [f"No passage is among the first of most of {heard} retrievers; these come nearest.", ""]
    for citation in answer["citations"][:SHOWN_MAX]:
        lines += [*_cited(citation, heard), ""]
    if answer["contradicting"]:
        where = f" (a2a conflict show {answer['conflict']})" if answer["conflict"] else ""
        lines += [f"These contradict each other{where}:", *map(_stated, answer["contradicting"]), ""]
    for one in answer["unheard"]:
        lines.append(f"{one['agent']} was not heard: {one['why']}")
    if answer["has_changed"]:
        lines.append("Somebody wrote to the documents while they were read.")
    if answer["skipped_total"]:
        named = ", ".join(f"{_named(one['path'])} ({one['why']})" for one in answer["skipped"][:SHOWN_MAX])
        more = answer["skipped_total"] - min(SHOWN_MAX, len(answer["skipped"]))
        lines.append(f"Not read: {named}" + (f", and {more} more" if more else ""))
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _cited(citation: Citation, heard: int) -> list[str]:
    lines = f"{citation['line']}" if citation["line"] == citation["end"] else f"{citation['line']}-{citation['end']}"
    heading = citation["heading"].rpartition(" / ")[2]
    where = f"{_named(citation['path'])}:{lines}" + (f" ({heading})" if heading else "")
    return [
        f"{where}, {citation['in_favour']} of {heard} for it",
        *(f"  {line}" for line in citation["quote"].split("\n")),
    ]


def _stated(fact: Fact) -> str:
    return f"  {_named(fact['path'])}:{fact['line']}: {fact['quote']}"


def _named(path: str) -> str:
    """Return a path on one line: a name may contain a line feed, and the rest would read as part of the answer."""
    return path if path.isprintable() else ascii(path)


if __name__ == "__main__":
    agent.main()
