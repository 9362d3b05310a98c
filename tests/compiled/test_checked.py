"""The kernels once more in plain Python, where every access to memory is checked against the buffers that there are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from encoders import checkpoint

from npdistil.compiled.isa import BY_NAME

SCRIPT = f"""
import sys
from pathlib import Path
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
import numpy as np
from encoders import encoder, reference, texts
from npdistil.checkpoint.weights import read_checkpoint
from npdistil.compiled.kernels import CHECKED
assert CHECKED
found = read_checkpoint(Path(sys.argv[1]))
alive = []
for precision, most in (("float32", 2e-5), ("int8", 0.1)):
    one, expected = encoder(found, precision), reference(found, precision)
    alive.append(one)
    for lengths in ([1], [3, 1, 2], [11], [20]):
        ids, bounds = texts(lengths)
        for rows in (None, bounds[:-1].copy()):
            difference = np.abs(one.encode(ids, bounds, rows) - expected.encode(ids, bounds, rows)).max()
            print(precision, lengths, difference)
            assert difference < most
x, weight, bias = np.ones((3, 24), np.float32), np.ones((20, 24), np.float32), np.ones(20, np.float32)
assert (one.linear(x, weight, bias) == 25).all()
sizes, strides = one._workspace
for name in sys.argv[2:]:
    smaller = encoder(found, "int8")
    smaller._workspace = (sizes | {{name: 64}}, strides)
    smaller._pool.clear()
    alive.append(smaller)  # the addresses of its weights stay allowed, so nothing else may come to lie there
    try:
        smaller.encode(*texts([20, 3]))
    except IndexError:
        print("caught", name)
"""


NEEDED = "x q k v context y hidden keys scores x_operand.rows hidden_operand.rows".split()


@pytest.mark.once
@pytest.mark.parametrize("isa", BY_NAME)
def test_no_access_is_outside_of_its_buffer_and_one_that_were_is_found(tmp_path: Path, isa: str) -> None:
    pytest.importorskip("numba")
    found = checkpoint(tmp_path, dim=24, n_heads=2, hidden_dim=40, n_layers=2)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(found.directory), *NEEDED],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"NPDISTIL_CHECKED": "1", "NPDISTIL_ISA": isa},
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    # With too small a buffer of any of these, the same forward is stopped: the check can fail.
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("caught")] == NEEDED
