"""Batches beside each other: each of a model's threads runs some by itself, so that none waits for another.

Two batches on a thread each are done sooner than one after the other on both, where the threads wait for each other
between the steps of a forward, and for whoever makes tokens and answers. Results have the same bits either way.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .forks import loading

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .model import Model

Batch = TypeVar("Batch")
Result = TypeVar("Result")


_turn = threading.Lock()  # of the one caller in the process that has workers: more would have more threads than cores


def _start_anew() -> None:
    """In a forked process the caller that had the turn is gone."""
    global _turn
    _turn = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


class Workers:
    """Threads for the batches of one caller, who stops them when it needs no more.

    They keep no process alive, as a `ThreadPoolExecutor` does until all that it was given is done: where the caller is
    a thread that does not, nobody would stop them.

    Args:
        model: whose threads they stand for.

    Attributes:
        busy: whether batches may be under way.
    """

    def __init__(self, model: "Model") -> None:
        self.model = self.alone = model
        self._threads: list[threading.Thread] = []
        self._turn: threading.Lock | None = None  # while it has it

    @property
    def busy(self) -> bool:
        """See above."""
        return bool(self._threads)

    def begin(self, run: Callable[[Any, Batch], Result], batches: Sequence[Batch]) -> Iterator[Result]:
        """What `run(model, batch)` gives for each, in order.

        It is begun now. Or the caller does it, with each result and on all threads: where there is one thread or one
        batch, while another caller has workers, and where the system gives no thread.
        """
        if self.model.threads == 1 or len(batches) < 2 or not self._started(min(self.model.threads, len(batches))):
            return map(partial(run, self.model), batches)
        with loading:
            from concurrent.futures import Future
        futures: list[Future[Result]] = [Future() for _ in batches]
        for future, batch in zip(futures, batches, strict=True):
            self._tasks.put(partial(_do, future, partial(run, self.alone, batch)))
        return (future.result() for future in futures)

    def _started(self, threads: int) -> bool:
        """Whether there are some: so many, or as many as the system gives."""
        if not self._turn:
            if not _turn.acquire(blocking=False):
                return False
            self._turn, self.alone, self._tasks = _turn, self.model.on_one_thread(), queue.SimpleQueue[Any]()
        with suppress(RuntimeError):
            while len(self._threads) < threads:
                thread = threading.Thread(None, _work, "npdistil-batches", (self._tasks,), daemon=True)
                thread.start()
                self._threads.append(thread)
        return bool(self._threads)

    def stop(self) -> None:
        """Have them leave what they are at, within a fraction of a second; who begins again gets others."""
        threads, self._threads = self._threads, []
        if threads:
            self.alone.cancel()
            with suppress(queue.Empty):
                while True:
                    self._tasks.get_nowait()
            self._tasks.put(None)
            for thread in threads:
                thread.join()
        if self._turn:
            self._turn.release()
            self._turn = None


def _work(tasks: "queue.SimpleQueue[Callable[[], None] | None]") -> None:
    """Do one task after the other, until there is a None, which the next thread finds too."""
    while task := tasks.get():
        task()
        del task  # and what it gave, while there is none
    tasks.put(None)


def _do(future: "Future[Result]", run: Callable[[], Result]) -> None:
    try:
        future.set_result(run())
    except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
        future.set_exception(error)
