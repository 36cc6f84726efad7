"""How good the desk is: every retriever alone, and the squad, on the question set of this repository.

`python -m reference_agents.desk.evaluate` runs a coordinator and the squad's agents, asks each retriever and the lead
every question as any client would, and prints what part of them was answered by the first passage, by one of the first
three and ten, and the mean reciprocal rank. It ends with 1 where the squad is not ahead of its best retriever.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from a2a import Agent, Client, Policy
from a2a.testing import squad

from . import AGENTS, SQUAD
from .folder import list_folder
from .lead import CITED_MAX, SKILL
from .questions import DOCUMENTS, QUESTIONS, Question, read_questions

__all__ = ["Figures", "evaluate", "figures_of", "is_ahead", "load_agents", "main", "table"]

ROOT: Final = Path(__file__).parents[2]
LEAD: Final = "desk"
AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Figures:
    """How well questions were answered, each by a ranking of ten passages."""

    first: float
    """The share of questions that the first passage answers."""
    of_three: float
    of_ten: float
    mrr: float
    """The mean of one over the rank of the first passage that answers; 0 for a question without one."""


def figures_of(ranks: Sequence[int | None]) -> Figures:
    """Return the figures for the ranks, from 1, at which questions were answered; None for no answer."""
    heard = [rank for rank in ranks if rank is not None and rank <= CITED_MAX]
    total = max(1, len(ranks))
    return Figures(
        first=sum(rank == 1 for rank in heard) / total,
        of_three=sum(rank <= 3 for rank in heard) / total,
        of_ten=len(heard) / total,
        mrr=sum(1 / rank for rank in heard) / total,
    )


async def evaluate(
    client: Client, questions: Sequence[Question], folder: Path, only: Sequence[str] = DOCUMENTS
) -> dict[str, list[int | None]]:
    """Ask each retriever and the lead all questions; return by agent the rank at which each was answered."""
    ranks: dict[str, list[int | None]] = {name: [None] * len(questions) for name in (*_retrievers(), LEAD)}
    room = asyncio.Semaphore(AT_ONCE)

    async def ask(number: int, name: str) -> None:
        question = questions[number]
        skill, passages = (SQUAD["skill"], "citations") if name == LEAD else (SKILL, "found")
        given = {"question": question.question, "folder": str(folder), "only": list(only)}
        async with room, client.delegate(skill, given, to=name) as task:
            found: list[Any] = (await task.result())[passages]
        ranks[name][number] = next(
            (rank for rank, one in enumerate(found, 1) if question.is_answered_by(one["path"], one["quote"])), None
        )

    async with asyncio.TaskGroup() as group:
        for name in ranks:
            for number in range(len(questions)):
                group.create_task(ask(number, name))
    return ranks


def table(questions: Sequence[Question], ranks: Mapping[str, Sequence[int | None]]) -> list[str]:
    """Return the findings as lines for people."""
    kinds = Counter(question.kind for question in questions)
    lines = [f"{len(questions)} questions: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()), ""]
    lines.append(f"{'':<14}{'first':>8}{'of 3':>8}{'of 10':>8}{'MRR':>8}   MRR by kind")
    for name, found in ranks.items():
        figures = figures_of(found)
        parts = []
        for kind in kinds:
            of_kind = [rank for rank, question in zip(found, questions, strict=True) if question.kind == kind]
            parts.append(f"{kind} {figures_of(of_kind).mrr:.3f}")
        shown = "the squad" if name == LEAD else name
        shares = "".join(f"{share:>8.1%}" for share in (figures.first, figures.of_three, figures.of_ten))
        lines.append(f"{shown:<14}{shares}{figures.mrr:>8.3f}   {', '.join(parts)}")
    return lines


def is_ahead(ranks: Mapping[str, Sequence[int | None]]) -> bool:
    """Tell whether the squad is better than every single retriever, by mean reciprocal rank."""
    alone = [figures_of(found).mrr for name, found in ranks.items() if name != LEAD]
    return figures_of(ranks[LEAD]).mrr > max(alone)


def load_agents() -> list[Agent]:
    """Return the agents of the squad."""
    return [importlib.import_module(module).agent for module in AGENTS.values()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m reference_agents.desk.evaluate", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT, help="where the documents are  [this repository]")
    parser.add_argument(
        "--only", action="append", metavar="PATTERN", help="documents to read  [those the questions are about]"
    )
    parser.add_argument(
        "--questions", type=Path, default=QUESTIONS, help="the file with the questions  [this repository's]"
    )
    parser.add_argument("--json", action="store_true", help="write the ranks as one JSON object")
    options = parser.parse_args(arguments)
    questions = read_questions(options.questions)
    folder, only = options.folder.resolve(), options.only or DOCUMENTS
    if not folder.is_dir():
        parser.error(f"--folder: {folder} is not a folder")
    if not list_folder(str(folder), only)[0]:
        # Each of the tasks would search the whole folder for nothing; an installation has no documents.
        parser.error(f"--folder: {folder} has none of {', '.join(only)}")

    async def run() -> dict[str, list[int | None]]:
        # A test's durations are too short for agents that share one process and its time.
        async with squad(*load_agents(), policy=Policy()) as up:
            return await evaluate(up.client, questions, folder, only)

    ranks = asyncio.run(run())
    print(json.dumps(ranks) if options.json else "\n".join(table(questions, ranks)))
    return 0 if is_ahead(ranks) else 1


def _retrievers() -> list[str]:
    return [name for name in AGENTS if name != LEAD]


if __name__ == "__main__":
    sys.exit(main())
