"""The command `npdistil`, and `python -m npdistil`: `cli.main` in a process of its own."""

import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> int:
    """Run one command; returns the exit code, as `cli.main` does.

    While modules are imported, and when all is done, Ctrl-C or SIGTERM ends the process at once: there is nothing to
    put in order, and an exception in the midst of an import comes out of some libraries as another one. In between, the
    first one is a KeyboardInterrupt, on which things are put in order, and the second ends the process.
    """
    _on_signals(_end)
    from . import cli

    if sys.stderr is None:  # closed; print would turn to standard output, and the next file would be number 2
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    said: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if (text := str(message)) not in said:
            said.add(text)
            cli.say("warning", text)

    warnings.showwarning = show
    try:
        return cli.main(started=lambda: _on_signals(_stop))
    finally:
        _on_signals(_end)


def _on_signals(handler: Callable[..., Any]) -> None:
    # The system's own doing with SIGTERM would be nothing at all where this is process 1, as in a container.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL, _stop, _end):  # else it is ignored
            signal.signal(number, handler)


def _stop(number: int, *_: object) -> None:
    _on_signals(_end)
    raise KeyboardInterrupt(number)


def _end(number: int, *_: object) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
