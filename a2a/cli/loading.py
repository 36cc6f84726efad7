"""`MODULE:VARIABLE` on the command line: find the agent it names, and the files it is made of."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

import click

from ..agent import Agent
from .exits import ExitCode, Failure

__all__ = ["load_agent", "no_module", "source_files"]


def load_agent(spec: str) -> Agent:
    """Import the agent that `MODULE:VARIABLE` names, or the only one of `MODULE`; modules here come first.

    Raises:
        UsageError: there is none.
        Failure: the module fails; it is named with the line it failed at.
    """
    _look_here()
    module_name, _, variable = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and module_name.startswith(error.name):
            raise click.UsageError(no_module(spec, error.name)) from error
        raise _failure(spec, error) from error
    except Exception as error:  # a module may fail in any way
        raise _failure(spec, error) from error
    if variable:
        found: object = module
        for part in variable.split("."):
            found = getattr(found, part, None)
        if not isinstance(found, Agent):
            names = _listed(name for name, value in vars(module).items() if isinstance(value, Agent))
            raise click.UsageError(
                f"{spec}: expected an Agent, it is {type(found).__name__}; {module_name} has {names}"
            )
        return found
    agents = {name: value for name, value in vars(module).items() if isinstance(value, Agent)}
    if len(set(map(id, agents.values()))) != 1:
        raise click.UsageError(f"{spec}: name one agent of the module, as {spec}:NAME; it has {_listed(agents)}")
    return next(iter(agents.values()))


def no_module(spec: str, name: str) -> str:
    """Say that a module is not there."""
    return f"{spec}: there is no module {name} here or in this installation"


def source_files(spec: str) -> list[Path]:
    """Return the files of the module: those of the whole package, where it is one; it is not run."""
    _look_here()
    name = spec.partition(":")[0]
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return []
    if found is None or found.origin is None:
        return []
    path = Path(found.origin)
    return sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]


def _look_here() -> None:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _failure(spec: str, error: Exception) -> Failure:
    """Return what a command ends with whose module fails: its usage is right, and nothing to be told of."""
    return Failure(f"{spec}: {_where(error)}", ExitCode.USAGE)


def _where(error: Exception) -> str:
    """Return what failed, and at which line of whose file."""
    if isinstance(error, SyntaxError):  # its own words end with the place
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    at = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames and frames[-1].filename != __file__ else ""
    return f"{at}{type(error).__name__}: {error}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
