"""The audit passes only where every version was looked up; pip-audit is stood in for by a program with its answers."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit_constraints.py"
GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "unknown", "version": "1", "skip_reason": "not found"}


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("audit_constraints", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer_with(text, error=""):
    """A command that checks what it is asked and prints ``text``."""
    program = (
        f"import sys; assert sys.argv[1] == '-r' and sys.argv[2].endswith('constraints.txt'); print({text!r});"
        f"print({error!r}, file=sys.stderr)"
    )
    return [sys.executable, "-c", program]


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ([GOOD], 0, "1 of 1 versions were looked up, 0 vulnerable"),
        ([GOOD, BAD], 1, "bad 2: PYSEC-1; fixed in 3"),
        ([GOOD, UNKNOWN], 2, "the service pypi does not know 1: unknown"),
        ([UNKNOWN, BAD], 1, "1 of 2 versions were looked up, 1 vulnerable"),
    ],
)
def test_the_exit_code_says_what_was_found(script, answers, code, said, capsys):
    assert script.main([], answer_with(json.dumps({"dependencies": answers}))) == code
    assert said in "".join(capsys.readouterr())


def test_a_service_that_cannot_be_reached_is_one_line(script, capsys):
    assert script.main([], answer_with("", "Traceback\nConnectionError: no network")) == 2
    error = capsys.readouterr().err
    assert error == "error: the advisory service pypi could not be asked: ConnectionError: no network\n"


def test_without_pip_audit_it_says_what_to_install(script, monkeypatch, capsys):
    monkeypatch.setattr(script, "find_pip_audit", lambda: None)
    assert script.main([]) == 2
    assert "`pip install pip-audit`" in capsys.readouterr().err


def test_every_constraint_is_a_version():
    lines = [line for line in (SCRIPT.parents[1] / "constraints.txt").read_text().splitlines() if line]
    assert all(line.startswith("#") or line.count("==") == 1 for line in lines)
