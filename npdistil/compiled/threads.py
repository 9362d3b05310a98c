"""Threads that help with forwards: they wait in Python, and work outside of it.

Whoever calls a forward works on it, and asks the others to join. Whether and when they do decides nothing but the
time that it takes (share.py), so any number of callers share one team, none waits for another, and after a fork,
where the helpers are gone, the first call that wants some starts new ones.
"""

import os
import queue
import threading
from collections.abc import Callable

Task = Callable[[], None]


class Team:
    """As many helpers as any caller has asked for so far."""

    def __init__(self) -> None:
        self._start_anew()

    def _start_anew(self) -> None:
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._helpers = 0

    def ask(self, tasks: list[Task]) -> None:
        """Have each task called by a helper as soon as one is free."""
        if len(tasks) > self._helpers:
            with self._lock:
                while self._helpers < len(tasks):
                    threading.Thread(target=self._help, args=(self._tasks,), name="npdistil", daemon=True).start()
                    self._helpers += 1
        for task in tasks:
            self._tasks.put(task)

    @staticmethod
    def _help(tasks: "queue.SimpleQueue[Task]") -> None:
        while True:
            tasks.get()()


team = Team()
os.register_at_fork(after_in_child=team._start_anew)
