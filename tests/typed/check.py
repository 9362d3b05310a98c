"""Type checkers on users' code: `python tests/typed/check.py`; both refuse the lines that say so, and no others."""

import json
import re
import subprocess
import sys
from pathlib import Path

FILE = Path(__file__).with_name("users.py")
ROOT = FILE.parents[2]


def expected() -> set[int]:
    """Numbers of the lines that must be refused."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}


def mypy() -> set[int]:
    """Numbers of the lines that `mypy --strict` refuses."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(FILE)]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if printed.returncode not in (0, 1):
        raise RuntimeError(printed.stdout + printed.stderr)
    return {int(number) for number in re.findall(r"users\.py:(\d+): error:", printed.stdout)}


def pyright() -> set[int]:
    """Numbers of the lines that pyright refuses."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(FILE)]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = json.loads(printed.stdout)["generalDiagnostics"]
    return {each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"}


if __name__ == "__main__":
    wrong = False
    wanted = expected()
    for checker in (mypy, pyright):
        refused = checker()
        print(f"{checker.__name__}: {len(refused & wanted)} of {len(wanted)} lines refused that must be")
        for number in sorted(refused ^ wanted):
            wrong = True
            print(f"  users.py:{number}: {'refused' if number in refused else 'not refused'}")
    sys.exit(wrong)
