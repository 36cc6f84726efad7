"""Who approves a patch, what that person is asked, and what the answer means.

Pure functions: the lead asks and acts. The question depends only on results in the ledger, so that an attempt after a
crash asks in the same words and gets the answer that was given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from .shapes import Judgement, Review, Workspace
from .summary import Verdict, describe_judgement

__all__ = ["HUMAN", "Approval", "Decision", "question", "read_answer", "without_a_person"]

Approval = Literal["ask", "auto", "never"]
"""Who approves a patch: a person; nobody, as long as the evidence is good and safety does not refuse; or never."""

HUMAN: Final = "human"
"""The name under which a person's own patch is judged, and a person's approval noted."""
REASONS_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person, or the absence of one, says about a patch."""

    verdict: Literal["approve", "reject", "rework", "edit"]
    text: str = ""
    """Feedback, or the edited patch."""


def without_a_person(approve: Approval, judgement: Judgement, review: Review) -> tuple[Verdict, str] | None:
    """Return how a run ends if nobody is asked; None if it goes on, to the commit or to a question."""
    if approve == "ask":
        return None
    if review["verdict"] == "refuse":
        return "refused", _refusals(review)
    if judgement["verdict"] == "no_evidence":
        return "no_evidence", "tests cannot decide, and no person was to be asked"
    return ("held", "") if approve == "never" else None


def question(workspace: Workspace, judgement: Judgement, review: Review, path: str, hint: str) -> tuple[str, list[str]]:
    """Return the question to a person about a patch, and the answers to choose from.

    Args:
        path: where the patch can be read.
        hint: what became of the last answer.
    """
    lines = [hint] if hint else []
    if judgement["verdict"] == "no_evidence":
        lines.append(f"NO EVIDENCE: {workspace['evidence_reason']}. Nobody knows what this patch breaks.")
    lines.append(describe_judgement(judgement, review))
    if path:
        lines.append(f"  patch      {path}")
    options = ["reject", "reject: FEEDBACK", "edit: PATH"]
    if review["verdict"] == "refuse":
        lines.append("Safety refuses this patch. Say what to do differently, or `reject`.")
    elif judgement["verdict"] == "nothing":
        lines.append("Nothing is left to commit. Say what to do differently, or `reject`.")
    else:
        lines.append("Commit this on a branch? `reject: FEEDBACK` sends it back, `edit: PATH` takes your patch.")
        options.insert(0, "approve")
    return "\n".join(lines), options


def read_answer(answer: Any) -> Decision:
    """Interpret a person's answer to the question of approval.

    Accepts `approve`, `reject`, `reject: why` (which sends it back), `edit: PATH`, the same as an object with
    `decision` and `feedback` or `patch`, and treats any other words as feedback.
    """
    if isinstance(answer, dict):
        verdict = str(answer.get("decision", "")).strip().lower()
        text = str(answer.get("patch" if verdict == "edit" else "feedback", "") or "")
    else:
        head, _, text = str(answer).strip().partition(":")
        verdict = head.strip().lower()
        if verdict not in {"approve", "yes", "y", "reject", "no", "n", "edit", "rework", "stop"}:
            verdict, text = "rework", str(answer)
    text = text.strip() if verdict != "edit" else text
    if verdict in {"approve", "yes", "y"}:
        return Decision("approve")
    if verdict == "edit" and text.strip():
        return Decision("edit", text)
    if text:
        return Decision("rework", text)
    return Decision("reject")


def _refusals(review: Review) -> str:
    said = [
        f"{finding['check']} {finding['path']}: {finding['detail']}"
        for finding in review["findings"]
        if finding["verdict"] == "refuse"
    ]
    more = f" and {len(said) - REASONS_SHOWN} more" if len(said) > REASONS_SHOWN else ""
    return "; ".join(said[:REASONS_SHOWN]) + more
