"""What docs/minimal.md promises about small places."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "minimal.md"


def block(language: str, number: int = 0) -> str:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return found[number]


def small_place() -> None:
    """512 MB, one CPU, and not a byte may be written to any file."""
    resource.setrlimit(resource.RLIMIT_AS, (512 * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@pytest.mark.parametrize(
    ("event", "status"),
    [({"texts": ["I like you.", "A bore. " * 300]}, 200), ({"texts": 3}, 400), ({}, 400)],
    ids=["texts", "no texts", "nothing"],
)
def test_the_function_runs_in_512_mb_on_one_cpu_without_home_or_a_disk(
    event: dict[str, object], status: int, bundled: Path, tmp_path: Path
) -> None:
    (tmp_path / "function.py").write_text(block("python"), encoding="utf-8")
    # Installed without numba, as in such places.
    code = "import sys, json; sys.modules['numba'] = None; sys.path.insert(0, sys.argv[1])\n"
    code += "import function; print(json.dumps(function.handler(json.loads(sys.argv[2]), None)))"
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment = kept | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), json.dumps(event)],
        capture_output=True, text=True, timeout=300, check=False, env=environment, cwd="/", preexec_fn=small_place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["statusCode"] == status
    if status == 200:
        assert [each["label"] for each in answer["body"]] == ["POSITIVE", "NEGATIVE"]
