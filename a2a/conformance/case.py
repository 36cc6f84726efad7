"""Cases: each tries one behaviour of an implementation, under the name of the requirement it is about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from .requirements import Level, requirements

__all__ = ["CASES", "Case", "Failed", "Missed", "Need", "Role", "Skipped", "case"]


class Role(StrEnum):
    """What is under test; the suite plays the other side."""

    COORDINATOR = "coordinator"
    AGENT = "agent"
    CLIENT = "client"


class Need(StrEnum):
    """What a case needs besides the implementation."""

    RESTART = "restart"
    """The implementation can be killed and started again."""
    OPERATOR = "operator"
    """The operator's token."""
    ALONE = "alone"
    """No other case runs at the same time."""
    OTHERS = "others"
    """All other cases have run: it judges the frames that came in them."""


class Failed(Exception):
    """The implementation did not do what the requirement says."""


class Missed(Failed):
    """A frame did not come, in time or at all. The answer in its place may have gone to another connection."""


class Skipped(Exception):
    """The case cannot be tried on this implementation; the text says why."""


@dataclass(frozen=True, slots=True)
class Case:
    """One behaviour, tried."""

    requirement: str
    name: str
    role: Role
    level: Level
    says: str
    """What the case does and what has to result."""
    run: Callable[[Any], Awaitable[None]] = field(repr=False, compare=False)
    needs: frozenset[Need] = frozenset()
    also: tuple[str, ...] = ()
    """Further requirements that the case shows."""

    @property
    def id(self) -> str:
        """As `LEASE-8/revives_once_heard_again`."""
        return f"{self.requirement}/{self.name}"


CASES: list[Case] = []
"""All cases, in the order of their files. Filled when the modules with the cases are imported."""

Function = TypeVar("Function", bound=Callable[[Any], Awaitable[None]])


def case(
    role: Role,
    requirement: str,
    *,
    level: Level | None = None,
    also: tuple[str, ...] = (),
    needs: tuple[Need, ...] = (),
) -> Callable[[Function], Function]:
    """Make a function a case. The function's name is the case's name; its docstring says what the case tries.

    Args:
        role: What is under test.
        requirement: The paragraph the case is about.
        level: How binding this behaviour is, where that differs from the paragraph as a whole.
        also: Further paragraphs the case shows.
        needs: What the case needs.
    """

    def register(function: Function) -> Function:
        known = requirements()
        for name in (requirement, *also):
            assert name in known, f"{function.__name__}: there is no requirement {name}"
        says = " ".join((function.__doc__ or "").split())
        assert says, f"{function.__name__} does not say what it tries"
        CASES.append(
            Case(
                requirement,
                function.__name__,
                role,
                level or known[requirement].level,
                says,
                function,
                frozenset(needs),
                also,
            )
        )
        return function

    return register
