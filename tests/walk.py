"""The way of a text through the package, counted: `python walk.py` prints every function that it enters, in order.

The whole command `npdistil classify TEXT` runs under Python's profiler. What it does before the first text is read
(options, settings, loading the model) is counted apart from the text's own way, from there to the printed label.
Comprehensions and lambdas belong to the function that they stand in; machine code is one call.
"""

import contextlib
import io
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import npdistil
from npdistil.cli import main

ROOT = Path(npdistil.__file__).parent


class Step(NamedTuple):
    """A function of the package, by file and name."""

    file: str
    function: str


def walk(*arguments: str) -> tuple[list[Step], list[Step]]:
    """The functions that a command enters before its first text, and from there on; each once, in order."""
    before: dict[Step, None] = {}
    way: dict[Step, None] = {}
    found = before

    def enter(frame: FrameType, event: str, _: Any) -> None:
        nonlocal found
        code = frame.f_code
        path = Path(code.co_filename)
        if event != "call" or code.co_name.startswith("<") or not path.is_relative_to(ROOT):
            return
        step = Step(
            path.relative_to(ROOT).as_posix(), getattr(code, "co_qualname", code.co_name)
        )  # Python 3.10 has the last part alone
        if step.function == "texts_of":
            found = way
            way[Step("cli/__init__.py", "main")] = None
            way[Step("cli/task.py", "run")] = None
        found[step] = None

    with contextlib.redirect_stdout(io.StringIO()):
        sys.setprofile(enter)
        try:
            main(arguments)
        finally:
            sys.setprofile(None)
    return [*before], [*way]


def counted(steps: list[Step]) -> str:
    """How many functions in how many files."""
    return f"{len(steps)} functions in {len({step.file for step in steps})} files"


def table(*arguments: str) -> str:
    """How many functions, and those of the way, by file."""
    before, way = walk(*arguments)
    lines = [f"before the first text: {counted(before)}", f"a text's way: {counted(way)}"]
    last = ""
    for step in way:
        lines.append(f"  {'' if step.file == last else step.file:<34} {step.function}")
        last = step.file
    return "\n".join(lines)


if __name__ == "__main__":
    print(table("classify", *(sys.argv[1:] or ["I like you. I love you."])))
