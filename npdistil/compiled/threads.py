"""Threads that help with forwards: they wait in Python, and work outside of it.

Whoever calls a forward works on it, and asks the others to join. Whether and when they do decides nothing but the
time that it takes (share.py), so any number of callers share one team, none waits for another, and after a fork,
where the helpers are gone, the first call that wants some starts new ones. Where no helper can be started, the
caller does all of the work.

Threads, locks and queues are taken from Python when this module is imported. Libraries of green threads replace them
later, by ones whose threads run on the caller's own and would never help; where they came first, there are no helpers.
"""

import os
from _thread import allocate_lock as real_lock
from _thread import start_new_thread
from collections.abc import Callable
from queue import SimpleQueue
from types import BuiltinFunctionType

__all__ = ["Team", "real_lock", "team"]

THREADS_ARE_REAL = isinstance(start_new_thread, BuiltinFunctionType)


class Team:
    """As many helpers as any caller has asked for so far, or as the system lets start."""

    def __init__(self) -> None:
        self._start_anew()

    def _start_anew(self) -> None:
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = real_lock()
        self._helpers = 0

    def ask(self, tasks: list[Callable[[], None]]) -> None:
        """Have each task called by a helper as soon as one is free, or dropped where there are fewer helpers."""
        if len(tasks) > self._helpers and THREADS_ARE_REAL:
            with self._lock:
                while self._helpers < len(tasks):
                    try:
                        start_new_thread(self._help, (self._tasks,))
                    except RuntimeError:  # a limit of the system's, or Python is about to end
                        break
                    self._helpers += 1
        for task in tasks[: self._helpers]:
            self._tasks.put(task)

    @staticmethod
    def _help(tasks: "SimpleQueue[Callable[[], None]]") -> None:
        while True:
            tasks.get()()


team = Team()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=team._start_anew)
