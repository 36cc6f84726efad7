"""Keep a repository's own code from the network, from other files and from outliving its run.

Uses what the machine has: Linux namespaces through `unshare`, else bubblewrap, whichever worked in a trial. If neither
works, `detect` says `none`, and the caller decides whether to refuse. This module knows no tests and no git.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from .launch import SCRATCH
from .processes import LAUNCH, Finished, Limits, OnLine, run

__all__ = ["FOREIGN_LIMITS", "Sandbox", "detect", "foreign_environment", "run_foreign"]

Kind = Literal["namespaces", "bubblewrap", "none"]

FOREIGN_LIMITS: Final = Limits(seconds=600.0, memory=4 * 1024**3, file_size=512 * 1024**2)
"""For a whole test run. Four GiB of address space leave room for numerical libraries, and for the agents."""

PROBE: Final = """\
import socket, sys
names = [name for _, name in socket.if_nameindex() if name != "lo"]
local = socket.socket(); local.bind(("127.0.0.1", 0)); local.listen()
socket.create_connection(local.getsockname(), timeout=5).close()
sys.exit(3 if names else 0)
"""
"""Exits with 0 if only the loopback interface exists, and works."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A way to run foreign code that was seen to work on this machine."""

    kind: Kind
    options: tuple[str, ...] = ()
    """Options of `unshare`; empty for the others."""
    sees: tuple[str, ...] = ()
    """Folders that foreign code can read even if they are in scratch space."""

    def command(self, command: Sequence[str], writable: Sequence[str | Path], limits: Limits) -> list[str]:
        """Return the command line that runs a command confined, able to write only to the named folders.

        Scratch folders such as /tmp are private and empty, except for those folders and `sees`. With the weaker
        namespaces, and without a sandbox, all files stay as they are.
        """
        folders = [os.fspath(path) for path in writable]
        # Also this installation: the interpreter, and what is borrowed from it.
        seen = [sys.base_prefix, sys.prefix, *self.sees]
        inner = [sys.executable, "-I", "-S", str(LAUNCH), "confine", *limits.options()]
        if self.kind == "namespaces":
            if "--mount" in self.options:
                inner += ["--read-only", *(f"--writable={path}" for path in folders)]
                inner += [f"--readable={path}" for path in seen]
            return ["unshare", *self.options, "--", *inner, "--loopback", "--", *command]
        if self.kind == "bubblewrap":
            scratch = [word for path in SCRATCH if Path(path).is_dir() for word in ("--tmpfs", path)]
            binds = [word for path in (*seen, str(LAUNCH.parent)) for word in ("--ro-bind-try", path, path)]
            binds += [word for path in folders for word in ("--bind", path, path)]
            base = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", *scratch]
            return ["bwrap", "--unshare-all", "--die-with-parent", *base, *binds, "--", *inner, "--", *command]
        return [*inner, "--", *command]


NAMESPACES: Final = (
    ("--user", "--map-root-user", "--net", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
    ("--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"),
    ("--user", "--map-root-user", "--net"),
)
"""From the strictest to the weakest that still blocks the network; containers often forbid the first."""


async def detect(scratch: str | Path, *sees: str | Path) -> Sandbox:
    """Find the strictest sandbox that works here. The answer stays valid on this machine.

    Args:
        scratch: a folder for the trial, which foreign code will be able to read.
        sees: other folders that it will be able to read.
    """
    seen = tuple(os.fspath(path) for path in (scratch, *sees))
    candidates = [Sandbox("namespaces", options, seen) for options in NAMESPACES if shutil.which("unshare")]
    if shutil.which("bwrap"):
        candidates.append(Sandbox("bubblewrap", sees=seen))
    for candidate in candidates:
        tried = await run_foreign(
            candidate, [sys.executable, "-I", "-S", "-c", PROBE], cwd=scratch, writable=[scratch],
            env={"PATH": os.defpath}, limits=Limits(seconds=20.0),
        )  # fmt: skip
        if tried.code == 0:
            return candidate
    return Sandbox("none")


def foreign_environment(python: str, scratch: str | Path, import_paths: Sequence[str | Path]) -> dict[str, str]:
    """Return an environment for foreign code, with nothing of ours: no token, no home, no proxy."""
    return {
        "PATH": os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", os.defpath)]),
        "HOME": os.fspath(scratch),
        "TMPDIR": os.fspath(scratch),
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(os.fspath(path) for path in import_paths),
        # The same tests on the same tree have to give the same answer, and leave no compiled files behind.
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PIP_NO_INPUT": "1",
    }


async def run_foreign(
    sandbox: Sandbox,
    command: Sequence[str],
    *,
    cwd: str | Path,
    writable: Sequence[str | Path],
    env: dict[str, str],
    limits: Limits = FOREIGN_LIMITS,
    on_line: OnLine | None = None,
) -> Finished:
    """Run a repository's code in the sandbox, guarded and limited."""
    # The limits go to the innermost stage: the sandbox's own programs need none.
    outer = Limits(seconds=limits.seconds)
    return await run(sandbox.command(command, writable, limits), cwd=cwd, env=env, limits=outer, on_line=on_line)
