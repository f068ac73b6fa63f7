"""Ask whether a pinned version has a known vulnerability: pip-audit over constraints.txt, and nothing passes unasked.

    pip install pip-audit
    python scripts/audit_constraints.py
    python scripts/audit_constraints.py --service osv

pip-audit itself ends well where the service knows none of the packages, as behind a mirror that has no advisories. Here
a version that could not be looked up counts: the exit code is 0 if every one was and none is vulnerable, 1 if one is, 2
if the service could not be asked about each.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
SECONDS = 600


def find_pip_audit() -> list[str] | None:
    """The command that runs pip-audit, of this Python or on the path."""
    if importlib.util.find_spec("pip_audit"):
        return [sys.executable, "-m", "pip_audit"]
    found = shutil.which("pip-audit")
    return [found] if found else None


def ask(command: Sequence[str], constraints: Path, service: str) -> list[dict[str, Any]] | str:
    """What the service says of each pinned version, or one line that says why it says nothing."""
    options = ["-r", str(constraints), "--disable-pip", "--no-deps", "--format", "json"]
    options += ["--vulnerability-service", service, "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return f"no answer in {SECONDS} s"
    except (ValueError, KeyError):  # of an error it writes a log, and no JSON
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return said[-1].strip()[:200] if said else f"it ended with code {done.returncode}"


def main(arguments: Sequence[str] | None = None, command: Sequence[str] | None = None) -> int:
    """Print one line for each vulnerability, and one in the end; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--constraints", type=Path, default=CONSTRAINTS, metavar="FILE", help="pinned versions"
    )
    parser.add_argument(
        "--service", choices=["pypi", "osv"], default="pypi", help="whose advisories (default: pypi)"
    )
    options = parser.parse_args(arguments)
    command = command or find_pip_audit()
    if command is None:
        print("error: pip-audit is not installed; run `pip install pip-audit`", file=sys.stderr)
        return 2
    answers = ask(command, options.constraints, options.service)
    if isinstance(answers, str):
        print(f"error: the advisory service {options.service} could not be asked: {answers}", file=sys.stderr)
        return 2
    unknown = [answer["name"] for answer in answers if "skip_reason" in answer]
    vulnerable = [answer for answer in answers if answer.get("vulns")]
    for answer in vulnerable:
        names = ", ".join(found["id"] for found in answer["vulns"])
        fixed = sorted({version for found in answer["vulns"] for version in found.get("fix_versions", [])})
        print(
            f"{answer['name']} {answer['version']}: {names}; fixed in {', '.join(fixed) or 'no version yet'}"
        )
    print(
        f"{len(answers) - len(unknown)} of {len(answers)} versions were looked up, {len(vulnerable)} vulnerable"
    )
    if unknown:
        shown = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        print(f"error: the service {options.service} does not know {len(unknown)}: {shown}", file=sys.stderr)
    return 1 if vulnerable else 2 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
