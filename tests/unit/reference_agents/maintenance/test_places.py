from __future__ import annotations

from pathlib import Path

import pytest

from reference_agents.maintenance.places import read_places


@pytest.mark.parametrize(
    ("text", "within", "spared"),
    [
        ("fix lint", [], []),
        ("fix lint in src/a.py", ["src/a.py"], []),
        ("fix lint in src/a.py, src/b.py and lib/", ["src/a.py", "src/b.py", "lib"], []),
        ("fix lint in `src/a.py` and in 'lib/b.py'.", ["src/a.py", "lib/b.py"], []),
        ("modernise src/a.py to 3.11", ["src/a.py"], []),
        ("remove unused imports from src/a.py", ["src/a.py"], []),
        ("fix lint in src/pkg.", ["src/pkg"], []),
        ("fix lint but not in src/a.py", [], ["src/a.py"]),
        ("fix lint everywhere except in src/a.py and src/b.py", [], ["src/a.py", "src/b.py"]),
        ("fix lint and leave src/a.py and src/b.py alone", [], ["src/a.py", "src/b.py"]),
        ("don't touch src/a.py: fix lint", [], ["src/a.py"]),
        ("fix lint without changing any file below src/vendor/", [], ["src/vendor"]),
        ("keep src/vendor as it is, fix lint", [], ["src/vendor"]),
        ("fix lint under src/ but leave src/vendor alone", ["src"], ["src/vendor"]),
        ("fix lint outside src/vendor/a.py", [], ["src/vendor/a.py"]),
        ("never change anything outside of src/a.py; fix lint", ["src/a.py"], []),
        ("never change anything outside of the folder src/; fix lint", ["src"], []),
        ("fix lint, nothing outside src/", ["src"], []),
        ("fix lint everywhere but src/a.py", [], ["src/a.py"]),
        ("fix lint in all of the files but in src/a.py", [], ["src/a.py"]),
        ("fix lint, but in src/a.py", ["src/a.py"], []),
        ("fix lint aside from src/a.py", [], ["src/a.py"]),
        ("fix lint, stay away from src/a.py, keep your hands off src/b.py", [], ["src/a.py", "src/b.py"]),
        ("no changes to src/a.py please, fix lint", [], ["src/a.py"]),
        ("fix lint, also in setup.py", ["setup.py"], []),
        ("fix lint, including setup.py", [], []),
        ("fix lint, not only in src/a.py", [], []),
        ("fix lint and/or f-strings/format, and change .github/workflows", [], []),
    ],
)
def test_a_request_says_where_to_work_and_what_to_leave(text: str, within: list[str], spared: list[str]) -> None:
    places = read_places(text)
    assert (list(places.within), list(places.spared), places.unclear) == (within, spared, "")


@pytest.mark.parametrize(
    "text",
    [
        "fix lint, don't break anything in src/a.py",
        "fix lint without breaking src/a.py",
        "fix everything but in src/a.py only",
    ],
)
def test_where_the_words_do_not_tell_which_it_is_they_are_not_guessed_at(text: str) -> None:
    assert read_places(text).unclear == "src/a.py"


def test_a_folder_of_the_repository_needs_no_slash(tmp_path: Path) -> None:
    for name in ("src", "vendor", ".git"):
        (tmp_path / name).mkdir()
    assert read_places("fix lint in src, not in vendor", str(tmp_path)).within == ("src",)
    assert read_places("fix lint in the src folder but skip the vendor folder", str(tmp_path)).spared == ("vendor",)
    assert read_places("fix lint src/gone", str(tmp_path)).within == ("src/gone",), "it may be mistyped"
    assert read_places("fix lint in sources", str(tmp_path)).within == ()
    assert read_places("fix lint in src", str(tmp_path / "gone")).within == ()
    assert read_places("fix lint outside the src folder", str(tmp_path)).spared == ("src",)
    assert read_places("fix lint, nothing outside src", str(tmp_path)).within == ("src",)
    assert read_places(f"fix lint in {tmp_path}/src", str(tmp_path)).within == ("src",)


def test_a_question_is_about_a_path_only_where_it_says_in() -> None:
    assert read_places("what imports src/a.py", asks=True).within == ()
    assert read_places("why does it not work in src/a.py", asks=True).within == ("src/a.py",)
    assert read_places("who uses it outside src/a.py", asks=True).within == ()


@pytest.fixture
def project(tmp_path: Path) -> str:
    for path in ("app/__init__.py", "app/views.py", "lib/x.py", "src/pkg/core.py", "src/notes/a.txt", "one.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    return str(tmp_path)


@pytest.mark.parametrize(
    ("text", "within", "spared"),
    [
        ("modernise app", ["app"], []),
        ("please modernise our app to python 3.11, keep the tests green", ["app"], []),
        ("upgrade the package pkg", ["src/pkg"], []),
        ("modernise the pkg package and lib", ["src/pkg", "lib"], []),
        ("modernise app.views and pkg.core.Thing", ["app/views.py", "src/pkg/core.py"], []),
        ("fix lint in pkg.", ["src/pkg"], []),
        ("fix lint of app", ["app"], []),
        ("lint one", ["one.py"], []),
        ("modernise lib only", ["lib"], []),
        ("modernise app, not lib", ["app"], ["lib"]),
        ("modernise all but app", [], ["app"]),
        ("modernise everything, f-strings and/or annotations", [], []),
        ("modernise to py311", [], []),
        ("modernise the code", [], []),
        ("fix lint in place", [], []),
        # What is not there is told to whoever asks.
        ("modernise apps", ["apps"], []),
        ("modernise apps/, please", ["apps"], []),
        ("upgrade apps to 3.11", ["apps"], []),
        ("fix lint in apps", ["apps"], []),
        ("fix lint in the apps folder", ["apps"], []),
        ("fix lint in app.veiws", ["app/veiws"], []),
    ],
)
def test_a_folder_a_package_and_a_module_are_meant_by_their_names(
    project: str, text: str, within: list[str], spared: list[str]
) -> None:
    places = read_places(text, project)
    assert (list(places.within), list(places.spared), places.unclear) == (within, spared, "")


def test_what_is_not_to_be_worked_on_is_not_taken_for_it(project: str) -> None:
    assert read_places("fix lint, don't modernise app", project).unclear == "app"
    assert read_places(f"modernise {Path(project).name}", project).within == (), "all of it has that name"
    assert read_places("where is lint for app configured?", project, asks=True).within == ()
    assert read_places("where is it used in app.Config?", project, asks=True).within == ("app",)
