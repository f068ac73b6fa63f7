"""What a stranger meets first: the two commands, the pinned versions, and a tidy repository."""

import re
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAIN_COMMAND = 'pip install -c constraints.txt -e ".[demo]" && nlp-distill demo'
TEST_COMMAND = 'pip install -c constraints.txt -e ".[test]" && pytest'
TOP_LEVEL = {
    "nlp_distill",
    "data_augment",
    "scripts",
    "tests",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "constraints.txt",
}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    """Name -> exact version of every line of constraints.txt; a line of another kind fails."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.+!]*)", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    names = [normalise(match[1]) for match in found]
    assert len(set(names)) == len(names)
    return {name: match[2] for name, match in zip(names, found, strict=True)}


@pytest.fixture(scope="module")
def repository_files() -> list[str]:
    """Paths that are in the repository, or about to be."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git repository, or there is no git")
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required_names(requirements: list[str]) -> list[str]:
    return [normalise(re.match(r"[A-Za-z0-9._-]+", requirement)[0]) for requirement in requirements]


def test_the_extras_and_both_commands_are_declared(project: dict) -> None:
    assert {"demo", "onnx", "serve", "spacy", "peers", "test", "dev"} <= set(project["optional-dependencies"])
    assert project["scripts"] == {
        "nlp-distill": "nlp_distill.cli:main",
        "data-augment": "data_augment.cli:main",
    }
    assert "nlp_distill[demo,onnx,serve,spacy]" in project["optional-dependencies"]["test"]
    assert project["license"] == "Apache-2.0" and "Apache License" in (ROOT / "LICENSE").read_text(
        encoding="utf-8"
    )


def test_every_dependency_has_an_exact_tested_version(project: dict, pins: dict[str, str]) -> None:
    assert pins["torch"] == "2.13.0" and pins["transformers"].startswith("5.")
    extras = [
        name
        for extra in ("demo", "onnx", "serve", "test", "dev")
        for name in project["optional-dependencies"][extra]
    ]
    needed = set(required_names([*project["dependencies"], *extras])) - {"nlp-distill"}
    assert needed <= set(pins), f"constraints.txt lacks {sorted(needed - set(pins))}"


def test_the_readme_has_both_commands_verbatim_and_the_main_one_first() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines.index(MAIN_COMMAND) < lines.index(TEST_COMMAND)


def test_ci_runs_the_readmes_test_command_exactly() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111, ".ci/run is not executable"
    if TEST_COMMAND in script:
        return
    extract = re.search(r"grep -m 1 -o '([^']+)' README\.md", script)  # it takes the command from the README
    assert extract, "neither the command nor where it comes from is in .ci/run"
    found = subprocess.run(
        ["grep", "-m", "1", "-o", extract[1], ROOT / "README.md"], capture_output=True, text=True
    )
    assert found.stdout == TEST_COMMAND + "\n"
    assert re.search(r'bash -\S+ (pipefail )?-c "\$command"|eval "\$command"', script)


def test_the_top_of_the_repository_holds_nothing_else(repository_files: list[str]) -> None:
    top = {name.partition("/")[0] for name in repository_files}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL
    assert top >= TOP_LEVEL


def test_no_file_names_a_place_on_one_machine(repository_files: list[str]) -> None:
    places = re.compile(r"(?<![\w.:/~-])/(?:work|root|opt/venv|home/\w+|Users/\w+)/")
    found = []
    for name in repository_files:
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if name != "tests/test_packaging.py":
            found += [f"{name}: {line.strip()[:80]}" for line in text.splitlines() if places.search(line)]
    assert not found


def test_published_results_hold_no_place_on_one_machine_either() -> None:
    places = ("/work/", "/root/", "/home/", "/Users/", "/tmp/")
    for path in (ROOT / "scripts" / "results").rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert not [place for place in places if f'"{place}' in text or f" {place}" in text], path.name


@pytest.mark.parametrize("package", ["nlp_distill", "data_augment"])
def test_both_packages_ship_their_types(package: str) -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert "py.typed" in tool["setuptools"]["package-data"][package]
    [folder] = find_spec(package).submodule_search_locations
    assert (Path(folder) / "py.typed").is_file()


def test_every_package_folder_is_found_by_the_build() -> None:
    for package in ("nlp_distill", "data_augment"):
        folders = {path.parent for path in (ROOT / package).rglob("*.py")}
        assert all((folder / "__init__.py").is_file() for folder in folders)
