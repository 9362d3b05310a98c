"""The steps of a text: `python docs/steps.py` writes the functions of architecture.md and the items of kernels.md.

With `--check` it compares instead, and says which page is not as it should be.
"""

import os
import subprocess
import sys
from pathlib import Path

import npdistil
from npdistil.compiled.isa import BY_NAME

HERE = Path(__file__).parent
START, END = "<!-- made by steps.py -->\n", "<!-- until here -->\n"


def functions() -> str:
    """What a text's way enters, from Python 3.11 on. On one thread: when a helper first waits is a matter of luck."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NPDISTIL_")}
    walk = [sys.executable, str(HERE.parent / "tests" / "walk.py")]
    done = subprocess.run(walk, capture_output=True, text=True, check=True, env=environment | {"NPDISTIL_THREADS": "1"})
    return done.stdout[done.stdout.index("a text's way") :]  # before it, options and loading, which differ by machine


def items() -> str:
    """The stages of a layer for 30 tokens, and what an item of each is."""
    config, rows = npdistil.load(engine="numpy").config, 30
    panel, four = 16 * BY_NAME["avx512vnni"].vectors, -(-rows // 4)
    narrow, wide = config.dim // panel, config.hidden_dim // panel
    steps = [
        ("embeddings, once", four, "4 rows: look up, add, normalise, make bytes"),
        ("keys, values, queries", 3 * narrow, f"{panel} columns of one; all are claimed before any is waited for"),
        ("attention", config.n_heads, "a head: scores, exp of them and its sum, weighted values, divided by the sum"),
        ("its result as bytes", four, "4 rows"),
        ("output layer", narrow, f"{panel} columns; adds what came into the layer"),
        ("layer norm", four, "4 rows; makes bytes of them"),
        ("first feed-forward layer", wide, f"{panel} columns; GELU on them while they are in the cache"),
        ("its result as bytes", four, "4 rows"),
        ("second feed-forward layer", narrow, f"{panel} columns; adds what came in"),
        ("layer norm", four, "4 rows; makes bytes of them"),
    ]
    return "".join(f"{name:<26} {count:>3} items, each {item}\n" for name, count, item in steps)


PAGES = {"architecture.md": functions, "kernels.md": items}


def page(name: str) -> str:
    """A page with what is made for it as it should be."""
    before, rest = (HERE / name).read_text(encoding="utf-8").split(START)
    return f"{before}{START}\n```text\n{PAGES[name]()}```\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    wrong = [name for name in PAGES if page(name) != (HERE / name).read_text(encoding="utf-8")]
    if "--check" in sys.argv:
        sys.exit(", ".join(wrong) or None)
    for name in wrong:
        (HERE / name).write_text(page(name), encoding="utf-8")
