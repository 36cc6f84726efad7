"""Every documented way a conflict may go, in fresh processes: the same each time, and the ledger proves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.conflict_cases import HASH_SEEDS, wrong_with

pytestmark = pytest.mark.timeout(500)


@pytest.mark.parametrize("hash_seed", HASH_SEEDS)
def test_each_case_ends_as_documented_and_the_ledger_says_so_again(hash_seed: str, tmp_path: Path) -> None:
    assert wrong_with(tmp_path, hash_seed) == []
