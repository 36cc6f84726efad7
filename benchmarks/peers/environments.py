"""The virtual environments of the peers: made from the package index at first use, and kept in the user's cache.

Each peer has its own, because a2a-sdk installs a package named `a2a` and because the pins of one would bind the others.
The project comes after the installed packages on the path there: `benchmarks` is found, and `a2a` is not ours.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from benchmarks.processes import PROJECT, output
from benchmarks.report import BenchmarkError

__all__ = ["interpreter", "provide", "requirements"]

REQUIREMENTS = Path(__file__).parent
MADE_WITHIN = 120.0
INSTALLED_WITHIN = 600.0
"""Allows for a slow index and a package that is built from source."""
MARK = ".installed"
"""A file that is written when everything is there; an environment without it is made again."""


def requirements(name: str) -> list[str]:
    """Return the packages of a peer's environment, with their versions."""
    return (REQUIREMENTS / f"{name}.txt").read_text().split()


def cache_directory() -> Path:
    """Return where the environments are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "a2a-benchmarks"


def home_of(name: str) -> Path:
    """Return the directory of a peer's environment: other requirements or another Python have another directory."""
    wanted = (REQUIREMENTS / f"{name}.txt").read_bytes() + sys.version.encode() + os.fsencode(PROJECT)
    return cache_directory() / f"{name}-{hashlib.sha256(wanted).hexdigest()[:16]}"


async def provide(name: str) -> Path:
    """Return the directory of a peer's environment, and make it if it is not there yet.

    Raises:
        BenchmarkError: it cannot be made, or the packages are not available.
    """
    home = home_of(name)
    if not (home / MARK).exists():
        print(f"{name}: making its environment from the package index", file=sys.stderr)
        home.parent.mkdir(parents=True, exist_ok=True)
        await output(sys.executable, "-m", "venv", "--clear", home, within=MADE_WITHIN)
        packages = next((home / "lib").glob("python*/site-packages"), None)
        if packages is None:
            raise BenchmarkError(f"{home} has no place for packages")
        (packages / "benchmarks.pth").write_text(f"{PROJECT}\n")
        wanted = ("--requirement", REQUIREMENTS / f"{name}.txt")
        install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *wanted)
        await output(home / "bin" / "python", *install, within=INSTALLED_WITHIN)
        (home / MARK).touch()
    return home


def interpreter(home: Path) -> tuple[str, ...]:
    """Return how to start Python there, without what environment variables and the directory would put on the path."""
    return (str(home / "bin" / "python"), "-I")
