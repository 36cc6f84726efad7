"""What a repository's tests do not find, and what it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from reference_agents.maintenance.needs import (
    asked_for,
    missing_modules,
    requirements_for,
    requirements_of_build,
    usual_error,
)

OUTPUT = """\
____ ERROR collecting tests/test_a.py ____
tests/test_a.py:1: in <module>
    from six.moves import range
E   ModuleNotFoundError: No module named 'six.moves'
E   ModuleNotFoundError: No module named 'dateutil'
ImportError: Error importing plugin "pytest_mock": No module named 'pytest_mock'
E   AssertionError: No module named 'text of a test'
"""


def write(tree: Path, **files: str) -> None:
    for name, text in files.items():
        path = tree / name.replace("__", "/").replace("_", ".", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_modules_that_are_missing_are_read_from_what_python_says() -> None:
    assert missing_modules(OUTPUT) == ["dateutil", "pytest_mock", "six"]
    assert missing_modules("ok") == []


def test_plugins_that_are_missing_are_known_by_their_fixtures_and_by_tests_that_are_not_awaited() -> None:
    output = "E       fixture 'mocker' not found\nE       fixture 'one_of_its_own' not found\n"
    assert missing_modules(output) == ["pytest_mock"]
    assert missing_modules("async def functions are not natively supported.") == ["pytest_asyncio"]


EGG = (
    "DistutilsError: Command '['/x/python', '-m', 'pip', 'wheel', '-w', '/tmp/y', '{}']' returned non-zero exit status"
)


@pytest.mark.parametrize(
    ("asked", "named", "wanted"),
    [
        ("pytest-runner", "pytest-runner>=2", ["pytest-runner>=2"]),
        ("setuptools_scm!=4", "setuptools-scm", ["setuptools-scm"]),
        ("pytest-runner", "tyqosquat", []),
        ("pytest-runner", "pytest-runner @ https://e.invalid/e.zip", []),
    ],
)
def test_what_setuptools_fails_to_fetch_is_had_where_the_script_names_it(
    asked: str, named: str, wanted: list[str], tmp_path: Path
) -> None:
    (tmp_path / "setup.py").write_text(f"runner = ['{asked}'] if needed else []\nsetup(setup_requires=runner)\n")
    assert requirements_of_build(EGG.format(named), tmp_path) == wanted


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (OUTPUT, "ModuleNotFoundError: No module named 'six.moves'"),
        ("E   project.errors.BadError: no\n", "project.errors.BadError: no"),
        ("  AttributeError: module has no x\n[end of output]", "AttributeError: module has no x"),
        (
            "INTERNALERROR> pytest.PytestUnknownMarkWarning: no such mark",
            "pytest.PytestUnknownMarkWarning: no such mark",
        ),
        ("E   KeyError: 'a'\nE   ValueError: b\nE   ValueError: b\n", "ValueError: b"),
        ("E   _pytest.nodes.Collector.CollectError: no\nE   ImportError: why", "ImportError: why"),
        ("1 failed", ""),
    ],
)
def test_the_error_that_is_named_most_often_is_the_reason_to_tell(output: str, told: str) -> None:
    assert usual_error(output) == told


def test_all_the_usual_places_are_looked_at_and_nothing_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    write(
        tmp_path,
        requirements_txt="one>=1  # why\n-r other.txt\nevil @ https://e.invalid/e.zip\n--index-url https://e.invalid\n",
        requirements__test_txt="two[more]==2; python_version > '3'\n",
        tox_ini="[testenv]\ndeps =\n    three\n    py27: four<4\n    -rrequirements.txt\n",
        setup_cfg="[options]\ntests_require = five\n[options.extras_require]\nall =\n    six\n",
        setup_py=f"open({str(mark)!r}, 'w')\nsetup(tests_require=['seven'], extras_require={{'a': ['eight~=8.0']}})\n",
        Pipfile='[packages]\nfourteen = "*"\n[dev-packages]\nfifteen = "==1"\nsixteen = {version = "*"}\n',
        pyproject_toml=(
            "[project]\ndependencies = ['nine']\noptional-dependencies = {test = ['ten']}\n"
            "[dependency-groups]\ndev = ['eleven', {include-group = 'x'}]\n"
            "[tool.poetry]\ndependencies = {python = '^3.8', twelve = '*'}\n"
            "group = {dev = {dependencies = {thirteen = '^1'}}}\n"
        ),
    )
    assert asked_for(tmp_path) == [
        "one>=1", "two[more]==2; python_version > '3'", "three", "four<4", "five", "six", "nine", "ten", "eleven",
        "twelve", "thirteen", "fourteen", "fifteen==1", "sixteen", "seven", "eight~=8.0",
    ]  # fmt: skip
    assert not mark.exists()


@pytest.mark.parametrize("name", ["tox.ini", "setup.cfg", "pyproject.toml", "setup.py", "requirements.txt", "Pipfile"])
def test_a_file_that_cannot_be_read_asks_for_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"[\x00\xff = (\n")
    assert asked_for(tmp_path) == []


def test_what_is_missing_is_had_as_the_repository_asks_for_it(tmp_path: Path) -> None:
    write(tmp_path, requirements_txt="PyYAML>=3\npython-dateutil\nbeautifulsoup4\npytest-mock<4\nmock==2.0\nother\n")
    modules = ["bs4", "dateutil", "mock", "pytest_mock", "yaml"]
    assert requirements_for(modules, tmp_path) == [
        "beautifulsoup4", "python-dateutil", "mock==2.0", "pytest-mock<4", "PyYAML>=3",
    ]  # fmt: skip


def test_what_no_newer_python_runs_is_had_from_who_carries_it_on(tmp_path: Path) -> None:
    write(tmp_path, requirements_txt="nose==1.3.7\n")
    assert requirements_for(["nose"], tmp_path) == ["pynose"]


def test_what_nobody_asks_for_is_not_had_but_for_what_was_taken_for_granted(tmp_path: Path) -> None:
    assert requirements_for(["six", "mock", "pkg_resources", "tyqosquat"], tmp_path) == ["six", "mock", "setuptools<70"]


@pytest.mark.parametrize("own", ["six.py", "six/__init__.py", "src/six/a.py"])
def test_the_repository_s_own_modules_are_not_fetched(own: str, tmp_path: Path) -> None:
    (tmp_path / own).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / own).touch()
    assert requirements_for(["six"], tmp_path) == []
