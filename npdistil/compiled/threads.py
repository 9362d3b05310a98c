"""Threads that help with forwards: they wait in Python, and work outside of it.

Whoever calls a forward works on it, and asks the others to join. Whether and when they do decides nothing but the
time that it takes (share.py), so any number of callers share one team, none waits for another, and after a fork,
where the helpers are gone, the first call that wants some starts new ones. Where no helper can be started, the
caller does all of the work.

Threads, locks and queues are taken from Python when this module is imported. Libraries of green threads replace them
later, by ones whose threads run on the caller's own and would never help; where they came first, there are no helpers.
"""

import ctypes
import os
from _thread import allocate_lock as real_lock
from _thread import get_native_id, start_new_thread
from collections.abc import Callable
from queue import SimpleQueue
from types import BuiltinFunctionType

__all__ = ["Team", "real_lock", "team"]

THREADS_ARE_REAL = isinstance(start_new_thread, BuiltinFunctionType)
# The core that a thread is on; None where the system's C library does not say.
sched_getcpu = getattr(ctypes.PyDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None


class Helper:
    """A thread that does tasks of a queue, for as long as the process lives."""

    def __init__(self, tasks: "SimpleQueue[Callable[[], None]]") -> None:
        self.tasks = tasks
        self.number = 0  # as the system counts threads; 0 before it runs
        self.waits = False
        self._cores: set[int] = set()  # that it may run on, by whoever has a say in that
        self._given: set[int] = set()  # those of them that `keep_off` gave it
        self._kept_off = (-1, 0)
        self._lock = real_lock()  # around the mask and what is known of it
        start_new_thread(self._help, ())

    def _help(self) -> None:
        self.number = get_native_id()
        while True:
            self.waits = True
            task = self.tasks.get()
            self.waits = False
            task()

    def keep_off(self, core: int, least: int) -> None:
        """Stay off a core, if at least so many others are left; a mask that somebody else has set stays as it is."""
        # Where two callers are at it, one leaves it: of two masks that cross, ours would be taken for somebody else's.
        if (core, least) == self._kept_off or not self._lock.acquire(blocking=False):
            return
        self._kept_off = core, least
        try:
            now = os.sched_getaffinity(self.number)
            if now != self._given:
                self._cores = now
            given = self._cores - {core}
            if len(given) < least:
                given = self._cores
            if given != now:
                os.sched_setaffinity(self.number, given)
            self._given = given
        except OSError:  # a sandbox; then it is where the system wakes it
            pass
        finally:
            self._lock.release()


class Team:
    """As many helpers as any caller has asked for so far, or as the system lets start.

    A system that has been idle wakes a thread on the core of the one that wakes it, as often as not, and moves it only
    when a short forward is over. So helpers that wait are kept off the caller's core before they are woken.
    """

    def __init__(self) -> None:
        self._start_anew()

    def _start_anew(self) -> None:
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = real_lock()
        self.helpers: list[Helper] = []

    def ask(self, tasks: list[Callable[[], None]]) -> None:
        """Have each task called by a helper as soon as one is free, or dropped where there are fewer helpers."""
        if len(tasks) > len(self.helpers) and THREADS_ARE_REAL:
            with self._lock:
                while len(self.helpers) < len(tasks):
                    try:
                        helper = Helper(self._tasks)
                    except RuntimeError:  # a limit of the system's, or Python is about to end
                        break
                    self.helpers.append(helper)
        if tasks and sched_getcpu:
            core = sched_getcpu()
            for helper in self.helpers:
                if helper.waits:
                    helper.keep_off(core, len(tasks))
        for task in tasks[: len(self.helpers)]:
            self._tasks.put(task)


team = Team()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=team._start_anew)
