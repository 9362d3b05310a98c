"""Whatever the description allows is answered as the description says; whatever it forbids is refused."""

import subprocess
import sys
from pathlib import Path

from service_client import running

# Which long texts, token ids and prompts a model refuses, and what it was not made for, no schema says. 400 is for a
# re-ranker's list of nothing, as the protocol has it.
CONFIGURATION = """
[[operations]]
include-path-regex = "^/(pipeline/.*|invocations|vertex|decode|embed.*|v1/embeddings|rerank|similarity)?$"
checks.positive_data_acceptance.expected-statuses = [200, 400, 422, 424]
checks.negative_data_rejection.expected-statuses = [400, 422, 424]
"""


def test_the_service_keeps_to_its_openapi_description(tmp_path: Path) -> None:
    with running("--max-request-texts", "64") as server:
        (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
        command = Path(sys.executable).with_name("schemathesis")
        done = subprocess.run(
            [
                str(command), "--no-color", "run", f"http://127.0.0.1:{server.port}/openapi.json",
                "--max-examples", "60", "--seed", "1", "--phases", "examples,coverage,fuzzing",
                "--generation-database", "none",
            ],
            capture_output=True, text=True, timeout=500, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert server.ask("/health")[0] == 200
