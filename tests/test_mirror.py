"""Every module has its test module, in the same place under tests/unit."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path.relative_to(ROOT)
    for folder in ("a2a", "reference_agents", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)

PROGRAMS = {
    "reference_agents/json_peer.py": "tests/process/test_readme.py",
    "reference_agents/testee.py": "tests/conformance/test_agent.py",
}
"""Programs without functions of their own are run by the test of what starts them."""


CASES = ("a2a/conformance/coordinator", "a2a/conformance/agent", "a2a/conformance/client")
"""A case is tried on the implementations here, and on wrong ones, which is what its test is."""


def mirror_of(module: Path) -> Path:
    """Return where the tests of a module are: tests/unit mirrors a2a/, the other packages keep their name."""
    if str(module) in PROGRAMS:
        return Path(PROGRAMS[str(module)])
    if str(module.parent) in CASES:
        return Path("tests", "conformance", f"test_{module.parent.name}.py")
    parts = module.parts[1:] if module.parts[0] == "a2a" else module.parts
    return Path("tests", "unit", *parts[:-1], f"test_{module.name}")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_its_test_module(module: Path) -> None:
    mirror = ROOT / mirror_of(module)
    assert mirror.is_file(), f"{module} is tested in {mirror_of(module)}, which is not there"
    assert "def test_" in mirror.read_text(encoding="utf-8"), f"{mirror_of(module)} tests nothing"
