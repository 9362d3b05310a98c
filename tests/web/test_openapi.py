"""Whatever the description allows is answered as the description says; whatever it forbids is refused."""

import subprocess
import sys
from pathlib import Path

from service_client import running

# Settings of a task may ask for a refusal, of long texts for instance, and token ids may be those of no text; which
# ones, no schema says. The model is no re-ranker and has no sparse embeddings.
CONFIGURATION = """
[[operations]]
include-path-regex = "^/(pipeline/.*|invocations|vertex|embed|embed_all|embeddings|v1/embeddings|decode)?$"
checks.positive_data_acceptance.expected-statuses = [200, 422]

[[operations]]
include-path-regex = "^/(rerank|embed_sparse)$"
checks.positive_data_acceptance.expected-statuses = [424]
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
