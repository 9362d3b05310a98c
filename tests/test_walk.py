"""A text's way from the command to the label stays short enough to follow."""

import subprocess
import sys
from pathlib import Path

WALK = Path(__file__).parent / "walk.py"


def test_a_text_enters_at_most_60_functions_in_10_files() -> None:
    """In a process of its own: what an earlier test has loaded would not be entered again."""
    done = subprocess.run([sys.executable, str(WALK)], capture_output=True, text=True, check=True, timeout=300)
    line = next(line for line in done.stdout.splitlines() if line.startswith("a text's way: "))
    functions, files = (int(word) for word in line.split() if word.isdigit())
    assert 20 < functions <= 60, done.stdout
    assert files <= 10, done.stdout
