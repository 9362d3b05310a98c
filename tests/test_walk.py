"""A text's way from the command to the label stays short enough to follow, and stands on its page as it is."""

import subprocess
import sys
from pathlib import Path

import pytest

from npdistil import engine

WALK = Path(__file__).parent / "walk.py"
STEPS = Path(__file__).parents[1] / "docs" / "steps.py"


def test_a_text_enters_at_most_60_functions_in_10_files() -> None:
    """In a process of its own: what an earlier test has loaded would not be entered again."""
    done = subprocess.run([sys.executable, str(WALK)], capture_output=True, text=True, check=True, timeout=300)
    line = next(line for line in done.stdout.splitlines() if line.startswith("a text's way: "))
    functions, files = (int(word) for word in line.split() if word.isdigit())
    assert 20 < functions <= 60, done.stdout
    assert files <= 10, done.stdout


@pytest.mark.skipif(sys.version_info < (3, 11), reason="functions have no qualified names before Python 3.11")
def test_the_pages_have_the_functions_and_items_that_the_script_finds() -> None:
    if reason := engine.why_not_compiled():
        pytest.skip(f"the pages show the compiled engine: {reason}")
    done = subprocess.run([sys.executable, STEPS, "--check"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"python docs/steps.py writes {done.stderr}"
